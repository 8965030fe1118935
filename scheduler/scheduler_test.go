package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor/payload"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	config := DefaultConfig()
	config.Framework.User = "nobody"
	config.Executor.URI = "http://scheduler:8081/executor/x/pacer-executor"
	config.Executor.SHA256 = strings.Repeat("ab", 32)
	return config
}

// life is one run of a scheduler.
type life struct {
	*Scheduler
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, config Config, memory *statetest.Memory, client Mesos) *life {
	t.Helper()
	log := zerolog.Nop()
	if testing.Verbose() {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "15:04:05.000"}).With().Timestamp().Logger()
	}
	store := memory.Open()
	s, err := Open(t.Context(), config, store, client, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{Scheduler: s, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { l.done <- s.Run(ctx) }()
	t.Cleanup(l.end)
	return l
}

// end stops the scheduler as SIGTERM does.
func (l *life) end() {
	l.stop()
	if err, running := <-l.done; running {
		close(l.done)
		if err != nil && !errors.Is(err, ErrFrameworkRemoved) && !errors.Is(err, state.ErrFenced) {
			l.t.Errorf("Run: %v", err)
		}
	}
}

func (l *life) put(a *app.App) api.Started {
	l.t.Helper()
	options := api.PutOptions{Force: true}
	if current, err := l.App(l.t.Context(), a.ID, api.Embed{}); err == nil {
		options.Replaces = current.App.Version
	}
	started, err := l.Put(l.t.Context(), a, options)
	if err != nil {
		l.t.Fatalf("put %s: %v", a.ID, err)
	}
	return started
}

func (l *life) status(id string) api.AppStatus {
	l.t.Helper()
	status, err := l.App(l.t.Context(), id, api.Embed{Tasks: true})
	if err != nil {
		l.t.Fatal(err)
	}
	return status
}

// settle waits until no deployment is under way, and then what follows.
func (l *life) settle() {
	l.t.Helper()
	for range 600 {
		time.Sleep(time.Second)
		synctest.Wait()
		list, err := l.Deployments(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		if len(list) == 0 {
			return
		}
	}
	list, _ := l.Deployments(l.t.Context())
	queue, _ := l.Queue(l.t.Context())
	for n := range queue {
		queue[n].JSON = nil
	}
	l.t.Fatalf("deployments do not end: %+v\nqueue: %+v", list, queue)
}

func web(id string, instances int, change ...func(*app.App)) *app.App {
	a := app.Default(id)
	a.Cmd = "serve"
	a.CPUs = 500
	a.Instances = instances
	a.HealthCheck = &app.HealthCheck{Protocol: app.CheckHTTP, Path: "/", Interval: time.Second, Timeout: time.Second, MaxConsecutiveFailures: 3}
	for _, f := range change {
		f(a)
	}
	return a
}

func version(n int) func(*app.App) {
	return func(a *app.App) { a.Env = map[string]string{"VERSION": fmt.Sprint(n)} }
}

func strategy(minimum, over float64) func(*app.App) {
	return func(a *app.App) {
		a.UpgradeStrategy = app.UpgradeStrategy{MinimumHealthCapacity: minimum, MaximumOverCapacity: over}
	}
}

func TestLife_CreateScaleUpdateDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 3)
		l := start(t, testConfig(), memory, world)
		started := l.put(web("/shop/cart", 4))
		l.settle()
		status := l.status("/shop/cart")
		if status.Counts != (api.Counts{Running: 4, Healthy: 4}) || len(status.Tasks) != 4 || len(status.Deployments) != 0 {
			t.Errorf("after create: %+v", status)
		}
		for _, task := range status.Tasks {
			if task.Version != started.Version || len(task.Ports) != 1 || task.Health == nil || !task.Health.Alive || task.State != "TASK_RUNNING" {
				t.Errorf("task: %+v", task)
			}
		}

		before := slices.Sorted(maps.Keys(world.tasks))
		l.put(web("/shop/cart", 6))
		l.settle()
		if n := len(world.living("/shop/cart")[started.Version.String()]); n != 6 {
			t.Errorf("%d instances of the first configuration after scaling to 6", n)
		}
		for _, id := range before {
			if isTerminal(world.tasks[id].state) {
				t.Errorf("scaling up ended %s", id)
			}
		}

		l.put(web("/shop/cart", 2))
		l.settle()
		if n := world.count("/shop/cart"); n != 2 {
			t.Errorf("%d instances after scaling to 2", n)
		}

		second := l.put(web("/shop/cart", 2, version(2)))
		l.settle()
		if alive := world.living("/shop/cart"); len(alive) != 1 || len(alive[second.Version.String()]) != 2 {
			t.Errorf("after the update: %v", alive)
		}
		versions, err := l.Versions(t.Context(), "/shop/cart")
		if err != nil || len(versions) != 4 || versions[0] != second.Version || versions[3] != started.Version {
			t.Errorf("versions %v, %v", versions, err)
		}
		if old, err := l.AppVersion(t.Context(), "/shop/cart", started.Version); err != nil || old.Instances != 4 {
			t.Errorf("first version: %+v, %v", old, err)
		}

		if _, err := l.Delete(t.Context(), "/shop/cart", false); err != nil {
			t.Fatal(err)
		}
		if _, err := l.App(t.Context(), "/shop/cart", api.Embed{}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("deleted app: %v", err)
		}
		l.settle()
		if n := world.count("/shop/cart"); n != 0 {
			t.Errorf("%d instances after the deletion", n)
		}
		left := kinds(memory)
		if left["tasks"] != 0 || left["apps"] != 0 || left["versions"] != 0 || left["tombstones"] != 1 {
			t.Errorf("the store keeps %v", left)
		}

		l.put(web("/shop/cart", 1))
		l.settle()
		if n := world.count("/shop/cart"); n != 1 {
			t.Errorf("%d instances after it was created again", n)
		}
	})
}

