package master_test

import (
	"slices"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

func teardown() *scheduler.Call { return &scheduler.Call{Type: scheduler.Call_TEARDOWN} }

func named(id string, changes ...func(*mesos.FrameworkInfo)) mesos.FrameworkInfo {
	return probe.FrameworkInfo(append(changes, func(info *mesos.FrameworkInfo) { info.ID = &mesos.FrameworkID{Value: id} })...)
}

// running starts a framework with a task t1 that runs on a new agent.
func running(t *testing.T, m *master.Master, l *leader, info mesos.FrameworkInfo) (*probe.Scheduler, *puppet) {
	t.Helper()
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, info)
	s.Accept(0, s.Offers(), probe.Launch(probe.Task(agent.id, "t1", "e1")))
	expect[link.RunTask](agent)
	agent.update(s.ID, "t1", mesos.TASK_RUNNING)
	s.Acknowledge(s.Status())
	expect[link.Acknowledge](agent)
	return s, agent
}

func (s statuses) want(t *testing.T, sched *probe.Scheduler) {
	t.Helper()
	for _, want := range s {
		status := sched.Status()
		if got := probe.Describe(status) + " " + status.GetMessage(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// statuses are descriptions with messages, in order.
type statuses []string

func TestFrameworkFailover(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	offer := s.Offers()
	again := probe.Connect(t, m.URL(), wire.JSON, named(s.ID, func(info *mesos.FrameworkInfo) {
		info.Name, info.User, info.Checkpoint = "renamed", "nobody", ptr(false)
	}))
	s.Refused("Framework failed over")
	if again.StreamID == s.StreamID {
		t.Error("the stream id is the old one")
	}
	if code, text := s.Call(&scheduler.Call{Type: scheduler.Call_REVIVE}); code != 400 {
		t.Errorf("call with the old stream id: %d %s", code, text)
	}
	if got := expect[link.UpdateFramework](agent).Framework.Name; got != "renamed" {
		t.Errorf("agents were told of %q", got)
	}
	again.Accept(0, offer, probe.Launch(probe.Task(agent.id, "t2", "e1")))
	statuses{"t2 TASK_DROPPED SOURCE_MASTER REASON_INVALID_OFFERS Task launched with invalid offers: Offer " +
		offer[0].ID.Value + " is no longer valid"}.want(t, again)
	awaitFramework(t, m, s.ID, func(f framework) bool {
		return f.Info.Name == "renamed" && f.Info.User == "root" && f.Info.Checkpoint
	})
	probe.Subscribe(t, m.URL(), wire.JSON, named(s.ID, func(info *mesos.FrameworkInfo) { info.Principal = ptr("p1") })).
		Refused("Changing framework's principal is not allowed.")
	again.Offers()
	// The offers of the old stream were never rescinded on the new one.
	if event, err := again.Poll(0); err == nil {
		t.Errorf("unexpected %v", event)
	}
}

func TestFailoverTimeout(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout *float64
	}{
		{"0 is at once", nil},
		{"negative is at once", ptr(-5.0)},
		{"short", ptr(0.05)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := start(t, quick)
			s, agent := running(t, m, l, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) { info.FailoverTimeout = c.timeout }))
			s.Close()
			if got := expect[link.ShutdownFramework](agent).FrameworkID; got != s.ID {
				t.Errorf("shut down %s", got)
			}
			probe.Subscribe(t, m.URL(), wire.JSON, named(s.ID)).Refused("Framework has been removed")
			if code, text := s.Call(&scheduler.Call{Type: scheduler.Call_REVIVE}); code != 400 || text != "Framework cannot be found" {
				t.Errorf("call of a removed framework: %d %s", code, text)
			}
		})
	}
}

func TestReturnInTimeKeepsTasks(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	s.Close()
	awaitFramework(t, m, s.ID, func(f framework) bool { return !f.Connected && !f.Active })
	// Lost for good unless the agent repeats it.
	agent.update(s.ID, "t1", mesos.TASK_RUNNING)
	again := probe.Connect(t, m.URL(), wire.JSON, named(s.ID))
	if got := again.Offers(); len(got) != 1 || got[0].ExecutorIDs[0].Value != "e1" {
		t.Errorf("offers: %v", got)
	}
	again.Silent()
	again.Reconcile("t1", agent.id)
	statuses{"t1 TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION Reconciliation: Latest task state"}.want(t, again)
}

