package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/app"
	"pacer/scheduler/state/statetest"
)

// doom makes an executor say that a task's health check has failed for good.
func (c *cluster) doom(id string) {
	threshold := "threshold"
	c.report(id, mesos.TASK_RUNNING, false, mesos.Label{Key: payload.LabelUnhealthy, Value: &threshold})
}

// TestBrake_MassUnhealthy loses the health of everything at once, as when a
// database goes away, in apps without room for replacements.
func TestBrake_MassUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 20)
		l := start(t, testConfig(), new(statetest.Memory), world)
		for n := range 10 {
			l.put(web(fmt.Sprint("/app-", n), 20, strategy(0, 0), func(a *app.App) { a.CPUs = 100 }))
		}
		l.settle()
		for n := range 10 {
			for _, ids := range world.living(fmt.Sprint("/app-", n)) {
				for _, id := range ids {
					world.doom(id)
				}
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := world.called("KILL"); n < 10 || n > 22 {
			t.Errorf("%d of 200 killed at once, want a tenth", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := world.called("KILL"); n < 30 || n > 45 {
			t.Errorf("%d of 200 killed after a minute, want a fifth", n)
		}
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		for n := range 10 {
			if status := l.status(fmt.Sprint("/app-", n)); status.Counts.Healthy != 20 {
				t.Errorf("%s: %+v in the end", status.App.ID, status.Counts)
			}
		}
	})
}

// TestBrake_FewPass kills a few unhealthy instances without delay.
func TestBrake_FewPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 5, strategy(0, 0), func(a *app.App) { a.CPUs = 100 }))
		l.settle()
		for _, ids := range world.living("/a") {
			for _, id := range ids {
				world.doom(id)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := world.called("KILL"); n != 5 {
			t.Errorf("%d of 5 killed", n)
		}
	})
}

// TestBrake_ReplacementsComeFirst launches replacements before it kills, where
// there is room for them.
func TestBrake_ReplacementsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 4)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 4, strategy(1, 1), func(a *app.App) { a.CPUs = 100 }))
		l.settle()
		var doomed []string
		for _, ids := range world.living("/a") {
			doomed = append(doomed, ids...)
		}
		for _, id := range doomed {
			world.doom(id)
		}
		world.intercept(func(call string) error {
			healthy, _ := world.healthy("/a")
			if strings.HasPrefix(call, "KILL") && healthy == 0 {
				t.Errorf("%s before any replacement is healthy", call)
			}
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if status := l.status("/a"); status.Counts.Healthy != 4 || world.count("/a") != 4 || world.called("KILL") != 4 {
			t.Errorf("%+v, %d living, %d kills", status.Counts, world.count("/a"), world.called("KILL"))
		}
	})
}
