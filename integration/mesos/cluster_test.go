package mesos_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// task is a task on the executor that this test binary is.
func task(t *testing.T, agentID, id, executorID string) mesos.TaskInfo {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return probe.Task(agentID, id, executorID, func(info *mesos.TaskInfo) {
		info.Executor.Command.Value = &program
		info.Executor.Command.Arguments = []string{executorName}
	})
}

// until takes statuses until the wanted one comes. Agents repeat what they have not
// seen acknowledged, e.g. because they were killed, so others may come before.
func until(t *testing.T, s *probe.Scheduler, want string) {
	t.Helper()
	for {
		status := s.Status()
		if status.UUID != nil {
			s.Acknowledge(status)
		}
		got := probe.Describe(status)
		if got == want {
			return
		}
		if got != "t1 TASK_RUNNING SOURCE_EXECUTOR -" {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func TestTaskRunsOnAnAgentUntilItIsKilled(t *testing.T) {
	c := emulator.New(t, emulator.Config{Agents: 2})
	for _, contentType := range []wire.ContentType{wire.JSON, wire.Protobuf} {
		t.Run(string(contentType), func(t *testing.T) {
			s := probe.Connect(t, c.MasterURL(), contentType, probe.FrameworkInfo())
			offers := s.Offers()
			if len(offers) != 2 {
				t.Fatalf("%d offers from 2 agents", len(offers))
			}
			agentID := offers[0].AgentID.Value
			s.Accept(0, offers[:1], probe.Launch(task(t, agentID, "t1", "e1"), task(t, agentID, "t2", "e1")))
			for range 2 {
				status := s.Status()
				if status.GetState() != mesos.TASK_RUNNING {
					t.Fatalf("%s", probe.Describe(status))
				}
				s.Acknowledge(status)
			}
			s.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "t1"}}})
			status := s.Status()
			if got := probe.Describe(status); got != "t1 TASK_KILLED SOURCE_EXECUTOR -" {
				t.Fatal(got)
			}
			s.Acknowledge(status)
			s.Must(&scheduler.Call{Type: scheduler.Call_SHUTDOWN, Shutdown: &scheduler.Call_Shutdown{
				AgentID: mesos.AgentID{Value: agentID}, ExecutorID: mesos.ExecutorID{Value: "e1"},
			}})
			status = s.Status()
			if got := probe.Describe(status); got != "t2 TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_TERMINATED" {
				t.Error(got)
			}
			s.Must(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
		})
	}
}

func TestExecutorSurvivesTheAgent(t *testing.T) {
	c := emulator.New(t, emulator.Config{})
	s := probe.Connect(t, c.MasterURL(), wire.Protobuf, probe.FrameworkInfo())
	offers := s.Offers()
	agentID := offers[0].AgentID.Value
	s.Accept(0, offers, probe.Launch(task(t, agentID, "t1", "e1")))
	s.Acknowledge(s.Status())
	s.Offers() // what is left
	if err := c.Node(0).Restart(); err != nil {
		t.Fatal(err)
	}
	s.Next(scheduler.Event_RESCIND)
	if got := s.Offers(); len(got) != 1 || got[0].AgentID.Value != agentID {
		t.Fatalf("offers after the restart: %v", got)
	}
	s.Reconcile("t1", agentID)
	until(t, s, "t1 TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION")
	s.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "t1"}}})
	until(t, s, "t1 TASK_KILLED SOURCE_EXECUTOR -")
}

func TestMasterFailover(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		name := "registry in memory"
		if persisted {
			name = "registry persisted"
		}
		t.Run(name, func(t *testing.T) {
			c := emulator.New(t, emulator.Config{PersistRegistry: persisted})
			s := probe.Connect(t, c.MasterURL(), wire.Protobuf, probe.FrameworkInfo())
			offers := s.Offers()
			agentID := offers[0].AgentID.Value
			s.Accept(0, offers, probe.Launch(task(t, agentID, "t1", "e1")))
			s.Acknowledge(s.Status())

			c.Node(0).Pause() // does not come back until told to
			if err := c.Failover(); err != nil {
				t.Fatal(err)
			}
			if err := s.Ended(); err == nil {
				t.Error("the old stream ended properly")
			}
			again := probe.Connect(t, c.MasterURL(), wire.Protobuf, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) {
				info.ID = &mesos.FrameworkID{Value: s.ID}
			}))
			again.Reconcile("t1", agentID)
			if persisted {
				again.Silent()
			} else {
				until(t, again, "t1 TASK_UNKNOWN SOURCE_MASTER REASON_RECONCILIATION")
			}
			c.Node(0).Resume()
			if persisted {
				again.Offers() // the agent is back
				again.Reconcile("t1", agentID)
				until(t, again, "t1 TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION")
			} else {
				until(t, again, "t1 TASK_RUNNING SOURCE_MASTER REASON_AGENT_REREGISTERED")
			}
			if err := c.AwaitAgents(context.Background(), 1); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogAndAwait(t *testing.T) {
	c := emulator.New(t, emulator.Config{})
	s := probe.Connect(t, c.MasterURL(), wire.JSON, probe.FrameworkInfo())
	ctx, cancel := context.WithTimeout(t.Context(), probe.Patience)
	defer cancel()
	err := c.Await(ctx, "an offer", func(entries []master.Entry) bool {
		return slices.ContainsFunc(entries, func(e master.Entry) bool {
			event, ok := e.Message.(*scheduler.Event)
			return ok && e.To == s.ID && event.Type == scheduler.Event_OFFERS
		})
	})
	if err != nil {
		t.Error(err)
	}
	if len(c.Log()) == 0 {
		t.Error("nothing was recorded")
	}
	past, cancel := context.WithCancel(t.Context())
	cancel()
	err = c.Await(past, "the impossible", func([]master.Entry) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "the impossible") {
		t.Errorf("got %v, want the thing named", err)
	}
}

func TestAgentsOfOneMachineOfferDifferentPorts(t *testing.T) {
	first := emulator.New(t, emulator.Config{Agents: 2})
	second := emulator.New(t, emulator.Config{})
	seen := map[uint64]bool{}
	for _, c := range []*emulator.Cluster{first, second} {
		s := probe.Connect(t, c.MasterURL(), wire.JSON, probe.FrameworkInfo())
		for n := 0; n < len(c.Nodes()); {
			for _, offer := range s.Offers() {
				n++
				for _, r := range offer.Resources {
					for _, x := range r.GetRanges().GetRange() {
						if seen[x.Begin] {
							t.Errorf("port %d is offered twice", x.Begin)
						}
						seen[x.Begin] = true
						if got := x.End - x.Begin + 1; got != 100 {
							t.Errorf("%d ports", got)
						}
					}
				}
			}
		}
	}
}

func TestAgentWithANewID(t *testing.T) {
	c := emulator.New(t, emulator.Config{})
	before := c.Node(0).ID()
	if err := c.Node(0).Forget(); err == nil {
		t.Error("a running agent was made to forget")
	}
	c.Node(0).Kill()
	if err := c.Node(0).Forget(); err != nil {
		t.Fatal(err)
	}
	if err := c.Node(0).Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), probe.Patience)
	defer cancel()
	if err := c.AwaitAgents(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if after := c.Node(0).ID(); after == before || after == "" {
		t.Errorf("id %s, before %s", after, before)
	}
}