func TestTeardown(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	s.Must(teardown())
	if err := s.Ended(); err == nil || err.Error() != "EOF" {
		t.Errorf("stream ended with %v", err)
	}
	s.Drop(scheduler.Event_OFFERS)
	if event, err := s.Poll(0); err == nil {
		t.Errorf("event %v at TEARDOWN", event)
	}
	expect[link.ShutdownFramework](agent)
	var answer struct {
		Tasks struct {
			Completed []struct {
				State    string
				Statuses []struct{ State, Reason, Message string }
			} `json:"completed_tasks"`
		} `json:"get_tasks"`
	}
	operate(t, m, `{"type":"GET_TASKS"}`, &answer)
	if got := answer.Tasks.Completed; len(got) != 1 || got[0].State != "TASK_KILLED" ||
		got[0].Statuses[1].Message != "Framework "+s.ID+" removed" || got[0].Statuses[1].Reason != "REASON_FRAMEWORK_REMOVED" {
		t.Errorf("completed tasks: %+v", got)
	}
}

func TestReconciliation(t *testing.T) {
	both(t, func(t *testing.T, contentType wire.ContentType) {
		m, l := start(t, quick)
		agent := newPuppet(t, l)
		s := probe.Connect(t, m.URL(), contentType, probe.FrameworkInfo())
		implicit := &scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{}}
		s.Must(implicit)
		s.Silent()
		s.Accept(0, s.Offers(), probe.Launch(
			probe.Task(agent.id, "healthy", "e1"), probe.Task(agent.id, "staging", "e1"),
			probe.Task(agent.id, "over", "e1"), probe.Task(agent.id, "unacknowledged", "e1"),
		))
		for range 4 {
			expect[link.RunTask](agent)
		}
		agent.update(s.ID, "healthy", mesos.TASK_RUNNING, func(u *link.StatusUpdate) {
			u.Status.Healthy, u.Status.Data = ptr(true), []byte("data")
			u.Status.Labels = &mesos.Labels{Labels: []mesos.Label{{Key: "k"}}}
		})
		s.Acknowledge(s.Status())
		agent.update(s.ID, "over", mesos.TASK_FINISHED)
		s.Acknowledge(s.Status())
		agent.update(s.ID, "unacknowledged", mesos.TASK_FINISHED)
		s.Status()
		const master = " SOURCE_MASTER REASON_RECONCILIATION Reconciliation: "
		for _, c := range []struct{ name, task, agent, want string }{
			{"running", "healthy", agent.id, "healthy TASK_RUNNING" + master + "Latest task state"},
			{"running, no agent", "healthy", "", "healthy TASK_RUNNING" + master + "Latest task state"},
			{"running, wrong agent", "healthy", "x-S9", "healthy TASK_RUNNING" + master + "Latest task state"},
			{"staging", "staging", agent.id, "staging TASK_STAGING" + master + "Latest task state"},
			{"over and acknowledged", "over", agent.id, "over TASK_GONE" + master + "Task is unknown to the agent"},
			{"over and acknowledged, no agent", "over", "", "over TASK_UNKNOWN" + master + "Task is unknown"},
			{"over", "unacknowledged", agent.id, "unacknowledged TASK_FINISHED" + master + "Latest task state"},
			{"made up", "x", agent.id, "x TASK_GONE" + master + "Task is unknown to the agent"},
			{"made up, unknown agent", "x", "x-S9", "x TASK_UNKNOWN" + master + "Task is unknown"},
		} {
			t.Run(c.name, func(t *testing.T) {
				s.Reconcile(c.task, c.agent)
				statuses{c.want}.want(t, s)
			})
		}
		s.Reconcile("healthy", agent.id)
		status := s.Status()
		if !status.GetHealthy() || status.UUID != nil || status.Data != nil || status.Labels != nil || status.ExecutorID == nil {
			t.Errorf("answer: %v", status)
		}
		s.Must(implicit)
		var ids []string
		for range 3 {
			ids = append(ids, s.Status().TaskID.Value)
		}
		slices.Sort(ids)
		if !slices.Equal(ids, []string{"healthy", "staging", "unacknowledged"}) {
			t.Errorf("implicit: %v", ids)
		}
		s.Silent()
	})
}

