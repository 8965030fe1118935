package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosscheduler "github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/rs/zerolog"

	emulator "pacer/integration/mesos"
	mesosmaster "pacer/integration/mesos/master"
	"pacer/integration/mesos/simulated"
	"pacer/integration/mesos/wire"
	"pacer/integration/zookeeper"
	"pacer/scheduler"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state/bolt"
)

// world is Pacer's scheduler over simulated agents.
type world struct {
	t         *testing.T
	cluster   *emulator.Cluster
	scheduler *scheduler.Scheduler
}

const agents = 3

func newWorld(t *testing.T, changes ...func(*emulator.Config)) *world {
	t.Helper()
	config := emulator.Config{
		Agents: -1,
		Simulated: &simulated.Config{Agents: agents, Life: simulated.Life{
			Starting: true, Killing: true, Staging: simulated.Always(5 * time.Millisecond), Kill: simulated.Always(5 * time.Millisecond),
		}},
		Master: mesosmaster.Config{AgentPingTimeout: 250 * time.Millisecond, MaxAgentPingTimeouts: 4},
	}
	for _, change := range changes {
		change(&config)
	}
	w := &world{t: t, cluster: emulator.New(t, config)}
	masters := config.ZooKeeper
	if masters == "" {
		masters = w.cluster.MasterURL()
	}
	store, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := master.New(master.Config{Masters: masters}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	settings := scheduler.DefaultConfig()
	settings.Framework.User = "nobody"
	settings.Executor.URI = "http://127.0.0.1:1/executor" // nobody fetches it
	settings.Executor.SHA256 = strings.Repeat("0", 64)
	settings.Times.RefuseUnfit = 200 * time.Millisecond
	settings.Times.ReconcileDoubtful = time.Second
	settings.Times.LaunchTimeout = 5 * time.Second
	settings.Times.KillRepeat = time.Second
	if w.scheduler, err = scheduler.Open(t.Context(), settings, store, client, nil, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.scheduler.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// put changes how many instances an app has.
func (w *world) put(id string, instances int) {
	w.t.Helper()
	a := app.Default(id)
	a.Cmd, a.CPUs, a.Mem, a.Instances = "true", 100, 32*app.Unit, instances
	edit := api.Edit{ID: id, Next: a}
	if current, err := w.scheduler.App(w.t.Context(), id, api.Embed{}); err == nil {
		edit.Replaces = current.App.Version
	}
	eventually(w.t, "the scheduler takes changes", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), patience)
		defer cancel()
		_, err := w.scheduler.Change(ctx, []api.Edit{edit}, api.ChangeOptions{Force: true})
		return err == nil
	})
}

