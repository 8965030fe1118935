package master_test

import (
	"bytes"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/goleak"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick makes allocation cycles short.
var quick = master.Config{AllocationInterval: 20 * time.Millisecond}

func TestLaunchUpdateAcknowledge(t *testing.T) {
	both(t, func(t *testing.T, contentType wire.ContentType) {
		m, l := start(t, quick)
		agent := newPuppet(t, l)
		s := probe.Connect(t, m.URL(), contentType, probe.FrameworkInfo())
		offers := s.Offers()
		if len(offers) != 1 || offers[0].AgentID.Value != agent.id || offers[0].AllocationInfo.GetRole() != "r1" {
			t.Fatalf("offers: %v", offers)
		}
		s.Accept(0, offers, probe.Launch(probe.Task(agent.id, "t1", "e1"), probe.Task(agent.id, "t2", "e1")))
		first, second := expect[link.RunTask](agent), expect[link.RunTask](agent)
		if first.Task.TaskID.Value != "t1" || second.Task.TaskID.Value != "t2" {
			t.Errorf("order of launches: %s, %s", first.Task.TaskID.Value, second.Task.TaskID.Value)
		}
		if !first.LaunchExecutor || second.LaunchExecutor {
			t.Errorf("launch executor: %v, %v; want true, false", first.LaunchExecutor, second.LaunchExecutor)
		}
		if got := first.Task.Executor.FrameworkID.GetValue(); got != s.ID {
			t.Errorf("executor's framework id: %q", got)
		}
		rest := s.Offers()
		if got := rest[0].Resources[1].Scalar.GetValue(); got != 3.7 {
			t.Errorf("cpus left: %v, want 3.7", got)
		}
		if len(rest[0].ExecutorIDs) != 1 || rest[0].ExecutorIDs[0].Value != "e1" {
			t.Errorf("executor ids: %v", rest[0].ExecutorIDs)
		}
		sent := agent.update(s.ID, "t1", mesos.TASK_RUNNING)
		got := s.Status()
		if probe.Describe(got) != "t1 TASK_RUNNING SOURCE_EXECUTOR -" || !bytes.Equal(got.UUID, sent.UUID) || got.GetTimestamp() != 1.5 {
			t.Errorf("forwarded: %v", got)
		}
		s.Acknowledge(got)
		if ack := expect[link.Acknowledge](agent); ack.TaskID != "t1" || !bytes.Equal(ack.UUID, sent.UUID) {
			t.Errorf("acknowledgement: %+v", ack)
		}
	})
}

// both runs a test in both content types.
func both(t *testing.T, run func(t *testing.T, contentType wire.ContentType)) {
	for _, contentType := range []wire.ContentType{wire.JSON, wire.Protobuf} {
		t.Run(string(contentType), func(t *testing.T) { run(t, contentType) })
	}
}

func TestHeartbeats(t *testing.T) {
	config := quick
	config.HeartbeatInterval = 30 * time.Millisecond
	m, _ := start(t, config)
	s := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo())
	s.Heartbeats(3)
}
