package agent

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

var errUnexpectedEOF = io.ErrUnexpectedEOF

func TestKill_OfQueuedTasksEndsInShutdownInsteadOfSubscribed(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	h.launch(end, true, sleeper("e1"), "t1", "t2")
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "t1"})
	u := h.expectUpdate("t1", mesos.TASK_KILLED, "REASON_TASK_KILLED_DURING_LAUNCH")
	if u.Status.GetMessage() != "Killed before delivery to the executor" || u.Status.GetSource() != mesos.SOURCE_AGENT {
		t.Errorf("%s from %s", u.Status.GetMessage(), u.Status.GetSource())
	}
	h.acknowledge(end, u)
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "t2"})
	h.acknowledge(end, h.expectUpdate("t2", mesos.TASK_KILLED, "REASON_TASK_KILLED_DURING_LAUNCH"))
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SHUTDOWN)
}

func TestKill_GroupAsAWhole(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	e := sleeper("e1")
	group := func(ids ...string) link.RunTaskGroup {
		m := link.RunTaskGroup{Framework: h.fw, Executor: e, LaunchExecutor: ids[0] == "g1"}
		for _, id := range ids {
			m.Group.Tasks = append(m.Group.Tasks, h.task(id, e))
		}
		return m
	}
	end.Send(group("g1", "g2"))
	h.launch(end, false, e, "single")
	end.Send(group("g3", "g4"))
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "g2"})
	h.expectUpdate("g1", mesos.TASK_KILLED, "REASON_TASK_KILLED_DURING_LAUNCH")
	h.expectUpdate("g2", mesos.TASK_KILLED, "REASON_TASK_KILLED_DURING_LAUNCH")
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
	if got := s.next(execv1.Event_LAUNCH_GROUP); len(got.LaunchGroup.TaskGroup.Tasks) != 2 {
		t.Errorf("group of %d tasks", len(got.LaunchGroup.TaskGroup.Tasks))
	}
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "g3", KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: -1}}})
	if got := s.next(execv1.Event_KILL); got.Kill.KillPolicy.GetGracePeriod().GetNanoseconds() != -1 {
		t.Errorf("kill policy %v is not what the scheduler gave", got.Kill.KillPolicy)
	}
	h.update("e1", "g3", mesos.TASK_KILLED)
	s.next(execv1.Event_ACKNOWLEDGED)
	end.Send(link.KillTask{FrameworkID: "F1", TaskID: "g3"}) // terminal, unacknowledged: delivered
	s.next(execv1.Event_KILL)
}

func TestShutdown_KillsTheProcessGroupButNotOrphansOfOtherSessions(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ExecutorShutdownGracePeriod = 100 * time.Millisecond })
	end := h.register()
	// Two orphans, one in a session of its own.
	e := shellExecutor("e1", `trap '' TERM; (sleep 1000 & echo $! > plain); (setsid sh -c 'echo $$ > apart; exec sleep 1000' &); while :; do sleep 0.1; done`)
	h.launch(end, true, e, "t1")
	read := func(name string) int {
		text, err := os.ReadFile(filepath.Join(sandboxOf(h, "e1"), name))
		if err != nil || len(text) == 0 || text[len(text)-1] != '\n' {
			return 0
		}
		pid, err := strconv.Atoi(string(text[:len(text)-1]))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	h.until("children", func() bool { return read("plain") != 0 && read("apart") != 0 })
	apart, err := os.FindProcess(read("apart"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = apart.Kill() })
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
	end.Send(link.ShutdownExecutor{FrameworkID: "F1", ExecutorID: "e1"})
	s.next(execv1.Event_SHUTDOWN)

	// Meanwhile: a task is dropped, a KILL ignored, a SUBSCRIBE told to end, an
	// update taken.
	h.launch(end, false, e, "t2")
	u := receive[link.StatusUpdate](h)
	if u.Status.GetState() != mesos.TASK_DROPPED || u.Status.GetMessage() != "Executor terminating" || u.Status.ExecutorID != nil {
		t.Errorf("a task for a terminating executor: %+v", u.Status)
	}
	again := h.subscribe("e1", nil)
	again.next(execv1.Event_SHUTDOWN)
	again.ends(io.EOF)

	if exit := receive[link.ExitedExecutor](h); exit.Status != 9 {
		t.Errorf("exit status %d, want 9", exit.Status)
	}
	h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_EXECUTOR_TERMINATED")
	if startTime(read("plain")) != "" {
		t.Error("the orphan in the executor's session lives")
	}
	if startTime(read("apart")) == "" {
		t.Error("the orphan in a session of its own died")
	}
}

