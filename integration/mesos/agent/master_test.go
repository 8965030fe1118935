package agent

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

func TestMessage_BothWaysByteExactly(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	s := h.subscribed(end, "t1")
	data := []byte{0, 255, '\n', 'x'}
	end.Send(link.FrameworkMessage{FrameworkID: "F1", ExecutorID: "e1", Data: data})
	if got := s.next(execv1.Event_MESSAGE); string(got.Message.Data) != string(data) {
		t.Errorf("to the executor: %q", got.Message.Data)
	}
	call := h.newCall(execv1.Call_MESSAGE, "e1")
	call.Message = &execv1.Call_Message{Data: data}
	h.call(call, 202)
	m := receive[link.ExecutorMessage](h)
	if string(m.Data) != string(data) || m.ExecutorID != "e1" || m.FrameworkID != "F1" || m.AgentID != h.agent.ID() {
		t.Errorf("to the scheduler: %+v", m)
	}
	h.launch(end, true, sleeper("e2"), "t2")
	end.Send(link.FrameworkMessage{FrameworkID: "F1", ExecutorID: "e2", Data: data}) // not subscribed: lost
	h.silent(end)
	s = h.subscribe("e2", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
}

func TestHeartbeat_WhileTheStreamLasts(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ExecutorHeartbeatInterval = 20 * time.Millisecond })
	end := h.register()
	h.launch(end, true, sleeper("e1"), "t1")
	h.until("launch", func() bool { return h.known("e1") })
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
	s.next(execv1.Event_HEARTBEAT)
	s.next(execv1.Event_HEARTBEAT)
}

func TestUpdateFramework_SendsFrontsAgain(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	h.subscribed(end, "t1")
	h.update("e1", "t1", mesos.TASK_RUNNING)
	first := h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	h.fw.Name = "renamed"
	end.Send(link.UpdateFramework{Framework: h.fw})
	again := h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	if string(first.Status.UUID) != string(again.Status.UUID) {
		t.Error("another update")
	}
	s := h.subscribe("e1", nil)
	if got := s.next(execv1.Event_SUBSCRIBED); got.Subscribed.FrameworkInfo.Name != "renamed" {
		t.Errorf("framework %q", got.Subscribed.FrameworkInfo.Name)
	}
}

func TestDrain_LastsAsLongAsAnyExecutor(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	s := h.subscribed(end, "t1", "t2")
	end.Send(link.Drain{Config: mesos.DrainConfig{MaxGracePeriod: &mesos.DurationInfo{Nanoseconds: 6e9}}})
	for range 2 {
		if got := s.next(execv1.Event_KILL); got.Kill.KillPolicy.GetGracePeriod().GetNanoseconds() != 6e9 {
			t.Errorf("kill policy %v", got.Kill.KillPolicy)
		}
	}
	h.update("e1", "t1", mesos.TASK_KILLED)
	h.acknowledge(end, h.expectUpdate("t1", mesos.TASK_KILLED, "REASON_AGENT_DRAINING"))
	h.update("e1", "t2", mesos.TASK_FINISHED)
	h.acknowledge(end, h.expectUpdate("t2", mesos.TASK_FINISHED, ""))
	h.silent(end)

	// The executor is idle, which keeps the agent draining, over a restart too.
	h.agent.Kill()
	h.start(h.agent.Config())
	h.subscribe("e1", nil).next(execv1.Event_SUBSCRIBED)
	end = h.end()
	if m := receive[link.ReregisterAgent](h); m.Drain == nil {
		t.Error("re-registration without drain")
	}
	end.Send(link.Reregistered{AgentID: h.agent.ID()})
	h.launch(end, false, sleeper("e1"), "t3")
	h.expectUpdate("t3", mesos.TASK_DROPPED, "REASON_AGENT_DRAINING")
	h.launch(end, true, sleeper("e2"), "t4")
	if exit := receive[link.ExitedExecutor](h); exit.ExecutorID != "e2" || exit.Status != -1 {
		t.Errorf("%+v", exit)
	}
	h.expectUpdate("t4", mesos.TASK_DROPPED, "REASON_AGENT_DRAINING")
	h.agent.mu.Lock()
	process := h.agent.frameworks["F1"].executors["e1"].process
	h.agent.mu.Unlock()
	process.destroy()
	receive[link.ExitedExecutor](h)
	h.launch(end, true, sleeper("e3"), "t5")
	h.until("launch after draining", func() bool { return h.known("e3") })
}

func TestPing_TellsAnAgentToRegisterAgain(t *testing.T) {
	h := newHarness(t, nil)
	end := h.end()
	receive[link.RegisterAgent](h)
	end.Send(link.Registered{AgentID: "A-S0", TotalPingTimeout: 200 * time.Millisecond})
	receive[link.ReregisterAgent](h) // no ping in time
	end.Send(link.Reregistered{AgentID: "A-S0", TotalPingTimeout: time.Minute})
	end.Send(link.Ping{Connected: true})
	receive[link.Pong](h)
	end.Send(link.Ping{Connected: false})
	receive[link.Pong](h)
	receive[link.ReregisterAgent](h)
}

func TestLaunch_AsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can switch users")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	h := newHarness(t, nil)
	// The parents of the sandbox are for everybody, as under /var/lib/mesos.
	for directory := h.agent.cfg.WorkDir; directory != os.TempDir() && directory != "/"; directory = filepath.Dir(directory) {
		if err := os.Chmod(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	end := h.register()
	source := filepath.Join(h.agent.cfg.WorkDir, "source")
	if err := os.WriteFile(source, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	e := shellExecutor("e1", "id -u; stat -c %u . stdout source")
	e.Command.User = text("nobody")
	e.Command.URIs = []mesos.CommandInfo_URI{uri(source)}
	h.launch(end, true, e, "t1")
	if exit := receive[link.ExitedExecutor](h); exit.Status != 0 {
		t.Errorf("status %d, stderr %s", exit.Status, readSandbox(h, "e1", "stderr"))
	}
	h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_EXECUTOR_TERMINATED")
	if got, want := readSandbox(h, "e1", "stdout"), strings.Repeat(nobody.Uid+"\n", 3)+nobody.Uid; got != want {
		t.Errorf("uids %q, want %q", got, want)
	}

	e = sleeper("e2")
	e.Command.User = text("no-such-user")
	h.launch(end, true, e, "t2")
	if exit := receive[link.ExitedExecutor](h); exit.Status != -1 {
		t.Errorf("%+v", exit)
	}
	u := h.expectUpdate("t2", mesos.TASK_DROPPED, "REASON_EXECUTOR_TERMINATED")
	if got := u.Status.GetMessage(); !strings.HasPrefix(got, "Failed to create executor directory '") ||
		!strings.HasSuffix(got, "': Failed to chown directory to 'no-such-user': No such user 'no-such-user'") {
		t.Error(got)
	}
}

func TestConfig_EveryProblemAtOnce(t *testing.T) {
	cfg := DefaultConfig()
	cfg.WorkDir = "relative"
	cfg.Addr = "localhost:0"
	cfg.AuthenticateExecutors = true
	cfg.StatusUpdateRetryMin = 0
	err := cfg.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"WorkDir", "Addr", "AuthenticateExecutors", "StatusUpdateRetryMin"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %q", name, err)
		}
	}
}
