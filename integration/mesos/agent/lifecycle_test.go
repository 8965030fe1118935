package agent

import (
	"io"
	"os"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/wire"
)

func TestAgent_RunsAnExecutorProcess(t *testing.T) {
	for _, kind := range []wire.ContentType{wire.JSON, wire.Protobuf} {
		t.Run(string(kind), func(t *testing.T) {
			h := newHarness(t, nil)
			end := h.register()
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			shell := false
			e := sleeper("e1")
			value := string(kind)
			e.Command = &mesos.CommandInfo{
				Value: &program, Shell: &shell, Arguments: []string{"executor"},
				Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: "AGENT_TEST_EXECUTOR", Value: &value}}},
			}
			h.launch(end, true, e, "t1", "t2")
			for _, task := range []string{"t1", "t2"} {
				u := h.expectUpdate(task, mesos.TASK_RUNNING, "")
				if u.LatestState == nil || *u.LatestState != mesos.TASK_RUNNING {
					t.Errorf("latest state %v", u.LatestState)
				}
				c := u.Status.ContainerStatus
				if c.GetContainerID().GetValue() == "" || c.GetExecutorPID() == 0 || len(c.NetworkInfos) != 1 ||
					c.NetworkInfos[0].IPAddresses[0].GetIPAddress() != "127.0.0.1" {
					t.Errorf("container status %+v", c)
				}
				h.acknowledge(end, u)
			}
			end.Send(link.KillTask{FrameworkID: "F1", TaskID: "t1"})
			u := h.expectUpdate("t1", mesos.TASK_KILLED, "")
			h.acknowledge(end, u)
			end.Send(link.ShutdownExecutor{FrameworkID: "F1", ExecutorID: "e1"})
			if exit := receive[link.ExitedExecutor](h); exit.Status != 7<<8 {
				t.Errorf("exit status %d, want %d", exit.Status, 7<<8)
			}
			h.acknowledge(end, h.expectUpdate("t2", mesos.TASK_FAILED, "REASON_EXECUTOR_TERMINATED"))
			h.until("end of the executor", func() bool { return !h.known("e1") })
			if got := readSandbox(h, "e1", "stdout"); got != "SUBSCRIBED\nLAUNCH\nLAUNCH\nACKNOWLEDGED\nACKNOWLEDGED\nKILL\nACKNOWLEDGED\nSHUTDOWN" &&
				got != "SUBSCRIBED\nLAUNCH\nACKNOWLEDGED\nLAUNCH\nACKNOWLEDGED\nKILL\nACKNOWLEDGED\nSHUTDOWN" {
				t.Errorf("events in the sandbox's stdout: %q, stderr: %q", got, readSandbox(h, "e1", "stderr"))
			}
		})
	}
}

func TestSubscribe_TakesOverAndDropsWhatWasNotHeardOf(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	h.launch(end, true, sleeper("e1"), "t1", "t2", "t3")
	h.until("launch", func() bool { return h.known("e1") })
	first := h.subscribe("e1", nil)
	first.next(execv1.Event_SUBSCRIBED)
	for range 3 {
		first.next(execv1.Event_LAUNCH)
	}
	h.update("e1", "t1", mesos.TASK_RUNNING)
	h.acknowledge(end, h.expectUpdate("t1", mesos.TASK_RUNNING, ""))
	first.next(execv1.Event_ACKNOWLEDGED)

	repeated := newStatus("t1", mesos.TASK_RUNNING)
	second := h.subscribe("e1", func(s *execv1.Call_Subscribe) {
		s.UnacknowledgedTasks = []mesos.TaskInfo{h.task("t3", sleeper("e1"))}
		s.UnacknowledgedUpdates = []execv1.Call_Update{{Status: repeated}}
	})
	first.ends(io.EOF)
	second.next(execv1.Event_SUBSCRIBED)
	if got := second.next(execv1.Event_ACKNOWLEDGED); string(got.Acknowledged.UUID) != string(repeated.UUID) {
		t.Errorf("acknowledged %x, want %x", got.Acknowledged.UUID, repeated.UUID)
	}
	h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	if u := h.expectUpdate("t2", mesos.TASK_DROPPED, "REASON_AGENT_RESTARTED"); u.Status.GetSource() != mesos.SOURCE_AGENT {
		t.Errorf("source %s", u.Status.GetSource())
	}
	h.silent(end)
}
