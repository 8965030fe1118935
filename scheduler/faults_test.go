package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

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
		if _, err := l.Put(t.Context(), web("/b", 1), putOptions{}); !errors.Is(err, api.ErrUnavailable) {
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