// kinds counts the nodes of a store.
func kinds(m *statetest.Memory) map[string]int {
	n := make(map[string]int)
	for key := range m.Nodes() {
		kind, _, _ := strings.Cut(key, "/")
		n[kind]++
	}
	return n
}

// TestP8_RollingStaysWithinBounds samples every change of the cluster while
// apps are rolled, with every kind of strategy.
func TestP8_RollingStaysWithinBounds(t *testing.T) {
	for name, test := range map[string]struct {
		minimum, over  float64
		least, most, n int
	}{
		"defaults":           {1, 1, 4, 8, 4},
		"one more":           {1, 0.25, 4, 5, 4},
		"none more":          {1, 0, 4, 5, 4},
		"one fewer":          {0.75, 0, 3, 4, 4},
		"both":               {0.5, 0.5, 2, 6, 4},
		"all at once":        {0, 0, 0, 4, 4},
		"a single instance":  {1, 1, 1, 2, 1},
		"single, none more":  {1, 0, 1, 2, 1},
		"fractions of three": {0.5, 0.34, 2, 4, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newCluster(t, 3)
				l := start(t, testConfig(), new(statetest.Memory), world)
				l.put(web("/a", test.n, strategy(test.minimum, test.over)))
				l.settle()
				world.intercept(func(call string) error {
					healthy, alive := world.healthy("/a")
					if strings.HasPrefix(call, "KILL") && healthy < test.least {
						t.Errorf("%d healthy at %s", healthy, call)
					}
					if alive > test.most {
						t.Errorf("%d alive at %s", alive, call)
					}
					return nil
				})
				second := l.put(web("/a", test.n, strategy(test.minimum, test.over), version(2)))
				l.settle()
				if alive := world.living("/a"); len(alive) != 1 || len(alive[second.Version.String()]) != test.n {
					t.Errorf("after the roll: %v", alive)
				}
			})
		})
	}
}

func (c *cluster) healthy(appID string) (healthy, alive int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tasks {
		if t.payload.App != appID || isTerminal(t.state) {
			continue
		}
		alive++
		if t.state == mesos.TASK_RUNNING && t.healthy != nil && *t.healthy {
			healthy++
		}
	}
	return healthy, alive
}

