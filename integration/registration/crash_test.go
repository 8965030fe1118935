package registration

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestExecutorKilled_EntriesGo kills an executor with -9 while nobody is there
// to replace its tasks or to clean up after it.
func TestExecutorKilled_EntriesGo(t *testing.T) {
	const app, n = "/shop/cart", 5
	t.Parallel()
	overRegistries(t, func(t *testing.T, registry server) {
		found, there := registry.gone()
		if testing.Short() && there > time.Minute {
			t.Skip("takes two minutes: Consul removes nothing earlier than a minute after it stopped passing")
		}
		t.Parallel()
		s := newSite(t, registry, 1)
		s.deploy(app, n, nil)
		s.killScheduler()
		s.killExecutors()
		killed := time.Now()
		s.eventually(found, "no entry is found", func() bool { return len(s.found(app)) == 0 })
		t.Logf("not found %v after the kill", time.Since(killed).Round(100*time.Millisecond))
		s.eventually(time.Until(killed.Add(there)), "no entry is there", func() bool {
			count, err := registry.there(serviceName(app))
			if err != nil {
				t.Fatal(err)
			}
			return count == 0
		})
		t.Logf("removed %v after the kill", time.Since(killed).Round(100*time.Millisecond))
	})
}

// TestExecutorKilled_ItsSuccessorCleansUp: with a scheduler the tasks are
// started again, and what is found are soon those.
func TestExecutorKilled_ItsSuccessorCleansUp(t *testing.T) {
	const app, n = "/shop/cart", 5
	s := newSite(t, newConsul(t), 1)
	before := s.deploy(app, n, nil)
	s.killExecutors()
	killed := time.Now()
	var after []task
	s.eventually(time.Minute, "all tasks are replaced", func() bool {
		after = s.tasks(app)
		return len(after) == n && !slices.ContainsFunc(after, func(now task) bool {
			return !now.healthy() || slices.ContainsFunc(before, func(old task) bool { return old.ID == now.ID })
		})
	})
	s.eventually(5*time.Second, "the new entries are found and nothing else", func() bool { return slices.Equal(s.found(app), endpoints(after)) })
	if count, err := s.registry.there(serviceName(app)); err != nil || count != n {
		t.Errorf("%d entries, %v", count, err)
	}
	t.Logf("replaced and cleaned up %v after the kill", time.Since(killed).Round(100*time.Millisecond))
}

func (s *site) killExecutors() {
	s.t.Helper()
	pids := s.executors()
	if len(pids) == 0 {
		s.t.Fatal("no executor found")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			s.t.Fatal(err)
		}
	}
}
