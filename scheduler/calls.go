package scheduler

import (
	"context"
	"sync"
)

// workers is how many calls to the master may be under way at once.
const workers = 16

// calls sends calls to the master outside of the core, which must not wait.
// Calls of one lane are made in order, one at a time.
type calls struct {
	mu    sync.Mutex
	lanes map[string][]func(context.Context) // waiting, by lane; a key exists while the lane is busy
	free  []func(context.Context)
	wake  chan struct{} // one token per queued call, at most workers
}

func newCalls() *calls {
	return &calls{lanes: make(map[string][]func(context.Context)), wake: make(chan struct{}, workers)}
}

// run makes calls until ctx ends.
func (q *calls) run(ctx context.Context) {
	var group sync.WaitGroup
	for range workers {
		group.Go(func() { q.work(ctx) })
	}
	group.Wait()
}

func (q *calls) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for call := q.next(); call != nil && ctx.Err() == nil; call = q.next() {
			call(ctx)
		}
	}
}

func (q *calls) next() func(context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.free) == 0 {
		return nil
	}
	call := q.free[0]
	q.free[0] = nil
	q.free = q.free[1:]
	return call
}

func (q *calls) add(call func(context.Context)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(call)
}

func (q *calls) addLocked(call func(context.Context)) {
	q.free = append(q.free, call)
	select {
	case q.wake <- struct{}{}:
	default: // all workers have been woken
	}
}

// addTo queues a call behind those of the same lane.
func (q *calls) addTo(lane string, call func(context.Context)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ordered := func(ctx context.Context) {
		call(ctx)
		q.mu.Lock()
		defer q.mu.Unlock()
		if waiting := q.lanes[lane]; len(waiting) > 0 {
			q.lanes[lane] = waiting[1:]
			q.addLocked(waiting[0])
			return
		}
		delete(q.lanes, lane)
	}
	if waiting, busy := q.lanes[lane]; busy {
		q.lanes[lane] = append(waiting, ordered)
		return
	}
	q.lanes[lane] = nil
	q.addLocked(ordered)
}
