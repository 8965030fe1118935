package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// TestP8_FailoverRestartsNothing stops and starts the scheduler at every
// second of a roll.
func TestP8_FailoverRestartsNothing(t *testing.T) {
	for second := range 12 {
		t.Run(fmt.Sprint("after ", second, "s"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory, world := new(statetest.Memory), newCluster(t, 3)
				l := start(t, testConfig(), memory, world)
				steadyApp := l.put(web("/steady", 3))
				l.put(web("/rolling", 4, strategy(1, 0.25)))
				l.settle()
				next := l.put(web("/rolling", 4, strategy(1, 0.25), version(2)))
				time.Sleep(time.Duration(second) * time.Second)
				l.end()
				time.Sleep(5 * time.Second)
				world.intercept(func(call string) error {
					if healthy, alive := world.healthy("/rolling"); strings.HasPrefix(call, "KILL") && healthy < 4 || alive > 5 {
						t.Errorf("%d healthy, %d alive at %s", healthy, alive, call)
					}
					return nil
				})
				l = start(t, testConfig(), memory, world)
				if status := l.status("/steady"); status.Counts.Running != 3 {
					t.Errorf("right after the start: %+v", status.Counts)
				}
				l.settle()
				if alive := world.living("/steady"); len(alive[steadyApp.Version.String()]) != 3 || len(world.tasks) != 3+8 {
					t.Errorf("%d tasks were launched in all; /steady: %v", len(world.tasks), alive)
				}
				if alive := world.living("/rolling"); len(alive) != 1 || len(alive[next.Version.String()]) != 4 {
					t.Errorf("after the roll: %v", alive)
				}
			})
		})
	}
}

// TestP7_KillPoints ends the scheduler at the n-th store write and at the n-th
// call of a scripted life, for every n, and starts it again: what was
// acknowledged is there, and the cluster ends up as it was asked to be.
func TestP7_KillPoints(t *testing.T) {
	for _, at := range []string{"write", "write lost", "call", "call lost"} {
		t.Run(at, func(t *testing.T) {
			for n := 1; ; n++ {
				reached := false
				synctest.Test(t, func(t *testing.T) { reached = killPoint(t, at, n) })
				if t.Failed() {
					t.Fatalf("%s %d", at, n)
				}
				if !reached {
					t.Logf("%d kill points", n-1)
					break
				}
			}
		})
	}
}

// killPoint is one life that ends at the n-th write or call, and the next. It
// is false when there are fewer.
func killPoint(t *testing.T, at string, n int) bool {
	memory, world := new(statetest.Memory), newCluster(t, 3)
	var mu sync.Mutex
	seen, reached := 0, make(chan struct{})
	// crash counts and tells whether the process is dead, and whether this is
	// its last deed.
	crash := func(counts bool) (dead, last bool) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case <-reached:
			return true, false
		default:
		}
		if counts {
			seen++
		}
		if counts && seen == n {
			close(reached)
			return true, true
		}
		return false, false
	}
	memory.Before(func([]state.Op) error {
		if dead, last := crash(strings.HasPrefix(at, "write")); dead && !(last && at == "write") {
			return errors.New("the process is dead")
		}
		return nil
	})
	world.intercept(func(string) error {
		switch dead, last := crash(strings.HasPrefix(at, "call")); {
		case last && at == "call":
			return errAfter
		case dead:
			return master.ErrOutcomeUnknown
		}
		return nil
	})
	l := start(t, testConfig(), memory, world)
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-reached:
			l.stop()
		case <-over:
		}
	})
	acknowledged := make(map[string]api.Started)
	write := func(id string, do func(context.Context) (api.Started, error)) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if started, err := do(ctx); err == nil {
			acknowledged[id] = started
		}
	}
	put := func(a *app.App) {
		write(a.ID, func(ctx context.Context) (api.Started, error) {
			options := putOptions{Force: true}
			if current, err := l.App(ctx, a.ID, api.Embed{}); err == nil {
				options.Replaces = current.App.Version
			}
			return l.Put(ctx, a, options)
		})
	}
	put(web("/a", 2))
	put(web("/b", 1))
	time.Sleep(5 * time.Second)
	put(web("/a", 3))
	put(web("/b", 1, version(2)))
	time.Sleep(3 * time.Second)
	write("/b deleted", func(ctx context.Context) (api.Started, error) { return l.Delete(ctx, "/b", true) })
	time.Sleep(3 * time.Second)
	close(over)
	watch.Wait()
	l.end()

	memory.Before(nil)
	world.intercept(nil)
	l = start(t, testConfig(), memory, world)
	for _, id := range []string{"/a", "/b"} {
		started, wrote := acknowledged[id]
		deleted, gone := acknowledged[id+" deleted"]
		status, err := l.App(t.Context(), id, api.Embed{})
		switch {
		case gone && err == nil && status.App.Version < deleted.Version:
			t.Errorf("%s is back though its deletion was acknowledged", id)
		case !gone && wrote && id == "/a" && (err != nil || status.App.Version < started.Version):
			t.Errorf("%s: acknowledged version %s, stored %v, %v", id, started.Version, status.App, err)
		}
	}
	l.settle()
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, id := range []string{"/a", "/b"} {
		want := 0
		if status, err := l.App(t.Context(), id, api.Embed{Tasks: true}); err == nil {
			want = status.App.Instances
			if len(status.Tasks) != want || status.Counts.Healthy != want {
				t.Errorf("%s: %+v of %d, %d tasks shown", id, status.Counts, want, len(status.Tasks))
			}
		}
		if got := world.count(id); got != want {
			t.Errorf("%s has %d living tasks, want %d", id, got, want)
		}
	}
	l.end()
	select {
	case <-reached:
		return true
	default:
		return false
	}
}

