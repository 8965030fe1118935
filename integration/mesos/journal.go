package mesos

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"pacer/integration/mesos/master"
)

// journal keeps all that masters received and sent.
type journal struct {
	mu      sync.Mutex
	entries []master.Entry
	more    chan struct{} // closed by the next entry
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) add(e master.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	close(j.more)
	j.more = make(chan struct{})
}

func (j *journal) snapshot() []master.Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

func (j *journal) await(ctx context.Context, what string, found func([]master.Entry) bool) error {
	for {
		j.mu.Lock()
		entries, more := slices.Clip(j.entries), j.more
		j.mu.Unlock()
		if found(entries) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w; %d entries recorded", what, ctx.Err(), len(entries))
		case <-more:
		}
	}
}
