package simulated_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/goleak"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/simulated"
	"pacer/integration/mesos/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// brief is a time of a task's life that is long enough to be told apart from none.
const brief = 200 * time.Millisecond

type world struct {
	t         *testing.T
	cluster   *emulator.Cluster
	scheduler *probe.Scheduler
	agentID   string
}

func start(t *testing.T, config simulated.Config, changes ...func(*emulator.Config)) *world {
	t.Helper()
	if config.Agents == 0 {
		config.Agents = 1
	}
	all := emulator.Config{Agents: -1, Simulated: &config}
	for _, change := range changes {
		change(&all)
	}
	c := emulator.New(t, all)
	return &world{t: t, cluster: c, scheduler: probe.Connect(t, c.MasterURL(), wire.Protobuf, probe.FrameworkInfo())}
}

// launch accepts the next offer with tasks on executor e1.
func (w *world) launch(tasks ...mesos.TaskInfo) {
	w.t.Helper()
	offers := w.scheduler.Offers()
	w.agentID = offers[0].AgentID.Value
	for i := range tasks {
		tasks[i].AgentID.Value = w.agentID
	}
	w.scheduler.Accept(0, offers[:1], probe.Launch(tasks...))
}

func task(id string) mesos.TaskInfo { return probe.Task("", id, "e1") }

func checked(id string) mesos.TaskInfo {
	return probe.Task("", id, "e1", func(info *mesos.TaskInfo) {
		info.HealthCheck = &mesos.HealthCheck{Type: mesos.HealthCheck_TCP, TCP: &mesos.HealthCheck_TCPCheckInfo{Port: 1}}
	})
}

// expect takes the next statuses, acknowledges them and compares them in short, with
// the health behind.
func (w *world) expect(want ...string) {
	w.t.Helper()
	for _, text := range want {
		status := w.scheduler.Status()
		if status.UUID != nil {
			w.scheduler.Acknowledge(status)
		}
		got := probe.Describe(status)
		if status.Healthy != nil {
			got += fmt.Sprint(" ", *status.Healthy)
		}
		if got != text {
			w.t.Fatalf("got %s, want %s", got, text)
		}
	}
}

func (w *world) kill(id string) {
	w.t.Helper()
	w.scheduler.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: id}}})
}

