package secrets

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
)

// fakeSource is a Source of funcs that counts its sessions.
type fakeSource struct {
	mu     sync.Mutex
	reads  map[string]int
	data   map[string]map[string]string
	err    error
	opened int
	closed int
}

var (
	_ Source  = (*fakeSource)(nil)
	_ Session = (*fakeSource)(nil)
)

func (f *fakeSource) Open(context.Context, Identity, func(string)) (Session, error) {
	f.opened++
	return f, f.err
}

func (f *fakeSource) Read(_ context.Context, path string, version int) (Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ref := Ref{Path: path, Version: version}.String()
	f.reads[ref]++
	data, ok := f.data[ref]
	if !ok {
		return Content{}, errors.New("secret " + ref + " not found")
	}
	content := map[string]Secret{}
	for k, v := range data {
		content[k] = NewSecret([]byte(v))
	}
	return Content{Keys: content}, nil
}

func (f *fakeSource) Login() Lease                                    { return Lease{} }
func (f *fakeSource) RenewLogin(context.Context) (Lease, error)       { return Lease{}, nil }
func (f *fakeSource) Relogin(context.Context) error                   { return nil }
func (f *fakeSource) Renew(_ context.Context, l Lease) (Lease, error) { return l, nil }
func (f *fakeSource) Revoke(context.Context, Lease) error             { return nil }

func (f *fakeSource) Close(context.Context) error { f.closed++; return nil }

func mustParse(t *testing.T, labels map[string]string) Declarations {
	t.Helper()
	d, err := ParseLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAcquire_ReadsEachPathOnceAndResolvesAll(t *testing.T) {
	source := &fakeSource{reads: map[string]int{}, data: map[string]map[string]string{
		"kv/db":   {"user": "u", "password": "p"},
		"kv/db@2": {"password": "old"},
		"kv/all":  {"A": "1", "USER": "shadowed"},
	}}
	k := NewKeeper(source, zerolog.Nop())
	grant, err := k.Acquire(t.Context(), Identity{}, mustParse(t, map[string]string{
		"secret.env.USER":     "kv/db#user",
		"secret.env.PASSWORD": "kv/db#password",
		"secret.env.OLD":      "kv/db#password@2",
		"secret.env-from.1":   "kv/all",
		"secret.file.db.json": "kv/db",
		"secret.file.pass":    "kv/db#password;mode=0440",
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range append(grant.Bundle.Variables, grant.Bundle.Files...) {
		got = append(got, v.Name+"="+string(v.Secret.Reveal()))
	}
	want := `A=1 OLD=old PASSWORD=p USER=u db.json={"password":"p","user":"u"} pass=p`
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	for ref, n := range source.reads {
		if n != 1 {
			t.Errorf("%s was read %d times", ref, n)
		}
	}
	shut(t, k)
	if source.opened != 1 || source.closed != 1 {
		t.Errorf("%d sessions opened, %d closed; want 1 and 1", source.opened, source.closed)
	}
}

func TestP5_AcquireIsAllOrNothingAndNamesAllThatIsMissing(t *testing.T) {
	source := &fakeSource{reads: map[string]int{}, data: map[string]map[string]string{
		"kv/db": {"password": "canary", "bad key": "canary", "NUL": "can\x00ary"},
		"kv/a":  {"SAME": "canary"},
		"kv/b":  {"SAME": "canary"},
	}}
	for _, tc := range []struct {
		name   string
		labels map[string]string
		texts  []string
	}{
		{"two missing secrets", map[string]string{"secret.env.A": "kv/x#k", "secret.env.B": "kv/y#k", "secret.env.C": "kv/db#password"}, []string{"kv/x", "kv/y"}},
		{"two missing keys", map[string]string{"secret.env.A": "kv/db#k1", "secret.file.b": "kv/db#k2"}, []string{"secret.env.A", `"k1"`, "secret.file.b", `"k2"`}},
		{"key that is no variable", map[string]string{"secret.env-from.1": "kv/db"}, []string{"secret.env-from.1", `"bad key"`}},
		{"same variable twice", map[string]string{"secret.env-from.1": "kv/a", "secret.env-from.2": "kv/b"}, []string{"secret.env-from.1", "secret.env-from.2", "SAME"}},
		{"NUL in a variable", map[string]string{"secret.env.A": "kv/db#NUL"}, []string{"secret.env.A", "secret.file.NAME"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := NewKeeper(source, zerolog.Nop())
			grant, err := k.Acquire(t.Context(), Identity{}, mustParse(t, tc.labels), nil)
			shut(t, k)
			if err == nil || grant != nil {
				t.Fatalf("got %v, %v", grant, err)
			}
			for _, text := range tc.texts {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error does not name %s: %v", text, err)
				}
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("error shows a value: %v", err)
			}
		})
	}
	if source.opened != source.closed {
		t.Errorf("%d sessions opened, %d closed", source.opened, source.closed)
	}
}

func TestAcquire_AsksNobodyWithoutDeclarations(t *testing.T) {
	if _, err := NewKeeper(nil, zerolog.Nop()).Acquire(t.Context(), Identity{}, Declarations{}, nil); err != nil {
		t.Error(err)
	}
	var none *Keeper
	_, err := none.Acquire(t.Context(), Identity{}, mustParse(t, map[string]string{"secret.env.A": "kv/a#k"}), nil)
	if err == nil || !strings.Contains(err.Error(), "VAULT_ADDR") {
		t.Errorf("without a store: %v, want an error that names the setting", err)
	}
}
