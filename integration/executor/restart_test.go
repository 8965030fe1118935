package executor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/payload"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/probe"
)

// history is what the scheduler was told about each task, repetitions left out.
type history struct {
	seen   map[string]bool // uuids
	states map[string][]string
}

func (h *history) add(s mesos.TaskStatus) {
	if len(s.UUID) == 0 || h.seen[string(s.UUID)] {
		return
	}
	h.seen[string(s.UUID)] = true
	id := s.TaskID.Value
	h.states[id] = append(h.states[id], strings.TrimPrefix(s.GetState().String(), "TASK_"))
}

// TestP4_NoStatusIsLostOrDoubledAcrossAgentRestarts restarts the agent again
// and again while tasks run, begin, end by themselves, and are killed.
func TestP4_NoStatusIsLostOrDoubledAcrossAgentRestarts(t *testing.T) {
	restarts := 50
	if testing.Short() {
		restarts = 5
	}
	c := newCluster(t, nil, func(a *agent.Config) { a.ExecutorReregistrationTimeout = time.Second })
	agentID := c.offers[0].AgentID.Value
	const long = 20
	var tasks []mesos.TaskInfo
	for i := range long {
		tasks = append(tasks, c.task(fmt.Sprintf("long.%d", i), &payload.Task{Command: &payload.Command{Shell: "exec sleep 600"}}, small))
	}
	c.Accept(0, c.offers, probe.Launch(tasks...))
	h := &history{seen: map[string]bool{}, states: map[string][]string{}}
	short, wanted := 0, 0
	step := func(event *scheduler.Event) {
		switch event.Type {
		case scheduler.Event_UPDATE:
			s := event.Update.Status
			h.add(s)
			if len(s.UUID) > 0 {
				c.Acknowledge(s)
			}
		case scheduler.Event_OFFERS:
			c.offers = event.Offers.Offers
			var more []mesos.TaskInfo
			for ; wanted > 0; wanted-- {
				more = append(more, c.task(fmt.Sprintf("short.%d", short), &payload.Task{Command: &payload.Command{Shell: "sleep 0.2; exit 3"}}, small))
				short++
			}
			if len(more) == 0 {
				c.Accept(3600, c.offers)
			} else {
				c.Accept(3600, c.offers, probe.Launch(more...))
			}
		}
	}
	handle := func(until func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !until(); {
			event, err := c.Poll(100 * time.Millisecond)
			switch {
			case event != nil:
				step(event)
			case err.Error() != "deadline":
				t.Fatal(err)
			case time.Now().After(end):
				t.Fatalf("it does not come to that: %v", h.states)
			}
		}
	}
	running := func() bool {
		n := 0
		for id, states := range h.states {
			if strings.HasPrefix(id, "long.") && states[len(states)-1] == "RUNNING" {
				n++
			}
		}
		return n == long
	}
	handle(running)
	for i := range restarts {
		wanted = 2
		c.Must(&scheduler.Call{Type: scheduler.Call_REVIVE})
		handle(func() bool { return wanted == 0 })
		if i%2 == 0 {
			// Now they end while the agent is away; otherwise they begin then.
			handle(func() bool {
				states := h.states[fmt.Sprintf("short.%d", short-1)]
				return len(states) > 1 || len(states) == 1 && states[0] == "DROPPED"
			})
		}
		if err := c.mesos.Node(0).Restart(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range long {
		c.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: fmt.Sprintf("long.%d", i)}, AgentID: &mesos.AgentID{Value: agentID}}})
	}
	handle(func() bool {
		for _, states := range h.states {
			switch states[len(states)-1] {
			case "KILLED", "FAILED", "DROPPED":
			default:
				return false
			}
		}
		return len(h.states) == long+short
	})
	dropped := 0
	for id, states := range h.states {
		got := strings.Join(states, " ")
		want := "STARTING RUNNING FAILED"
		if strings.HasPrefix(id, "long.") {
			want = "STARTING RUNNING KILLING KILLED"
		}
		if got == "DROPPED" && strings.HasPrefix(id, "short.") {
			// Its LAUNCH was on its way when the agent died.
			dropped++
			continue
		}
		if got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	t.Logf("%d restarts, %d tasks, %d of them dropped on the way", restarts, long+short, dropped)
}

func small(info *mesos.TaskInfo) { info.Resources = probe.Scalars(0.01, 8, 0) }
