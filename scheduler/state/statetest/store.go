package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pacer/scheduler/state"
)

// Kind is a kind of store under test.
type Kind struct {
	// Make returns the address of a new, empty state that ends with the test.
	Make func(t *testing.T) string
	// Open opens the state at an address, as another process would.
	Open func(t *testing.T, address string) (state.Store, error)
	// Shared tells whether two processes may have a state open at once, as
	// candidates for the lead. If not, the second gets state.ErrLocked.
	Shared bool
}

// Run tests that a kind of store does what its interface says.
func Run(t *testing.T, kind Kind) {
	for name, test := range map[string]func(*testing.T, Kind){
		"values come back":              values,
		"a transaction is all or none":  atomic,
		"a new leader fences the old":   fenced,
		"epochs rise over restarts":     epochs,
		"limits":                        limits,
		"close":                         closed,
		"load stops when yield fails":   loadStops,
		"opened twice":                  openedTwice,
		"reading without leading":       reads,
		"journal round trip":            journalRoundTrip,
		"journal of a fenced leader":    journalFenced,
		"journal writes many at once":   journalGroups,
		"chunks stay small under churn": journalChurn,
	} {
		t.Run(name, func(t *testing.T) { test(t, kind) })
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, kind Kind, address string) state.Store {
	t.Helper()
	store, err := kind.Open(t, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil && !errors.Is(err, state.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return store
}

func lead(t *testing.T, store state.Store) state.Session {
	t.Helper()
	session, err := store.Lead(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func apply(t *testing.T, session state.Session, ops ...state.Op) {
	t.Helper()
	if err := session.Apply(testContext(t), ops); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, session state.Session) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := session.Load(testContext(t), func(key string, value []byte) error {
		all[key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func expect(t *testing.T, session state.Session, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, content(t, session)); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

func values(t *testing.T, kind Kind) {
	address := kind.Make(t)
	store := open(t, kind, address)
	session := lead(t, store)
	expect(t, session, map[string]string{})
	large := string(bytes.Repeat([]byte{0, 1, 255}, state.MaxNode/3))
	apply(t, session,
		state.Op{Key: "apps/00/a", Value: []byte("one")},
		state.Op{Key: "apps/00/b", Value: []byte("two")},
		state.Op{Key: "apps/00/empty", Value: []byte{}},
		state.Op{Key: "tasks/ff/large", Value: []byte(large)},
	)
	apply(t, session,
		state.Op{Key: "apps/00/a", Value: []byte("three")},
		state.Op{Key: "apps/00/b"},
		state.Op{Key: "apps/00/never-there"},
	)
	want := map[string]string{"apps/00/a": "three", "apps/00/empty": "", "tasks/ff/large": large}
	expect(t, session, want)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, lead(t, open(t, kind, address)), want)
}

func atomic(t *testing.T, kind Kind) {
	session := lead(t, open(t, kind, kind.Make(t)))
	apply(t, session, state.Op{Key: "apps/00/a", Value: []byte("one")})
	err := session.Apply(testContext(t), []state.Op{
		{Key: "apps/00/a", Value: []byte("two")},
		{Key: "apps/00/b", Value: make([]byte, state.MaxNode+1)},
	})
	if !errors.Is(err, state.ErrTooLarge) {
		t.Errorf("err = %v, want ErrTooLarge", err)
	}
	expect(t, session, map[string]string{"apps/00/a": "one"})
}

func fenced(t *testing.T, kind Kind) {
	store := open(t, kind, kind.Make(t))
	old := lead(t, store)
	apply(t, old, state.Op{Key: "apps/00/a", Value: []byte("one")})
	session := lead(t, store)
	if session.Epoch() <= old.Epoch() {
		t.Errorf("epoch %d after %d", session.Epoch(), old.Epoch())
	}
	err := old.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("stale")}})
	if !errors.Is(err, state.ErrFenced) {
		t.Errorf("err = %v, want ErrFenced", err)
	}
	expect(t, session, map[string]string{"apps/00/a": "one"})
	apply(t, session, state.Op{Key: "apps/00/a", Value: []byte("two")})
}

func epochs(t *testing.T, kind Kind) {
	address := kind.Make(t)
	for want := uint64(1); want <= 3; want++ {
		store := open(t, kind, address)
		if got := lead(t, store).Epoch(); got != want {
			t.Errorf("epoch %d, want %d", got, want)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func limits(t *testing.T, kind Kind) {
	session := lead(t, open(t, kind, kind.Make(t)))
	var ops []state.Op
	for i := range state.MaxBatch/state.MaxNode - 1 {
		ops = append(ops, state.Op{Key: fmt.Sprintf("apps/00/%d", i), Value: make([]byte, state.MaxNode)})
	}
	apply(t, session, ops...)
	ops = append(ops,
		state.Op{Key: "apps/00/x", Value: make([]byte, state.MaxNode)},
		state.Op{Key: "apps/00/y", Value: make([]byte, state.MaxNode)})
	if err := session.Apply(testContext(t), ops); !errors.Is(err, state.ErrTooLarge) {
		t.Errorf("err = %v, want ErrTooLarge", err)
	}
}

func closed(t *testing.T, kind Kind) {
	store := open(t, kind, kind.Make(t))
	session := lead(t, store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	err := session.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("one")}})
	if !errors.Is(err, state.ErrClosed) {
		t.Errorf("err = %v, want ErrClosed", err)
	}
}

func loadStops(t *testing.T, kind Kind) {
	session := lead(t, open(t, kind, kind.Make(t)))
	apply(t, session,
		state.Op{Key: "apps/00/a", Value: []byte("one")},
		state.Op{Key: "apps/01/b", Value: []byte("two")})
	stop, calls := errors.New("stop"), 0
	err := session.Load(testContext(t), func(string, []byte) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls, err = %v; want 1 and the error of yield", calls, err)
	}
}

func reads(t *testing.T, kind Kind) {
	store := open(t, kind, kind.Make(t))
	read := func(kinds ...string) map[string]string {
		all := make(map[string]string)
		err := store.Read(testContext(t), func(key string, value []byte) error {
			all[key] = string(value)
			return nil
		}, kinds...)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := read(); len(all) > 0 {
		t.Errorf("a new state holds %v", all)
	}
	session := lead(t, store)
	apply(t, session,
		state.Op{Key: "meta/framework", Value: []byte("f")},
		state.Op{Key: "apps/00/a", Value: []byte("one")},
		state.Op{Key: "keys/01/b", Value: []byte("two")})
	if diff := cmp.Diff(map[string]string{"meta/framework": "f", "apps/00/a": "one", "keys/01/b": "two"}, read()); diff != "" {
		t.Errorf("everything (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"meta/framework": "f", "keys/01/b": "two"}, read("keys", "meta")); diff != "" {
		t.Errorf("two kinds (-want +got):\n%s", diff)
	}
	apply(t, session, state.Op{Key: "apps/00/a", Value: []byte("still leading")})
}

func openedTwice(t *testing.T, kind Kind) {
	address := kind.Make(t)
	first := open(t, kind, address)
	old := lead(t, first)
	second, err := kind.Open(t, address)
	if !kind.Shared {
		if !errors.Is(err, state.ErrLocked) {
			t.Fatalf("err = %v, want ErrLocked", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	lead(t, second)
	err = old.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("stale")}})
	if !errors.Is(err, state.ErrFenced) {
		t.Errorf("err = %v, want ErrFenced", err)
	}
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
