package scheduler

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

func TestOrder_NothingIsLaunchedBeforeReconciliation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		blocked := true
		world.before = func(call string) error {
			if blocked && strings.HasPrefix(call, "RECONCILE") {
				return errors.New("the master is slow")
			}
			return nil
		}
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		queue, err := l.Queue(t.Context())
		if n := world.called("ACCEPT"); n != 0 || err != nil || len(queue) != 1 || queue[0].Reason != "waiting for reconciliation" {
			t.Errorf("%d launches, queue %+v, %v", n, queue, err)
		}
		if err := l.Ready(t.Context()); err == nil {
			t.Error("ready before the reconciliation")
		}
		world.intercept(nil)
		l.settle()
		if info, err := l.Info(t.Context()); err != nil || info.Stale || l.Ready(t.Context()) != nil {
			t.Errorf("after the reconciliation: %+v, %v, ready: %v", info, err, l.Ready(t.Context()))
		}
	})
}

// A task that is asked about while its ACCEPT is under way would be answered
// as gone, replaced, and launched a moment later.
func TestOrder_NoReconciliationOvertakesAnAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		world.before = func(call string) error {
			if strings.HasPrefix(call, "ACCEPT") {
				time.Sleep(30 * time.Second)
			}
			return nil
		}
		config := testConfig()
		config.Times.Reconcile, config.Times.ReconcileDoubtful, config.Times.LaunchTimeout = time.Second, time.Second, time.Second
		l := start(t, config, new(statetest.Memory), world)
		l.put(web("/a", 1))
		l.settle()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(world.tasks) != 1 {
			t.Errorf("%d tasks were launched for one instance", len(world.tasks))
		}
	})
}

// Offers that were withdrawn by a new subscription while the records were
// being written must not be used any more.
func TestOrder_SubscriptionEndsWhileALaunchIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		time.Sleep(2 * time.Second)
		slow := true
		memory.Before(func(ops []state.Op) error {
			if slow && strings.HasPrefix(ops[len(ops)-1].Key, "tasks/") {
				slow = false
				time.Sleep(5 * time.Second)
			}
			return nil
		})
		l.put(web("/a", 3))
		time.Sleep(3 * time.Second) // the offers have come, the records are being written
		world.reset <- errors.New("stream broke")
		l.settle()
		if world.dropped != 0 || len(world.tasks) != 3 || slow {
			t.Errorf("%d launches on offers that are void, %d tasks", world.dropped, len(world.tasks))
		}
	})
}

func TestOrder_EndIsAcknowledgedOnceStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 1)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		id := l.status("/a").Tasks[0].ID
		world.report(id, mesos.TASK_FAILED, false)
		time.Sleep(time.Second) // far less than an agent waits before it asks again
		synctest.Wait()
		if n := world.called("ACKNOWLEDGE " + id + " TASK_FAILED"); n != 1 {
			t.Errorf("%d acknowledgements", n)
		}
		if status, err := l.App(t.Context(), "/a", api.Embed{}); err != nil || status.LastTaskFailure == nil || status.LastTaskFailure.TaskID != id {
			t.Errorf("last failure: %+v, %v", status.LastTaskFailure, err)
		}
	})
}
