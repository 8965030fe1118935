package conformance_test

import (
	"net/http"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
)

// offering is about when offers come.
var offering = []assertion{
	{number: 66, title: "filters, REVIVE and SUPPRESS", slow: true, test: func(w *world) {
		f := w.framework()
		// refused returns how long a declined offer stays away.
		refused := func(seconds float64) time.Duration {
			offer := f.offer()
			began := time.Now()
			f.decline(seconds, offer)
			again := f.offer()
			took := time.Since(began)
			f.decline(0, again)
			return took
		}
		const slack = 50 * time.Millisecond // the master's clock starts before the answer is here
		w.between("refusal for 3 s", refused(3), 3*time.Second-slack, 3*time.Second+soon)
		w.between("refusal for 0 s", refused(0), 0, 4*time.Second)
		w.between("refusal for -1 s", refused(-1), 5*time.Second-slack, 5*time.Second+soon)

		revive := &scheduler.Call{Type: scheduler.Call_REVIVE}
		f.decline(3600, f.offer())
		f.noOffer(2 * time.Second)
		began := time.Now()
		f.Must(revive)
		offer := f.offer()
		w.between("REVIVE", time.Since(began), 0, 4*time.Second)

		f.Must(&scheduler.Call{Type: scheduler.Call_SUPPRESS})
		f.decline(0, offer)
		f.noOffer(2 * time.Second)
		f.Must(revive)
		f.offer()

		s := probe.Subscribe(w.T, w.master, w.kind, f.info, "r1")
		s.ID = f.ID
		s.Next(scheduler.Event_SUBSCRIBED)
		s.None(scheduler.Event_OFFERS, 2*time.Second)
		s.Must(revive)
		s.Next(scheduler.Event_OFFERS)
	}},
}

// tasks is about what the master knows of tasks.
var tasks = []assertion{
	{number: 67, title: "KILL of an unknown task is a question; with a wrong agent nothing", encodings: inBoth, test: func(w *world) {
		unknownKills(w.framework(), "TASK_GONE")
	}},
	{number: 68, title: "RECONCILE: known tasks, and why others are not known", encodings: inBoth, emulate: quickPings, test: func(w *world) {
		reconciliation(w.framework(), "TASK_GONE", "TASK_UNKNOWN", "TASK_UNREACHABLE")
	}},
	{number: 69, title: "without PARTITION_AWARE all that is TASK_LOST", encodings: inBoth, emulate: quickPings, test: func(w *world) {
		f := w.framework(ignorant)
		invalidOffers(f, "TASK_LOST")
		f.leave()
		f = w.framework(ignorant)
		unknownKills(f, "TASK_LOST")
		f.leave()
		reconciliation(w.framework(ignorant), "TASK_LOST", "TASK_LOST", "TASK_LOST")
	}},
	{number: 70, title: "ACKNOWLEDGE: what it needs and what it does", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
		status := f.update("t1 " + running)
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		acknowledge := func(uuid []byte) int {
			code, _ := f.Call(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{
				AgentID: *status.AgentID, TaskID: status.TaskID, UUID: uuid,
			}})
			return code
		}
		w.equal("3 bytes", acknowledge([]byte("abc")), http.StatusBadRequest)
		other := p.status("t1", mesos.TASK_RUNNING)
		w.equal("unknown uuid", acknowledge(other.UUID), http.StatusAccepted)
		f.None(scheduler.Event_UPDATE, time.Second)
		w.equal("its uuid", acknowledge(status.UUID), http.StatusAccepted)
		status = f.update("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		if find(w.getTasks().Tasks, f.ID, "t1") == nil {
			w.Error("not among the tasks before the last acknowledgement")
		}
		w.equal("last uuid", acknowledge(status.UUID), http.StatusAccepted)
		w.until("completed task", func() bool { return find(w.getTasks().CompletedTasks, f.ID, "t1") != nil })
		f.Reconcile("t1", w.agentID)
		f.update("t1 TASK_GONE SOURCE_MASTER REASON_RECONCILIATION")
	}},
	{number: 74, title: "re-SUBSCRIBE: agents repeat at once what was not acknowledged", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
		status := f.update("t1 " + running)
		began := time.Now()
		f = f.again()
		again := f.update("t1 " + running)
		w.between("the repetition", time.Since(began), 0, soon)
		w.equal("uuid", again.UUID, status.UUID)
		f.Acknowledge(again)
	}},
}

// unknownKills checks what KILL answers for tasks that there are not.
func unknownKills(f *framework, gone string) {
	w := f.world
	w.Helper()
	_, s := f.run("e1", "known")
	f.kill("unknown", nil)
	f.update("unknown " + gone + " SOURCE_MASTER REASON_RECONCILIATION")
	f.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{
		TaskID: mesos.TaskID{Value: "known"}, AgentID: &mesos.AgentID{Value: "another"},
	}})
	f.Silent()
	s.quiet(300 * time.Millisecond)
}