// fragile marks agents unreachable soon.
var fragile = master.Config{AllocationInterval: 20 * time.Millisecond, AgentPingTimeout: 100 * time.Millisecond, MaxAgentPingTimeouts: 2}

func TestUnreachableAgentAndItsReturn(t *testing.T) {
	for _, c := range []struct {
		name, state, gone string
		change            func(*mesos.FrameworkInfo)
	}{
		{"partition aware", "TASK_UNREACHABLE", "TASK_GONE_BY_OPERATOR SOURCE_MASTER REASON_AGENT_REMOVED_BY_OPERATOR", func(*mesos.FrameworkInfo) {}},
		{"not partition aware", "TASK_LOST", "TASK_LOST SOURCE_MASTER REASON_AGENT_REMOVED", func(info *mesos.FrameworkInfo) {
			info.Capabilities = info.Capabilities[:1]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := start(t, fragile)
			s, agent := running(t, m, l, probe.FrameworkInfo(c.change))
			offer := s.Offers()
			// The puppet answers pings only while it is asked for messages.
			statuses{"t1 " + c.state + " SOURCE_MASTER REASON_AGENT_REMOVED health check timed out"}.want(t, s)
			if got := s.Next(scheduler.Event_RESCIND).Rescind.OfferID; got != offer[0].ID {
				t.Errorf("rescinded %v", got)
			}
			if got := s.Next(scheduler.Event_FAILURE).Failure; got.AgentID.GetValue() != agent.id || got.ExecutorID != nil {
				t.Errorf("failure %v", got)
			}
			s.Reconcile("t1", agent.id)
			status := s.Status()
			if got := probe.Describe(status); got != "t1 "+c.state+" SOURCE_MASTER REASON_RECONCILIATION" || status.UnreachableTime == nil {
				t.Errorf("reconciled: %v", status)
			}
			// Answered, and not remembered.
			s.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "t1"}, AgentID: &mesos.AgentID{Value: agent.id}}})
			statuses{"t1 " + c.state + " SOURCE_MASTER REASON_RECONCILIATION Reconciliation: Task is unreachable"}.want(t, s)

			state, task := mesos.TASK_STAGING, probe.Task(agent.id, "t1", "e1")
			task.Executor.FrameworkID = &mesos.FrameworkID{Value: s.ID}
			agent.reregister([]mesos.FrameworkInfo{named(s.ID)}, []mesos.ExecutorInfo{*task.Executor}, mesos.Task{
				TaskID: task.TaskID, FrameworkID: mesos.FrameworkID{Value: s.ID}, AgentID: task.AgentID, State: &state,
				ExecutorID: &task.Executor.ExecutorID, Resources: task.Resources,
			})
			statuses{"t1 TASK_STAGING SOURCE_MASTER REASON_AGENT_REREGISTERED Unreachable agent re-reregistered"}.want(t, s)
			expect[link.Reregistered](agent)

			s.Drop(scheduler.Event_OFFERS)
			if code := operate(t, m, `{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"`+agent.id+`"}}}`, nil); code != 200 {
				t.Errorf("MARK_AGENT_GONE: %d", code)
			}
			statuses{"t1 " + c.gone + " Agent has been marked gone"}.want(t, s)
			expect[link.Shutdown](agent)
			s.Reconcile("t1", agent.id)
			if got := s.StatusMessage(); got != "Reconciliation: Task is gone" {
				t.Error(got)
			}
			agent.reregister(nil, nil)
			if got := expect[link.Shutdown](agent).Message; got != "Agent has been marked gone" {
				t.Errorf("returning agent is told %q", got)
			}
		})
	}
}