// tasks are the instances of an app that run, by id.
func (w *world) tasks(id string) map[string]bool {
	w.t.Helper()
	status, err := w.scheduler.App(w.t.Context(), id, api.Embed{Tasks: true})
	if err != nil {
		w.t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, t := range status.Tasks {
		if t.State == mesos.TASK_RUNNING.String() {
			ids[t.ID] = true
		}
	}
	return ids
}

// settled waits until exactly n instances run, for the scheduler and really, and
// nothing is under way.
func (w *world) settled(id string, n int) {
	w.t.Helper()
	last := ""
	defer func() {
		if w.t.Failed() {
			w.t.Log(last)
		}
	}()
	eventually(w.t, fmt.Sprintf("%s has %d instances", id, n), func() bool {
		status, err := w.scheduler.App(w.t.Context(), id, api.Embed{Tasks: true})
		if err != nil {
			w.t.Fatal(err)
		}
		s := w.cluster.Fleet().Stats()
		last = fmt.Sprintf("%d tasks, %d running, %d deployments; agents: %+v", len(status.Tasks), status.Counts.Running, len(status.Deployments), s)
		return len(status.Deployments) == 0 && status.Counts.Running == n && len(status.Tasks) == n && s.Tasks == int64(n)
	})
}

// launches checks how many there have been in all.
func (w *world) launches(want int64) {
	w.t.Helper()
	if got := w.cluster.Fleet().Stats().Launches; got != want {
		w.t.Errorf("%d launches, want %d", got, want)
	}
}

// framework is the scheduler's id at the master.
func (w *world) framework() string {
	w.t.Helper()
	for _, e := range w.cluster.Log() {
		if event, ok := e.Message.(*mesosscheduler.Event); ok && event.Type == mesosscheduler.Event_SUBSCRIBED {
			return event.Subscribed.FrameworkID.Value
		}
	}
	w.t.Fatal("not subscribed")
	return ""
}

// subscriptions counts them.
func (w *world) subscriptions() int {
	n := 0
	for _, e := range w.cluster.Log() {
		if event, ok := e.Message.(*mesosscheduler.Event); ok && event.Type == mesosscheduler.Event_SUBSCRIBED {
			n++
		}
	}
	return n
}

func TestScheduler_AcceptIsLost(t *testing.T) {
	w := newWorld(t)
	w.put("/web", 3)
	w.settled("/web", 3)
	w.cluster.Master().LoseCalls(mesosscheduler.Call_ACCEPT, 1)
	w.put("/web", 9)
	w.settled("/web", 9)
	w.launches(9)
}

// TestScheduler_AnswerToAcceptIsLost: the tasks run although the scheduler cannot know.
func TestScheduler_AnswerToAcceptIsLost(t *testing.T) {
	w := newWorld(t)
	w.put("/web", 3)
	w.settled("/web", 3)
	w.cluster.Master().LoseAnswers(mesosscheduler.Call_ACCEPT, 1)
	w.put("/web", 9)
	w.settled("/web", 9)
	w.launches(9)
}

func TestScheduler_RescindCrossesAccept(t *testing.T) {
	w := newWorld(t)
	w.put("/web", 3)
	w.settled("/web", 3)
	w.cluster.Master().RescindAccepted(2)
	w.put("/web", 9)
	w.settled("/web", 9)
	w.launches(9)
}

func TestScheduler_KillsAndAcknowledgementsAreLost(t *testing.T) {
	// As many as four kills take when each call is tried three times.
	const lost = 12
	for name, lose := range map[string]func(*mesosmaster.Master){
		"KILL":                  func(m *mesosmaster.Master) { m.LoseCalls(mesosscheduler.Call_KILL, lost) },
		"answer to KILL":        func(m *mesosmaster.Master) { m.LoseAnswers(mesosscheduler.Call_KILL, lost) },
		"ACKNOWLEDGE":           func(m *mesosmaster.Master) { m.LoseCalls(mesosscheduler.Call_ACKNOWLEDGE, lost) },
		"answer to ACKNOWLEDGE": func(m *mesosmaster.Master) { m.LoseAnswers(mesosscheduler.Call_ACKNOWLEDGE, lost) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put("/web", 6)
			w.settled("/web", 6)
			lose(w.cluster.Master())
			w.put("/web", 2)
			w.settled("/web", 2)
			w.launches(6)
		})
	}
}

func TestScheduler_StreamBreaks(t *testing.T) {
	w := newWorld(t)
	w.put("/web", 6)
	w.settled("/web", 6)
	before := w.tasks("/web")
	w.cluster.Master().BreakStream(w.framework())
	w.put("/web", 9)
	w.settled("/web", 9)
	w.launches(9)
	w.unharmed(before)
}

// unharmed checks that these tasks still run.
func (w *world) unharmed(before map[string]bool) {
	w.t.Helper()
	after := w.tasks("/web")
	for id := range before {
		if !after[id] {
			w.t.Errorf("%s has ended", id)
		}
	}
}

// TestScheduler_StreamIsSilent: only the missing heartbeats tell.
func TestScheduler_StreamIsSilent(t *testing.T) {
	w := newWorld(t, func(c *emulator.Config) { c.Master.HeartbeatInterval = 500 * time.Millisecond })
	w.put("/web", 6)
	w.settled("/web", 6)
	before := w.tasks("/web")
	w.cluster.Master().FreezeStream(w.framework())
	w.put("/web", 9)
	w.settled("/web", 9)
	w.launches(9)
	w.unharmed(before)
}