// TestP8_FailoverRestartsNothing stops and starts the scheduler at every
// second of a roll.
func TestP8_FailoverRestartsNothing(t *testing.T) {
	for second := range 12 {
		t.Run(fmt.Sprint("after ", second, "s"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory, world := new(statetest.Memory), newCluster(t, 3)
				l := start(t, testConfig(), memory, world)
				steadyApp := l.put(web("/steady", 3))
				l.put(web("/rolling", 4, strategy(1, 0.25)))
				l.settle()
				next := l.put(web("/rolling", 4, strategy(1, 0.25), version(2)))
				time.Sleep(time.Duration(second) * time.Second)
				l.end()
				time.Sleep(5 * time.Second)
				world.intercept(func(call string) error {
					if healthy, alive := world.healthy("/rolling"); strings.HasPrefix(call, "KILL") && healthy < 4 || alive > 5 {
						t.Errorf("%d healthy, %d alive at %s", healthy, alive, call)
					}
					return nil
				})
				l = start(t, testConfig(), memory, world)
				if status := l.status("/steady"); status.Counts.Running != 3 {
					t.Errorf("right after the start: %+v", status.Counts)
				}
				l.settle()
				if alive := world.living("/steady"); len(alive[steadyApp.Version.String()]) != 3 || len(world.tasks) != 3+8 {
					t.Errorf("%d tasks were launched in all; /steady: %v", len(world.tasks), alive)
				}
				if alive := world.living("/rolling"); len(alive) != 1 || len(alive[next.Version.String()]) != 4 {
					t.Errorf("after the roll: %v", alive)
				}
			})
		})
	}
}

// TestP7_KillPoints ends the scheduler at the n-th store write and at the n-th
// call of a scripted life, for every n, and starts it again: what was
// acknowledged is there, and the cluster ends up as it was asked to be.
func TestP7_KillPoints(t *testing.T) {
	for _, at := range []string{"write", "write lost", "call", "call lost"} {
		t.Run(at, func(t *testing.T) {
			for n := 1; ; n++ {
				reached := false
				synctest.Test(t, func(t *testing.T) { reached = killPoint(t, at, n) })
				if t.Failed() {
					t.Fatalf("%s %d", at, n)
				}
				if !reached {
					t.Logf("%d kill points", n-1)
					break
				}
			}
		})
	}
}

// killPoint is one life that ends at the n-th write or call, and the next. It
// is false when there are fewer.
func killPoint(t *testing.T, at string, n int) bool {
	memory, world := new(statetest.Memory), newCluster(t, 3)
	var mu sync.Mutex
	seen, reached := 0, make(chan struct{})
	// crash counts and tells whether the process is dead, and whether this is
	// its last deed.
	crash := func(counts bool) (dead, last bool) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case <-reached:
			return true, false
		default:
		}
		if counts {
			seen++
		}
		if counts && seen == n {
			close(reached)
			return true, true
		}
		return false, false
	}
	memory.Before(func([]state.Op) error {
		if dead, last := crash(strings.HasPrefix(at, "write")); dead && !(last && at == "write") {
			return errors.New("the process is dead")
		}
		return nil
	})
	world.intercept(func(string) error {
		switch dead, last := crash(strings.HasPrefix(at, "call")); {
		case last && at == "call":
			return errAfter
		case dead:
			return master.ErrOutcomeUnknown
		}
		return nil
	})
	l := start(t, testConfig(), memory, world)
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-reached:
			l.stop()
		case <-over:
		}
	})
	acknowledged := make(map[string]api.Started)
	write := func(id string, do func(context.Context) (api.Started, error)) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if started, err := do(ctx); err == nil {
			acknowledged[id] = started
		}
	}
	put := func(a *app.App) {
		write(a.ID, func(ctx context.Context) (api.Started, error) {
			options := api.PutOptions{Force: true}
			if current, err := l.App(ctx, a.ID, api.Embed{}); err == nil {
				options.Replaces = current.App.Version
			}
			return l.Put(ctx, a, options)
		})
	}
	put(web("/a", 2))
	put(web("/b", 1))
	time.Sleep(5 * time.Second)
	put(web("/a", 3))
	put(web("/b", 1, version(2)))
	time.Sleep(3 * time.Second)
	write("/b deleted", func(ctx context.Context) (api.Started, error) { return l.Delete(ctx, "/b", true) })
	time.Sleep(3 * time.Second)
	close(over)
	watch.Wait()
	l.end()

	memory.Before(nil)
	world.intercept(nil)
	l = start(t, testConfig(), memory, world)
	for _, id := range []string{"/a", "/b"} {
		started, wrote := acknowledged[id]
		deleted, gone := acknowledged[id+" deleted"]
		status, err := l.App(t.Context(), id, api.Embed{})
		switch {
		case gone && err == nil && status.App.Version < deleted.Version:
			t.Errorf("%s is back though its deletion was acknowledged", id)
		case !gone && wrote && id == "/a" && (err != nil || status.App.Version < started.Version):
			t.Errorf("%s: acknowledged version %s, stored %v, %v", id, started.Version, status.App, err)
		}
	}
	l.settle()
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, id := range []string{"/a", "/b"} {
		want := 0
		if status, err := l.App(t.Context(), id, api.Embed{Tasks: true}); err == nil {
			want = status.App.Instances
			if len(status.Tasks) != want || status.Counts.Healthy != want {
				t.Errorf("%s: %+v of %d, %d tasks shown", id, status.Counts, want, len(status.Tasks))
			}
		}
		if got := world.count(id); got != want {
			t.Errorf("%s has %d living tasks, want %d", id, got, want)
		}
	}
	l.end()
	select {
	case <-reached:
		return true
	default:
		return false
	}
}