func TestBrokenLink(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	s.Offers()
	rash := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) { info.Checkpoint = nil }))
	s.Must(&scheduler.Call{Type: scheduler.Call_SUPPRESS})
	m.Rescind(lastOffer(t, m))
	rash.Accept(0, rash.Offers(), probe.Launch(probe.Task(agent.id, "t2", "e2")))
	agent.line.Cut()
	// Without checkpointing at once, with it nothing.
	statuses{"t2 TASK_LOST SOURCE_MASTER REASON_AGENT_DISCONNECTED Agent 127.0.0.1 disconnected"}.want(t, rash)
	s.Silent()
	s.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "t1"}, KillPolicy: &mesos.KillPolicy{}}})
	s.Silent()
	agent.line.Restore()
	state := mesos.TASK_RUNNING
	task := probe.Task(agent.id, "t1", "e1")
	task.Executor.FrameworkID = &mesos.FrameworkID{Value: s.ID}
	agent.reregister([]mesos.FrameworkInfo{named(s.ID)}, []mesos.ExecutorInfo{*task.Executor}, mesos.Task{
		TaskID: task.TaskID, FrameworkID: mesos.FrameworkID{Value: s.ID}, AgentID: task.AgentID, State: &state,
	})
	if got := expect[link.Reregistered](agent); len(got.Reconciliations) != 0 {
		t.Errorf("reconciliations: %v", got.Reconciliations)
	}
	if got := expect[link.KillTask](agent); got.TaskID != "t1" || got.KillPolicy != nil {
		t.Errorf("remembered kill: %+v", got)
	}
	// The next time the agent has forgotten the task.
	agent.line.Cut()
	agent.line.Restore()
	agent.reregister([]mesos.FrameworkInfo{named(s.ID)}, nil)
	got := expect[link.Reregistered](agent)
	if len(got.Reconciliations) != 1 || got.Reconciliations[0].Tasks[0].TaskID.Value != "t1" {
		t.Errorf("reconciliations: %v", got.Reconciliations)
	}
}

// lastOffer is the id of an outstanding offer.
func lastOffer(t *testing.T, m *master.Master) string {
	t.Helper()
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var answer struct {
			Get struct {
				Frameworks []struct {
					Offers []struct{ ID struct{ Value string } }
				}
			} `json:"get_frameworks"`
		}
		operate(t, m, `{"type":"GET_FRAMEWORKS"}`, &answer)
		for _, f := range answer.Get.Frameworks {
			for _, o := range f.Offers {
				return o.ID.Value
			}
		}
	}
	t.Fatal("no offer is outstanding")
	return ""
}

func TestKill(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	kill := func(id, agentID string, grace int64) {
		t.Helper()
		call := &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: id}, KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: grace}}}
		if agentID != "" {
			call.AgentID = &mesos.AgentID{Value: agentID}
		}
		s.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: call})
	}
	kill("t1", "other", 1)
	kill("t1", "", -7) // passed on as it is
	if got := expect[link.KillTask](agent); got.KillPolicy.GracePeriod.Nanoseconds != -7 {
		t.Errorf("%+v; a kill with a wrong agent got through", got)
	}
	kill("t1", agent.id, 2)
	expect[link.KillTask](agent)
	kill("never", agent.id, 1)
	statuses{"never TASK_GONE SOURCE_MASTER REASON_RECONCILIATION Reconciliation: Task is unknown to the agent"}.want(t, s)
}

func TestAcknowledgements(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	s.Drop(scheduler.Event_OFFERS)
	// Resources come back with the latest state, before any acknowledgement.
	finished := mesos.TASK_FINISHED
	agent.update(s.ID, "t1", mesos.TASK_RUNNING, func(u *link.StatusUpdate) { u.LatestState = &finished })
	older := s.Status()
	s.Drop(scheduler.Event_OFFERS)
	m.Rescind(lastOffer(t, m))
	if got := s.Offers()[0].Resources[1].Scalar.GetValue(); got != 3.9 {
		t.Errorf("cpus offered: %v, want all but the executor's", got)
	}
	// Reconciliation shows what was forwarded last.
	s.Reconcile("t1", agent.id)
	statuses{"t1 TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION Reconciliation: Latest task state"}.want(t, s)
	s.Acknowledge(older)
	expect[link.Acknowledge](agent)
	agent.update(s.ID, "t1", mesos.TASK_FINISHED)
	last := s.Status()
	wrong := last
	wrong.UUID = older.UUID
	s.Acknowledge(wrong)
	expect[link.Acknowledge](agent) // passed on; the task stays
	s.Reconcile("t1", agent.id)
	statuses{"t1 TASK_FINISHED SOURCE_MASTER REASON_RECONCILIATION Reconciliation: Latest task state"}.want(t, s)
	s.Acknowledge(last)
	expect[link.Acknowledge](agent)
	s.Reconcile("t1", agent.id)
	statuses{"t1 TASK_GONE SOURCE_MASTER REASON_RECONCILIATION Reconciliation: Task is unknown to the agent"}.want(t, s)
	// Its id may be used again.
	s.Accept(0, s.Offers(), probe.Launch(probe.Task(agent.id, "t1", "e1")))
	expect[link.RunTask](agent)
	// An update of a task that never was is passed on all the same.
	agent.update(s.ID, "never", mesos.TASK_RUNNING)
	if got := s.Status().TaskID.Value; got != "never" {
		t.Error(got)
	}
}

