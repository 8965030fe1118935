package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a backend whose world is a map. Calls take a second.
type memory struct {
	mu      sync.Mutex
	changed func(Key)
	there   map[Key]Instance
	err     error // what every call returns
	puts    int
	busy    map[Key]bool
	overlap bool
	calls   []string
}

var _ Backend = (*memory)(nil)

func newMemory() *memory {
	return &memory{there: make(map[Key]Instance), busy: make(map[Key]bool)}
}

func (m *memory) Name() string            { return "memory" }
func (m *memory) Watch(changed func(Key)) { m.changed = changed }
func (m *memory) Close(context.Context) error {
	m.note("close")
	return nil
}

func (m *memory) note(call string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, call)
}

func (m *memory) Put(ctx context.Context, i Instance) error {
	return m.call(ctx, i.Key(), func() { m.puts++; m.there[i.Key()] = i })
}

func (m *memory) Delete(ctx context.Context, i Instance) error {
	return m.call(ctx, i.Key(), func() { delete(m.there, i.Key()) })
}

func (m *memory) call(ctx context.Context, k Key, do func()) error {
	m.mu.Lock()
	m.overlap = m.overlap || m.busy[k]
	m.busy[k] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.busy[k] = false
	}()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		do()
	}
	return m.err
}

func (m *memory) set(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.there)
}

func (m *memory) lose(k Key) {
	m.mu.Lock()
	delete(m.there, k)
	m.mu.Unlock()
	m.changed(k)
}

func inst(n int) Instance {
	return Instance{TaskID: fmt.Sprintf("t.%d", n), Name: "web", Port: 1000 + n}
}

// run runs a test body in synctest's time, with a registry over a memory.
func run(t *testing.T, o Options, body func(t *testing.T, r *Reconciler, m *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r := New(m, o)
		body(t, r, m)
		m.set(nil)
		if err := r.Close(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if m.overlap {
			t.Error("two calls for one instance at the same time")
		}
	})
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

var errAway = fmt.Errorf("%w: connection refused", ErrUnavailable)

func TestReconciler_WaitsForTheBackend(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		start := time.Now()
		if err := r.Register(t.Context(), []Instance{inst(1), inst(2)}); err != nil || m.size() != 2 {
			t.Fatalf("error %v, %d entries, want 2", err, m.size())
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want the second of one call: they run side by side", took)
		}
		if err := r.Register(t.Context(), []Instance{inst(1)}); err != nil || m.puts != 2 {
			t.Errorf("again: error %v, %d puts, want 2: it was there", err, m.puts)
		}
		if err := r.Deregister(t.Context(), []Instance{inst(1), inst(9)}); err != nil || m.size() != 1 {
			t.Errorf("error %v, %d entries, want 1", err, m.size())
		}
	})
}

func TestReconciler_DeadlineEndsTheCallAndNotTheWish(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		m.set(errAway)
		start := time.Now()
		err := r.Register(timeout(t, 10*time.Second), []Instance{inst(1)})
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrUnavailable) || e.Tries < 2 {
			t.Errorf("error %v, want one with the backend's reason and several tries", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want the deadline, 10s", took)
		}
		m.set(nil)
		time.Sleep(7 * time.Second) // the longest pause and a call
		if m.size() != 1 {
			t.Error("the instance is not registered after the outage")
		}
		m.set(errAway)
		if err := r.Deregister(timeout(t, 5*time.Second), []Instance{inst(1)}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("deregister: %v", err)
		}
		m.set(nil)
		time.Sleep(7 * time.Second)
		if m.size() != 0 {
			t.Error("the instance is registered after the outage, though nobody wants it")
		}
	})
}

func TestReconciler_TriesAgainWhenTheServerIsBack(t *testing.T) {
	run(t, Options{FirstRetry: time.Hour, LastRetry: time.Hour, Interval: 100 * time.Hour}, func(t *testing.T, r *Reconciler, m *memory) {
		m.set(errAway)
		done := make(chan error, 1)
		go func() { done <- r.Register(t.Context(), []Instance{inst(1)}) }()
		time.Sleep(time.Minute)
		m.set(nil)
		start := time.Now()
		m.changed(Key{})
		if err := <-done; err != nil || time.Since(start) != time.Second {
			t.Errorf("error %v after %v, want none after one call", err, time.Since(start))
		}
	})
}

func TestReconciler_TheOppositeSupersedes(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		m.set(errAway)
		done := make(chan error, 1)
		go func() { done <- r.Register(t.Context(), []Instance{inst(1)}) }()
		time.Sleep(500 * time.Millisecond)
		m.set(nil)
		if err := r.Deregister(t.Context(), []Instance{inst(1)}); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrSuperseded) {
			t.Errorf("Register: %v, want ErrSuperseded", err)
		}
		time.Sleep(time.Minute)
		if m.size() != 0 {
			t.Error("registered after Deregister")
		}
	})
}

func TestReconciler_RepairsWhatVanishes(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		if err := r.Register(t.Context(), []Instance{inst(1), inst(2)}); err != nil {
			t.Fatal(err)
		}
		m.lose(inst(1).Key())
		// Found means found: a call now waits for the repair.
		if err := r.Register(t.Context(), []Instance{inst(1)}); err != nil || m.size() != 2 {
			t.Errorf("error %v, %d entries, want 2", err, m.size())
		}
		m.mu.Lock()
		clear(m.there) // nobody tells
		m.mu.Unlock()
		time.Sleep(32 * time.Second)
		if m.size() != 2 {
			t.Errorf("%d entries after the interval, want 2", m.size())
		}
	})
}