func TestLaunch_IsStoredBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 1)
		stored := make(map[string]bool)
		world.behave = func(task *fakeTask) behaviour {
			id := task.info.TaskID.Value
			_, suffix, _ := strings.Cut(id, ".")
			raw := strings.ReplaceAll(suffix, "-", "")
			for key, value := range memory.Nodes() {
				if strings.HasPrefix(key, "tasks/") && strings.Contains(fmt.Sprintf("%x", value), raw) {
					stored[id] = true
				}
			}
			return steady(task)
		}
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 5))
		l.settle()
		if len(stored) != 5 {
			t.Errorf("%d of 5 tasks were stored when they were launched", len(stored))
		}
		writes := memory.Writes()
		for id := range stored {
			world.report(id, mesos.TASK_RUNNING, false)
			world.report(id, mesos.TASK_RUNNING, true)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := memory.Writes() - writes; n != 0 {
			t.Errorf("%d writes for health", n)
		}
		if n := world.called("ACKNOWLEDGE"); n != 5*4 {
			t.Errorf("%d acknowledgements for 20 statuses", n)
		}
	})
}

func TestStore_OutageRefusesWritesAndHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 2))
		l.settle()
		memory.Before(func([]state.Op) error { return errors.New("no quorum") })
		if _, err := l.Put(t.Context(), web("/b", 1), api.PutOptions{}); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("write: %v", err)
		}
		if _, err := l.App(t.Context(), "/b", api.Embed{}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("the refused app is shown: %v", err)
		}
		victim := l.status("/a").Tasks[0].ID
		world.report(victim, mesos.TASK_FAILED, false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := world.called("ACKNOWLEDGE " + victim + " TASK_FAILED"); n != 0 {
			t.Error("the end of a task was acknowledged and not stored")
		}
		if n := world.count("/a"); n != 1 {
			t.Errorf("%d living tasks; nothing can be launched now", n)
		}
		memory.Before(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := world.count("/a"); n != 2 {
			t.Errorf("%d living tasks after the outage", n)
		}
		if n := world.called("ACKNOWLEDGE " + victim + " TASK_FAILED"); n == 0 {
			t.Error("the end of a task is still not acknowledged")
		}
	})
}

