package scheduler

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state/statetest"
)

func TestKill_IsReplacedUnlessScaled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 3)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 4))
		l.settle()
		status := l.status("/a")
		victim := status.Tasks[1].ID
		if err := l.Kill(t.Context(), []string{victim, "a.none"}, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		status = l.status("/a")
		if status.Counts.Healthy != 4 || len(status.Deployments) != 0 || slices.ContainsFunc(status.Tasks, func(t *api.Task) bool { return t.ID == victim }) {
			t.Errorf("after a kill: %+v", status)
		}

		next := status.App.Clone()
		next.Instances = 2
		gone := []string{status.Tasks[0].ID, status.Tasks[2].ID}
		if _, err := l.Change(t.Context(), []api.Edit{{ID: "/a", Replaces: status.App.Version, Next: next, Kill: gone}}, api.ChangeOptions{}); err != nil {
			t.Fatal(err)
		}
		launched := len(world.tasks)
		l.settle()
		status = l.status("/a")
		if len(status.Tasks) != 2 || len(world.tasks) != launched {
			t.Errorf("after kill and scale: %d tasks, %d launched since", len(status.Tasks), len(world.tasks)-launched)
		}
		for _, task := range status.Tasks {
			if slices.Contains(gone, task.ID) {
				t.Errorf("%s was to go", task.ID)
			}
		}
	})
}

// Thousands of tasks at once are no more than the store takes.
func TestKill_Many(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 20)
		for _, a := range world.agents {
			a.cpus = 1000_000
		}
		l := start(t, testConfig(), new(statetest.Memory), world)
		one := func(a *app.App) { a.Ports = nil }
		for n := range 20 { // so that records of an app are in many chunks
			l.put(web("/a", 60*(n+1), one))
			l.put(web("/b", 40*(n+1), one))
			l.settle()
		}
		status := l.status("/a")
		var all []string
		for _, task := range status.Tasks {
			all = append(all, task.ID)
		}
		if err := l.Kill(t.Context(), all[:600], false); err != nil {
			t.Fatal(err)
		}
		l.settle()
		time.Sleep(time.Minute)
		status = l.status("/a")
		if status.Counts.Healthy != 1200 {
			t.Fatalf("after the kill: %+v", status.Counts)
		}
		all = nil
		for _, task := range status.Tasks {
			all = append(all, task.ID)
		}
		next := status.App.Clone()
		next.Instances = 200
		if _, err := l.Change(t.Context(), []api.Edit{{ID: "/a", Replaces: status.App.Version, Next: next, Kill: all[:1000]}}, api.ChangeOptions{}); err != nil {
			t.Fatal(err)
		}
		l.settle()
		time.Sleep(time.Minute)
		synctest.Wait()
		left := l.status("/a").Tasks
		for n, task := range left {
			if len(left) != 200 || task.ID != all[1000+n] {
				t.Fatalf("%d are left, number %d is %s", len(left), n, task.ID)
			}
		}
	})
}

// A kill that was answered is done even when the scheduler dies right then.
func TestP7_KillOutlivesTheScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 2))
		l.settle()
		victim := l.status("/a").Tasks[0].ID
		world.intercept(func(string) error { return errAfter }) // nothing more is heard of calls
		if err := l.Kill(t.Context(), []string{victim}, false); err != nil {
			t.Fatal(err)
		}
		l.end()
		world.intercept(nil)
		start(t, testConfig(), memory, world)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !isTerminal(world.tasks[victim].state) || world.count("/a") != 2 {
			t.Errorf("%s is %s, %d live", victim, world.tasks[victim].state, world.count("/a"))
		}
	})
}

func TestResetDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		if err := l.ResetDelay(t.Context(), "/a"); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("of nothing: %v", err)
		}
		world.broken(time.Second)
		l.put(web("/a", 1))
		waits := func() bool {
			queue, err := l.Queue(t.Context())
			return err == nil && len(queue) == 1 && time.Until(queue[0].NotBefore) > time.Minute
		}
		for range 3600 {
			time.Sleep(time.Second)
			if synctest.Wait(); waits() {
				break
			}
		}
		if !waits() {
			t.Fatal("its backoff never grew beyond a minute")
		}
		world.mu.Lock()
		world.behave = steady
		world.mu.Unlock()
		if err := l.ResetDelay(t.Context(), "/a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if l.status("/a").Counts.Healthy != 1 {
			t.Errorf("8 s after its delay was ended: %+v", l.status("/a").Counts)
		}
	})
}