// TestP11_EmptyStoreKillsNothing subscribes with an empty store to a framework
// that has live tasks.
func TestP11_EmptyStoreKillsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 4)
		memory := new(statetest.Memory)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 20, func(a *app.App) { a.CPUs = 100 }))
		l.settle()
		l.end()
		lost := new(statetest.Memory)
		world.anew = true
		l = start(t, testConfig(), lost, world)
		l.put(web("/b", 1))
		l.settle()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := world.called("KILL"); n != 0 || world.count("/a") != 20 {
			t.Errorf("%d kills, %d of 20 tasks live", n, world.count("/a"))
		}
		if n := world.called("SHUTDOWN"); n != 0 {
			t.Errorf("%d executors of unknown tasks were shut down", n)
		}
	})
}

// TestP11_OldBackupKillsNothing starts on a state from before an app was
// scaled up.
func TestP11_OldBackupKillsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		backup := new(statetest.Memory)
		session, err := backup.Open().Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range memory.Nodes() {
			if err := session.Apply(t.Context(), []state.Op{{Key: key, Value: value}}); err != nil {
				t.Fatal(err)
			}
		}
		l.put(web("/a", 5))
		l.settle()
		l.end()
		l = start(t, testConfig(), backup, world)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := world.called("KILL"); n != 0 || world.count("/a") != 5 || l.status("/a").App.Instances != 1 {
			t.Errorf("%d kills, %d of 5 tasks live", n, world.count("/a"))
		}
	})
}

func TestMasterFailover_WaitsForAgents(t *testing.T) {
	for _, amnesia := range []bool{false, true} {
		t.Run(fmt.Sprint("amnesia ", amnesia), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newCluster(t, 3)
				l := start(t, testConfig(), new(statetest.Memory), world)
				l.put(web("/a", 3))
				l.settle()
				world.mu.Lock()
				world.amnesia = amnesia
				for _, a := range world.agents {
					a.recovering = !amnesia
					a.unreachable = amnesia
				}
				world.mu.Unlock()
				world.reset <- errors.New("master died")
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if n := len(world.tasks); n != 3 {
					t.Errorf("%d tasks while agents are still coming back", n)
				}
				for id := range world.agents {
					world.find(id)
				}
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				if n := len(world.tasks); n != 3 || world.count("/a") != 3 {
					t.Errorf("%d tasks, %d living after all agents are back", n, world.count("/a"))
				}
			})
		})
	}
}

func TestFrameworkRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 1)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		world.reset <- master.ErrRemoved
		err := <-l.done
		close(l.done)
		if !errors.Is(err, ErrFrameworkRemoved) || !strings.Contains(err.Error(), "--reset-framework") || !strings.Contains(err.Error(), world.frameworkID) {
			t.Fatalf("err = %v", err)
		}
		l.stop()
		fresh := newCluster(t, 1)
		config := testConfig()
		config.ResetFramework = true
		l = start(t, config, memory, fresh)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if status := l.status("/a"); status.Counts.Healthy != 1 || fresh.count("/a") != 1 {
			t.Errorf("after the reset: %+v", status.Counts)
		}
	})
}

func TestFenced_OldLeaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		if _, err := memory.Open().Lead(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Put(t.Context(), web("/b", 1), putOptions{}); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("write of the old leader: %v", err)
		}
		err := <-l.done
		close(l.done)
		if !errors.Is(err, state.ErrFenced) {
			t.Errorf("Run: %v", err)
		}
		if n := world.called("ACCEPT"); n != 1 {
			t.Errorf("%d launches", n)
		}
		l.stop()
	})
}
