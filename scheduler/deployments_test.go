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

// broken makes all tasks but those of the given versions of a definition never
// healthy, or fail.
func (c *cluster) broken(fails time.Duration, except ...app.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behave = func(task *fakeTask) behaviour {
		for _, version := range except {
			if task.payload.AppVersion == version.String() {
				return steady(task)
			}
		}
		return behaviour{starts: time.Second, healthy: -1, fails: fails, dies: time.Second}
	}
}

func policy(p app.DeploymentPolicy) func(*app.App) {
	return func(a *app.App) { a.Deployment = p }
}

func TestDeployment_FailsByItsPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		policy app.DeploymentPolicy
		fails  time.Duration // of the new tasks
		after  time.Duration // by when the deployment has failed, at the latest
		back   bool
		want   string // in the message
	}{
		"deadline":                 {app.DeploymentPolicy{Deadline: 30 * time.Second}, 0, 31 * time.Second, false, "deadlineSeconds, 30; it was stopped"},
		"deadline and rollback":    {app.DeploymentPolicy{Deadline: 30 * time.Second, Rollback: true}, 0, 31 * time.Second, true, "going back to version"},
		"failures":                 {app.DeploymentPolicy{MaxFailures: 4}, time.Second, 30 * time.Second, false, "4 new instances have failed, maxFailures is 4"},
		"failures and rollback":    {app.DeploymentPolicy{MaxFailures: 4, Rollback: true}, time.Second, 30 * time.Second, true, "going back to version"},
		"none: it goes on forever": {app.DeploymentPolicy{}, 0, time.Hour, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newCluster(t, 3)
				l := start(t, testConfig(), new(statetest.Memory), world)
				first := l.put(web("/a", 2))
				l.settle()
				before := world.living("/a")[first.Version.String()]
				world.broken(test.fails, first.Version)
				second := l.put(web("/a", 2, version(2), policy(test.policy)))
				time.Sleep(test.after)
				synctest.Wait()
				status := l.status("/a")
				if test.want == "" {
					if len(status.Deployments) != 1 || status.LastDeploymentFailure != nil {
						t.Errorf("after %s: deployments %v, failure %+v", test.after, status.Deployments, status.LastDeploymentFailure)
					}
					return
				}
				l.settle()
				status = l.status("/a")
				// The failure stays until the next deployment; a rollback is one.
				if f := status.LastDeploymentFailure; f == nil || f.DeploymentID != second.DeploymentID || f.Version != second.Version || !strings.Contains(f.Message, test.want) {
					t.Errorf("failure: %+v, want %q in it", f, test.want)
				}
				if went := len(status.App.Env) == 0; went != test.back {
					t.Errorf("went back: %v, want %v", went, test.back)
				}
				if healthy, _ := world.healthy("/a"); healthy != 2 {
					t.Errorf("%d healthy, want the 2 of before", healthy)
				}
				if after := world.living("/a")[first.Version.String()]; !slices.Equal(slices.Sorted(slices.Values(after)), slices.Sorted(slices.Values(before))) {
					t.Errorf("instances of the first version are now %v, were %v", after, before)
				}
			})
		})
	}
}

// A rollback that fails, too, ends as failed: it does not go back and forth.
func TestDeployment_FailedRollbackStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		both := policy(app.DeploymentPolicy{Deadline: 20 * time.Second, Rollback: true})
		l.put(web("/a", 2, both))
		l.settle()
		world.broken(0)
		l.put(web("/a", 2, version(2), both, strategy(0, 0))) // ends the old ones first
		time.Sleep(21 * time.Second)
		synctest.Wait()
		back := l.status("/a")
		if len(back.App.Env) != 0 || len(back.Deployments) != 1 {
			t.Fatalf("after the deadline: %s, deployments %v", back.App.JSON(), back.Deployments)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		status := l.status("/a")
		if f := status.LastDeploymentFailure; len(status.Deployments) != 0 || f == nil || f.DeploymentID != back.Deployments[0] || !strings.Contains(f.Message, "stopped") {
			t.Errorf("deployments %v, failure %+v", status.Deployments, status.LastDeploymentFailure)
		}
	})
}

// The deadline and the count of failures hold over a failover.
func TestDeployment_PolicyOutlivesTheScheduler(t *testing.T) {
	for name, p := range map[string]app.DeploymentPolicy{
		"deadline": {Deadline: 40 * time.Second, Rollback: true},
		"failures": {MaxFailures: 5, Rollback: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory, world := new(statetest.Memory), newCluster(t, 3)
				l := start(t, testConfig(), memory, world)
				first := l.put(web("/a", 2))
				l.settle()
				world.broken(2*time.Second, first.Version)
				l.put(web("/a", 2, version(2), policy(p)))
				time.Sleep(9 * time.Second)
				l.end()
				l = start(t, testConfig(), memory, world)
				time.Sleep(40 * time.Second)
				l.settle()
				if status := l.status("/a"); len(status.App.Env) != 0 || status.Counts.Healthy != 2 {
					t.Errorf("%s, %+v", status.App.JSON(), status.Counts)
				}
			})
		})
	}
}