func TestExit_RawWaitStatus(t *testing.T) {
	shell := false
	for _, c := range []struct {
		name    string
		command mesos.CommandInfo
		want    int32
	}{
		{"exit 0", mesos.CommandInfo{Value: text("exit 0")}, 0},
		{"exit 3", mesos.CommandInfo{Value: text("exit 3")}, 768},
		{"SIGKILL", mesos.CommandInfo{Value: text("kill -9 $$")}, 9},
		{"no such command", mesos.CommandInfo{Value: text("/no/such/program")}, 32512},
		{"no such program", mesos.CommandInfo{Value: text("no-such-program"), Shell: &shell}, statusCannotExec},
		{"helper killed", mesos.CommandInfo{Value: text("kill -9 $PPID; sleep 1000")}, 9},
		{"argv as given", mesos.CommandInfo{Value: text("sh"), Shell: &shell, Arguments: []string{"zero", "-c", `test "$0 $1" = "one two"; exit $?`, "one", "two"}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, nil)
			end := h.register()
			e := sleeper("e1")
			e.Command = &c.command
			h.launch(end, true, e, "t1", "t2")
			if exit := receive[link.ExitedExecutor](h); exit.Status != c.want {
				t.Errorf("status %d, want %d; stderr: %s", exit.Status, c.want, readSandbox(h, "e1", "stderr"))
			}
			first := h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_EXECUTOR_TERMINATED")
			second := h.expectUpdate("t2", mesos.TASK_FAILED, "REASON_EXECUTOR_TERMINATED")
			if first.Status.GetMessage() != "Executor terminated" || first.Status.UUID == nil {
				t.Errorf("%+v", first.Status)
			}
			// The executor's name is taken until its updates are acknowledged.
			h.launch(end, true, e, "t3")
			if refused := receive[link.ExitedExecutor](h); refused.Status != -1 {
				t.Errorf("refused launch: status %d, want -1", refused.Status)
			}
			u := h.expectUpdate("t3", mesos.TASK_DROPPED, "REASON_EXECUTOR_TERMINATED")
			if u.Status.GetMessage() != "Master wants to launch executor, but one already exists" {
				t.Error(u.Status.GetMessage())
			}
			h.acknowledge(end, first)
			h.acknowledge(end, second)
			h.until("removal", func() bool { return !h.known("e1") })
		})
	}
}

func text(s string) *string { return &s }

func TestLaunch_RegistrationTimeout(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ExecutorRegistrationTimeout = 500 * time.Millisecond })
	end := h.register()
	h.launch(end, true, sleeper("e1"), "t1")
	if exit := receive[link.ExitedExecutor](h); exit.Status != 9 {
		t.Errorf("status %d, want 9", exit.Status)
	}
	u := h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_EXECUTOR_REGISTRATION_TIMEOUT")
	if u.Status.GetMessage() != "Executor did not register within 500ms" {
		t.Error(u.Status.GetMessage())
	}
}

func TestShutdownFramework_SaysNothingAboutItsTasks(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ExecutorShutdownGracePeriod = 50 * time.Millisecond })
	end := h.register()
	s := h.subscribed(end, "t1")
	end.Send(link.ShutdownFramework{FrameworkID: "F1"})
	s.next(execv1.Event_SHUTDOWN)
	h.update("e1", "t1", mesos.TASK_KILLED) // 202, no acknowledgement
	receive[link.ExitedExecutor](h)
	h.silent(end)
	s.ends(io.EOF)
	h.call(h.newCall(execv1.Call_MESSAGE, "e1"), 400)
}

func TestAgent_ShutdownForgetsTheID(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ExecutorShutdownGracePeriod = 50 * time.Millisecond })
	end := h.register()
	s := h.subscribed(end, "t1")
	h.agent.Shutdown()
	receive[link.UnregisterAgent](h)
	s.next(execv1.Event_SHUTDOWN)
	select {
	case <-h.agent.Done():
	case <-time.After(patience):
		t.Fatal("the agent has not ended")
	}
	h.start(h.agent.Config())
	h.register()
}
