package agent

import (
	"net/http"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

// subscribed starts an executor with tasks and takes the first events.
func (h *harness) subscribed(end *link.End, tasks ...string) *stream {
	h.t.Helper()
	h.launch(end, true, sleeper("e1"), tasks...)
	h.until("launch", func() bool { return h.known("e1") })
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	for range tasks {
		s.next(execv1.Event_LAUNCH)
	}
	return s
}

func TestUpdate_NextOnlyAfterTheSchedulersAcknowledgement(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.StatusUpdateRetryMin = 50 * time.Millisecond })
	end := h.register()
	s := h.subscribed(end, "t1")
	h.update("e1", "t1", mesos.TASK_STARTING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.update("e1", "t1", mesos.TASK_RUNNING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.update("e1", "t1", mesos.TASK_FINISHED)
	s.next(execv1.Event_ACKNOWLEDGED)

	first := h.expectUpdate("t1", mesos.TASK_STARTING, "")
	var again link.StatusUpdate
	for again.LatestState == nil || *again.LatestState != mesos.TASK_FINISHED {
		again = h.expectUpdate("t1", mesos.TASK_STARTING, "")
	}
	if string(again.Status.UUID) != string(first.Status.UUID) || *again.Status.Timestamp != *first.Status.Timestamp {
		t.Error("the repetition is not the same update")
	}
	h.acknowledge(end, first)
	// Repetitions of STARTING may be on their way.
	for _, state := range []mesos.TaskState{mesos.TASK_RUNNING, mesos.TASK_FINISHED} {
		u := receive[link.StatusUpdate](h)
		for u.Status.GetState() != state {
			u = receive[link.StatusUpdate](h)
		}
		h.acknowledge(end, u)
	}
}

func TestUpdate_RepeatedAndLateOnes(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	s := h.subscribed(end, "t1", "t2", "t3")

	// The same uuid twice: acknowledged twice, forwarded once.
	sent := h.update("e1", "t1", mesos.TASK_RUNNING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.acknowledge(end, h.expectUpdate("t1", mesos.TASK_RUNNING, ""))
	h.sendStatus("e1", sent)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.silent(end)

	// A second terminal update: acknowledged, not forwarded.
	h.update("e1", "t2", mesos.TASK_FINISHED)
	s.next(execv1.Event_ACKNOWLEDGED)
	finished := h.expectUpdate("t2", mesos.TASK_FINISHED, "")
	h.update("e1", "t2", mesos.TASK_FAILED)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.silent(end)

	// After the scheduler's acknowledgement: forwarded, but not acknowledged.
	h.acknowledge(end, finished)
	h.silent(end)
	h.update("e1", "t2", mesos.TASK_RUNNING)
	late := h.expectUpdate("t2", mesos.TASK_RUNNING, "")
	if late.LatestState != nil || late.Status.ContainerStatus != nil {
		t.Errorf("late update: latest state %v, container status %v", late.LatestState, late.Status.ContainerStatus)
	}
	h.update("e1", "never-launched", mesos.TASK_RUNNING)
	h.expectUpdate("never-launched", mesos.TASK_RUNNING, "")

	// A uuid used again for a terminal state ends the task in silence.
	sent = h.update("e1", "t3", mesos.TASK_RUNNING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.acknowledge(end, h.expectUpdate("t3", mesos.TASK_RUNNING, ""))
	failed := mesos.TASK_FAILED
	sent.State = &failed
	h.sendStatus("e1", sent)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.update("e1", "t3", mesos.TASK_FINISHED)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.silent(end)
}

func TestUpdate_FieldsThatTheAgentFillsIn(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	h.subscribed(end, "t1")
	status := newStatus("t1", mesos.TASK_RUNNING)
	status.Timestamp = nil
	h.sendStatus("e1", status)
	u := h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	if u.Status.ExecutorID != nil {
		t.Errorf("executor id %v was not sent by the executor", u.Status.ExecutorID)
	}
	if u.Status.Timestamp == nil || u.Status.AgentID.GetValue() != h.agent.ID() {
		t.Errorf("timestamp %v, agent id %v", u.Status.Timestamp, u.Status.AgentID)
	}
	wrong := newStatus("t1", mesos.TASK_FINISHED)
	wrong.AgentID = &mesos.AgentID{Value: "other"}
	h.sendStatus("e1", wrong)
	h.silent(end)
}

func TestUpdate_WaitsForAMaster(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	s := h.subscribed(end, "t1", "t2")
	h.update("e1", "t1", mesos.TASK_RUNNING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	h.line.Cut()
	h.until("disconnection", func() bool { return !h.agent.phaseIs(running) })
	h.update("e1", "t2", mesos.TASK_RUNNING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.line.Restore()
	end = h.end()
	m := receive[link.ReregisterAgent](h)
	if len(m.Tasks) != 2 || len(m.Executors) != 1 || len(m.Frameworks) != 1 || m.Tasks[1].GetState() != mesos.TASK_RUNNING {
		t.Errorf("re-registration with %+v", m)
	}
	end.Send(link.Reregistered{AgentID: h.agent.ID(), Reconciliations: []link.Reconciliation{{
		Framework: h.fw, Tasks: []mesos.TaskStatus{newStatus("t1", mesos.TASK_STAGING), newStatus("unknown", mesos.TASK_STAGING)},
	}}})
	h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	h.expectUpdate("t2", mesos.TASK_RUNNING, "")
	h.expectUpdate("unknown", mesos.TASK_DROPPED, "REASON_RECONCILIATION")
}

func TestFaults(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	s := h.subscribed(end, "t1", "t2")
	h.agent.LoseEvents(execv1.Event_ACKNOWLEDGED, 1)
	h.update("e1", "t1", mesos.TASK_RUNNING) // its acknowledgement is lost
	h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	h.agent.DuplicateUpdates(1)
	second := h.update("e1", "t2", mesos.TASK_RUNNING)
	if got := s.next(execv1.Event_ACKNOWLEDGED); string(got.Acknowledged.UUID) != string(second.UUID) {
		t.Error("the acknowledgement that should have been lost came")
	}
	h.expectUpdate("t2", mesos.TASK_RUNNING, "")
	h.expectUpdate("t2", mesos.TASK_RUNNING, "")

	h.agent.RefuseUpdates(1)
	call := h.newCall(execv1.Call_UPDATE, "e1")
	call.Update = &execv1.Call_Update{Status: newStatus("t1", mesos.TASK_FINISHED)}
	h.call(call, http.StatusServiceUnavailable)
	h.call(call, http.StatusAccepted)
	s.next(execv1.Event_ACKNOWLEDGED)

	// A stream that is frozen stays open and loses what is sent.
	h.agent.FreezeStreams()
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "t2"})
	h.silent(end)
	s = h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	h.agent.BreakStreams()
	s.ends(errUnexpectedEOF)
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "t2"}) // into the dead stream
	h.silent(end)
}
