package bolt_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pacer/scheduler/state"
	"pacer/scheduler/state/bolt"
	"pacer/scheduler/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	statetest.Run(t, statetest.Kind{
		Make: func(t *testing.T) string { return filepath.Join(t.TempDir(), "new", "state.db") },
		Open: func(_ *testing.T, path string) (state.Store, error) {
			store, err := bolt.Open(path)
			if err != nil {
				return nil, err
			}
			return store, nil
		},
	})
}

func TestOpen_Refusals(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    string
	}{
		"no state file": {
			func(t *testing.T, path string) {
				if err := os.WriteFile(path, []byte(strings.Repeat("text", 5000)), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			"no state file",
		},
		"a folder": {
			func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			"open state file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			test.prepare(t, path)
			store, err := bolt.Open(path)
			if err == nil {
				t.Fatal(store.Close())
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not say %q and the path", err, test.want)
			}
		})
	}
}

func TestOpen_FileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	store, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600: the file may hold the signing key", info.Mode().Perm())
	}
	if _, err := store.Lead(context.Background()); err != nil {
		t.Fatal(err)
	}
}
