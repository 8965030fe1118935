package master

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/mesosapi"
)

func TestCalls_AreWhatMesosWants(t *testing.T) {
	id := uuid.New()
	status := mesos.TaskStatus{TaskID: mesos.TaskID{Value: "T"}, AgentID: &mesos.AgentID{Value: "A"}, UUID: id[:]}
	f := mesos.FrameworkID{Value: "F"}
	zero, week := 0.0, 604800.0
	policy := &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: 5}}
	launch := mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{}}
	tests := []struct {
		name string
		call func(ctx context.Context, c *Client) error
		want scheduler.Call
	}{
		{"accept", func(ctx context.Context, c *Client) error {
			return c.Accept(ctx, []string{"O1", "O2"}, []mesos.Offer_Operation{launch}, -1)
		}, scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{OfferIDs: []mesos.OfferID{{Value: "O1"}, {Value: "O2"}}, Operations: []mesos.Offer_Operation{launch}, Filters: &mesos.Filters{RefuseSeconds: &zero}}}},
		{"decline", func(ctx context.Context, c *Client) error { return c.Decline(ctx, []string{"O1"}, 7*24*time.Hour) },
			scheduler.Call{Type: scheduler.Call_DECLINE, Decline: &scheduler.Call_Decline{OfferIDs: []mesos.OfferID{{Value: "O1"}}, Filters: &mesos.Filters{RefuseSeconds: &week}}}},
		{"revive", func(ctx context.Context, c *Client) error { return c.Revive(ctx, "r") },
			scheduler.Call{Type: scheduler.Call_REVIVE, Revive: &scheduler.Call_Revive{Roles: []string{"r"}}}},
		{"suppress", func(ctx context.Context, c *Client) error { return c.Suppress(ctx) },
			scheduler.Call{Type: scheduler.Call_SUPPRESS, Suppress: &scheduler.Call_Suppress{}}},
		{"kill", func(ctx context.Context, c *Client) error { return c.Kill(ctx, "T", "A", policy) },
			scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "T"}, AgentID: &mesos.AgentID{Value: "A"}, KillPolicy: policy}}},
		{"kill anywhere", func(ctx context.Context, c *Client) error { return c.Kill(ctx, "T", "", nil) },
			scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "T"}}}},
		{"shutdown", func(ctx context.Context, c *Client) error { return c.Shutdown(ctx, "E", "A") },
			scheduler.Call{Type: scheduler.Call_SHUTDOWN, Shutdown: &scheduler.Call_Shutdown{ExecutorID: mesos.ExecutorID{Value: "E"}, AgentID: mesos.AgentID{Value: "A"}}}},
		{"acknowledge", func(ctx context.Context, c *Client) error { return c.Acknowledge(ctx, status) },
			scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{AgentID: mesos.AgentID{Value: "A"}, TaskID: mesos.TaskID{Value: "T"}, UUID: id[:]}}},
		{"reconcile", func(ctx context.Context, c *Client) error { return c.Reconcile(ctx, Task{"T", "A"}, Task{ID: "T2"}) },
			scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{Tasks: []scheduler.Call_Reconcile_Task{{TaskID: mesos.TaskID{Value: "T"}, AgentID: &mesos.AgentID{Value: "A"}}, {TaskID: mesos.TaskID{Value: "T2"}}}}}},
		// Without its message Mesos answers 400.
		{"reconcile all", func(ctx context.Context, c *Client) error { return c.Reconcile(ctx) },
			scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{}}},
		{"message", func(ctx context.Context, c *Client) error { return c.Message(ctx, "E", "A", []byte("hi")) },
			scheduler.Call{Type: scheduler.Call_MESSAGE, Message: &scheduler.Call_Message{ExecutorID: mesos.ExecutorID{Value: "E"}, AgentID: mesos.AgentID{Value: "A"}, Data: []byte("hi")}}},
		{"empty message", func(ctx context.Context, c *Client) error { return c.Message(ctx, "E", "A", nil) },
			scheduler.Call{Type: scheduler.Call_MESSAGE, Message: &scheduler.Call_Message{ExecutorID: mesos.ExecutorID{Value: "E"}, AgentID: mesos.AgentID{Value: "A"}, Data: []byte{}}}},
		{"teardown", func(ctx context.Context, c *Client) error { return c.Teardown(ctx) }, scheduler.Call{Type: scheduler.Call_TEARDOWN}},
	}
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			if err := tt.call(t.Context(), r.Client); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			tt.want.FrameworkID = &f
			got := r.masters[0].received(tt.want.Type)
			if last := got[len(got)-1]; !last.Equal(&tt.want) {
				t.Errorf("%s: got %v, want %v", tt.name, last, &tt.want)
			}
		}
		r.expectHeard(t, on1)
	})
}

