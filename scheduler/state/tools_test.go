package state_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// filled is a state with a bit of everything.
func filled(t *testing.T) *statetest.Memory {
	t.Helper()
	memory := new(statetest.Memory)
	journal, _, err := state.Open(t.Context(), memory.Open())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- journal.Run(ctx) }()
	var c state.Change
	c.SetFramework("f-1")
	c.SetIdentity([]byte{1})
	c.PutApp(state.App{Path: "/a", Definition: state.Definition{Version: "v1", Body: []byte("{}")}})
	c.PutTombstone(state.Tombstone{Path: "/old", Deleted: time.Now(), Version: "v0"})
	c.PutKey(state.PublicKey{ID: "k", Ed25519: make([]byte, 32)})
	for n := range 100 {
		c.PutTask(statetest.Task("/a", n))
	}
	done := make(chan error, 1)
	journal.Submit(&c, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return memory
}

func TestBackup_RoundTrip(t *testing.T) {
	memory := filled(t)
	var backup bytes.Buffer
	if _, err := state.Export(t.Context(), memory.Open(), &backup); err != nil {
		t.Fatal(err)
	}
	want := memory.Nodes()
	for key := range want {
		if strings.HasPrefix(key, "tombstones/") {
			delete(want, key)
		}
	}
	empty := new(statetest.Memory)
	if n, err := state.Import(t.Context(), empty.Open(), bytes.NewReader(backup.Bytes()), false); err != nil || n != len(want) {
		t.Fatalf("%d nodes, %v", n, err)
	}
	if diff := cmp.Diff(want, empty.Nodes()); diff != "" {
		t.Errorf("into an empty state (-want +got):\n%s", diff)
	}
	other := filled(t)
	before := other.Nodes()
	if _, err := state.Import(t.Context(), other.Open(), bytes.NewReader(backup.Bytes()), false); !errors.Is(err, state.ErrNotEmpty) {
		t.Errorf("into a state that is not empty: %v", err)
	}
	if diff := cmp.Diff(before, other.Nodes()); diff != "" {
		t.Errorf("a refused import has changed the state:\n%s", diff)
	}
	if _, err := state.Import(t.Context(), other.Open(), bytes.NewReader(backup.Bytes()), true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, other.Nodes()); diff != "" {
		t.Errorf("in place of another state (-want +got):\n%s", diff)
	}
}

func TestBackup_Refusals(t *testing.T) {
	var backup bytes.Buffer
	if _, err := state.Export(t.Context(), filled(t).Open(), &backup); err != nil {
		t.Fatal(err)
	}
	text := backup.String()
	lines := strings.SplitAfter(text, "\n")
	for name, test := range map[string]struct{ text, want string }{
		"empty":          {"", "empty"},
		"something else": {"{}\n", "header"},
		"newer":          {`{"pacer_state_backup":2}` + "\n", "version 2"},
		"cut off":        {strings.Join(lines[:len(lines)-2], ""), "not complete"},
		"a line is gone": {strings.Join(append(lines[:1:1], lines[2:]...), ""), "sum"},
		"changed":        {strings.Replace(text, `"value":"CA`, `"value":"CB`, 1), ""},
		"longer":         {text + lines[1], "follows"},
		"no node":        {lines[0] + "{}\n" + lines[len(lines)-2], "line 2"},
		"newer record":   {lines[0] + `{"key":"meta/framework","value":"CAk="}` + "\n", "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			memory := new(statetest.Memory)
			_, err := state.Import(t.Context(), memory.Open(), strings.NewReader(test.text), true)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err = %v, want %q", err, test.want)
			}
			if memory.Writes() != 0 {
				t.Error("something was written")
			}
		})
	}
}

func FuzzImport(f *testing.F) {
	f.Add(`{"pacer_state_backup":1}` + "\n" + `{"key":"apps/00/a","value":""}` + "\n" + `{"nodes":1,"sha256":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		memory := new(statetest.Memory)
		if _, err := state.Import(t.Context(), memory.Open(), strings.NewReader(text), false); err != nil && memory.Writes() > 0 {
			t.Errorf("written in spite of %v", err)
		}
	})
}

func TestSizes(t *testing.T) {
	sizes, err := state.Sizes(t.Context(), filled(t).Open())
	if err != nil {
		t.Fatal(err)
	}
	nodes := make(map[string]int)
	for _, k := range sizes {
		nodes[k.Kind] = k.Nodes
		if k.Bytes < k.LargestBytes || !strings.HasPrefix(k.Largest, k.Kind+"/") {
			t.Errorf("%+v", k)
		}
	}
	if nodes["apps"] != 1 || nodes["meta"] != 2 || nodes["tasks"] < 2 {
		t.Errorf("%+v", sizes)
	}
}

func TestPublicKeys(t *testing.T) {
	keys, err := state.PublicKeys(t.Context(), filled(t).Open())
	if err != nil || len(keys) != 1 || len(keys["k"].Ed25519) != 32 {
		t.Errorf("%v, %v", keys, err)
	}
}
