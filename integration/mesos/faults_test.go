package mesos_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// brief is long enough for what happens at once on a busy machine, as far as its
// absence is to be shown.
const brief = 300 * time.Millisecond

// trial is one task of a raw scheduler on a raw executor.
type trial struct {
	t         *testing.T
	cluster   *emulator.Cluster
	node      *emulator.Node
	scheduler *probe.Scheduler
	executor  *probe.Executor
	agentID   string
}

func newTrial(t *testing.T, config emulator.Config, info ...func(*mesos.FrameworkInfo)) *trial {
	t.Helper()
	c := emulator.New(t, config)
	x := &trial{t: t, cluster: c, node: c.Node(0)}
	x.scheduler = probe.Connect(t, c.MasterURL(), wire.Protobuf, probe.FrameworkInfo(info...))
	return x
}

// launch starts a task and hands its LAUNCH to the executor.
func (x *trial) launch(id string) {
	x.t.Helper()
	x.order(id)
	if x.executor == nil {
		x.subscribe()
	}
	if got := x.executor.Next(execv1.Event_LAUNCH).Launch.Task.TaskID.Value; got != id {
		x.t.Fatalf("LAUNCH of %s, want %s", got, id)
	}
}

// order accepts the next offer with a task.
func (x *trial) order(id string) {
	x.t.Helper()
	offers := x.scheduler.Offers()
	x.agentID = offers[0].AgentID.Value
	x.scheduler.Accept(0, offers, probe.Launch(probe.Task(x.agentID, id, "e1", probe.Idle)))
}

func (x *trial) subscribe(known ...execv1.Call_Update) {
	x.t.Helper()
	x.executor = probe.SubscribeExecutor(x.t, x.node.URL(), x.scheduler.ID, "e1", known...)
	x.executor.Next(execv1.Event_SUBSCRIBED)
}

// run makes a task run, acknowledged by everybody.
func (x *trial) run(id string) {
	x.t.Helper()
	x.launch(id)
	x.executor.Update(id, mesos.TASK_RUNNING)
	x.executor.Next(execv1.Event_ACKNOWLEDGED)
	x.expect(id + " TASK_RUNNING SOURCE_EXECUTOR -")
}

// expect takes the next status, acknowledges it and compares it in short.
func (x *trial) expect(want string) {
	x.t.Helper()
	status := x.scheduler.Status()
	if status.UUID != nil {
		x.scheduler.Acknowledge(status)
	}
	if got := probe.Describe(status); got != want {
		x.t.Fatalf("got %s, want %s", got, want)
	}
}

func (x *trial) kill(id string) {
	x.t.Helper()
	x.scheduler.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: id}}})
}

// lost checks that no event of a kind comes.
func (x *trial) lost(kind execv1.Event_Type) {
	x.t.Helper()
	if event, err := x.executor.Await(kind, brief); err == nil {
		x.t.Fatalf("%s arrived: %v", kind, event)
	}
}

// quickAgent registers and gives up soon.
func quickAgent() *agent.Config {
	c := agent.DefaultConfig()
	c.ExecutorReregistrationTimeout = 500 * time.Millisecond
	c.ExecutorShutdownGracePeriod = 100 * time.Millisecond
	return &c
}

// hasty gives agents up within a second.
var hasty = master.Config{AgentPingTimeout: 150 * time.Millisecond, MaxAgentPingTimeouts: 3}

func TestStreamBreaksWithoutTheAgentNoticing(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.run("t1")
	x.node.BreakStreams()
	if err := x.executor.Ended(); err == io.EOF {
		t.Error("the stream ended properly")
	}
	x.kill("t1")
	x.scheduler.Silent()
	x.subscribe()
	x.lost(execv1.Event_KILL)
	x.kill("t1")
	x.executor.Next(execv1.Event_KILL)
}

func TestSilentStreamHasNoEnd(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.run("t1")
	old := x.executor
	x.node.SilenceStreams()
	x.kill("t1")
	x.lost(execv1.Event_KILL)
	// Calls go on meanwhile.
	x.executor.Update("t1", mesos.TASK_KILLING)
	x.expect("t1 TASK_KILLING SOURCE_EXECUTOR -")
	x.subscribe()
	x.kill("t1")
	x.executor.Next(execv1.Event_KILL)
	if err := old.Ended(); err != io.EOF {
		t.Errorf("the old stream ended with %v when there was a new one", err)
	}
}