func TestFailures_BackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 1)
		world.behave = func(*fakeTask) behaviour { return behaviour{starts: time.Second, healthy: -1, fails: time.Second} }
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/crash", 1, func(a *app.App) {
			a.Backoff = app.Backoff{Initial: 10 * time.Second, Factor: 2, Max: 80 * time.Second}
		}))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		// 10 + 20 + 40 + 80 + 80 ... and some 3 s for each attempt.
		if n := len(world.tasks); n < 8 || n > 11 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		queue, err := l.Queue(t.Context())
		if err != nil || len(queue) != 1 || !strings.Contains(queue[0].Reason, "backoff until") {
			t.Errorf("queue %+v, %v", queue, err)
		}
		if failure := l.status("/crash").LastTaskFailure; failure == nil || failure.State != "TASK_FAILED" {
			t.Errorf("last failure: %+v", failure)
		}
		attempts := len(world.tasks)
		world.behave = steady
		l.put(web("/crash", 1, version(2)))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(world.tasks) != attempts+1 {
			t.Errorf("a changed app waits for the backoff of the old one")
		}
	})
}

func TestDropped_CostsNoBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		time.Sleep(2 * time.Second)
		rescinded := 0
		world.intercept(func(call string) error {
			if strings.HasPrefix(call, "ACCEPT") && rescinded < 3 {
				rescinded++
				world.mu.Lock()
				world.dropOffersLocked()
				world.mu.Unlock()
			}
			return nil
		})
		l.put(web("/a", 1))
		l.settle()
		status := l.status("/a")
		if rescinded == 0 || status.LastTaskFailure != nil || status.Counts.Healthy != 1 {
			t.Errorf("%d launches dropped, %+v", rescinded, status)
		}
	})
}

func TestAccept_OutcomeUnknown(t *testing.T) {
	for name, outcome := range map[string]error{"launched": errAfter, "not launched": master.ErrOutcomeUnknown, "not sent": master.ErrNotSubscribed} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newCluster(t, 2)
				l := start(t, testConfig(), new(statetest.Memory), world)
				failed := false
				world.intercept(func(call string) error {
					if strings.HasPrefix(call, "ACCEPT") && !failed {
						failed = true
						return outcome
					}
					return nil
				})
				l.put(web("/a", 3, strategy(1, 0)))
				l.settle()
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := world.count("/a"); n != 3 || !failed {
					t.Errorf("%d living tasks of 3", n)
				}
				if l.status("/a").LastTaskFailure != nil {
					t.Error("a lost launch counts as a failure")
				}
			})
		})
	}
}

func TestUnreachable_IsReplacedAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/patient", 1, func(a *app.App) {
			a.Unreachable = app.UnreachableStrategy{InactiveAfter: time.Minute, ExpungeAfter: time.Hour}
		}))
		l.settle()
		task := l.status("/patient").Tasks[0]
		world.lose(task.AgentID)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if n := len(world.tasks); n != 1 {
			t.Errorf("%d tasks after 50 s, the app waits a minute", n)
		}
		world.find(task.AgentID)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(world.tasks); n != 1 {
			t.Errorf("%d tasks though it came back in time", n)
		}
		world.lose(task.AgentID)
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if n := len(world.tasks); n != 2 {
			t.Errorf("%d tasks after 70 s, want a replacement", n)
		}
		world.find(task.AgentID)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := world.count("/patient"); n != 1 {
			t.Errorf("%d living tasks after the return, want 1", n)
		}
	})
}

func TestUnreachable_GivenUpIsKilledOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 3)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1)) // replaced and given up at once
		l.settle()
		task := l.status("/a").Tasks[0]
		world.lose(task.AgentID)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if status := l.status("/a"); len(status.Tasks) != 1 || status.Tasks[0].ID == task.ID || status.Counts.Healthy != 1 {
			t.Errorf("after the loss: %+v", status)
		}
		// A restart must not forget that it is to be killed.
		l.end()
		start(t, testConfig(), memory, world)
		time.Sleep(time.Minute)
		world.find(task.AgentID)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !isTerminal(world.tasks[task.ID].state) || world.count("/a") != 1 {
			t.Errorf("the task that came back is %s", world.tasks[task.ID].state)
		}
	})
}

