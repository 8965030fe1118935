package scheduler

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// TestP9_StoreUnreachable cuts the store off while an app is being replaced:
// reads go on, writes are refused at once, and nothing is done to tasks.
func TestP9_StoreUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 3)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 4))
		l.settle()
		l.put(web("/a", 4, version(2), strategy(0.5, 0)))
		time.Sleep(1500 * time.Millisecond)
		back := make(chan struct{})
		memory.SetTrouble(errors.New("no connection"))
		memory.Before(func([]state.Op) error { <-back; return nil })
		time.Sleep(2 * time.Second)
		world.intercept(func(call string) error {
			if strings.HasPrefix(call, "KILL") || strings.HasPrefix(call, "SHUTDOWN") || strings.HasPrefix(call, "ACCEPT") {
				t.Errorf("%s while the store cannot be reached", call)
			}
			return nil
		})
		begin := time.Now()
		if _, err := l.Restart(t.Context(), "/a", true); !errors.Is(err, api.ErrUnavailable) || time.Since(begin) > time.Second {
			t.Errorf("write: %v after %s", err, time.Since(begin))
		}
		if err := l.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "store") {
			t.Errorf("ready: %v", err)
		}
		alive := world.count("/a")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if status := l.status("/a"); status.App.Instances != 4 || world.count("/a") != alive {
			t.Errorf("%+v, %d tasks of %d", status.Counts, world.count("/a"), alive)
		}
		world.intercept(nil)
		memory.SetTrouble(nil)
		memory.Before(nil)
		close(back)
		l.settle()
		if alive := world.living("/a"); len(alive) != 1 || world.count("/a") != 4 {
			t.Errorf("after the outage: %v", alive)
		}
	})
}

// TestP8_PausedLeaderDoesNotSubscribe is what happens to a scheduler that was
// stopped, that another one has followed, and whose stream has broken: it must
// not take the subscription away from its successor.
func TestP8_PausedLeaderDoesNotSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		if _, err := memory.Open().Lead(t.Context()); err != nil {
			t.Fatal(err)
		}
		subscriptions := world.generation
		world.reset <- errors.New("stream broke")
		err := <-l.done
		close(l.done)
		if !errors.Is(err, state.ErrFenced) {
			t.Errorf("Run: %v", err)
		}
		if world.generation != subscriptions {
			t.Error("it has subscribed again")
		}
	})
}

// TestSuspend_KillsWait repeats a kill that was stored before the store went
// away, but only when it is back.
func TestSuspend_KillsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 2))
		l.settle()
		world.behave = func(*fakeTask) behaviour { return behaviour{dies: 20 * time.Minute} }
		l.put(web("/a", 1))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := world.called("KILL"); n != 1 {
			t.Fatalf("%d kills before the outage", n)
		}
		memory.SetTrouble(errors.New("no connection"))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := world.called("KILL"); n != 1 {
			t.Errorf("%d kills were repeated during the outage", n-1)
		}
		memory.SetTrouble(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := world.called("KILL"); n < 2 {
			t.Error("the kill was not repeated after the outage")
		}
	})
}
