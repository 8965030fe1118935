package consul

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pacer/executor/registry"
)

func TestConfigFromEnv(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write("token", "s3cr3t\n", 0o600)
	for _, test := range []struct {
		name string
		env  map[string]string
		bad  []string // what the error has, nothing if there is none
	}{
		{name: "nothing", env: nil},
		{name: "an address", env: map[string]string{EnvAddress: "http://127.0.0.1:8500"}},
		{name: "everything plain", env: map[string]string{EnvAddress: "http://[::1]:8500/", EnvTokenFile: token, EnvTag: "pacer"}},
		{"a setting without an address", map[string]string{EnvTokenFile: token, EnvTag: "x"}, []string{EnvTokenFile, EnvTag, EnvAddress}},
		{"no scheme", map[string]string{EnvAddress: "127.0.0.1:8500"}, []string{EnvAddress, "http://host:port"}},
		{"another scheme", map[string]string{EnvAddress: "consul://h:1"}, []string{EnvAddress, "http://host:port"}},
		{"no host", map[string]string{EnvAddress: "http://:8500"}, []string{"no host"}},
		{"a path", map[string]string{EnvAddress: "http://h:8500/v1"}, []string{"after the port"}},
		{"a password", map[string]string{EnvAddress: "http://u:s3cr3t@h:8500"}, []string{EnvTokenFile}},
		{"TLS settings without TLS", map[string]string{EnvAddress: "http://h:1", EnvCACert: "x", EnvServerName: "y"}, []string{EnvCACert, EnvServerName, "https://"}},
		{"half a certificate", map[string]string{EnvAddress: "https://h:1", EnvClientCert: "x"}, []string{EnvClientKey}},
		{"no such authority", map[string]string{EnvAddress: "https://h:1", EnvCACert: dir + "/none"}, []string{EnvCACert}},
		{"an authority that is none", map[string]string{EnvAddress: "https://h:1", EnvCACert: token}, []string{EnvCACert, "PEM"}},
		{"no such token", map[string]string{EnvAddress: "http://h:1", EnvTokenFile: dir + "/none"}, []string{EnvTokenFile}},
		{"an open token", map[string]string{EnvAddress: "http://h:1", EnvTokenFile: write("open", "s3cr3t", 0o644)}, []string{EnvTokenFile, "0600"}},
		{"two tokens", map[string]string{EnvAddress: "http://h:1", EnvTokenFile: write("two", "s3cr3t s3cr3t", 0o600)}, []string{EnvTokenFile}},
		{"no token", map[string]string{EnvAddress: "http://h:1", EnvTokenFile: write("empty", " \n", 0o600)}, []string{EnvTokenFile}},
		{"a tag that is none", map[string]string{EnvAddress: "http://h:1", EnvTag: "a\nb"}, []string{EnvTag}},
		{"two mistakes", map[string]string{EnvAddress: "h:1", EnvTag: "a\nb"}, []string{EnvAddress, EnvTag}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := ConfigFromEnv(func(name string) string { return test.env[name] })
			if len(test.bad) == 0 {
				if err != nil || c.Address != test.env[EnvAddress] {
					t.Errorf("%+v, %v", c, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			for _, part := range test.bad {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%q shows a secret", err)
			}
		})
	}
}

func TestRegistration_RefusesWhatNobodyCanReach(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*registry.Instance)
	}{
		{"no host", func(i *registry.Instance) { i.Host = "" }},
		{"no port", func(i *registry.Instance) { i.Port = 0 }},
		{"no name", func(i *registry.Instance) { i.Name = "" }},
		{"no task", func(i *registry.Instance) { i.TaskID = "" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inst := instance(t, 1)
			test.change(&inst)
			if got, err := (Config{}).registration(inst); err == nil {
				t.Errorf("rendered %+v", got)
			}
		})
	}
}

func TestRegistration_KeepsToConsulsBounds(t *testing.T) {
	inst := instance(t, 1)
	inst.App = strings.Repeat("a", 600)
	inst.Endpoints = map[string]int{strings.Repeat("p", 200): 1}
	for n := range 200 {
		inst.Endpoints["port"+strings.Repeat("x", n%50)+string(rune('a'+n%26))] = n + 1
	}
	got, err := Config{Tag: DefaultTag}.registration(inst)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Meta) > 64 {
		t.Errorf("%d meta data", len(got.Meta))
	}
	for key, value := range got.Meta {
		if len(key) > 128 || len(value) > 512 {
			t.Errorf("meta data %.20q has %d bytes, and a key of %d", key, len(value), len(key))
		}
	}
}

func TestProvenDead(t *testing.T) {
	dir := t.TempDir()
	alive := Owner{Dir: filepath.Join(dir, "alive")}
	dead := Owner{Dir: filepath.Join(dir, "dead")}
	for _, o := range []Owner{alive, dead} {
		if err := os.Mkdir(o.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	held, err := alive.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := alive.lock(); err == nil {
		t.Error("two executors have one lock")
	}
	ended, err := dead.lock()
	if err != nil {
		t.Fatal(err)
	}
	ended.Close()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, lockName)
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, lock string
		want       bool
	}{
		{"a living executor", alive.lockFile(), false},
		{"a dead executor", dead.lockFile(), true},
		{"a file that is not there", filepath.Join(dir, "none", lockName), false},
		{"another file", other, false},
		{"a link", link, false},
		{"a relative path", lockName, false},
		{"nothing", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := provenDead(test.lock); got != test.want {
				t.Errorf("proven dead: %v, want %v", got, test.want)
			}
		})
	}
}