func TestUnhealthy_ReplacementComesFirst(t *testing.T) {
	threshold := "threshold"
	for name, test := range map[string]struct {
		over  float64
		first string
	}{
		"room for one more": {1, "ACCEPT"},
		"no room":           {0, "KILL"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newCluster(t, 2)
				l := start(t, testConfig(), new(statetest.Memory), world)
				l.put(web("/a", 1, strategy(1, test.over)))
				l.settle()
				sick := l.status("/a").Tasks[0].ID
				first := ""
				world.intercept(func(call string) error {
					if first == "" && (strings.HasPrefix(call, "ACCEPT") || strings.HasPrefix(call, "KILL")) {
						first = call
					}
					return nil
				})
				world.report(sick, mesos.TASK_RUNNING, false)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if first != "" {
					t.Errorf("%s before the threshold", first)
				}
				world.report(sick, mesos.TASK_RUNNING, false, mesos.Label{Key: payload.LabelUnhealthy, Value: &threshold})
				time.Sleep(20 * time.Second)
				synctest.Wait()
				if !strings.HasPrefix(first, test.first) {
					t.Errorf("%q came first, want %s", first, test.first)
				}
				if status := l.status("/a"); status.Counts.Healthy != 1 || len(status.Tasks) != 1 || status.Tasks[0].ID == sick {
					t.Errorf("in the end: %+v", status)
				}
			})
		})
	}
}

// TestP11_EmptyStoreKillsNothing subscribes with an empty store to a framework
// that has live tasks.
func TestP11_EmptyStoreKillsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 4)
		memory := new(statetest.Memory)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 20, func(a *app.App) { a.CPUs = 100 }))
		l.settle()
		l.end()
		lost := new(statetest.Memory)
		world.anew = true
		l = start(t, testConfig(), lost, world)
		l.put(web("/b", 1))
		l.settle()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := world.called("KILL"); n != 0 || world.count("/a") != 20 {
			t.Errorf("%d kills, %d of 20 tasks live", n, world.count("/a"))
		}
		if n := world.called("SHUTDOWN"); n != 0 {
			t.Errorf("%d executors of unknown tasks were shut down", n)
		}
	})
}

func TestDeletedApp_LateReturnIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		task := l.status("/a").Tasks[0]
		world.lose(task.AgentID)
		synctest.Wait()
		if _, err := l.Delete(t.Context(), "/a", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l.end()
		start(t, testConfig(), memory, world)
		time.Sleep(time.Hour)
		world.find(task.AgentID)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !isTerminal(world.tasks[task.ID].state) {
			t.Error("the task of a deleted app lives on")
		}
	})
}

func TestMasterFailover_WaitsForAgents(t *testing.T) {
	for _, amnesia := range []bool{false, true} {
		t.Run(fmt.Sprint("amnesia ", amnesia), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newCluster(t, 3)
				l := start(t, testConfig(), new(statetest.Memory), world)
				l.put(web("/a", 3))
				l.settle()
				world.mu.Lock()
				world.amnesia = amnesia
				for _, a := range world.agents {
					a.recovering = !amnesia
					a.unreachable = amnesia
				}
				world.mu.Unlock()
				world.reset <- errors.New("master died")
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if n := len(world.tasks); n != 3 {
					t.Errorf("%d tasks while agents are still coming back", n)
				}
				for id := range world.agents {
					world.find(id)
				}
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				if n := len(world.tasks); n != 3 || world.count("/a") != 3 {
					t.Errorf("%d tasks, %d living after all agents are back", n, world.count("/a"))
				}
			})
		})
	}
}

func TestKills_StayWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 6)
		config := testConfig()
		config.KillBudget = 3
		l := start(t, config, new(statetest.Memory), world)
		l.put(web("/a", 20, func(a *app.App) { a.CPUs = 100 }))
		l.settle()
		most := 0
		world.intercept(func(string) error {
			world.mu.Lock()
			defer world.mu.Unlock()
			dying := 0
			for _, task := range world.tasks {
				if task.killed && !isTerminal(task.state) {
					dying++
				}
			}
			most = max(most, dying)
			return nil
		})
		if _, err := l.Delete(t.Context(), "/a", true); err != nil {
			t.Fatal(err)
		}
		l.settle()
		if most > 3 || world.count("/a") != 0 {
			t.Errorf("%d dying at once, %d left", most, world.count("/a"))
		}
	})
}

