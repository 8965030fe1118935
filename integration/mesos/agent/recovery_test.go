package agent

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

func TestRecovery_ExecutorsComeBackOrAreDestroyed(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ExecutorReregistrationTimeout = time.Second })
	end := h.register()
	id := h.agent.ID()
	s := h.subscribed(end, "t1", "t2", "t3")
	h.update("e1", "t1", mesos.TASK_RUNNING)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.acknowledge(end, h.expectUpdate("t1", mesos.TASK_RUNNING, ""))
	h.update("e1", "t2", mesos.TASK_RUNNING) // not acknowledged by the scheduler
	s.next(execv1.Event_ACKNOWLEDGED)
	h.expectUpdate("t2", mesos.TASK_RUNNING, "")
	h.launch(end, true, sleeper("e2"), "w1")
	h.until("launch", func() bool { return h.known("e2") })
	other := h.subscribe("e2", nil)
	other.next(execv1.Event_SUBSCRIBED)
	other.next(execv1.Event_LAUNCH)
	h.silent(end)

	h.agent.Kill()
	s.ends(errUnexpectedEOF)
	h.start(h.agent.Config())

	while := newStatus("t1", mesos.TASK_RUNNING)
	s = h.subscribe("e1", func(c *execv1.Call_Subscribe) {
		c.UnacknowledgedTasks = []mesos.TaskInfo{h.task("t3", sleeper("e1"))}
		c.UnacknowledgedUpdates = []execv1.Call_Update{{Status: while}}
	})
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_ACKNOWLEDGED)
	call := h.newCall(execv1.Call_UPDATE, "e1")
	call.Update = &execv1.Call_Update{Status: newStatus("t3", mesos.TASK_STARTING)}
	if got := h.call(call, http.StatusServiceUnavailable); got != "Agent has not finished recovery" {
		t.Error(got)
	}

	end = h.end()
	m := receive[link.ReregisterAgent](h)
	if m.Agent.GetID().GetValue() != id || len(m.Tasks) != 4 || len(m.Executors) == 0 {
		t.Errorf("re-registration: %+v", m)
	}
	end.Send(link.Reregistered{AgentID: id})
	var destroyed *link.StatusUpdate
	seen := make(map[string]bool)
	for destroyed == nil || !seen["exit"] || !seen["t1"] || !seen["t2"] {
		select {
		case message := <-h.messages:
			switch m := message.(type) {
			case link.ExitedExecutor:
				if m.ExecutorID != "e2" || m.Status != 9 {
					t.Errorf("%+v", m)
				}
				seen["exit"] = true
			case link.StatusUpdate:
				seen[m.Status.TaskID.Value] = true
				if m.Status.TaskID.Value == "w1" {
					destroyed = &m
				}
			}
		case <-time.After(patience):
			t.Fatalf("the master got only %v", seen)
		}
	}
	if destroyed.Status.GetState() != mesos.TASK_GONE ||
		destroyed.Status.GetReason() != mesos.REASON_EXECUTOR_REREGISTRATION_TIMEOUT ||
		destroyed.Status.GetMessage() != "Executor did not reregister within 1secs" {
		t.Errorf("%+v", destroyed.Status)
	}
	h.call(call, http.StatusAccepted)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.expectUpdate("t3", mesos.TASK_STARTING, "")
}

func TestRecovery_WithoutCheckpointTheExecutorIsAnOrphan(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	checkpoint := false
	h.fw.Checkpoint = &checkpoint
	h.subscribed(end, "t1")
	h.agent.mu.Lock()
	pid := h.agent.frameworks["F1"].executors["e1"].process.pid
	h.agent.mu.Unlock()
	h.agent.Kill()
	h.start(h.agent.Config())
	call := h.newCall(execv1.Call_SUBSCRIBE, "e1")
	call.Subscribe = &execv1.Call_Subscribe{}
	if got := h.call(call, http.StatusBadRequest); got != "Framework cannot be found" {
		t.Error(got)
	}
	h.end()
	receive[link.ReregisterAgent](h)
	if startTime(pid) == "" {
		t.Error("the executor died")
	}
}

func TestRecovery_WithoutMetaTheAgentIsNew(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	h.subscribed(end, "t1")
	h.agent.Kill()
	if err := os.RemoveAll(filepath.Join(h.agent.Config().WorkDir, "meta")); err != nil {
		t.Fatal(err)
	}
	h.start(h.agent.Config())
	h.register()
}

func TestRecovery_TerminalUpdateOutlivesExecutorAndAgent(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	s := h.subscribed(end, "t1")
	h.update("e1", "t1", mesos.TASK_FINISHED)
	s.next(execv1.Event_ACKNOWLEDGED)
	h.expectUpdate("t1", mesos.TASK_FINISHED, "")
	end.Send(link.ShutdownExecutor{FrameworkID: "F1", ExecutorID: "e1"})
	s.next(execv1.Event_SHUTDOWN)
	h.agent.mu.Lock()
	process := h.agent.frameworks["F1"].executors["e1"].process
	h.agent.mu.Unlock()
	process.destroy()
	receive[link.ExitedExecutor](h)
	s.ends(io.EOF)
	h.agent.Kill()
	h.start(h.agent.Config())
	end = h.end()
	if m := receive[link.ReregisterAgent](h); len(m.Executors) != 0 || len(m.Tasks) != 1 {
		t.Errorf("re-registration: %+v", m)
	}
	end.Send(link.Reregistered{AgentID: h.agent.ID()})
	h.acknowledge(end, h.expectUpdate("t1", mesos.TASK_FINISHED, ""))
	h.until("removal", func() bool { return !h.known("e1") })
	if _, err := os.Stat(h.agent.frameworkMeta("F1")); !os.IsNotExist(err) {
		t.Errorf("checkpoints of the framework are left: %v", err)
	}
}