// What Mesos would answer 400 to must not cost the subscription.
func TestCalls_RefusedBeforeSending(t *testing.T) {
	v7, _ := uuid.NewV7()
	agent := &mesos.AgentID{Value: "A"}
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		for name, err := range map[string]error{
			"accept nothing":   r.Accept(t.Context(), nil, nil, 0),
			"accept no use":    r.Accept(t.Context(), []string{"O1"}, nil, 0),
			"kill nothing":     r.Kill(t.Context(), "", "A", nil),
			"shutdown nobody":  r.Shutdown(t.Context(), "", "A"),
			"shutdown nowhere": r.Shutdown(t.Context(), "E", ""),
			"message nowhere":  r.Message(t.Context(), "E", "", nil),
			"short uuid":       r.Acknowledge(t.Context(), mesos.TaskStatus{TaskID: mesos.TaskID{Value: "T"}, AgentID: agent, UUID: []byte("short")}),
			"uuid version":     r.Acknowledge(t.Context(), mesos.TaskStatus{TaskID: mesos.TaskID{Value: "T"}, AgentID: agent, UUID: v7[:]}),
			"no agent":         r.Acknowledge(t.Context(), mesos.TaskStatus{TaskID: mesos.TaskID{Value: "T"}, UUID: make([]byte, 16)}),
		} {
			if err == nil || errors.Is(err, ErrNotSubscribed) || errors.Is(err, ErrCallRefused) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := r.Acknowledge(t.Context(), mesos.TaskStatus{TaskID: mesos.TaskID{Value: "T"}, AgentID: agent}); err != nil {
			t.Errorf("a status without uuid needs no acknowledgement: %v", err)
		}
		if err := r.Decline(t.Context(), nil, 0); err != nil {
			t.Errorf("declining nothing: %v", err)
		}
		if n := len(r.masters[0].calls); n != 1 {
			t.Errorf("%d calls sent", n-1)
		}
		r.expectHeard(t, on1)
	})
}

func TestCalls_Errors(t *testing.T) {
	accept := func(r *rig) error {
		return r.Accept(context.Background(), []string{"O1"}, make([]mesos.Offer_Operation, 1), 0)
	}
	kill := func(r *rig) error { return r.Kill(context.Background(), "T", "A", nil) }
	only := func(kind scheduler.Call_Type, code int) func(*scheduler.Call) int {
		return func(c *scheduler.Call) int {
			if c.Type == kind {
				return code
			}
			return 0
		}
	}
	tests := []struct {
		name  string
		kind  scheduler.Call_Type
		call  func(r *rig) error
		code  int
		want  error
		sent  int
		again bool // the subscription ends and is made again
	}{
		{"wrong stream", scheduler.Call_ACCEPT, accept, 400, ErrCallRefused, 1, true},
		{"not subscribed there", scheduler.Call_KILL, kill, 403, ErrCallRefused, 1, true},
		{"another leads", scheduler.Call_KILL, kill, 307, ErrCallRefused, 1, true},
		{"unavailable, not repeatable", scheduler.Call_ACCEPT, accept, 503, ErrCallRefused, 1, false},
		{"unavailable, repeatable", scheduler.Call_KILL, kill, 503, ErrCallRefused, attempts, false},
		{"broken", scheduler.Call_KILL, kill, 500, ErrCallRefused, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, oneMaster, nil, func(t *testing.T, r *rig) {
				r.masters[0].set(func(m *fakeMaster) { m.answer = only(tt.kind, tt.code) })
				err := tt.call(r)
				if !errors.Is(err, tt.want) || mesosapi.StatusCode(err) != tt.code {
					t.Errorf("%v", err)
				}
				if n := len(r.masters[0].received(tt.kind)); n != tt.sent {
					t.Errorf("sent %d times, want %d", n, tt.sent)
				}
				time.Sleep(2 * time.Second)
				if tt.again {
					r.expectHeard(t, on1, "disconnected", on1)
				} else {
					r.expectHeard(t, on1)
				}
			})
		})
	}
}

func TestCalls_WithoutAnAnswer(t *testing.T) {
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		block := make(chan struct{})
		defer close(block)
		sent := make(chan struct{}, 10)
		r.masters[0].set(func(m *fakeMaster) {
			m.answer = func(c *scheduler.Call) int {
				sent <- struct{}{}
				m.mu.Unlock() // the master goes on with others
				<-block
				m.mu.Lock()
				return 0
			}
		})
		start := time.Now()
		err := r.Accept(t.Context(), []string{"O1"}, make([]mesos.Offer_Operation, 1), 0)
		if !errors.Is(err, ErrOutcomeUnknown) || time.Since(start) > callTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if n := len(sent); n != 1 {
			t.Errorf("ACCEPT sent %d times", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := r.Kill(ctx, "T", "A", nil); !errors.Is(err, ErrOutcomeUnknown) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		r.masters[0].kill()
		synctest.Wait()
		if err := r.Accept(t.Context(), []string{"O1"}, make([]mesos.Offer_Operation, 1), 0); !errors.Is(err, ErrNotSubscribed) {
			t.Errorf("no master: %v", err)
		}
	})
}