func TestKill_IsRepeatedUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 1)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 1))
		l.settle()
		lost := 0
		world.intercept(func(call string) error {
			if strings.HasPrefix(call, "KILL") && lost < 3 {
				lost++
				return master.ErrOutcomeUnknown
			}
			return nil
		})
		if _, err := l.Delete(t.Context(), "/a", true); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		l.settle()
		if took := time.Since(began); took < 90*time.Second || took > 100*time.Second {
			t.Errorf("gone after %s, want three repetitions every 30 s", took)
		}
	})
}

func TestOffers_SuppressedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !world.suppressed || len(world.offers) != 0 {
			t.Errorf("suppressed %v, %d offers held while idle", world.suppressed, len(world.offers))
		}
		began := time.Now()
		l.put(web("/a", 1))
		l.settle()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("healthy after %s", took)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !world.suppressed {
			t.Error("offers are not suppressed again")
		}
		declined := world.called("DECLINE")
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := world.called("DECLINE") - declined; n > 0 {
			t.Errorf("%d offers declined while idle", n)
		}
	})
}

func TestQueue_SaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/huge", 2, func(a *app.App) { a.CPUs = 64 * app.Unit }))
		l.put(web("/small", 1))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		queue, err := l.Queue(t.Context())
		if err != nil || len(queue) != 1 {
			t.Fatalf("queue %+v, %v", queue, err)
		}
		item := queue[0]
		if item.App.ID != "/huge" || item.Count != 2 || !strings.Contains(item.Reason, "64") || len(item.Rejections) == 0 || item.Rejections[0].Reason != "InsufficientCpus" || item.Since.IsZero() {
			t.Errorf("item: %+v", item)
		}
		if l.status("/small").Counts.Healthy != 1 {
			t.Error("an app that fits nowhere delays another")
		}
	})
}

func TestExecutors_AreSharedAndSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 1)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 3))
		l.put(web("/b", 2))
		l.settle()
		first := slices.Collect(maps.Keys(world.agents["S0"].executors))
		if len(first) != 1 {
			t.Fatalf("executors %v, want one for all", first)
		}
		l.end()
		l = start(t, testConfig(), memory, world)
		l.put(web("/c", 1))
		l.settle()
		if got := slices.Collect(maps.Keys(world.agents["S0"].executors)); !slices.Equal(got, first) {
			t.Errorf("executors after a restart: %v, want %v", got, first)
		}
		l.end()
		config := testConfig()
		config.Executor.Environment = map[string]string{"VAULT_ADDR": "https://vault:8200"}
		l = start(t, config, memory, world)
		l.put(web("/a", 3, version(2)))
		l.settle()
		if n := len(world.agents["S0"].executors); n != 2 {
			t.Errorf("%d executors, want the old one for /b and /c and a new one", n)
		}
		l.put(web("/b", 2, version(2)))
		l.put(web("/c", 1, version(2)))
		l.settle()
		time.Sleep(2 * time.Hour) // until offers are seen again
		synctest.Wait()
		left := slices.Collect(maps.Keys(world.agents["S0"].executors))
		if len(left) != 1 || slices.Equal(left, first) {
			t.Errorf("executors %v, want the new one alone", left)
		}
	})
}

func TestFrameworkRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 1)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		world.reset <- master.ErrRemoved
		err := <-l.done
		close(l.done)
		if !errors.Is(err, ErrFrameworkRemoved) || !strings.Contains(err.Error(), "--reset-framework") || !strings.Contains(err.Error(), world.frameworkID) {
			t.Fatalf("err = %v", err)
		}
		l.stop()
		fresh := newCluster(t, 1)
		config := testConfig()
		config.ResetFramework = true
		l = start(t, config, memory, fresh)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if status := l.status("/a"); status.Counts.Healthy != 1 || fresh.count("/a") != 1 {
			t.Errorf("after the reset: %+v", status.Counts)
		}
	})
}

func TestFenced_OldLeaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		if _, err := memory.Open().Lead(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Put(t.Context(), web("/b", 1), api.PutOptions{}); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("write of the old leader: %v", err)
		}
		err := <-l.done
		close(l.done)
		if !errors.Is(err, state.ErrFenced) {
			t.Errorf("Run: %v", err)
		}
		if n := world.called("ACCEPT"); n != 1 {
			t.Errorf("%d launches", n)
		}
		l.stop()
	})
}

