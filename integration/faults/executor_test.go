package faults

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/payload"
	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// What tasks do.
const (
	lasting = "exec sleep 600"
	// gated ends with code 0 when a file appears in the directory that holds all.
	gated = "while [ ! -e %s ]; do sleep 0.05; done"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// trial is Pacer's executor on one agent, under a raw scheduler.
type trial struct {
	*probe.Scheduler
	t      *testing.T
	node   *emulator.Node
	user   string
	states map[string][]string // of each task, in order; what is sent again counts once
	seen   map[string]bool     // uuids
}

func newTrial(t *testing.T, changes ...func(*agent.Config)) *trial {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	common := agent.DefaultConfig()
	common.StatusUpdateRetryMin = time.Second
	for _, change := range changes {
		change(&common)
	}
	c := emulator.New(t, emulator.Config{Agent: &common, CloseGrace: 5 * time.Second})
	x := &trial{t: t, node: c.Node(0), user: me.Username, states: map[string][]string{}, seen: map[string]bool{}}
	x.Scheduler = probe.Connect(t, c.MasterURL(), wire.Protobuf, probe.FrameworkInfo(func(f *mesos.FrameworkInfo) { f.User = me.Username }))
	return x
}

// launch starts a shell command as a task, on the executor that all share.
func (x *trial) launch(id, shell string) {
	x.t.Helper()
	data, err := payload.Encode(&payload.Task{Command: &payload.Command{Shell: shell}, Shard: -1})
	if err != nil {
		x.t.Fatal(err)
	}
	offers := x.Offers()
	x.Accept(0, offers, probe.Launch(probe.Task(offers[0].AgentID.Value, id, "pacer", func(info *mesos.TaskInfo) {
		info.Data = data
		info.Executor.Command.Value, info.Executor.Command.Arguments = &program, []string{program}
		info.Executor.Command.Environment = &mesos.Environment{Variables: []mesos.Environment_Variable{
			{Name: "PACER_ALLOWED_USERS", Value: &x.user}, {Name: "PACER_LOG_LEVEL", Value: text("debug")},
		}}
	})))
}

func text(s string) *string { return &s }

// run starts a task and waits until it runs.
func (x *trial) run(id, shell string) {
	x.t.Helper()
	x.launch(id, shell)
	x.until(id, "STARTING RUNNING")
}

func (x *trial) kill(id string) {
	x.t.Helper()
	x.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: id}}})
}

// until waits until a task has this history.
func (x *trial) until(id, want string) {
	x.t.Helper()
	for end := time.Now().Add(patience); strings.Join(x.states[id], " ") != want; {
		if time.Now().After(end) {
			x.t.Fatalf("%s: %s, want %s", id, strings.Join(x.states[id], " "), want)
		}
		event, err := x.Scheduler.Await(scheduler.Event_UPDATE, 100*time.Millisecond)
		if err != nil {
			if err.Error() != "deadline" {
				x.t.Fatal(err)
			}
			continue
		}
		x.note(event.Update.Status)
	}
}

// note acknowledges a status and counts it once.
func (x *trial) note(s mesos.TaskStatus) {
	x.t.Helper()
	if s.UUID == nil {
		return // the master's own words
	}
	x.Acknowledge(s)
	if !x.seen[string(s.UUID)] {
		x.seen[string(s.UUID)] = true
		id := s.TaskID.Value
		x.states[id] = append(x.states[id], strings.TrimPrefix(s.GetState().String(), "TASK_"))
	}
}

// ends kills a task that runs and checks that it ends exactly once.
func (x *trial) ends(id string) {
	x.t.Helper()
	x.kill(id)
	x.until(id, "STARTING RUNNING KILLING KILLED")
	x.quiet()
}

// quiet checks that whatever is still under way changes no history.
func (x *trial) quiet() {
	x.t.Helper()
	before := fmt.Sprint(x.states)
	for range 2 {
		x.Must(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{}})
		if event, err := x.Scheduler.Await(scheduler.Event_UPDATE, 200*time.Millisecond); err == nil {
			x.note(event.Update.Status)
		}
	}
	if after := fmt.Sprint(x.states); after != before {
		x.t.Errorf("more came: %s, before %s", after, before)
	}
}

// executors are the process ids of the agent's containers.
func (x *trial) executors() []string {
	x.t.Helper()
	files, err := filepath.Glob(filepath.Join(x.node.WorkDir(), "meta/slaves/*/frameworks/*/executors/*/runs/*/pids/forked.pid"))
	if err != nil || len(files) == 0 {
		x.t.Fatalf("no executors: %v", err)
	}
	var pids []string
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			x.t.Fatal(err)
		}
		pid, _, _ := strings.Cut(string(content), " ")
		pids = append(pids, pid)
	}
	return pids
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func quickly(a *agent.Config) { a.ExecutorReregistrationTimeout = 2 * time.Second }

func TestExecutor_StreamBreaks(t *testing.T) {
	x := newTrial(t)
	gate := filepath.Join(t.TempDir(), "gate")
	x.run("a", lasting)
	x.run("b", fmt.Sprintf(gated, gate))
	x.node.BreakStreams()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	x.until("b", "STARTING RUNNING FINISHED")
	x.run("c", lasting)
	x.ends("a")
	x.ends("c")
}