func TestLostEvents(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.run("t1")

	x.node.LoseLaunches(1)
	x.order("t2")
	x.lost(execv1.Event_LAUNCH)
	x.run("t3")

	x.node.LoseKills(1)
	x.kill("t1")
	x.lost(execv1.Event_KILL)
	x.kill("t1")
	x.executor.Next(execv1.Event_KILL)

	x.node.LoseAcknowledgements(1)
	update := x.executor.Update("t3", mesos.TASK_FINISHED)
	finished := x.scheduler.Status()
	x.lost(execv1.Event_ACKNOWLEDGED)
	// The agent has it all the same: at the next SUBSCRIBE it is acknowledged, and
	// the scheduler hears nothing twice. The LAUNCH that was lost comes to light.
	x.subscribe(execv1.Call_Update{Status: update})
	if ack := x.executor.Next(execv1.Event_ACKNOWLEDGED).Acknowledged; string(ack.UUID) != string(update.UUID) {
		t.Errorf("acknowledged %x, want %x", ack.UUID, update.UUID)
	}
	x.scheduler.Acknowledge(finished)
	x.expect("t2 TASK_DROPPED SOURCE_AGENT REASON_AGENT_RESTARTED")
	x.scheduler.Silent()
}

func TestRefusedAndDelayedUpdates(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.launch("t1")
	x.node.RefuseUpdates(2)
	status := x.executor.Status("t1", mesos.TASK_RUNNING)
	for i, want := range []int{http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusAccepted} {
		if code, err := x.executor.TryUpdate(status, probe.Patience); code != want {
			t.Fatalf("attempt %d: %d, %v; want %d", i, code, err, want)
		}
	}
	x.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -")

	x.node.DelayUpdates(brief)
	started := time.Now()
	x.executor.Update("t1", mesos.TASK_FINISHED)
	if d := time.Since(started); d < brief {
		t.Errorf("answered after %v, want a delay of %v", d, brief)
	}
	x.expect("t1 TASK_FINISHED SOURCE_EXECUTOR -")
	x.scheduler.Silent()
}

func TestDuplicatedUpdates(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.launch("t1")
	x.node.DuplicateUpdates(1)
	sent := x.executor.Update("t1", mesos.TASK_RUNNING)
	for range 2 {
		if status := x.scheduler.Status(); string(status.UUID) != string(sent.UUID) {
			t.Fatalf("got %x, want %x twice", status.UUID, sent.UUID)
		}
	}
	x.scheduler.Silent()
}

func TestEventsOfTheFutureAndLargeRecords(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.run("t1")
	if n := x.node.SendRecord([]byte{0x08, 0x63}); n != 1 { // type: 99
		t.Fatalf("sent to %d streams", n)
	}
	x.executor.Next(execv1.Event_Type(99))
	big := strings.Repeat("x", 5<<20)
	record, err := wire.Protobuf.Marshal(&execv1.Event{Type: execv1.Event_MESSAGE, Message: &execv1.Event_Message{Data: []byte(big)}})
	if err != nil {
		t.Fatal(err)
	}
	x.node.SendRecord(record)
	if got := len(x.executor.Next(execv1.Event_MESSAGE).Message.Data); got != len(big) {
		t.Errorf("%d bytes, want %d", got, len(big))
	}

	if !x.cluster.Master().SendRecord(x.scheduler.ID, []byte{0x08, 0x63}) {
		t.Fatal("no scheduler's stream")
	}
	x.scheduler.Next(scheduler.Event_Type(99))
	// UPDATE: task_id "t1", state 1 (RUNNING), reason 999.
	x.cluster.Master().SendRecord(x.scheduler.ID, []byte{
		0x08, 0x04, 0x2a, 0x0d, 0x0a, 0x0b, 0x0a, 0x04, 0x0a, 0x02, 't', '1', 0x10, 0x01, 0x50, 0xe7, 0x07,
	})
	if status := x.scheduler.Status(); status.GetState() != mesos.TASK_RUNNING || status.GetReason() != 999 {
		t.Errorf("state %d, reason %d", status.GetState(), status.GetReason())
	}
	record, err = wire.Protobuf.Marshal(&scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: big}})
	if err != nil {
		t.Fatal(err)
	}
	x.cluster.Master().SendRecord(x.scheduler.ID, record)
	if got := len(x.scheduler.Next(scheduler.Event_ERROR).Error.Message); got != len(big) {
		t.Errorf("%d bytes, want %d", got, len(big))
	}
}

