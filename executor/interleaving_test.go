package executor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/healthcheck"
)

var (
	schedules = flag.Int("schedules", 10_000, "random schedules of TestP1P2P3P4_HoldUnderEveryInterleaving")
	seed      = flag.Uint64("seed", 0, "first seed of that test; 0 takes one by the clock")
)

// pick chooses one of several values.
func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// schedule is one random life of a task.
type schedule struct {
	checked  bool
	services bool
	required bool
	drain    time.Duration
	policy   payload.UnhealthyPolicy
	complete time.Duration
	kill     time.Duration // TaskInfo.kill_policy; 0 is none
	moves    []move
}

// move is something that happens from outside.
type move struct {
	after time.Duration
	what  string
	make  func(e *Executor, s *stage)
}

// newSchedule draws a life. Moments come from a short list, so that many things
// happen at the same one.
func newSchedule(r *rand.Rand, s *stage, stop context.CancelFunc) schedule {
	ms := time.Millisecond
	s.secretsAfter = pick(r, 0, 0, 10*ms, time.Second, 30*time.Second)
	if r.IntN(12) == 0 {
		s.secretsErr = errors.New("permission denied (403)")
	}
	s.startAfter = pick(r, 0, 0, 10*ms, 500*ms)
	if r.IntN(12) == 0 {
		s.startErr = errors.New("exec: not found")
	}
	s.found, s.gone = pick(r, 0, 10*ms, time.Second, 3*time.Second, -1), pick(r, 0, 10*ms, time.Second, 3*time.Second, -1)
	if r.IntN(12) == 0 {
		s.registryErr = errors.New("no session")
	}
	s.onTerm = pick(r, 0, 10*ms, time.Second, 20*time.Second, -1)
	s.leaves = r.IntN(3) == 0
	s.killTakes = pick(r, 0, 0, 10*ms, 7*time.Second)
	if r.IntN(8) == 0 {
		s.panicOn = pick(r, "login", "start", "register", "registered", "deregister", "deregistered", "kill",
			"signal terminated", "checks stopped", "TASK_STARTING", "TASK_RUNNING", "TASK_RUNNING healthy", "TASK_KILLING", "TASK_KILLED", "TASK_FAILED")
	}
	c := schedule{
		checked: r.IntN(3) > 0, services: r.IntN(4) > 0, required: r.IntN(4) > 0,
		drain:  pick(r, 0, time.Second, 4*time.Second),
		policy: payload.UnhealthyPolicy(r.IntN(3)),
		kill:   pick(r, 0, -1, time.Second, 10*time.Second, 1<<62),
	}
	if r.IntN(4) == 0 {
		c.complete = pick(r, time.Second, 5*time.Second)
	}
	policy := func(d time.Duration) *mesos.KillPolicy {
		return &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(d)}}
	}
	hear := func(kind healthcheck.EventKind) func(*Executor, *stage) {
		return func(_ *Executor, s *stage) { s.hear(kind) }
	}
	end := func(x process.Exit) func(*Executor, *stage) {
		return func(_ *Executor, s *stage) {
			s.mu.Lock()
			p := s.proc
			s.mu.Unlock()
			if p != nil {
				p.end(x)
			}
		}
	}
	all := []move{
		{what: "healthy", make: hear(healthcheck.Healthy)},
		{what: "healthy", make: hear(healthcheck.Healthy)},
		{what: "healthy", make: hear(healthcheck.Healthy)},
		{what: "unhealthy", make: hear(healthcheck.Unhealthy)},
		{what: "unhealthy", make: hear(healthcheck.Unhealthy)},
		{what: "failure", make: hear(healthcheck.Failure)},
		{what: "threshold", make: hear(healthcheck.Threshold)},
		{what: "KILL", make: func(e *Executor, _ *stage) { e.Kill("t.1", nil) }},
		{what: "KILL 0s", make: func(e *Executor, _ *stage) { e.Kill("t.1", policy(0)) }},
		{what: "KILL -5s", make: func(e *Executor, _ *stage) { e.Kill("t.1", policy(-5*time.Second)) }},
		{what: "KILL 2s", make: func(e *Executor, _ *stage) { e.Kill("t.1", policy(2*time.Second)) }},
		{what: "KILL huge", make: func(e *Executor, _ *stage) { e.Kill("t.1", policy(1<<63-1)) }},
		{what: "KILL of another", make: func(e *Executor, _ *stage) { e.Kill("t.2", nil) }},
		{what: "exit 0", make: end(process.Exit{})},
		{what: "exit 0", make: end(process.Exit{})},
		{what: "exit 0", make: end(process.Exit{})},
		{what: "exit 3", make: end(process.Exit{Code: 3})},
		{what: "SIGSEGV", make: end(process.Exit{Code: -1, Signal: 11})},
		{what: "OOM", make: end(process.Exit{Code: -1, Signal: 9, OOM: true, PeakMemory: 1 << 20})},
		{what: "SHUTDOWN", make: func(e *Executor, _ *stage) { e.Shutdown() }},
		{what: "agent lost", make: func(e *Executor, _ *stage) { e.Lost(errors.New("agent did not come back in time")) }},
		{what: "disconnected", make: func(e *Executor, _ *stage) { e.Disconnected(time.Now()) }},
		{what: "signal to the executor", make: func(*Executor, *stage) { stop() }},
	}
	for range 1 + r.IntN(8) {
		m := pick(r, all...)
		m.after = pick(r, 0, 10*ms, 20*ms, 510*ms, time.Second, 1010*ms, 2*time.Second, 5*time.Second, 9*time.Second, 20*time.Second)
		c.moves = append(c.moves, m)
	}
	slices.SortStableFunc(c.moves, func(a, b move) int { return int(a.after - b.after) })
	return c
}

