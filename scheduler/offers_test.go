package scheduler

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state/statetest"
)

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

// The master hangs while offers are asked for: the REVIVE is refused later with
// the stream that it belonged to, and what was declined stays withheld.
func TestOffers_AskedForAnewByEachSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		world.mu.Lock()
		for _, a := range world.agents {
			a.filtered = time.Now().Add(time.Hour) // as if it had been declined while idle
		}
		world.mu.Unlock()
		answered := make(chan struct{})
		world.intercept(func(call string) error {
			if strings.HasPrefix(call, "REVIVE") {
				<-answered
				return master.ErrCallRefused
			}
			return nil
		})
		l.put(web("/b", 1))
		synctest.Wait()
		world.reset <- errors.New("stream is silent")
		synctest.Wait()
		world.intercept(nil)
		close(answered)
		began := time.Now()
		l.settle()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("placed %s after the new subscription", took)
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
