package scheduler

import (
	"sync"
	"sync/atomic"

	"pacer/scheduler/api"
)

// shown is what readers on other goroutines see: the views of services, and
// facts about the scheduler itself.
type shown struct {
	mu       sync.RWMutex
	services []*service // live ones by ascending ID; the slice is immutable
	ending   []*service // deleted ones; immutable, too
	info     api.Info
	tasks    int
	ready    string // what is missing, or empty

	// revision counts changes of what is shown.
	revision atomic.Uint64
}

func newShown(config Config) *shown {
	f := config.Framework
	return &shown{
		ready: "the scheduler has just started",
		info: api.Info{
			Name: f.Name, Version: config.Version, Leader: config.Leader, Stale: true,
			Role: f.Role, User: f.User, FailoverTimeout: f.FailoverTimeout, Checkpoint: true,
		},
	}
}

// framework returns the framework id and how many task records there are.
func (s *shown) framework() (id string, tasks int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.info.FrameworkID, s.tasks
}

// lists returns the live and the deleted services.
func (s *shown) lists() (services, ending []*service) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.services, s.ending
}

func (s *shown) change(f func(*shown)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}
