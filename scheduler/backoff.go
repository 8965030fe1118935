package scheduler

import (
	"fmt"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
)

// backoff delays the launches of an app whose instances keep failing. The
// first failure costs the initial delay, each further one the factor more, up
// to the limit. When nothing has failed for as long as the limit after that, it starts
// again. Failures during the delay belong to the same wave, e.g. of all
// instances that lost a database, and do not make it longer.
type backoff struct {
	delay time.Duration
	until time.Time
}

// fail notes a failure.
func (b *backoff) fail(now time.Time, config app.Backoff) {
	if b.waits(now) {
		return
	}
	switch {
	case b.delay == 0 || now.Sub(b.until) > config.Max:
		b.delay = config.Initial
	default:
		b.delay = time.Duration(float64(b.delay) * config.Factor)
	}
	b.delay = min(b.delay, config.Max)
	b.until = now.Add(b.delay)
}

// reset forgets all failures: the app has been changed.
func (b *backoff) reset() { *b = backoff{} }

// resetDelay ends the backoff of an app, for whoever has mended what failed.
func (c *core) resetDelay(id string, to chan<- result) {
	v := c.services[id]
	if v == nil || v.wanted == 0 {
		c.reply(to, result{err: fmt.Errorf("app %s waits for nothing: %w", id, api.ErrNotFound)})
		return
	}
	v.backoff.reset()
	c.offerState.reviveWanted = true
	c.touch(v)
	c.reply(to, result{})
}

func (b *backoff) waits(now time.Time) bool { return now.Before(b.until) }