// A rollback keeps what still runs of the former version, also when it is
// asked for by its version.
func TestDeployment_GoingBackKeepsInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		first := l.put(web("/a", 4))
		l.settle()
		world.broken(0, first.Version)
		half := l.put(web("/a", 4, version(2), strategy(0.5, 0)))
		time.Sleep(20 * time.Second)
		kept := world.living("/a")[first.Version.String()]
		if len(kept) != 2 {
			t.Fatalf("%d of the former version are left half-way, want 2", len(kept))
		}
		former, err := l.AppVersion(t.Context(), "/a", first.Version)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Change(t.Context(), []api.Edit{{ID: "/a", Next: former, Former: true, Replaces: half.Version}}, api.ChangeOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		l.settle()
		now := world.living("/a")
		if len(now) != 1 || len(now[first.Version.String()]) != 4 {
			t.Errorf("after going back: %v", now)
		}
		for _, id := range kept {
			if !slices.Contains(now[first.Version.String()], id) {
				t.Errorf("%s was replaced by its like", id)
			}
		}
	})
}

// A batch is one deployment whose parts end, fail and go back by themselves.
func TestDeployment_BatchOfIndependentParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		old := make(map[string]app.Version)
		for _, id := range []string{"/a", "/b", "/c"} {
			old[id] = l.put(web(id, 1)).Version
		}
		l.settle()
		world.broken(0, old["/a"], old["/b"], old["/c"])
		good := world.behave
		world.mu.Lock()
		world.behave = func(task *fakeTask) behaviour {
			if task.payload.App == "/c" {
				return steady(task)
			}
			return good(task)
		}
		world.mu.Unlock()
		edits := []api.Edit{
			{ID: "/c", Next: web("/c", 1, version(2)), Replaces: old["/c"]},
			{ID: "/a", Next: web("/a", 1, version(2)), Replaces: old["/a"]},
			{ID: "/b", Next: web("/b", 1, version(2)), Replaces: old["/b"]},
		}
		batch, err := l.Change(t.Context(), edits, api.ChangeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if list, _ := l.Deployments(t.Context()); len(list) != 1 || list[0].ID != batch.DeploymentID || len(list[0].Actions) != 3 {
			t.Errorf("deployments: %+v", list)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		// /c has come through; the others hang.
		list, _ := l.Deployments(t.Context())
		if len(list) != 1 || len(list[0].Actions) != 2 || l.status("/c").Counts.Healthy != 1 {
			t.Errorf("half-way: %+v", list)
		}
		var locked *api.LockedError
		if _, err := l.Restart(t.Context(), "/a", false); !errors.As(err, &locked) || locked.Deployments[0] != batch.DeploymentID {
			t.Errorf("restart of a part: %v", err)
		}
		if _, err := l.CancelDeployment(t.Context(), batch.DeploymentID, []string{"/a"}, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if status := l.status("/a"); len(status.App.Env) != 0 || len(status.Deployments) != 0 {
			t.Errorf("/a was rolled back alone: %s, %v", status.App.JSON(), status.Deployments)
		}
		if status := l.status("/b"); len(status.App.Env) != 1 || len(status.Deployments) != 1 {
			t.Errorf("/b goes on: %s, %v", status.App.JSON(), status.Deployments)
		}
		if _, err := l.CancelDeployment(t.Context(), batch.DeploymentID, nil, false); err != nil {
			t.Fatal(err)
		}
		l.settle()
		if status := l.status("/c"); len(status.App.Env) != 1 {
			t.Errorf("/c had ended and stays: %s", status.App.JSON())
		}
		if len(world.living("/b")[old["/b"].String()]) != 1 {
			t.Errorf("/b: %v", world.living("/b"))
		}
	})
}

// All or nothing: one part that is refused leaves the others alone, and every
// problem is said with its place.
func TestDeployment_BatchIsRefusedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, testConfig(), new(statetest.Memory), newCluster(t, 1))
		l.put(web("/x", 1))
		l.settle()
		root := func(a *app.App) { a.User = "root" }
		_, err := l.Change(t.Context(), []api.Edit{
			{ID: "/good", Next: web("/good", 1), At: "(0)"},
			{ID: "/bad", Next: web("/bad", 1, root), At: "(1)"},
			{ID: "/x/below", Next: web("/x/below", 1), At: "(2)"},
		}, api.ChangeOptions{})
		var invalid *app.Error
		if !errors.As(err, &invalid) || len(invalid.Problems) != 2 || invalid.Problems[0].Path != "(1)/user" || invalid.Problems[1].Path != "(2)/id" {
			t.Errorf("%v", err)
		}
		if _, err := l.App(t.Context(), "/good", api.Embed{}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("the good part was made: %v", err)
		}
		// The apps are free again.
		l.put(web("/good", 1))
	})
}

