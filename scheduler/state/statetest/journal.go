package statetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"pacer/scheduler/state"
)

// running is a journal whose Run is under way.
type running struct {
	*state.Journal
	stop context.CancelFunc
	done chan error
}

func openJournal(t *testing.T, store state.Store) (*running, *state.Snapshot) {
	t.Helper()
	journal, snap, err := state.Open(testContext(t), store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Journal: journal, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- journal.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range r.done {
			return
		}
	})
	return r, snap
}

func (r *running) close(t *testing.T) {
	t.Helper()
	r.stop()
	err := <-r.done
	close(r.done)
	if err != nil {
		t.Errorf("Run: %v", err)
	}
}

func (r *running) write(t *testing.T, fill func(*state.Change)) error {
	t.Helper()
	var c state.Change
	fill(&c)
	done := make(chan error, 1)
	r.Submit(&c, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-testContext(t).Done():
		t.Fatal("a submitted change was never answered")
		return nil
	}
}

func (r *running) must(t *testing.T, fill func(*state.Change)) {
	t.Helper()
	if err := r.write(t, fill); err != nil {
		t.Fatal(err)
	}
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)

// Task returns a record with everything in it.
func Task(app string, n int) *state.Task {
	return &state.Task{
		ID:         strings.ReplaceAll(strings.TrimPrefix(app, "/"), "/", "_") + "." + uuid.NewString(),
		App:        app,
		Version:    "2026-03-01T12:00:00.123Z",
		AgentID:    fmt.Sprintf("7d2f6f0c-7d1c-4a0e-9a3c-1f2e3d4c5b6a-S%d", n),
		Hostname:   fmt.Sprintf("agent-%d.dc1.example.com", n),
		ExecutorID: fmt.Sprintf("pacer-0123456789ab-%08x", n),
		Ports:      []uint32{31000 + uint32(n%1000), 8080},
		Launched:   day,
		Shard:      n,
		Attributes: map[string]string{"rack": fmt.Sprint("r", n%3)},
	}
}

func journalRoundTrip(t *testing.T, kind Kind) {
	address := kind.Make(t)
	store := open(t, kind, address)
	j, snap := openJournal(t, store)
	if snap.FrameworkID != "" || len(snap.Tasks)+len(snap.Apps)+len(snap.Tombstones) != 0 {
		t.Errorf("new state is not empty: %+v", snap)
	}
	body := []byte(`{"id":"/shop/cart","env":{"` + strings.Repeat("x", 5000) + `":""}}`)
	want := &state.Snapshot{
		FrameworkID: "f-0001",
		Identity:    []byte{1, 2, 3},
		Executors:   map[string]state.Executor{"ab12": {Hash: "ab12", Info: []byte{9, 9}}},
		Apps: map[string]*state.App{
			"/shop/cart": {
				Path:       "/shop/cart",
				Definition: state.Definition{Version: "v3", Body: body},
				Backoff:    state.Backoff{Delay: 20 * time.Second, Until: day},
				Deployment: &state.Deployment{ID: "d", PreviousVersion: "v2", TargetVersion: "v3", Started: day, Failed: 2},
			},
			"/small": {Path: "/small", Definition: state.Definition{Version: "v1", Body: []byte("{}")}},
		},
		Versions: map[string][]state.OldVersion{"/shop/cart": {
			{Path: "/shop/cart", Definition: state.Definition{Version: "v1", Body: []byte("{}")}},
			{Path: "/shop/cart", Definition: state.Definition{Version: "v2", Body: body}},
		}},
		Tasks:      map[string]*state.Task{},
		Tombstones: map[string]state.Tombstone{"/old": {Path: "/old", Deleted: day, Version: "v9", Deployment: "d9"}},
		Keys:       map[string]state.PublicKey{"k1": {ID: "k1", Ed25519: make([]byte, 32), Created: day}},
	}
	foreign := Task("/shop/cart", 3)
	foreign.ID = "adopted-from-elsewhere"
	killed := Task("/shop/cart", 4)
	killed.Intent, killed.Reason, killed.Shard, killed.Attributes = state.IntentKill, "scaled down", -1, nil
	for _, task := range []*state.Task{Task("/shop/cart", 1), Task("/small", 2), foreign, killed} {
		want.Tasks[task.ID] = task
	}
	j.must(t, func(c *state.Change) {
		c.SetFramework(want.FrameworkID)
		c.SetIdentity(want.Identity)
		for _, e := range want.Executors {
			c.PutExecutor(e)
		}
		for _, a := range want.Apps {
			c.PutApp(*a)
		}
		for _, list := range want.Versions {
			for _, v := range list {
				c.PutVersion(v)
			}
		}
		for _, task := range want.Tasks {
			c.PutTask(task)
		}
		for _, tomb := range want.Tombstones {
			c.PutTombstone(tomb)
		}
		for _, k := range want.Keys {
			c.PutKey(k)
		}
		c.PutApp(state.App{Path: "/gone", Definition: state.Definition{Version: "v1"}})
		c.PutTask(func() *state.Task { task := Task("/gone", 9); task.ID = "gone"; return task }())
	})
	j.must(t, func(c *state.Change) {
		c.DropApp("/gone")
		c.DropTask("gone")
		c.DropTask("never-there")
	})
	j.close(t)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	again, got := openJournal(t, open(t, kind, address))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after reopening (-want +got):\n%s", diff)
	}
	again.must(t, func(c *state.Change) {
		c.DropExecutor("ab12")
		c.DropVersion("/shop/cart", "v1")
		c.DropTombstone("/old")
		c.DropKey("k1")
		for id := range want.Tasks {
			c.DropTask(id)
		}
	})
	again.close(t)
}

