package healthcheck

import (
	"sync"
	"time"
)

// clock notices that this process did not get to run during a probe: it wants
// to be woken regularly and measures by how much that was too late.
type clock struct {
	step time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	next    time.Time
	worst   time.Duration
	stopped bool
}

// watchClock starts a clock for a probe. A probe that ends within an eighth of
// its timeout, as nearly all do, wakes nobody.
func watchClock(started time.Time, timeout time.Duration) *clock {
	c := &clock{step: max(min(timeout, 20*time.Second)/8, 10*time.Millisecond)}
	c.next = started.Add(c.step)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.step, c.tick)
	return c
}

func (c *clock) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.noteLocked(time.Now())
	c.timer.Reset(c.step)
}

// noteLocked takes a wake-up at the given time.
func (c *clock) noteLocked(now time.Time) {
	c.worst = max(c.worst, now.Sub(c.next))
	c.next = now.Add(c.step)
}

// stop ends the clock and returns how late it was at worst.
func (c *clock) stop() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.timer.Stop()
	if now := time.Now(); now.After(c.next) {
		c.noteLocked(now)
	}
	return c.worst
}
