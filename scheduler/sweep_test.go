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

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// TestP7_P8_KillSweep is a scripted life of 20 apps, which are created,
// scaled, replaced, deleted, and fail. The scheduler is killed at every store
// write and at every call to the master, once with the effect of that last
// deed and once without, and started again.
func TestP7_P8_KillSweep(t *testing.T) {
	for _, at := range []string{"write", "write lost", "call", "call lost"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 20
			}
			for n := 1; ; n += step {
				reached := false
				synctest.Test(t, func(t *testing.T) { reached = newSweep(t, at, n).run() })
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

// sweep is one life that ends at the n-th write or call, and the next one.
type sweep struct {
	t      *testing.T
	memory *statetest.Memory
	world  *cluster
	life   *life
	// acknowledged versions of apps; deleted ones are zero. asked are changes
	// that were not answered.
	acknowledged map[string]app.Version
	asked        map[string]bool

	at      string
	n       int
	mu      sync.Mutex
	seen    int
	reached chan struct{} // closed when the process is dead
}

func newSweep(t *testing.T, at string, n int) *sweep {
	s := &sweep{
		t: t, memory: new(statetest.Memory), world: newCluster(t, 5), at: at, n: n,
		acknowledged: make(map[string]app.Version), asked: make(map[string]bool), reached: make(chan struct{}),
	}
	s.memory.Before(func([]state.Op) error {
		if dead, last := s.crash("write"); dead && !(last && s.at == "write") {
			return errors.New("the process is dead")
		}
		return nil
	})
	s.world.intercept(func(string) error {
		switch dead, last := s.crash("call"); {
		case last && s.at == "call":
			return errAfter
		case dead:
			return master.ErrOutcomeUnknown
		}
		return nil
	})
	return s
}

// crash counts deeds of one kind and tells whether the process is dead, and
// whether this was its last deed.
func (s *sweep) crash(kind string) (dead, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDead() {
		return true, false
	}
	if !strings.HasPrefix(s.at, kind) {
		return false, false
	}
	if s.seen++; s.seen == s.n {
		close(s.reached)
		return true, true
	}
	return false, false
}

func (s *sweep) isDead() bool {
	select {
	case <-s.reached:
		return true
	default:
		return false
	}
}

// change makes a change unless the process is dead. next is nil to delete.
func (s *sweep) change(id string, next *app.App) {
	if s.isDead() {
		return
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Second)
	defer cancel()
	edit := api.Edit{ID: id, Next: next, Delete: next == nil}
	if current, err := s.life.App(ctx, id, api.Embed{}); err == nil && next != nil {
		edit.Replaces = current.App.Version
	}
	started, err := s.life.Change(ctx, []api.Edit{edit}, api.ChangeOptions{Force: true})
	switch {
	case err != nil:
		s.asked[id] = true
	case next == nil:
		s.acknowledged[id] = 0
	default:
		s.acknowledged[id] = started.Version
	}
}

const sweepApps = 20

func sweepApp(n, instances, v int) *app.App {
	return web(fmt.Sprintf("/app-%02d", n), instances, version(v), strategy(0.5, 0.5), func(a *app.App) { a.CPUs = 100 })
}

// script is the life that is swept.
func (s *sweep) script() {
	for n := range sweepApps {
		s.change(fmt.Sprintf("/app-%02d", n), sweepApp(n, 2, 1))
	}
	time.Sleep(3 * time.Second)
	for n := range sweepApps {
		id := fmt.Sprintf("/app-%02d", n)
		switch n % 5 {
		case 0:
			s.change(id, sweepApp(n, 4, 1))
		case 1:
			s.change(id, sweepApp(n, 1, 1))
		case 2:
			s.change(id, sweepApp(n, 2, 2))
		case 3:
			s.failOne(id)
		case 4:
			s.change(id, nil)
		}
	}
	time.Sleep(3 * time.Second)
	s.change("/app-04", sweepApp(4, 1, 3)) // deleted, and made again
	time.Sleep(5 * time.Second)
}

func (s *sweep) failOne(id string) {
	for _, ids := range s.world.living(id) {
		s.world.report(ids[0], mesos.TASK_FAILED, false)
		return
	}
}

// run is false if the life has fewer deeds.
func (s *sweep) run() bool {
	s.life = start(s.t, testConfig(), s.memory, s.world)
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-s.reached:
			s.life.stop()
		case <-over:
		}
	})
	s.script()
	close(over)
	watch.Wait()
	s.life.end()

	s.memory.Before(nil)
	s.world.intercept(s.watch)
	s.life = start(s.t, testConfig(), s.memory, s.world)
	for id, version := range s.acknowledged {
		status, err := s.life.App(s.t.Context(), id, api.Embed{})
		switch {
		case s.asked[id]: // may have been done or not
		case version == 0 && err == nil:
			s.t.Errorf("%s is back, its deletion was acknowledged", id)
		case version != 0 && (err != nil || status.App.Version != version):
			s.t.Errorf("%s was acknowledged as %s, stored is %v, %v", id, version, status.App, err)
		}
	}
	s.life.settle()
	time.Sleep(time.Minute)
	synctest.Wait()
	for n := range sweepApps {
		s.final(fmt.Sprintf("/app-%02d", n))
	}
	s.life.end()
	return s.isDead()
}

// watch looks for doubled instances at each call of the second life.
func (s *sweep) watch(string) error {
	for n := range sweepApps {
		// 4 instances and half as many over that.
		if _, alive := s.world.healthy(fmt.Sprintf("/app-%02d", n)); alive > 6 {
			s.t.Errorf("/app-%02d has %d instances", n, alive)
		}
	}
	return nil
}

func (s *sweep) final(id string) {
	want := 0
	if status, err := s.life.App(s.t.Context(), id, api.Embed{Tasks: true}); err == nil {
		want = status.App.Instances
		if len(status.Tasks) != want || status.Counts.Healthy != want {
			s.t.Errorf("%s: %+v of %d, %d tasks shown", id, status.Counts, want, len(status.Tasks))
		}
		if alive := s.world.living(id); len(alive[status.App.LastConfigChange.String()]) != want {
			s.t.Errorf("%s: %v live, want %d of %s", id, alive, want, status.App.LastConfigChange)
		}
	}
	if got := s.world.count(id); got != want {
		s.t.Errorf("%s has %d living tasks, want %d", id, got, want)
	}
}