func journalFenced(t *testing.T, kind Kind) {
	store := open(t, kind, kind.Make(t))
	old, _ := openJournal(t, store)
	old.must(t, func(c *state.Change) { c.PutTask(Task("/a", 1)) })
	openJournal(t, store)
	if err := old.write(t, func(c *state.Change) { c.PutTask(Task("/a", 2)) }); !errors.Is(err, state.ErrFenced) {
		t.Errorf("write of the old leader: %v, want ErrFenced", err)
	}
	err := <-old.done
	close(old.done)
	if !errors.Is(err, state.ErrFenced) {
		t.Errorf("Run of the old leader: %v, want ErrFenced", err)
	}
	if err := old.write(t, func(c *state.Change) { c.SetFramework("x") }); err == nil {
		t.Error("a journal that was fenced took another change")
	}
}

func journalGroups(t *testing.T, kind Kind) {
	store := open(t, kind, kind.Make(t))
	j, _ := openJournal(t, store)
	const n = 2000
	var wg sync.WaitGroup
	failures := make(chan error, n) // one slot for each change
	for i := range n {
		var c state.Change
		c.PutTask(Task(fmt.Sprintf("/app-%d", i%50), i))
		wg.Add(1)
		j.Submit(&c, func(err error) {
			defer wg.Done()
			if err != nil {
				failures <- err
			}
		})
	}
	// One that can never be stored harms only itself.
	tooLarge := j.write(t, func(c *state.Change) {
		task := Task("/a", 1)
		task.Hostname = strings.Repeat("h", state.MaxChunk)
		c.PutTask(task)
	})
	if !errors.Is(tooLarge, state.ErrTooLarge) {
		t.Errorf("err = %v, want ErrTooLarge", tooLarge)
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Errorf("write: %v", err)
	}
	transactions, bytes := j.Written()
	t.Logf("%d records: %d transactions, %d bytes each", n, transactions, bytes/n)
	if transactions > n/10 {
		t.Errorf("%d transactions for %d changes", transactions, n)
	}
	if bytes/n > 400 {
		t.Errorf("%d bytes written for each record", bytes/n)
	}
	j.close(t)
}

// journalChurn replaces records at random and compares with a plain map.
func journalChurn(t *testing.T, kind Kind) {
	address := kind.Make(t)
	store := open(t, kind, address)
	j, _ := openJournal(t, store)
	random := rand.New(rand.NewPCG(1, 2))
	want := make(map[string]*state.Task)
	for range 60 {
		j.must(t, func(c *state.Change) {
			for _, id := range keys(want) {
				switch random.IntN(6) {
				case 0:
					delete(want, id)
					c.DropTask(id)
				case 1:
					changed := *want[id]
					changed.Intent = state.IntentKill
					changed.Reason = strings.Repeat("r", random.IntN(300))
					want[id] = &changed
					c.PutTask(&changed)
				}
			}
			for range random.IntN(30) {
				task := Task("/a", random.IntN(500))
				want[task.ID] = task
				c.PutTask(task)
			}
		})
	}
	j.close(t)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = open(t, kind, address)
	used, chunks := 0, 0
	for key, value := range content(t, lead(t, store)) {
		if len(value) > state.MaxChunk {
			t.Errorf("%s has %d bytes", key, len(value))
		}
		used += len(value)
		chunks++
	}
	t.Logf("%d records in %d chunks of %d bytes on average", len(want), chunks, used/max(chunks, 1))
	again, snap := openJournal(t, store)
	if diff := cmp.Diff(want, snap.Tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	again.close(t)
}
