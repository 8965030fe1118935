package zookeeper

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pacer/executor/registry"
)

var update = flag.Bool("update", false, "write the golden files")

func TestEncode_Golden(t *testing.T) {
	for name, inst := range map[string]registry.Instance{
		"plain":     {TaskID: "t", Name: "web", Host: "agent-7.example", Port: 31002, Shard: 0},
		"no-shard":  {TaskID: "t", Name: "web", Host: "agent-7.example", Port: 31002, Shard: -1},
		"endpoints": {TaskID: "t", Name: "web", Host: "10.0.0.7", Port: 31002, Shard: 12, Endpoints: map[string]int{"http": 31002, "admin": 31003}, Tags: []string{"x"}},
		"ipv6":      {TaskID: "t", Name: "web", Host: "2001:db8::7", Port: 1, Shard: 1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := encode(inst)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("JSON\n%s\nwant\n%s", got, want)
			}
			finagle(t, got, inst)
		})
	}
}

// finagle reads an entry by the rules of Finagle's JsonCodec: port and shard
// are integers, all of serviceEndpoint, additionalEndpoints and status are
// there, and status is ALIVE.
func finagle(t *testing.T, data []byte, inst registry.Instance) {
	t.Helper()
	var e struct {
		ServiceEndpoint *struct {
			Host string
			Port json.Number
		}
		AdditionalEndpoints map[string]struct {
			Host string
			Port json.Number
		}
		Status string
		Shard  *json.Number
	}
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if e.ServiceEndpoint == nil || e.ServiceEndpoint.Host != inst.Host || e.ServiceEndpoint.Port.String() != fmt.Sprint(inst.Port) ||
		e.AdditionalEndpoints == nil || len(e.AdditionalEndpoints) != len(inst.Endpoints) || e.Status != "ALIVE" || (e.Shard == nil) != (inst.Shard < 0) {
		t.Errorf("Finagle reads %+v", e)
	}
}

func TestEncode_RefusesWhatCannotBeReached(t *testing.T) {
	for _, inst := range []registry.Instance{{Port: 1}, {Host: "h"}, {Host: "h", Port: 65536}, {Host: "h", Port: -1}} {
		if data, err := encode(inst); err == nil {
			t.Errorf("%+v gives %s", inst, data)
		}
	}
}

