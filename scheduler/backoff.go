package scheduler

import (
	"fmt"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state"
)

// backoff delays the launches of an app whose instances keep failing. The
// first failure costs the initial delay, each further one the factor more, up
// to the limit. When nothing has failed for as long as the limit after that, it starts
// again. Failures during the delay belong to the same wave, e.g. of all
// instances that lost a database, and do not make it longer.
type backoff struct {
	delay time.Duration
	until time.Time
	// kept is the delay that the store was last given.
	kept time.Duration
}

// leastKept is the shortest delay that is worth a write.
const leastKept = 5 * time.Second

// oftenKept is the shortest delay after which writes are rare anyway.
const oftenKept = time.Minute

// stored is what the store is told.
func (b *backoff) stored() state.Backoff {
	if b.delay < leastKept {
		return state.Backoff{}
	}
	return state.Backoff{Delay: b.delay.Truncate(time.Millisecond), Until: b.until.Truncate(time.Millisecond)}
}

// restoreBackoff goes on where an earlier scheduler has stored it last.
func (c *core) restoreBackoff(v *service, b state.Backoff) {
	v.backoff = backoff{delay: b.Delay, until: b.Until, kept: b.Delay}
	if v.backoff.waits(c.now) {
		c.endOfBackoff(v)
	}
}

// endOfBackoff has instances launched when the delay is over.
func (c *core) endOfBackoff(v *service) {
	c.at(v.backoff.until, func() {
		c.offerState.reviveWanted = true
		c.touch(v)
	})
}

// keepBackoff stores the delay whenever it has doubled, and always when it is
// long, so that a leader that follows does not start a crash loop from the
// beginning.
func (c *core) keepBackoff(v *service) {
	b := &v.backoff
	if b.delay < b.kept {
		b.kept = 0 // it has started again
	}
	doubled := b.delay >= 2*b.kept
	if b.delay < leastKept || !doubled && b.delay < oftenKept || v.deleted {
		return
	}
	b.kept = b.delay
	id := v.app.ID
	c.exclusive(id, func() {
		a, err := v.record(v.deployment)
		if err != nil || c.services[id] != v {
			c.release(id)
			return
		}
		var change state.Change
		change.PutApp(a)
		c.submit(&change, func(err error) {
			if err != nil {
				b.kept = 0 // with the next failure
			}
			c.release(id)
		})
	})
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