// UNIQUE without a spare host and with minimum 1 cannot go on: that is said,
// with what helps, and helps.
func TestDeployment_StallIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, testConfig(), new(statetest.Memory), newCluster(t, 3))
		unique := func(a *app.App) { a.Constraints = []app.Constraint{{Field: "hostname", Operator: app.Unique}} }
		l.put(web("/a", 3, unique))
		l.settle()
		l.put(web("/a", 3, unique, version(2)))
		time.Sleep(time.Minute)
		synctest.Wait()
		list, _ := l.Deployments(t.Context())
		if len(list) != 1 || !strings.Contains(list[0].Actions[0].Stalled, "[hostname UNIQUE]") || !strings.Contains(list[0].Actions[0].Stalled, "lower minimumHealthCapacity") {
			t.Fatalf("deployments: %+v", list)
		}
		queue, _ := l.Queue(t.Context())
		if len(queue) != 1 || queue[0].Reason != list[0].Actions[0].Stalled || len(queue[0].Constraints) != 1 || queue[0].Constraints[0].Declined != 3 ||
			len(queue[0].Unused) != 3 || queue[0].Unused[0].Reason != api.UnfulfilledConstraint {
			t.Errorf("queue: %+v", queue)
		}
		l.put(web("/a", 3, unique, version(2), strategy(0.5, 0)))
		l.settle()
		if status := l.status("/a"); status.Counts.Healthy != 3 {
			t.Errorf("%+v", status.Counts)
		}
	})
}

// Fields that only the scheduler reads restart nothing.
func TestDeployment_SchedulersFieldsRestartNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 3))
		l.settle()
		l.put(web("/a", 3, strategy(0.5, 0), func(a *app.App) {
			a.Constraints = []app.Constraint{{Field: "hostname", Operator: app.Unique}}
			a.Backoff = app.Backoff{Initial: time.Minute, Factor: 2, Max: time.Hour}
			a.KillSelection = app.OldestFirst
			a.Unreachable = app.UnreachableStrategy{Disabled: true}
			a.Deployment = app.DeploymentPolicy{MaxFailures: 3}
		}))
		l.settle()
		if len(world.tasks) != 3 || world.count("/a") != 3 {
			t.Errorf("%d tasks were launched in all, %d live", len(world.tasks), world.count("/a"))
		}
	})
}

func TestGuardScaleDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig()
		config.GuardScaleDown = true
		l := start(t, config, new(statetest.Memory), newCluster(t, 3))
		current := l.put(web("/a", 10)).Version
		l.settle()
		var invalid *app.Error
		_, err := l.Put(t.Context(), web("/a", 4), putOptions{Replaces: current})
		if !errors.As(err, &invalid) || invalid.Problems[0].Path != "/instances" || !strings.Contains(err.Error(), "force=true") {
			t.Errorf("to 4 of 10: %v", err)
		}
		half, err := l.Put(t.Context(), web("/a", 5), putOptions{Replaces: current})
		if err != nil {
			t.Errorf("to half: %v", err)
		}
		l.settle()
		if _, err := l.Put(t.Context(), web("/a", 1), putOptions{Replaces: half.Version, Force: true}); err != nil {
			t.Errorf("forced: %v", err)
		}
	})
}

// TestP8_CancelAndFailoverAtEveryStep ends a batch at every second of it, goes
// back or not, and stops the scheduler right after the answer: what was
// answered is done by the next one, within the bounds.
func TestP8_CancelAndFailoverAtEveryStep(t *testing.T) {
	for _, force := range []bool{false, true} {
		for second := range 14 {
			synctest.Test(t, func(t *testing.T) {
				memory, world := new(statetest.Memory), newCluster(t, 3)
				l := start(t, testConfig(), memory, world)
				ids := []string{"/a", "/b"}
				var edits []api.Edit
				for _, id := range ids {
					first := l.put(web(id, 3, strategy(1, 0.34)))
					edits = append(edits, api.Edit{ID: id, Next: web(id, 3, strategy(1, 0.34), version(2)), Replaces: first.Version})
				}
				l.settle()
				batch, err := l.Change(t.Context(), edits, api.ChangeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(second) * time.Second)
				synctest.Wait()
				world.intercept(func(call string) error {
					for _, id := range ids {
						if healthy, alive := world.healthy(id); strings.HasPrefix(call, "KILL") && healthy < 3 || alive > 4 {
							t.Errorf("second %d: %d of %s healthy, %d alive at %s", second, healthy, id, alive, call)
						}
					}
					return nil
				})
				_, err = l.CancelDeployment(t.Context(), batch.DeploymentID, nil, force)
				if errors.Is(err, api.ErrNotFound) {
					return // it had ended
				}
				if err != nil {
					t.Fatal(err)
				}
				l.end()
				time.Sleep(3 * time.Second)
				l = start(t, testConfig(), memory, world)
				l.settle()
				for _, id := range ids {
					status := l.status(id)
					if status.Counts.Healthy != 3 || world.count(id) != 3 {
						t.Errorf("second %d: %s has %+v, %d live", second, id, status.Counts, world.count(id))
					}
					if back := len(status.App.Env) == 0; !force && len(world.living(id)) != 1 || force && back {
						t.Errorf("second %d, force %v: %s is %s, alive %v", second, force, id, status.App.JSON(), world.living(id))
					}
				}
			})
		}
	}
}
