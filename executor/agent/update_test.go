package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

func TestUpdate_IsComplete(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.report(t, "t1", mesos.TASK_STARTING, mesos.TASK_RUNNING)
		synctest.Wait()
		seen := map[string]bool{}
		for _, c := range r.agent.received(executor.Call_UPDATE) {
			s := c.Update.Status
			id, err := uuid.FromBytes(s.UUID)
			if err != nil || id.Version() != 4 || seen[string(s.UUID)] {
				t.Errorf("uuid %v %v", id, err)
			}
			seen[string(s.UUID)] = true
			if s.GetSource() != mesos.SOURCE_EXECUTOR || s.GetExecutorID().GetValue() != "E" || s.GetAgentID().GetValue() != "A" {
				t.Errorf("incomplete: %v", s)
			}
			if now := float64(time.Now().UnixNano()) / 1e9; s.GetTimestamp() < now-1 || s.GetTimestamp() > now+1 {
				t.Errorf("timestamp %f", s.GetTimestamp())
			}
		}
		if len(seen) != 2 {
			t.Errorf("%d updates", len(seen))
		}
	})
}

func TestP4_OneInFlightPerTask_Bounded(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		hold := make(chan struct{})
		r.agent.set(func(a *fakeAgent) { a.hold = hold })
		for n := range 100 {
			r.report(t, fmt.Sprint("t", n), mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_FINISHED)
		}
		synctest.Wait()
		if n := len(r.agent.received(executor.Call_UPDATE)); n != maxFlying {
			t.Errorf("%d updates in flight, want %d", n, maxFlying)
		}
		for _, text := range r.agent.updates() {
			if text[len(text)-13:] != "TASK_STARTING" {
				t.Errorf("%s overtakes", text)
			}
		}
		close(hold)
		r.agent.set(func(a *fakeAgent) { a.hold = nil })
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.checkOrder(t)
		if r.agent.most > maxFlying+2 {
			t.Errorf("%d calls at a time", r.agent.most)
		}
	})
}

// checkOrder checks that each task's updates arrived for the first time in the
// order STARTING, RUNNING, FINISHED, each once.
func (r *rig) checkOrder(t *testing.T) {
	t.Helper()
	got := map[string][]string{}
	seen := map[string]bool{}
	for _, c := range r.agent.arrived() {
		if !seen[string(c.UUID)] {
			seen[string(c.UUID)] = true
			got[c.TaskID.Value] = append(got[c.TaskID.Value], c.GetState().String())
		}
	}
	for task, states := range got {
		if want := []string{"TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"}; !slices.Equal(states, want) {
			t.Errorf("%s: %v, want %v", task, states, want)
		}
	}
}

// arrived are all statuses that the agent has got, by UPDATE or SUBSCRIBE.
func (a *fakeAgent) arrived() (statuses []mesos.TaskStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.calls {
		switch c.Type {
		case executor.Call_UPDATE:
			statuses = append(statuses, c.Update.Status)
		case executor.Call_SUBSCRIBE:
			for _, u := range c.Subscribe.UnacknowledgedUpdates {
				statuses = append(statuses, u.Status)
			}
		}
	}
	return statuses
}

func TestP4_UnacknowledgedIsSentAgain(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.agent.set(func(a *fakeAgent) { a.mute = true })
		r.report(t, "t1", mesos.TASK_RUNNING)
		for range 80 {
			time.Sleep(time.Second)
			r.agent.send(&executor.Event{Type: executor.Event_HEARTBEAT}) // the stream is fine
		}
		synctest.Wait()
		sent := r.agent.received(executor.Call_UPDATE)
		var at []time.Duration
		for _, c := range sent {
			at = append(at, c.at.Round(time.Second))
			if !c.Update.Status.Equal(&sent[0].Update.Status) {
				t.Errorf("sent again as something else: %v", c.Update.Status)
			}
		}
		if want := []time.Duration{0, 10 * time.Second, 30 * time.Second, 70 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
	})
}

func TestUpdate_KeptWhileTheAgentDoesNotTakeIt(t *testing.T) {
	for _, code := range []int{404, 408, 429, 500, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			run(t, testConfig(), nil, func(t *testing.T, r *rig) {
				r.agent.set(func(a *fakeAgent) {
					a.answer = func(c *executor.Call) int {
						if c.Type == executor.Call_UPDATE {
							return code
						}
						return 0
					}
				})
				for n := range 100 {
					r.report(t, fmt.Sprint("t", n), mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_FINISHED)
				}
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if n := len(r.agent.received(executor.Call_UPDATE)); n < 500 || n > 700 {
					t.Errorf("%d attempts in 10 minutes, want about one a second", n)
				}
				if n := r.log.count("\n"); n > 40 {
					t.Errorf("%d log lines in 10 minutes", n)
				}
				if n := r.Unacknowledged(); n != 300 {
					t.Errorf("%d of 300 updates are kept", n)
				}
				r.agent.set(func(a *fakeAgent) { a.answer, a.calls = nil, nil })
				start := time.Now()
				if err := r.Drain(t.Context()); err != nil || time.Since(start) > time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				r.checkOrder(t)
			})
		})
	}
}

// An agent that is stopped, or busy, for minutes: its stream is as good as
// before when it goes on, and nothing is to be given up.
func TestP9_FrozenAgent(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		hold := make(chan struct{})
		r.agent.set(func(a *fakeAgent) { a.hold = hold })
		for n := range 30 {
			r.report(t, fmt.Sprint("t", n), mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_FINISHED)
		}
		time.Sleep(20 * time.Minute)
		r.expectHeard(t, "subscribed")
		if n := len(r.agent.received(executor.Call_UPDATE)); n > 300 {
			t.Errorf("%d attempts in 20 minutes", n)
		}
		close(hold)
		start := time.Now()
		if err := r.Drain(t.Context()); err != nil || time.Since(start) > 15*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		r.checkOrder(t)
		r.expectHeard(t, "subscribed")
	})
}