func TestExecutorEndsAndMessages(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	s.Must(&scheduler.Call{Type: scheduler.Call_MESSAGE, Message: &scheduler.Call_Message{
		AgentID: mesos.AgentID{Value: agent.id}, ExecutorID: mesos.ExecutorID{Value: "e1"}, Data: []byte{0, 255},
	}})
	if got := expect[link.FrameworkMessage](agent); string(got.Data) != "\x00\xff" || got.ExecutorID != "e1" {
		t.Errorf("to the executor: %+v", got)
	}
	agent.end.Send(link.ExecutorMessage{AgentID: agent.id, FrameworkID: s.ID, ExecutorID: "e1", Data: []byte{1}})
	if got := s.Next(scheduler.Event_MESSAGE).Message; string(got.Data) != "\x01" || got.AgentID.Value != agent.id {
		t.Errorf("from the executor: %+v", got)
	}
	s.Must(&scheduler.Call{Type: scheduler.Call_SHUTDOWN, Shutdown: &scheduler.Call_Shutdown{
		AgentID: mesos.AgentID{Value: agent.id}, ExecutorID: mesos.ExecutorID{Value: "e1"},
	}})
	expect[link.ShutdownExecutor](agent)
	agent.end.Send(link.ExitedExecutor{AgentID: agent.id, FrameworkID: s.ID, ExecutorID: "e1", Status: 256})
	failure := s.Next(scheduler.Event_FAILURE).Failure
	if failure.GetStatus() != 256 || failure.ExecutorID.Value != "e1" || failure.AgentID.Value != agent.id {
		t.Errorf("failure: %v", failure)
	}
	agent.end.Send(link.UnregisterAgent{AgentID: agent.id})
	statuses{"t1 TASK_LOST SOURCE_MASTER REASON_AGENT_REMOVED Agent 127.0.0.1 removed: the agent unregistered"}.want(t, s)
}

func TestDrain(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	offer := s.Offers()
	call := func(body string) int { return operate(t, m, body, nil) }
	id := `{"agent_id":{"value":"` + agent.id + `"}}`
	if code := call(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"nope"}}}`); code != 400 {
		t.Errorf("unknown agent: %d", code)
	}
	if code := call(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"` + agent.id + `"},"max_grace_period":{"seconds":6}}}`); code != 200 {
		t.Errorf("DRAIN_AGENT: %d", code)
	}
	if got := s.Next(scheduler.Event_RESCIND).Rescind.OfferID; got != offer[0].ID {
		t.Errorf("rescinded %v", got)
	}
	if got := expect[link.Drain](agent).Config; got.MaxGracePeriod.Nanoseconds != 6e9 || got.GetMarkGone() {
		t.Errorf("drain: %v", got)
	}
	if code := call(`{"type":"REACTIVATE_AGENT","reactivate_agent":` + id + `}`); code != 400 {
		t.Errorf("reactivation of a draining agent: %d", code)
	}
	agent.update(s.ID, "t1", mesos.TASK_KILLED)
	s.Acknowledge(s.Status())
	expect[link.Acknowledge](agent)
	if code := call(`{"type":"REACTIVATE_AGENT","reactivate_agent":` + id + `}`); code != 200 {
		t.Errorf("reactivation: %d", code)
	}
	s.Offers()
	if code := call(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"` + agent.id + `"},"mark_gone":true}}`); code != 200 {
		t.Errorf("DRAIN_AGENT: %d", code)
	}
	expect[link.Shutdown](agent)
	s.Next(scheduler.Event_FAILURE)
}

func TestFrozenMasterAnswersAfterThaw(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	m.Freeze()
	agent.update(s.ID, "t1", mesos.TASK_RUNNING)
	if event, err := s.Poll(50 * time.Millisecond); err == nil && event.Type == scheduler.Event_UPDATE {
		t.Errorf("a frozen master sent %v", event)
	}
	time.AfterFunc(20*time.Millisecond, m.Thaw)
	s.Status()
	s.Silent()
}
