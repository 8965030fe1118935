package scheduler

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state/statetest"
)

func after(paths ...string) func(*app.App) {
	return func(a *app.App) { a.Dependencies = paths }
}

// Apps of one deployment that depend on others are launched when those are
// healthy, also over a failover.
func TestDependencies_OrderOneDeployment(t *testing.T) {
	for _, failover := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			memory, world := new(statetest.Memory), newCluster(t, 3)
			l := start(t, testConfig(), memory, world)
			world.mu.Lock()
			var order []string
			world.behave = func(task *fakeTask) behaviour {
				if !slices.Contains(order, task.payload.App) {
					order = append(order, task.payload.App)
				}
				for _, id := range map[string][]string{"/shop/cart": {"/db/main", "/db/log"}, "/web": {"/shop/cart"}}[task.payload.App] {
					for _, other := range world.tasks {
						if other.payload.App == id && (other.healthy == nil || !*other.healthy) {
							t.Errorf("%s is launched while %s is not healthy", task.payload.App, id)
						}
					}
				}
				return behaviour{starts: time.Second, healthy: 5 * time.Second, dies: time.Second}
			}
			world.mu.Unlock()
			var edits []api.Edit
			for _, a := range []*app.App{
				web("/web", 2, after("/shop")), web("/shop/cart", 2, after("/db")), web("/db/main", 1), web("/db/log", 1), web("/alone", 1),
			} {
				edits = append(edits, api.Edit{ID: a.ID, Next: a})
			}
			if _, err := l.Change(t.Context(), edits, api.ChangeOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
			list, _ := l.Deployments(t.Context())
			progress := make(map[string]string)
			for _, a := range list[0].Actions {
				progress[a.AppID] = a.Progress
			}
			if progress["/web"] != "waits for /shop/cart, which it depends on" || !strings.HasPrefix(progress["/shop/cart"], "waits for /db/") {
				t.Errorf("progress: %v", progress)
			}
			if failover {
				l.end()
				l = start(t, testConfig(), memory, world)
			}
			l.settle()
			if len(order) != 5 || slices.Index(order, "/web") != 4 || slices.Index(order, "/shop/cart") != 3 {
				t.Errorf("launched in the order %v", order)
			}
			// Later changes wait for nothing that they do not change.
			l.put(web("/web", 2, after("/shop"), version(2)))
			l.settle()
		})
	}
}

func TestDependencies_FailWithWhatTheyDependOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		world.broken(0)
		l := start(t, testConfig(), new(statetest.Memory), world)
		if _, err := l.Change(t.Context(), []api.Edit{
			{ID: "/db", Next: web("/db", 1, policy(app.DeploymentPolicy{Deadline: 10 * time.Second}))},
			{ID: "/web", Next: web("/web", 1, after("/db"))},
		}, api.ChangeOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		l.settle()
		if f := l.status("/web").LastDeploymentFailure; f == nil || !strings.Contains(f.Message, "/db has failed, which it depends on") {
			t.Errorf("failure: %+v", f)
		}
	})
}

func TestDependencies_CirclesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, testConfig(), new(statetest.Memory), newCluster(t, 3))
		var invalid *app.Error
		_, err := l.Change(t.Context(), []api.Edit{
			{ID: "/a", Next: web("/a", 1, after("/b")), At: "(0)"},
			{ID: "/b", Next: web("/b", 1, after("/g")), At: "(1)"},
			{ID: "/g/c", Next: web("/g/c", 1, after("/a")), At: "(2)"},
			{ID: "/d", Next: web("/d", 1, after("/a")), At: "(3)"},
		}, api.ChangeOptions{})
		if !errors.As(err, &invalid) || len(invalid.Problems) != 3 || invalid.Problems[0].Path != "(0)/dependencies" || !strings.Contains(invalid.Problems[0].Errors[0], "/a -> /b -> /g/c -> /a") {
			t.Errorf("%v", err)
		}
		l.put(web("/a", 1))
		l.put(web("/b", 1, after("/a")))
		if _, err := l.Put(t.Context(), web("/a", 1, after("/b")), putOptions{Replaces: l.status("/a").App.Version, Force: true}); !errors.As(err, &invalid) {
			t.Errorf("by a later change: %v", err)
		}
	})
}