func TestUpdate_RejectedIsLoggedOnceAndGivenUp(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.agent.set(func(a *fakeAgent) {
			a.answer = func(c *executor.Call) int {
				if c.Type == executor.Call_UPDATE && c.Update.Status.GetState() == mesos.TASK_STARTING {
					return 400
				}
				return 0
			}
		})
		r.report(t, "t1", mesos.TASK_STARTING, mesos.TASK_RUNNING)
		r.report(t, "t2", mesos.TASK_RUNNING)
		synctest.Wait()
		if got := r.agent.updates(); !slices.Contains(got, "t2 TASK_RUNNING") || slices.Contains(got, "t1 TASK_RUNNING") {
			t.Errorf("at first %q", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := r.agent.updates()
		if n := len(got); n != maxRejections+2 || got[n-1] != "t1 TASK_RUNNING" {
			t.Errorf("got %q", got)
		}
		if r.log.count("update_rejected") != 1 || r.log.count("update_given_up") != 1 || r.log.count("answer 400") != 2 {
			t.Errorf("log:\n%s", r.log)
		}
		if err := r.Drain(t.Context()); err == nil {
			t.Error("Drain hides that an update was given up")
		}
	})
}

func TestUpdate_AcknowledgedBeforeIts202(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		hold := make(chan struct{})
		r.agent.set(func(a *fakeAgent) { a.hold = hold })
		r.report(t, "t1", mesos.TASK_STARTING, mesos.TASK_RUNNING)
		synctest.Wait()
		first := r.agent.received(executor.Call_UPDATE)[0].Update.Status
		r.agent.send(ackEvent("t1", first.UUID), ackEvent("t1", first.UUID))
		synctest.Wait()
		if n := r.Unacknowledged(); n != 1 {
			t.Errorf("%d unacknowledged, want 1", n)
		}
		close(hold)
		if err := r.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.agent.updates(); len(got) != 2 {
			t.Errorf("sent %q", got)
		}
	})
}

func TestDrain(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		if err := r.Drain(t.Context()); err != nil {
			t.Errorf("nothing to wait for: %v", err)
		}
		r.agent.set(func(a *fakeAgent) { a.mute = true })
		r.report(t, "t1", mesos.TASK_FINISHED)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		waiting := make(chan error)
		go func() { waiting <- r.Drain(context.Background()) }()
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("Drain when Run returns: %v", err)
		}
		if err := r.Update(mesos.TaskStatus{TaskID: mesos.TaskID{Value: "t"}, State: mesos.TASK_RUNNING.Enum()}); !errors.Is(err, ErrClosed) {
			t.Errorf("Update afterwards: %v", err)
		}
		if err := r.Message(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Message afterwards: %v", err)
		}
	})
}

func TestMessage_IsSentInOrderOrDropped(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		var want []string
		for n := range 10 {
			want = append(want, fmt.Sprint(n))
			r.Message([]byte(want[n]))
		}
		synctest.Wait()
		r.agent.kill()
		synctest.Wait()
		r.Message([]byte("nobody there"))
		synctest.Wait()
		r.agent.run()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		var got []string
		for _, c := range r.agent.received(executor.Call_MESSAGE) {
			got = append(got, string(c.Message.Data))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

// While the agent restarts 50 times, killed at random moments of the calls,
// 20 tasks at a time start, run and finish: every status arrives, in order.
func TestP4_AgentRestartsLoseAndReorderNothing(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		var tasks sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		count := 0
		for slot := range 20 {
			tasks.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					name := fmt.Sprintf("t%d-%d", slot, n)
					for _, state := range []mesos.TaskState{mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_FINISHED} {
						r.report(t, name, state)
						time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
					}
				}
			})
		}
		for n := range 50 {
			// Lose some of the answers and acknowledgements before dying.
			r.agent.set(func(a *fakeAgent) { a.mute = n%2 == 0 })
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
			r.agent.kill()
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
			// A restarted agent answers 503, first to all, then to all but SUBSCRIBE.
			r.agent.set(func(a *fakeAgent) { a.mute, a.answer = false, refuse(503) })
			r.agent.run()
			time.Sleep(500 * time.Millisecond)
			r.agent.set(func(a *fakeAgent) {
				a.answer = func(c *executor.Call) int {
					if c.Type == executor.Call_SUBSCRIBE || c.Type == executor.Call_HEARTBEAT {
						return 0
					}
					return 503
				}
			})
			time.Sleep(2 * time.Second)
			r.agent.set(func(a *fakeAgent) { a.answer = nil })
		}
		cancel()
		tasks.Wait()
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.checkOrder(t)
		seen := map[string]bool{}
		for _, s := range r.agent.arrived() {
			seen[string(s.UUID)] = true
		}
		if count = len(seen); count < 1000 {
			t.Errorf("only %d updates", count)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	l := newLedger()
	now := time.Unix(1000, 0)
	for n := range 500 {
		status, err := testConfig().complete(mesos.TaskStatus{TaskID: mesos.TaskID{Value: fmt.Sprint(n)}, State: mesos.TASK_RUNNING.Enum()}, now)
		if err != nil {
			b.Fatal(err)
		}
		l.add(status)
	}
	for b.Loop() {
		for _, u := range l.sendable(now, maxFlying) {
			l.settle(u, postponed, now)
		}
	}
}