// TestExecutor_StreamIsSilent is about a stream that never ends: the executor has to
// find out by itself that it hears nothing.
func TestExecutor_StreamIsSilent(t *testing.T) {
	x := newTrial(t)
	gate := filepath.Join(t.TempDir(), "gate")
	x.run("a", lasting)
	x.run("b", fmt.Sprintf(gated, gate))
	x.node.SilenceStreams()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	x.until("b", "STARTING RUNNING FINISHED")
	for end := time.Now().Add(patience); strings.Join(x.states["a"], " ") != "STARTING RUNNING KILLING KILLED"; {
		if time.Now().After(end) {
			t.Fatalf("a: %s: no KILL reaches the executor", x.states["a"])
		}
		x.kill("a") // as schedulers repeat it
		if event, err := x.Scheduler.Await(scheduler.Event_UPDATE, time.Second); err == nil {
			x.note(event.Update.Status)
		}
	}
	x.quiet()
}

func TestExecutor_LaunchIsLost(t *testing.T) {
	x := newTrial(t)
	x.run("a", lasting)
	x.node.LoseLaunches(1)
	x.launch("b", lasting)
	x.run("c", lasting)
	x.node.BreakStreams()
	// The executor does not list it, and the agent says so.
	x.until("b", "DROPPED")
	x.ends("a")
	x.ends("c")
}

func TestExecutor_KillIsLost(t *testing.T) {
	x := newTrial(t)
	x.run("a", lasting)
	x.node.LoseKills(1)
	x.kill("a")
	x.ends("a")
}

func TestExecutor_AcknowledgementsAreLost(t *testing.T) {
	x := newTrial(t)
	x.run("warm", lasting)
	x.node.LoseAcknowledgements(2)
	x.run("a", lasting)
	x.node.LoseAcknowledgements(1)
	x.ends("a")
	x.ends("warm")
}

func TestExecutor_UpdatesAreRefused(t *testing.T) {
	x := newTrial(t)
	x.run("warm", lasting)
	x.node.RefuseUpdates(4)
	x.run("a", lasting)
	x.node.RefuseUpdates(2)
	x.ends("a")
}

func TestExecutor_UpdatesAreDelayed(t *testing.T) {
	x := newTrial(t)
	x.run("warm", lasting)
	x.node.DelayUpdates(700 * time.Millisecond)
	x.run("a", lasting)
	x.ends("a")
	x.ends("warm")
}

func TestExecutor_UpdatesAreDuplicated(t *testing.T) {
	x := newTrial(t)
	x.node.DuplicateUpdates(100)
	x.run("a", lasting)
	x.ends("a")
}

// TestExecutor_AgentReturns is about an agent that was away while a task ended and
// none of whose acknowledgements had arrived before.
func TestExecutor_AgentReturns(t *testing.T) {
	x := newTrial(t, quickly)
	gate := filepath.Join(t.TempDir(), "gate")
	x.run("a", lasting)
	x.run("b", fmt.Sprintf(gated, gate))
	x.node.Kill()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := x.node.Start(); err != nil {
		t.Fatal(err)
	}
	x.until("b", "STARTING RUNNING FINISHED")
	x.ends("a")
}

// TestExecutor_AgentHasANewID: nobody will ever take a status any more, and nobody
// else ends these tasks.
func TestExecutor_AgentHasANewID(t *testing.T) {
	x := newTrial(t, quickly)
	x.run("a", lasting)
	executors := x.executors()
	x.node.Kill()
	if err := x.node.Forget(); err != nil {
		t.Fatal(err)
	}
	if err := x.node.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan ends with its task", func() bool {
		for _, pid := range executors {
			if _, err := os.Stat("/proc/" + pid); err == nil {
				return false
			}
		}
		return true
	})
}

func TestExecutor_AgentIsStopped(t *testing.T) {
	x := newTrial(t)
	gate := filepath.Join(t.TempDir(), "gate")
	x.run("a", lasting)
	x.run("b", fmt.Sprintf(gated, gate))
	x.node.Freeze()
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// The length of the fault: longer than the executor waits for an answer.
	time.Sleep(11 * time.Second)
	x.node.Thaw()
	x.until("b", "STARTING RUNNING FINISHED")
	x.ends("a")
}

func TestExecutor_EventsOfTheFuture(t *testing.T) {
	x := newTrial(t)
	x.run("a", lasting)
	big, err := wire.Protobuf.Marshal(&execv1.Event{Type: execv1.Event_MESSAGE, Message: &execv1.Event_Message{Data: make([]byte, 5<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string][]byte{
		"type 99":                {0x08, 0x63},
		"type 99 and field 99":   {0x08, 0x63, 0x9a, 0x06, 0x01, 'x'},
		"LAUNCH without a task":  {0x08, 0x02},
		"KILL without a task":    {0x08, 0x04},
		"an acknowledged no-one": {0x08, 0x03, 0x1a, 0x08, 0x0a, 0x03, 0x0a, 0x01, 'z', 0x12, 0x01, 'u'},
		"a record of 5 MiB":      big,
	} {
		if x.node.SendRecord(record) == 0 {
			t.Fatalf("%s: the executor is not subscribed", name)
		}
	}
	x.run("b", lasting)
	x.ends("a")
	x.ends("b")
}

func TestExecutor_InACgroupOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make cgroups")
	}
	root := fmt.Sprintf("pacer_faults_%d", os.Getpid())
	x := newTrial(t, func(a *agent.Config) { a.CgroupRoot = root })
	// Not even a session of its own helps.
	x.run("a", "setsid sleep 4711 & exec sleep 600")
	x.ends("a")
	for _, pid := range x.executors() {
		content, err := os.ReadFile("/proc/" + pid + "/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), "/"+root+"/") {
			t.Errorf("the executor is in\n%s", content)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if content, err := os.ReadFile(p); err == nil && string(content) == "sleep\x004711\x00" {
			t.Errorf("%s survived its task", p)
		}
	}
}