// reconciliation checks the answers to all kinds of questions.
func reconciliation(f *framework, gone, unknown, unreachable string) {
	const because = " SOURCE_MASTER REASON_RECONCILIATION"
	w := f.world
	w.Helper()
	f.reconcileAll(map[string]string{})
	p, s := f.run("e1", "live", "unacked", "done")
	s.acknowledged(p.report("done", mesos.TASK_FINISHED))
	f.got("done TASK_FINISHED SOURCE_EXECUTOR -")
	s.acknowledged(p.report("unacked", mesos.TASK_FAILED))
	unacked := f.update("unacked TASK_FAILED SOURCE_EXECUTOR -")
	w.until("completed task", func() bool { return find(w.getTasks().CompletedTasks, f.ID, "done") != nil })
	f.reconcileAll(map[string]string{"live": "TASK_RUNNING" + because, "unacked": "TASK_FAILED" + because})
	for _, c := range []struct{ task, agent, want string }{
		{"live", w.agentID, "TASK_RUNNING"},
		{"live", "wrong", "TASK_RUNNING"},
		{"done", w.agentID, gone},
		{"never", w.agentID, gone},
		{"never", "bogus", unknown},
		{"never", "", unknown},
	} {
		f.Reconcile(c.task, c.agent)
		if s := f.update(c.task + " " + c.want + because); s.UUID != nil || s.Data != nil {
			w.Errorf("%v", s)
		}
	}
	f.Acknowledge(unacked)
	if w.real() {
		w.Log("no unreachable agent: " + killsAgents)
		return
	}
	w.node().Pause()
	f.update("live " + unreachable + " SOURCE_MASTER REASON_AGENT_REMOVED")
	f.Reconcile("live", w.agentID)
	if s := f.update("live " + unreachable + because); s.UnreachableTime == nil {
		w.Error("without unreachable_time")
	}
	f.Reconcile("live", "")
	f.update("live " + unknown + because)
	f.reconcileAll(map[string]string{})
	w.node().Resume()
}

// reconcileAll asks for all tasks and compares what is answered before the answer to
// a second question.
func (f *framework) reconcileAll(want map[string]string) {
	w := f.world
	w.Helper()
	f.Must(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{}})
	f.Reconcile("barrier", "barrier")
	got := make(map[string]string)
	for {
		s := f.Status()
		if s.TaskID.Value == "barrier" {
			break
		}
		if s.UUID != nil {
			w.Errorf("%v", s)
		}
		got[s.TaskID.Value] = probe.Describe(s)[len(s.TaskID.Value)+1:]
	}
	w.equal("answers to the implicit question", got, want)
}

// quickPings makes silent agents unreachable soon.
func quickPings(c *emulator.Config) {
	c.Master.AgentPingTimeout, c.Master.MaxAgentPingTimeouts = 500*time.Millisecond, 3
}

// agentLoss is about agents that are away.
var agentLoss = []assertion{
	{number: 71, title: "an agent that is silent, and comes back", only: killsAgents, emulate: quickPings, test: func(w *world) {
		for _, c := range []struct {
			state  string
			change func(*mesos.FrameworkInfo)
		}{{"TASK_UNREACHABLE", func(*mesos.FrameworkInfo) {}}, {"TASK_LOST", ignorant}} {
			f := w.framework(c.change)
			p, s := f.run("e1", "t1")
			offer := f.offer()
			w.node().Pause()
			status := f.update("t1 " + c.state + " SOURCE_MASTER REASON_AGENT_REMOVED")
			if status.UnreachableTime == nil || status.UUID != nil {
				w.Errorf("%v", status)
			}
			failure := f.Next(scheduler.Event_FAILURE).Failure
			if failure.AgentID.GetValue() != w.agentID || failure.ExecutorID != nil {
				w.Errorf("%v", failure)
			}
			w.equal("rescinded offer", f.Next(scheduler.Event_RESCIND).Rescind.OfferID.Value, offer.ID.Value)
			w.node().Resume()
			f.update("t1 TASK_RUNNING SOURCE_MASTER REASON_AGENT_REREGISTERED")
			if !p.alive() {
				w.Error("the executor has ended")
			}
			f.kill("t1", nil)
			s.next(executor.Event_KILL)
			f.leave()
		}
	}},
	{number: 72, title: "an agent that dies and comes back in time: offers are rescinded, nothing else", only: killsAgents, test: func(w *world) {
		f := w.framework()
		p, _ := f.run("e1", "t1")
		offer := f.offer()
		w.node().Kill()
		w.equal("rescinded offer", f.Next(scheduler.Event_RESCIND).Rescind.OfferID.Value, offer.ID.Value)
		f.None(scheduler.Event_UPDATE, silence)
		w.must(w.node().Start())
		p.comeBack().next(executor.Event_SUBSCRIBED)
		f.offer()
		f.reconciled("t1", "TASK_RUNNING")
		f.Silent()
	}},
	{number: 73, title: "KILL while the agent is away is done when it is back", only: killsAgents, test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		w.node().Kill()
		s.ends(conformance.EndBroken)
		f.kill("t1", nil)
		w.must(w.node().Start())
		s = p.comeBack()
		s.next(executor.Event_SUBSCRIBED)
		w.equal("task", s.next(executor.Event_KILL).Kill.TaskID.Value, "t1")
		s.acknowledged(p.report("t1", mesos.TASK_KILLED))
		f.gotAfterRestart("t1 TASK_KILLED SOURCE_EXECUTOR -")
	}},
}