func TestAgentReturnsWithWhatItHasCheckpointed(t *testing.T) {
	x := newTrial(t, emulator.Config{Agent: quickAgent()})
	x.launch("t1")
	sent := x.executor.Update("t1", mesos.TASK_RUNNING)
	if status := x.scheduler.Status(); string(status.UUID) != string(sent.UUID) {
		t.Fatal("another update")
	}
	x.node.Kill()
	if err := x.executor.Ended(); err == io.EOF {
		t.Error("the executor's stream ended properly")
	}
	if code, err := x.executor.TryUpdate(sent, probe.Patience); err == nil {
		t.Errorf("a dead agent answers %d", code)
	}
	if err := x.node.Start(); err != nil {
		t.Fatal(err)
	}
	x.subscribe(execv1.Call_Update{Status: sent})
	if code, err := x.executor.TryUpdate(x.executor.Status("t1", mesos.TASK_RUNNING), probe.Patience); code != http.StatusServiceUnavailable {
		t.Errorf("UPDATE within the window: %d, %v", code, err)
	}
	x.executor.Next(execv1.Event_ACKNOWLEDGED)
	// What has not been acknowledged comes two or three times.
	for i := range 2 {
		if status := x.scheduler.Status(); string(status.UUID) != string(sent.UUID) {
			t.Fatalf("copy %d of the update: %s", i, probe.Describe(status))
		}
	}
	if id := x.node.ID(); id != x.agentID {
		t.Errorf("agent %s, before %s", id, x.agentID)
	}
}

func TestExecutorThatMissesTheWindowIsGone(t *testing.T) {
	x := newTrial(t, emulator.Config{Agent: quickAgent()})
	x.run("t1")
	if err := x.node.Restart(); err != nil {
		t.Fatal(err)
	}
	x.expect("t1 TASK_GONE SOURCE_AGENT REASON_EXECUTOR_REREGISTRATION_TIMEOUT")
}

func TestRebootedAgentHasANewID(t *testing.T) {
	x := newTrial(t, emulator.Config{Agent: quickAgent()})
	x.run("t1")
	pids := containers(t, x.node)
	if err := x.node.Reboot(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if _, err := os.Stat(filepath.Join("/proc", pid)); err == nil {
			t.Errorf("process %s survived", pid)
		}
	}
	// A new agent at the old one's address shows that the old one is gone.
	x.expect("t1 TASK_LOST SOURCE_MASTER REASON_AGENT_REMOVED")
	for {
		if offers := x.scheduler.Offers(); offers[0].AgentID.Value != x.agentID {
			return
		}
	}
}

// containers are the process ids of an agent's executors.
func containers(t *testing.T, n *emulator.Node) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.WorkDir(), "meta/slaves/*/frameworks/*/executors/*/runs/*/pids/forked.pid"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no executors: %v", err)
	}
	var pids []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pid, _, _ := strings.Cut(string(text), " ")
		pids = append(pids, pid)
	}
	return pids
}

func TestFrozenAgentIsUnreachableAndReturns(t *testing.T) {
	x := newTrial(t, emulator.Config{Agent: quickAgent(), Master: hasty})
	x.run("t1")
	x.node.Freeze()
	if code, err := x.executor.TryUpdate(x.executor.Status("t1", mesos.TASK_RUNNING), brief); err == nil {
		t.Errorf("a stopped agent answers %d", code)
	}
	x.expect("t1 TASK_UNREACHABLE SOURCE_MASTER REASON_AGENT_REMOVED")
	x.node.Thaw()
	x.expect("t1 TASK_RUNNING SOURCE_MASTER REASON_AGENT_REREGISTERED")
	x.executor.Update("t1", mesos.TASK_FINISHED)
	for {
		// The call that was given up has been handled, too.
		status := x.scheduler.Status()
		if status.UUID != nil {
			x.scheduler.Acknowledge(status)
		}
		if status.GetState() == mesos.TASK_FINISHED {
			return
		}
	}
}