func TestScheduler_EventsOfTheFuture(t *testing.T) {
	w := newWorld(t)
	w.put("/web", 3)
	w.settled("/web", 3)
	id := ""
	for id = range w.tasks("/web") {
	}
	state, reason, source := mesos.TaskState(77), mesos.TaskStatus_Reason(999), mesos.TaskStatus_Source(99)
	strange, err := (&mesosscheduler.Event{Type: mesosscheduler.Event_UPDATE, Update: &mesosscheduler.Event_Update{
		Status: mesos.TaskStatus{TaskID: mesos.TaskID{Value: id}, State: &state, Reason: &reason, Source: &source},
	}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	big, err := wire.Protobuf.Marshal(&mesosscheduler.Event{Type: mesosscheduler.Event_MESSAGE, Message: &mesosscheduler.Event_Message{
		AgentID: mesos.AgentID{Value: "a"}, ExecutorID: mesos.ExecutorID{Value: "e"}, Data: make([]byte, 5<<20),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string][]byte{
		"type 99":                {0x08, 0x63},
		"type 99 and field 99":   {0x08, 0x63, 0x9a, 0x06, 0x01, 'x'},
		"OFFERS without offers":  {0x08, 0x02},
		"UPDATE without status":  {0x08, 0x04},
		"reasons of the future":  strange,
		"a record of 5 MiB":      big,
		"ERROR without an error": {0x08, 0x63, 0x42, 0x00},
	} {
		if !w.cluster.Master().SendRecord(w.framework(), record) {
			t.Fatalf("%s: not subscribed", name)
		}
	}
	before := w.tasks("/web")
	w.put("/web", 6)
	w.settled("/web", 6)
	w.launches(6)
	w.unharmed(before)
}

// TestScheduler_AgentIsLostAndReturns: what is replaced is killed when it comes back,
// and nobody touches the rest.
func TestScheduler_AgentIsLostAndReturns(t *testing.T) {
	w := newWorld(t)
	w.put("/web", 9)
	w.settled("/web", 9)
	line := w.cluster.Fleet().Agent(0).Line()
	line.Freeze()
	eventually(t, "nine run on the agents that are left", func() bool { return w.cluster.Master().ActiveAgents() == agents-1 && len(w.tasks("/web")) == 9 })
	line.Thaw()
	w.settled("/web", 9)
}

func TestScheduler_MasterFailover(t *testing.T) {
	for _, persisted := range []bool{true, false} {
		t.Run(fmt.Sprint("registry persisted: ", persisted), func(t *testing.T) {
			w := newWorld(t, func(c *emulator.Config) { c.PersistRegistry = persisted })
			w.put("/web", 9)
			w.settled("/web", 9)
			before := w.tasks("/web")
			// One agent has yet to register again when the scheduler asks.
			late := w.cluster.Fleet().Agent(0).Line()
			late.Cut()
			if err := w.cluster.Failover(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the scheduler subscribes again", func() bool { return w.subscriptions() == 2 })
			w.put("/other", 3)
			late.Restore()
			eventually(t, "all run", func() bool { return len(w.tasks("/web")) == 9 && len(w.tasks("/other")) == 3 })
			if after := w.tasks("/web"); !maps.Equal(after, before) {
				t.Errorf("instances after the failover %v, before %v", after, before)
			}
			w.launches(12)
		})
	}
}

// TestScheduler_Elections goes through the death and the stop of leaders while an app
// grows.
func TestScheduler_Elections(t *testing.T) {
	server := zookeeper.Shared(t)
	w := newWorld(t, func(c *emulator.Config) {
		c.Masters, c.PersistRegistry = 3, true
		c.ZooKeeper, c.ZooKeeperSessionTimeout = server.URL("/"+t.Name()+"/mesos"), time.Second
		c.Master.HeartbeatInterval = 500 * time.Millisecond
	})
	w.put("/web", 3)
	w.settled("/web", 3)
	before := w.tasks("/web")
	leader := func() *emulator.Seat {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		m, err := w.cluster.AwaitLeader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range w.cluster.Seats() {
			if s.Master() == m {
				return s
			}
		}
		t.Fatal("the leader has ended already")
		return nil
	}
	first := leader()
	first.Kill()
	w.put("/web", 6)
	w.settled("/web", 6)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	second := leader()
	second.Freeze()
	w.put("/web", 9)
	w.settled("/web", 9)
	second.Thaw()
	w.settled("/web", 9)
	w.launches(9)
	w.unharmed(before)
}

func TestScheduler_MasterIsStopped(t *testing.T) {
	w := newWorld(t, func(c *emulator.Config) { c.Master.HeartbeatInterval = 500 * time.Millisecond })
	w.put("/web", 6)
	w.settled("/web", 6)
	before := w.tasks("/web")
	seat := w.cluster.Seats()[0]
	seat.Freeze()
	grown := make(chan struct{})
	go func() {
		defer close(grown)
		w.put("/web", 9)
	}()
	time.Sleep(5 * time.Second) // the length of the fault: ten heartbeats are missing
	seat.Thaw()
	<-grown
	w.settled("/web", 9)
	w.launches(9)
	w.unharmed(before)
}

func TestScheduler_ExecutorsExit(t *testing.T) {
	w := newWorld(t, func(c *emulator.Config) { c.Simulated.Life.ExecutorExit = simulated.Always(3 * time.Second) })
	w.put("/web", 6)
	eventually(t, "executors have exited and their tasks been replaced", func() bool {
		return w.cluster.Fleet().Stats().Launches >= 12 && len(w.tasks("/web")) == 6
	})
}