func env(kv ...string) func(string) string {
	m := make(map[string]string)
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestConfigFromEnv(t *testing.T) {
	good := Config{Servers: []string{"zk1:2181", "zk2:2182"}, Path: "/services/{name}", SessionTimeout: DefaultSessionTimeout}
	for _, c := range []struct {
		name string
		env  func(string) string
		want Config
		bad  []string
	}{
		{"nothing", env(), Config{}, nil},
		{"servers", env(EnvServers, "zk://zk1,zk2:2182/services"), good, nil},
		{"slash at the end", env(EnvServers, "zk://zk1,zk2:2182/services/"), good, nil},
		{"no prefix", env(EnvServers, "zk://zk1"), Config{Servers: []string{"zk1:2181"}, Path: "/{name}", SessionTimeout: DefaultSessionTimeout}, nil},
		{"IPv6", env(EnvServers, "zk://[::1]:99,[::2]/a/b"), Config{Servers: []string{"[::1]:99", "[::2]:2181"}, Path: "/a/b/{name}", SessionTimeout: DefaultSessionTimeout}, nil},
		{"template", env(EnvServers, "zk://a/ignored", EnvPath, "/aurora/{app}/{name}"), Config{Servers: []string{"a:2181"}, Path: "/aurora/{app}/{name}", SessionTimeout: DefaultSessionTimeout}, nil},

		{"no scheme", env(EnvServers, "zk1:2181"), Config{}, []string{"PACER_ZK: does not start with zk://: want zk://host:port,host:port/prefix"}},
		{"credentials", env(EnvServers, "zk://user:pass@zk1:2181"), Config{}, []string{"PACER_ZK: has credentials: put them into a file and set PACER_ZK_AUTH_FILE"}},
		{"servers all wrong", env(EnvServers, "zk://,a:0,b:x,c:1:2,:5/a//b"), Config{}, []string{`server "" has`, `server "a:0" has`, `server "b:x" has`, `server "c:1:2" is`, `server ":5" has`, `path "/a//b" has an empty segment`}},
		{"reserved", env(EnvServers, "zk://a/zookeeper"), Config{}, []string{"is ZooKeeper's own"}},
		{"template without placeholder", env(EnvServers, "zk://a", EnvPath, "/services"), Config{}, []string{"PACER_ZK_PATH: \"/services\" has neither {name} nor {app}"}},
		{"template with another", env(EnvServers, "zk://a", EnvPath, "/{name}/{x}"), Config{}, []string{"PACER_ZK_PATH: \"/{name}/{x}\" has an unknown placeholder"}},
		{"relative template", env(EnvServers, "zk://a", EnvPath, "{name}"), Config{}, []string{"does not start with /"}},
		{"file is not there", env(EnvServers, "zk://a", EnvAuthFile, "/no/such"), Config{}, []string{"PACER_ZK_AUTH_FILE: read credentials: "}},
		{"all at once", env(EnvServers, "a", EnvPath, "b", EnvAuthFile, "/no/such"), Config{}, []string{"PACER_ZK: ", "PACER_ZK_PATH: ", "PACER_ZK_AUTH_FILE: "}},
		{"settings without servers", env(EnvPath, "/{name}", EnvAuthFile, "x"), Config{}, []string{"PACER_ZK_PATH: is set, but PACER_ZK is not", "PACER_ZK_AUTH_FILE: is set, but PACER_ZK is not"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ConfigFromEnv(c.env)
			if (err != nil) != (len(c.bad) > 0) {
				t.Fatalf("error %v, want %q", err, c.bad)
			}
			for _, want := range c.bad {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Credential{})); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadAuthFile(t *testing.T) {
	const canary = "canary"
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		auth       int
		acl        []zk.ACL
		bad        string
	}{
		{name: "both", text: `{"auth":[{"scheme":"digest","credential":"u:canary"}],"acl":[{"scheme":"auth","permissions":["all"]},{"scheme":"world","id":"anyone","permissions":["read","create"]}]}`,
			mode: 0o600, auth: 1, acl: []zk.ACL{{Perms: 31, Scheme: "auth"}, {Perms: 5, Scheme: "world", ID: "anyone"}}},
		{name: "ACL alone", text: `{"acl":[{"scheme":"ip","id":"10.0.0.0/8","permissions":["all"]}]}`, mode: 0o640, acl: []zk.ACL{{Perms: 31, Scheme: "ip", ID: "10.0.0.0/8"}}},
		{name: "open to all", text: `{}`, mode: 0o604, bad: "open to everyone: chmod 0600"},
		{name: "not JSON", text: `canary`, mode: 0o600, bad: "is not the expected JSON: want {"},
		{name: "unknown field", text: `{"canary":1}`, mode: 0o600, bad: "is not the expected JSON"},
		{name: "two values", text: `{"auth":[{"scheme":"x","credential":"canary"}]} canary`, mode: 0o600, bad: "has something after"},
		{name: "empty", text: `{}`, mode: 0o600, bad: "has neither auth nor acl"},
		{name: "no scheme", text: `{"auth":[{"credential":"canary"}]}`, mode: 0o600, bad: "auth[0]: scheme and credential"},
		{name: "digest without user", text: `{"auth":[{"scheme":"digest","credential":"canary"}]}`, mode: 0o600, bad: "auth[0]: the credential of scheme digest must be user:password"},
		{name: "permission", text: `{"acl":[{"scheme":"world","id":"anyone","permissions":["reed"]}]}`, mode: 0o600, bad: `acl[0]: permission "reed" is unknown`},
		{name: "no permissions", text: `{"acl":[{"scheme":"world","id":"anyone"}]}`, mode: 0o600, bad: "acl[0]: scheme and permissions"},
		{name: "auth without auth", text: `{"acl":[{"scheme":"auth","permissions":["all"]}]}`, mode: 0o600, bad: `acl[0]: scheme auth needs`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "auth")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			auth, acl, err := ReadAuthFile(file)
			if (err != nil) != (c.bad != "") || err != nil && !strings.Contains(err.Error(), c.bad) {
				t.Fatalf("error %v, want %q", err, c.bad)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("error %q shows the file", err)
			}
			if diff := cmp.Diff(c.acl, acl); len(auth) != c.auth || err == nil && diff != "" {
				t.Errorf("%d credentials, ACL (-want +got):\n%s", len(auth), diff)
			}
			if s := fmt.Sprintf("%v %+v %#v %s", auth, auth, auth, auth); strings.Contains(s, canary) {
				t.Errorf("credentials print as %s", s)
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("zk://a:1,b/prefix", "/x/{name}/{app}")
	f.Add("zk://[::1]:2/", "{}")
	f.Fuzz(func(t *testing.T, servers, template string) {
		c, err := ConfigFromEnv(env(EnvServers, servers, EnvPath, template))
		if err != nil || len(c.Servers) == 0 {
			return
		}
		if err := validateTemplate(c.Path); err != nil {
			t.Errorf("accepted path %q: %v", c.Path, err)
		}
	})
}

func FuzzParseAuth(f *testing.F) {
	f.Add([]byte(`{"auth":[{"scheme":"digest","credential":"u:p"}],"acl":[{"scheme":"auth","permissions":["all"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		auth, acl, err := parseAuth(data)
		if err == nil && len(auth) == 0 && len(acl) == 0 {
			t.Error("nothing, and no error")
		}
	})
}