func TestFrozenAgentCanBeKilled(t *testing.T) {
	x := newTrial(t, emulator.Config{Agent: quickAgent()})
	x.run("t1")
	x.node.Freeze()
	x.node.Kill()
	x.node.Thaw()
	if err := x.node.Start(); err != nil {
		t.Fatal(err)
	}
	x.subscribe()
}

func TestFrozenMasterClosesNothing(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.run("t1")
	x.cluster.Seats()[0].Freeze()
	reconcile := func() *scheduler.Call {
		return &scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{
			Tasks: []scheduler.Call_Reconcile_Task{{TaskID: mesos.TaskID{Value: "t1"}}},
		}}
	}
	if code, err := x.scheduler.Try(reconcile(), brief); err == nil {
		t.Errorf("a stopped master answers %d", code)
	}
	x.executor.Update("t1", mesos.TASK_FINISHED) // the agent goes on
	x.executor.Next(execv1.Event_ACKNOWLEDGED)
	x.cluster.Seats()[0].Thaw()
	if code, err := x.scheduler.Try(reconcile(), probe.Patience); err != nil || code != http.StatusAccepted {
		t.Fatalf("after the stop: %d, %v", code, err)
	}
	for {
		status := x.scheduler.Status()
		if status.UUID != nil && status.GetState() == mesos.TASK_FINISHED {
			return
		}
	}
}

func TestLostCallsAndAnswers(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	offers := x.scheduler.Offers()
	accept := func(id string, offers []mesos.Offer) *scheduler.Call {
		return &scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{
			OfferIDs:   []mesos.OfferID{offers[0].ID},
			Operations: []mesos.Offer_Operation{probe.Launch(probe.Task(offers[0].AgentID.Value, id, "e1", probe.Idle))},
		}}
	}
	x.cluster.Master().LoseCalls(scheduler.Call_ACCEPT, 1)
	if code, err := x.scheduler.Try(accept("t1", offers), probe.Patience); err == nil {
		t.Fatalf("a lost call is answered %d", code)
	}
	x.cluster.Master().LoseAnswers(scheduler.Call_ACCEPT, 1)
	if code, err := x.scheduler.Try(accept("t2", offers), probe.Patience); err == nil {
		t.Fatalf("a lost answer arrives: %d", code)
	}
	// The first one has done nothing, the second all.
	x.subscribe()
	if got := x.executor.Next(execv1.Event_LAUNCH).Launch.Task.TaskID.Value; got != "t2" {
		t.Errorf("LAUNCH of %s", got)
	}
	x.lost(execv1.Event_LAUNCH)
}

func TestRescindCrossesAccept(t *testing.T) {
	x := newTrial(t, emulator.Config{})
	x.cluster.Master().RescindAccepted(1)
	x.order("t1")
	x.expect("t1 TASK_DROPPED SOURCE_MASTER REASON_INVALID_OFFERS")
	x.scheduler.Next(scheduler.Event_RESCIND)
	x.order("t2")
	x.subscribe()
	if got := x.executor.Next(execv1.Event_LAUNCH).Launch.Task.TaskID.Value; got != "t2" {
		t.Errorf("LAUNCH of %s", got)
	}
}

func TestExecutorsHaveCgroupsOfTheirOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make cgroups")
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
			t.Skip("no cgroups here")
		}
	}
	name := fmt.Sprintf("mesos_faults_%d", os.Getpid())
	config := quickAgent()
	config.CgroupRoot = name
	x := newTrial(t, emulator.Config{Agent: config})
	x.run("t1")
	for _, pid := range containers(t, x.node) {
		text, err := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "/"+name+"/") {
			t.Errorf("the executor is in\n%s", text)
		}
	}
}