func TestWrites_Refusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 1)
		l := start(t, testConfig(), new(statetest.Memory), world)
		slow := l.put(web("/a", 100)) // more than fits: its deployment goes on
		var locked *api.LockedError
		var invalid *app.Error
		for name, test := range map[string]struct {
			do   func() error
			want func(error) bool
		}{
			"exists": {
				func() error { _, err := l.Put(t.Context(), web("/a", 1), api.PutOptions{}); return err },
				func(err error) bool { return errors.Is(err, api.ErrExists) },
			},
			"changed meanwhile": {
				func() error { _, err := l.Put(t.Context(), web("/a", 1), api.PutOptions{Replaces: 1}); return err },
				func(err error) bool { return errors.Is(err, api.ErrChanged) },
			},
			"not there": {
				func() error { _, err := l.Put(t.Context(), web("/x", 1), api.PutOptions{Replaces: 1}); return err },
				func(err error) bool { return errors.Is(err, api.ErrNotFound) },
			},
			"locked": {
				func() error {
					_, err := l.Put(t.Context(), web("/a", 1), api.PutOptions{Replaces: slow.Version})
					return err
				},
				func(err error) bool { return errors.As(err, &locked) && locked.Deployments[0] == slow.DeploymentID },
			},
			"restart of a locked one": {
				func() error { _, err := l.Restart(t.Context(), "/a", false); return err },
				func(err error) bool { return errors.As(err, &locked) },
			},
			"below another": {
				func() error { _, err := l.Put(t.Context(), web("/a/b", 1), api.PutOptions{}); return err },
				func(err error) bool { return errors.As(err, &invalid) && invalid.Problems[0].Path == "/id" },
			},
			"user": {
				func() error {
					_, err := l.Put(t.Context(), web("/root", 1, func(a *app.App) { a.User = "root" }), api.PutOptions{})
					return err
				},
				func(err error) bool { return errors.As(err, &invalid) && invalid.Problems[0].Path == "/user" },
			},
			"delete what is not there": {
				func() error { _, err := l.Delete(t.Context(), "/x", true); return err },
				func(err error) bool { return errors.Is(err, api.ErrNotFound) },
			},
		} {
			if err := test.do(); err == nil || !test.want(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		same, err := l.Put(t.Context(), web("/a", 100), api.PutOptions{Replaces: slow.Version})
		if err != nil || same.Version != slow.Version || same.DeploymentID == slow.DeploymentID {
			t.Errorf("put of the same: %+v, %v", same, err)
		}
	})
}

func TestCancel_RollsBackOrStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		first := l.put(web("/a", 2))
		l.settle()
		world.behave = func(task *fakeTask) behaviour {
			if task.payload.AppVersion != first.Version.String() {
				return behaviour{starts: time.Second, healthy: -1, dies: time.Second}
			}
			return steady(task)
		}
		bad := l.put(web("/a", 2, version(2)))
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if healthy, alive := world.healthy("/a"); healthy != 2 || alive != 4 {
			t.Errorf("%d healthy, %d alive while the new version does not become healthy", healthy, alive)
		}
		world.behave = steady
		if _, err := l.CancelDeployment(t.Context(), bad.DeploymentID, false); err != nil {
			t.Fatal(err)
		}
		l.settle()
		if env := l.status("/a").App.Env; len(env) != 0 || world.count("/a") != 2 {
			t.Errorf("after the rollback: %v, %d tasks", env, world.count("/a"))
		}

		world.behave = func(task *fakeTask) behaviour { return behaviour{starts: time.Second, healthy: -1, dies: time.Second} }
		stuck := l.put(web("/a", 2, version(3)))
		time.Sleep(10 * time.Second)
		if started, err := l.CancelDeployment(t.Context(), stuck.DeploymentID, true); err != nil || started.DeploymentID != "" {
			t.Errorf("forced: %+v, %v", started, err)
		}
		l.settle()
		if healthy, _ := world.healthy("/a"); healthy != 2 {
			t.Errorf("%d healthy after the deployment was stopped", healthy)
		}
		if _, err := l.CancelDeployment(t.Context(), stuck.DeploymentID, true); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("once more: %v", err)
		}
	})
}