func TestReconciler_CallUnderWayIsNotTheLastWord(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		go r.Register(t.Context(), []Instance{inst(1)})
		time.Sleep(500 * time.Millisecond) // Put is under way
		if err := r.Deregister(t.Context(), []Instance{inst(1)}); err != nil || m.size() != 0 {
			t.Errorf("error %v, %d entries, want none", err, m.size())
		}
	})
}

func TestReconciler_OnlyForOneRegistry(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		i := inst(1)
		i.Only = "consul"
		if err := r.Register(t.Context(), []Instance{i}); err != nil || m.size() != 0 {
			t.Errorf("error %v, %d entries, want none", err, m.size())
		}
	})
}

func TestReconciler_CloseDeletesFirst(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		if err := r.Register(t.Context(), []Instance{inst(1)}); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(t.Context()); err != nil || m.size() != 0 || len(m.calls) != 1 {
			t.Errorf("error %v, %d entries, backend closed %d times", err, m.size(), len(m.calls))
		}
		for name, err := range map[string]error{
			"Register":   r.Register(t.Context(), []Instance{inst(1)}),
			"Deregister": r.Deregister(t.Context(), []Instance{inst(1)}),
			"Close":      r.Close(t.Context()),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
	})
}

func TestReconciler_CloseIsBounded(t *testing.T) {
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		if err := r.Register(t.Context(), []Instance{inst(1)}); err != nil {
			t.Fatal(err)
		}
		m.set(errAway)
		start := time.Now()
		if err := r.Close(timeout(t, 3*time.Second)); !errors.Is(err, ErrUnavailable) || time.Since(start) != 3*time.Second {
			t.Errorf("error %v after %v", err, time.Since(start))
		}
	})
}

// An outage of an hour is a line for each failure of another kind, and none
// for those that the backend has told of.
func TestReconciler_AnOutageDoesNotFloodTheLog(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{{errAway, 0}, {errors.New("not allowed"), 20}} {
		var log bytes.Buffer
		run(t, Options{Log: zerolog.New(zerolog.SyncWriter(&log)).Level(zerolog.InfoLevel)}, func(t *testing.T, r *Reconciler, m *memory) {
			m.set(c.err)
			var list []Instance
			for i := range 20 {
				list = append(list, inst(i))
			}
			r.Register(timeout(t, time.Hour), list)
		})
		if got := strings.Count(log.String(), "failed"); got != c.want {
			t.Errorf("%q: %d lines for 20 instances, want %d", c.err, got, c.want)
		}
	}
}

func TestReconciler_ObservesEveryCall(t *testing.T) {
	var seen []Operation
	run(t, Options{Observe: func(o Operation) { seen = append(seen, o) }}, func(t *testing.T, r *Reconciler, m *memory) {
		r.Register(t.Context(), []Instance{inst(1)})
		m.set(errAway)
		r.Deregister(timeout(t, 2*time.Second), []Instance{inst(1)})
	})
	if len(seen) != 2 || seen[0].Op != "register" || seen[0].Err != nil || seen[0].Elapsed != time.Second ||
		seen[1].Op != "deregister" || seen[1].Err == nil {
		t.Errorf("observed %+v", seen)
	}
}

// Many callers, wishes at random, failures and losses: in the end the world is
// what was wished last.
func TestReconciler_EndsWithTheLastWish(t *testing.T) {
	seed := rand.Uint64()
	run(t, Options{}, func(t *testing.T, r *Reconciler, m *memory) {
		const instances, steps = 5, 60
		var wg sync.WaitGroup
		wished := make([]bool, instances)
		for n := range instances {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			wg.Go(func() {
				for range steps {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(4000))*time.Millisecond)
					wished[n] = rng.IntN(2) == 0
					if wished[n] {
						r.Register(ctx, []Instance{inst(n)})
					} else {
						r.Deregister(ctx, []Instance{inst(n)})
					}
					cancel()
					switch rng.IntN(6) {
					case 0:
						m.set(errAway)
					case 1, 2:
						m.set(nil)
					case 3:
						m.lose(inst(n).Key())
					case 4:
						m.changed(Key{})
					}
				}
			})
		}
		wg.Wait()
		m.set(nil)
		time.Sleep(time.Minute)
		m.mu.Lock()
		defer m.mu.Unlock()
		for n, want := range wished {
			if _, there := m.there[inst(n).Key()]; there != want {
				t.Errorf("seed %d: instance %d there: %v, wished last: %v", seed, n, there, want)
			}
		}
	})
}

func TestAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemory(), newMemory()
		r := All(New(a, Options{}), New(b, Options{}))
		if err := r.Register(t.Context(), []Instance{inst(1)}); err != nil || a.size() != 1 || b.size() != 1 {
			t.Errorf("error %v, %d and %d entries", err, a.size(), b.size())
		}
		b.set(errAway)
		if err := r.Deregister(timeout(t, 2*time.Second), []Instance{inst(1)}); !errors.Is(err, ErrUnavailable) || a.size() != 0 {
			t.Errorf("error %v, %d entries in the one that works", err, a.size())
		}
		b.set(nil)
		if err := r.Close(t.Context()); err != nil || b.size() != 0 {
			t.Errorf("close: %v, %d entries", err, b.size())
		}
	})
}
