package scheduler

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state/statetest"
)

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
		if _, err := l.CancelDeployment(t.Context(), bad.DeploymentID, nil, false); err != nil {
			t.Fatal(err)
		}
		l.settle()
		if env := l.status("/a").App.Env; len(env) != 0 || world.count("/a") != 2 {
			t.Errorf("after the rollback: %v, %d tasks", env, world.count("/a"))
		}

		world.behave = func(task *fakeTask) behaviour { return behaviour{starts: time.Second, healthy: -1, dies: time.Second} }
		stuck := l.put(web("/a", 2, version(3)))
		time.Sleep(10 * time.Second)
		if started, err := l.CancelDeployment(t.Context(), stuck.DeploymentID, nil, true); err != nil || started.DeploymentID != "" {
			t.Errorf("forced: %+v, %v", started, err)
		}
		l.settle()
		if healthy, _ := world.healthy("/a"); healthy != 2 {
			t.Errorf("%d healthy after the deployment was stopped", healthy)
		}
		if _, err := l.CancelDeployment(t.Context(), stuck.DeploymentID, nil, true); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("once more: %v", err)
		}
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
				func() error { _, err := l.Put(t.Context(), web("/a", 1), putOptions{}); return err },
				func(err error) bool { return errors.Is(err, api.ErrExists) },
			},
			"changed meanwhile": {
				func() error { _, err := l.Put(t.Context(), web("/a", 1), putOptions{Replaces: 1}); return err },
				func(err error) bool { return errors.Is(err, api.ErrChanged) },
			},
			"not there": {
				func() error { _, err := l.Put(t.Context(), web("/x", 1), putOptions{Replaces: 1}); return err },
				func(err error) bool { return errors.Is(err, api.ErrNotFound) },
			},
			"locked": {
				func() error {
					_, err := l.Put(t.Context(), web("/a", 1), putOptions{Replaces: slow.Version})
					return err
				},
				func(err error) bool { return errors.As(err, &locked) && locked.Deployments[0] == slow.DeploymentID },
			},
			"restart of a locked one": {
				func() error { _, err := l.Restart(t.Context(), "/a", false); return err },
				func(err error) bool { return errors.As(err, &locked) },
			},
			"below another": {
				func() error { _, err := l.Put(t.Context(), web("/a/b", 1), putOptions{}); return err },
				func(err error) bool { return errors.As(err, &invalid) && invalid.Problems[0].Path == "/id" },
			},
			"user": {
				func() error {
					_, err := l.Put(t.Context(), web("/root", 1, func(a *app.App) { a.User = "root" }), putOptions{})
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
		same, err := l.Put(t.Context(), web("/a", 100), putOptions{Replaces: slow.Version})
		if err != nil || same.Version != slow.Version || same.DeploymentID == slow.DeploymentID {
			t.Errorf("put of the same: %+v, %v", same, err)
		}
	})
}
