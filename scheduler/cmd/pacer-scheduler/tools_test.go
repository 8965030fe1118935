package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pacer/scheduler/state"
	"pacer/scheduler/state/bolt"
)

// tool runs one command and returns what it printed.
func tool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, stderr bytes.Buffer
	err := runTools(t.Context(), args, strings.NewReader(""), &out, &stderr)
	return out.String() + stderr.String(), err
}

func TestTools_BackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	store, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	journal, _, err := state.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- journal.Run(ctx) }()
	var change state.Change
	change.SetFramework("f-1")
	written := make(chan error, 1)
	journal.Submit(&change, func(err error) { written <- err })
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	backup := filepath.Join(dir, "backup")
	if out, err := tool(t, "export", "--state=bolt:"+path, "-o", backup); err != nil || !strings.Contains(out, "1 nodes exported") {
		t.Fatalf("%q, %v", out, err)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info.Mode(), err)
	}
	if _, err := tool(t, "export", "--state=bolt:"+path, "-o", backup); err == nil {
		t.Error("a backup was overwritten")
	}
	other := "--state=bolt:" + filepath.Join(dir, "other.db")
	if out, err := tool(t, "import", other, "-i", backup); err != nil || !strings.Contains(out, "1 nodes imported") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := tool(t, "import", other, "-i", backup); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("into a state that is not empty: %v", err)
	}
	if _, err := tool(t, "import", other, "-i", backup, "--replace"); err != nil {
		t.Error(err)
	}
	if out, err := tool(t, "size", other); err != nil || !strings.Contains(out, "meta/framework") || !strings.Contains(out, "LARGEST") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTools_Refusals(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no command":      {nil, "size"},
		"unknown command": {[]string{"delete"}, "delete"},
		"state":           {[]string{"size", "--state=x"}, "--state=x"},
		"credentials":     {[]string{"size", "--state=bolt:/x", "--state-auth-file=/y"}, "--state-auth-file"},
		"TLS key alone":   {[]string{"size", "--state-tls-key=/x"}, "--state-tls-cert"},
		"TLS authorities": {[]string{"size", "--state=zk://h/x", "--state-tls-ca=/nowhere"}, "--state-tls-ca"},
		"session":         {[]string{"size", "--state-session=1ms"}, "--state-session"},
		"password in URL": {[]string{"size", "--state=zk://u:p@h/x"}, "file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tool(t, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want %q in one line", err, test.want)
			}
		})
	}
	if out, err := tool(t, "--help"); err != nil || !strings.Contains(out, "export") {
		t.Errorf("help: %q, %v", out, err)
	}
}
