package scheduler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/state/statetest"
)

// TestP10_StepsCostTheSameWhateverElseThereIs: a step of a one-by-one roll
// takes at most two transactions and 6 KiB, with ten other apps or with 500.
func TestP10_StepsCostTheSameWhateverElseThereIs(t *testing.T) {
	type cost struct{ transactions, bytes uint64 }
	costs := make(map[int]cost)
	for _, others := range []int{10, 500} {
		synctest.Test(t, func(t *testing.T) {
			world := newCluster(t, 20)
			for _, a := range world.agents {
				a.cpus = 1000_000
			}
			l := start(t, testConfig(), new(statetest.Memory), world)
			edits := make([]api.Edit, 0, others)
			for n := range others {
				a := web(fmt.Sprint("/other-", n), 2)
				edits = append(edits, api.Edit{ID: a.ID, Next: a})
			}
			if _, err := l.Change(t.Context(), edits, api.ChangeOptions{}); err != nil {
				t.Fatal(err)
			}
			const steps = 10
			l.put(web("/rolled", steps, strategy(1, 0.1)))
			l.settle()
			transactions, bytes := l.journal.Written()
			l.put(web("/rolled", steps, strategy(1, 0.1), version(2)))
			l.settle()
			moreTransactions, moreBytes := l.journal.Written()
			c := cost{moreTransactions - transactions, moreBytes - bytes}
			costs[others] = c
			t.Logf("%d other apps: %d transactions and %d bytes for %d steps", others, c.transactions, c.bytes, steps)
			// Of each step the intent to kill, and the end together with the next
			// launch; beginning and end of the deployment are two more.
			if c.transactions > 2*steps+2 || c.bytes > steps*6<<10 {
				t.Errorf("%+v for %d steps", c, steps)
			}
		})
	}
	if few, many := costs[10], costs[500]; many.bytes > few.bytes*3/2 {
		t.Errorf("%+v beside 500 other apps, %+v beside 10", many, few)
	}
}

// Health and RUNNING are never written.
func TestP10_HealthIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 3))
		l.settle()
		before, _ := l.journal.Written()
		for n := range 10 {
			for _, task := range l.status("/a").Tasks {
				world.report(task.ID, mesos.TASK_RUNNING, n%2 == 1)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if after, _ := l.journal.Written(); after != before {
			t.Errorf("%d transactions for changes of health", after-before)
		}
	})
}
