package simulated

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// clock runs actions at their times, in one goroutine for a whole fleet. Actions take
// the locks that they need and find out themselves whether they are still wanted.
type clock struct {
	began time.Time
	wake  chan struct{} // has room for one: a wake-up that is pending is enough

	mu     sync.Mutex
	due    agenda
	closed bool
}

type appointment struct {
	at     time.Duration // since began
	action func()
}

// agenda is a heap, the earliest appointment first.
type agenda []appointment

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(appointment)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = appointment{}
	*a = (*a)[:last]
	return x
}

func newClock() *clock { return &clock{began: time.Now(), wake: make(chan struct{}, 1)} }

// after runs action once d has passed, unless the clock has stopped.
func (c *clock) after(d time.Duration, action func()) {
	at := time.Since(c.began) + d
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	first := len(c.due) == 0 || at < c.due[0].at
	heap.Push(&c.due, appointment{at, action})
	if first {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// run keeps the appointments until ctx ends.
func (c *clock) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var batch []func()
	for {
		batch, next := c.take(batch[:0])
		for i, action := range batch {
			action()
			batch[i] = nil
		}
		if len(batch) > 0 && ctx.Err() == nil {
			continue
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			c.mu.Lock()
			c.due, c.closed = nil, true
			c.mu.Unlock()
			return
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// take appends what is due and says how long the next appointment is away.
func (c *clock) take(batch []func()) (_ []func(), next time.Duration) {
	const idle = time.Hour
	now := time.Since(c.began)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.due) > 0 && c.due[0].at <= now {
		batch = append(batch, heap.Pop(&c.due).(appointment).action)
	}
	if len(c.due) == 0 {
		return batch, idle
	}
	return batch, c.due[0].at - now
}
