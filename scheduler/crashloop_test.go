package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/app"
	"pacer/scheduler/state/statetest"
)

// TestCrashLoop_SurvivesFailovers: an app whose instances fail at once is not
// launched more often because the leader changes, and costs few writes.
func TestCrashLoop_SurvivesFailovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		world.behave = func(*fakeTask) behaviour { return behaviour{starts: time.Millisecond, fails: time.Millisecond} }
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1, func(a *app.App) {
			a.Backoff = app.Backoff{Initial: time.Second, Factor: 2, Max: 10 * time.Minute}
		}))
		time.Sleep(time.Hour)
		synctest.Wait()
		launched, writes := len(world.tasks), memory.Writes()
		if launched > 20 {
			t.Errorf("%d launches in an hour", launched)
		}
		if writes > 4*launched {
			t.Errorf("%d writes for %d launches", writes, launched)
		}
		if nodes := len(memory.Nodes()); nodes > 10 {
			t.Errorf("the store has grown to %d nodes", nodes)
		}
		for range 10 {
			l.end()
			l = start(t, testConfig(), memory, world)
			time.Sleep(time.Minute)
		}
		if again := len(world.tasks) - launched; again > 4 {
			t.Errorf("%d launches in ten minutes of failovers, 10 min of backoff", again)
		}
		// A new configuration starts anew.
		world.behave = steady
		l.put(web("/a", 1, version(2)))
		l.settle()
		if backoff := read(t, memory).Apps["/a"].Backoff; backoff.Delay != 0 {
			t.Errorf("a backoff of %s is kept of a healthy app", backoff.Delay)
		}
	})
}