// TestP1P2P3P4_HoldUnderEveryInterleaving lives many random lives, in which
// everything that can happen to a task happens at any time, also at the same,
// and checks the promises on the record of each.
func TestP1P2P3P4_HoldUnderEveryInterleaving(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	n := *schedules
	if testing.Short() {
		n /= 10
	}
	sandbox := t.TempDir()
	ends := map[string]int{}
	for i := range uint64(n) {
		end := live(t, sandbox, first+i)
		ends[end]++
		if err := os.RemoveAll(filepath.Join(sandbox, tasksDir)); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("replay with -seed %d -schedules 1", first+i)
		}
	}
	t.Logf("%d schedules from seed %d ended in %v", n, first, ends)
	for _, state := range []string{"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"} {
		if n >= 1000 && ends[state] < n/100 {
			t.Errorf("%s in %d of %d schedules: they do not reach what they should", state, ends[state], n)
		}
	}
}

// live plays one schedule and checks its record. It returns the terminal state.
func live(t *testing.T, sandbox string, seed uint64) (end string) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := &stage{t: t}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := newSchedule(r, s, stop)
		e := newStaged(t, s, sandbox, nil)
		over := make(chan error, 1)
		go func() { over <- e.Run(ctx) }()

		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, task *payload.Task) {
			task.Unhealthy = c.policy
			pairs := []string{"drain", c.drain.String(), "secret.env.PASSWORD", "secret/db#password"}
			if c.services {
				pairs = append(pairs, "service.name", "cart", "service.required", fmt.Sprint(c.required))
			}
			info.Labels = labelsFor(pairs...)
			if !c.checked {
				info.HealthCheck = nil
			}
			if c.complete > 0 {
				info.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: int64(c.complete)}
			}
			if c.kill != 0 {
				info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(c.kill)}}
			}
		}))
		begin := time.Now()
		var killed time.Time
		limited := c.complete > 0
		for _, m := range c.moves {
			time.Sleep(time.Until(begin.Add(m.after)))
			if r.IntN(2) == 0 {
				synctest.Wait()
			}
			s.note("[" + m.what + "]")
			switch m.what {
			case "SHUTDOWN", "agent lost", "signal to the executor":
				limited = true
				fallthrough
			case "KILL", "KILL 0s", "KILL -5s", "KILL 2s", "KILL huge":
				if killed.IsZero() {
					killed = time.Now()
				}
			}
			m.make(e, s)
		}
		// Whatever is left ends now, and the executor with it.
		time.Sleep(time.Until(begin.Add(25 * time.Second)))
		if killed.IsZero() {
			killed = time.Now()
		}
		s.note("[KILL 1s]")
		e.Kill("t.1", &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(time.Second)}})
		time.Sleep(time.Minute)
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		synctest.Wait()

		s.check(t, c, killed, limited)
		if n := len(s.statuses); n > 0 {
			end = s.statuses[n-1].GetState().String()
		}
		if t.Failed() {
			t.Logf("schedule: %+v", c)
			for _, h := range s.events {
				t.Logf("%8v %s", h.at.Sub(begin), h.what)
			}
		}
	})
	return end
}

// check reads the record of a life.
func (s *stage) check(t *testing.T, c schedule, killed time.Time, limited bool) {
	terminal, killing := 0, false
	var exposed, leaving bool
	var asked, gone time.Time // of the last deregistration
	for _, h := range s.events {
		state, _, _ := strings.Cut(h.what, " ")
		if strings.HasPrefix(h.what, "TASK_") && terminal > 0 {
			t.Errorf("P4: %s after the terminal status", h.what)
		}
		switch {
		case state == "TASK_STARTING", state == "TASK_RUNNING":
			if killing {
				t.Errorf("P4: %s after KILLING", h.what)
			}
			if !killed.IsZero() && h.at.After(killed) {
				t.Errorf("P6: %s after the kill", h.what)
			}
			serves := h.what == "TASK_RUNNING healthy" || h.what == "TASK_RUNNING" && !c.checked
			if serves && c.services && c.required && h.entry != present {
				t.Errorf("P1: %s without an entry", h.what)
			}
		case state == "TASK_KILLING":
			killing = true
		case strings.HasPrefix(state, "TASK_"):
			terminal++
			if h.treeAlive {
				t.Errorf("P3: %s while processes are left", h.what)
			}
		case h.what == "start":
			if !killed.IsZero() && h.at.After(killed) {
				t.Error("P6: started after the kill")
			}
		case h.what == "register":
			exposed, leaving, gone = true, false, time.Time{}
		case h.what == "deregister":
			// It may be asked for once more when the entry has just gone.
			leaving, asked = true, h.at
		case h.what == "deregistered":
			gone = h.at
		case h.what == "signal terminated", h.what == "kill":
			if !exposed || !h.treeAlive {
				break
			}
			if !leaving {
				t.Errorf("P2: %s before anything was deregistered", h.what)
			}
			from := gone
			if gone.IsZero() {
				from = asked.Add(5 * time.Second)
			}
			if !limited && h.rootAlive && h.at.Before(from.Add(c.drain)) {
				t.Errorf("P2: %s %v before the end of the drain", h.what, from.Add(c.drain).Sub(h.at))
			}
		}
	}
	if terminal != 1 {
		t.Errorf("P4: %d terminal statuses", terminal)
	}
}
