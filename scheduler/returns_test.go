package scheduler

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// TestBarrier_AllAgentsBack fails the master over while the scheduler has lost
// the records of its tasks: those on agents that come back late are found as
// soon as the last agent is back, though the master does not tell of them.
func TestBarrier_AllAgentsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 3)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 3))
		l.settle()
		l.end()
		session, err := memory.Open().Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key := range memory.Nodes() {
			if strings.HasPrefix(key, "tasks/") || strings.HasPrefix(key, "apps/") {
				if err := session.Apply(t.Context(), []state.Op{{Key: key}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		world.mu.Lock()
		for _, a := range world.agents {
			a.recovering = true
		}
		world.mu.Unlock()
		l = start(t, testConfig(), memory, world)
		time.Sleep(time.Minute)
		synctest.Wait()
		if info, err := l.Info(t.Context()); err != nil || info.QuarantineCount != 0 {
			t.Fatalf("quarantine of %d, %v, before any agent is back", info.QuarantineCount, err)
		}
		// As the master does for agents that it expects: without a status.
		world.mu.Lock()
		for _, a := range world.agents {
			a.recovering = false
		}
		world.mu.Unlock()
		time.Sleep(time.Minute) // far less than between two regular passes
		synctest.Wait()
		if info, err := l.Info(t.Context()); err != nil || info.QuarantineCount != 3 {
			t.Errorf("quarantine of %d, %v, want 3", info.QuarantineCount, err)
		}
		// When nobody is missing, one pass is enough.
		before := world.called("RECONCILE 0")
		world.reset <- errors.New("stream broke")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := world.called("RECONCILE 0") - before; n != 1 {
			t.Errorf("%d implicit reconciliations, want 1", n)
		}
	})
}