func TestTaskLivesUntilItIsKilled(t *testing.T) {
	w := start(t, simulated.Config{Life: simulated.Life{Starting: true, Killing: true, Kill: simulated.Always(time.Millisecond)}})
	w.launch(task("t1"))
	w.expect("t1 TASK_STARTING SOURCE_EXECUTOR -", "t1 TASK_RUNNING SOURCE_EXECUTOR -")
	w.kill("t1")
	w.expect("t1 TASK_KILLING SOURCE_EXECUTOR -", "t1 TASK_KILLED SOURCE_EXECUTOR -")
	w.kill("t1") // gone: the master answers
	w.expect("t1 TASK_UNKNOWN SOURCE_MASTER REASON_RECONCILIATION")
	if s := w.cluster.Fleet().Stats(); s.Launches != 1 || s.Kills != 1 || s.Updates != 4 || s.Acknowledgements != 4 || s.Tasks != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNextUpdateWaitsForTheAcknowledgement(t *testing.T) {
	w := start(t, simulated.Config{Life: simulated.Life{Starting: true}})
	w.launch(task("t1"))
	status := w.scheduler.Status()
	w.scheduler.Silent()
	w.scheduler.Acknowledge(status)
	w.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -")
}

func TestTimesOfLife(t *testing.T) {
	for _, c := range []struct {
		name string
		life simulated.Life
	}{
		{"executor", simulated.Life{Executor: simulated.Always(brief)}},
		{"staging", simulated.Life{Staging: simulated.Span{Min: brief, Max: 2 * brief}}},
		{"run", simulated.Life{Run: simulated.Always(brief)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, simulated.Config{Life: c.life})
			started := time.Now()
			w.launch(task("t1"))
			w.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -")
			if c.life.Run != (simulated.Span{}) {
				w.expect("t1 TASK_FINISHED SOURCE_EXECUTOR -")
			}
			if d := time.Since(started); d < brief {
				t.Errorf("after %v, want %v at least", d, brief)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	w := start(t, simulated.Config{Life: simulated.Life{Flap: simulated.Always(time.Millisecond)}})
	const health = " TASK_RUNNING SOURCE_EXECUTOR REASON_TASK_HEALTH_CHECK_STATUS_UPDATED "
	w.launch(checked("t1"))
	w.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -", "t1"+health+"true", "t1"+health+"false", "t1"+health+"true")
	// While an update waits, others pile up behind it; a kill comes last.
	w.kill("t1")
	for {
		status := w.scheduler.Status()
		w.scheduler.Acknowledge(status)
		if status.GetState() == mesos.TASK_KILLED {
			break
		}
	}
	w.launch(task("t2"))
	w.expect("t2 TASK_RUNNING SOURCE_EXECUTOR -")
	w.scheduler.Silent()
}

func TestShareThatFails(t *testing.T) {
	const tasks = 200
	w := start(t, simulated.Config{Seed: 1, Life: simulated.Life{FailureRate: 0.25}})
	var infos []mesos.TaskInfo
	for i := range tasks {
		info := task(fmt.Sprint("t", i))
		info.Resources = probe.Scalars(0.1, 1, 0)
		infos = append(infos, info)
	}
	w.launch(infos...)
	failed := 0
	for range tasks {
		status := w.scheduler.Status()
		w.scheduler.Acknowledge(status)
		if status.GetState() == mesos.TASK_FAILED {
			failed++
		}
	}
	if failed < tasks/8 || failed > tasks/2 {
		t.Errorf("%d of %d failed, want about a quarter", failed, tasks)
	}
}

func TestExecutorExits(t *testing.T) {
	w := start(t, simulated.Config{Life: simulated.Life{ExecutorExit: simulated.Always(brief)}})
	w.launch(task("t1"), task("t2"))
	w.expect2(t, "t1 TASK_RUNNING SOURCE_EXECUTOR -", "t2 TASK_RUNNING SOURCE_EXECUTOR -")
	if f := w.scheduler.Next(scheduler.Event_FAILURE).Failure; f.GetExecutorID().GetValue() != "e1" || f.GetStatus() != 9 {
		t.Errorf("%v", f)
	}
	w.expect2(t, "t1 TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_TERMINATED", "t2 TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_TERMINATED")
	w.launch(task("t3"))
	w.expect("t3 TASK_RUNNING SOURCE_EXECUTOR -")
}

// expect2 takes statuses of several tasks in any order.
func (w *world) expect2(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		status := w.scheduler.Status()
		w.scheduler.Acknowledge(status)
		got = append(got, probe.Describe(status))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got %s", strings.Join(got, ", "))
	}
}

func TestFailoverKeepsTasks(t *testing.T) {
	for _, persisted := range []bool{false, true} {
		t.Run(fmt.Sprint("persisted ", persisted), func(t *testing.T) {
			w := start(t, simulated.Config{Agents: 3}, func(c *emulator.Config) { c.PersistRegistry = persisted })
			w.launch(task("t1"), task("t2"))
			one := w.scheduler.Status()
			two := w.scheduler.Status() // not acknowledged
			w.scheduler.Acknowledge(one)
			if err := w.cluster.Failover(); err != nil {
				t.Fatal(err)
			}
			again := probe.Connect(t, w.cluster.MasterURL(), wire.Protobuf, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) {
				info.ID = &mesos.FrameworkID{Value: w.scheduler.ID}
			}))
			for {
				if status := again.Status(); string(status.UUID) == string(two.UUID) {
					again.Acknowledge(status)
					break
				}
			}
			w.scheduler = again
			for _, id := range []string{"t1", "t2"} {
				again.Drop(scheduler.Event_UPDATE)
				again.Reconcile(id, w.agentID)
				for {
					status := again.Status()
					if status.GetReason() == mesos.REASON_RECONCILIATION {
						if status.TaskID.Value != id || status.GetState() != mesos.TASK_RUNNING {
							t.Errorf("%s", probe.Describe(status))
						}
						break
					}
				}
			}
		})
	}
}

func TestUnreachableAndBack(t *testing.T) {
	w := start(t, simulated.Config{}, func(c *emulator.Config) {
		c.Master = master.Config{AgentPingTimeout: 100 * time.Millisecond, MaxAgentPingTimeouts: 2}
	})
	w.launch(task("t1"))
	w.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -")
	line := w.cluster.Fleet().Agent(0).Line()
	line.Freeze()
	w.expect("t1 TASK_UNREACHABLE SOURCE_MASTER REASON_AGENT_REMOVED")
	line.Thaw()
	w.expect("t1 TASK_RUNNING SOURCE_MASTER REASON_AGENT_REREGISTERED")
}

func TestCutAndBack(t *testing.T) {
	w := start(t, simulated.Config{}, func(c *emulator.Config) {
		c.Master = master.Config{AgentPingTimeout: time.Second, MaxAgentPingTimeouts: 3}
	})
	w.launch(task("t1"))
	w.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -")
	w.scheduler.Offers() // what the task has left is outstanding when the line breaks
	line := w.cluster.Fleet().Agent(0).Line()
	line.Cut()
	w.scheduler.Next(scheduler.Event_RESCIND)
	w.scheduler.Drop(scheduler.Event_OFFERS) // of before; the next can come at once
	line.Restore()
	w.scheduler.Offers()
}

func TestTasksThatGetLostAreDropped(t *testing.T) {
	w := start(t, simulated.Config{Life: simulated.Life{Executor: simulated.Always(time.Hour)}})
	w.launch(task("t1"))
	w.kill("t1")
	w.expect("t1 TASK_KILLED SOURCE_AGENT REASON_TASK_KILLED_DURING_LAUNCH")
	// What the master sends while the line is cut is lost.
	line := w.cluster.Fleet().Agent(0).Line()
	offers := w.scheduler.Offers()
	line.SetDelay(time.Hour)
	w.scheduler.Accept(0, offers, probe.Launch(probe.Task(w.agentID, "t2", "e1")))
	line.SetDelay(0)
	line.Cut()
	w.scheduler.Silent()
	line.Restore()
	w.expect("t2 TASK_DROPPED SOURCE_AGENT REASON_RECONCILIATION")
}

func TestTeardownEndsEverything(t *testing.T) {
	w := start(t, simulated.Config{})
	w.launch(task("t1"))
	w.expect("t1 TASK_RUNNING SOURCE_EXECUTOR -")
	w.scheduler.Must(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
	fleet := w.cluster.Fleet()
	for end := time.Now().Add(probe.Patience); fleet.Stats().Tasks > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", fleet.Stats())
		}
	}
}

func TestBadConfigurationsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, want string
		config     simulated.Config
	}{
		{"agents", "Agents is 0", simulated.Config{}},
		{"resources", "Resources", simulated.Config{Agents: 1, Resources: "cpus"}},
		{"rate", "FailureRate", simulated.Config{Agents: 1, Life: simulated.Life{FailureRate: 1.5}}},
		{"span", "Life.Run", simulated.Config{Agents: 1, Life: simulated.Life{Run: simulated.Always(-1)}}},
		{"attributes", "Attributes of agent 0", simulated.Config{Agents: 1, Attributes: func(int) string { return "rack" }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := simulated.Start(c.config, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
