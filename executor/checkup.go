package executor

import (
	"context"
	"sync"
	"time"

	"pacer/healthcheck"
)

// checkup makes one verdict of the health checks of a task: healthy when all of
// them say so, unhealthy when one does. Where the agent itself is suspect, bad
// news are held back until it is the task's turn.
type checkup struct {
	task  string
	guard *guard
	post  func(event)
	// later runs a function after a time, unless the checks end before.
	later    func(time.Duration, func())
	interval time.Duration

	mu      sync.Mutex
	missing int // checks that have not said healthy, or no longer
	healthy map[string]bool
	verdict health
	// told is the verdict that has been posted; held are the bad news that wait
	// since the last recovery, which has the number turn.
	told health
	held []news
	turn int
}

// news is something bad. What has no turn of its own goes with what was before.
type news struct {
	event event
	own   bool
}

// newCheckup is for the checks of a task; what it holds back hangs off ctx.
func newCheckup(ctx context.Context, t *task) *checkup {
	c := &checkup{task: t.id, guard: t.guard, post: t.post, missing: len(t.plan.health), healthy: map[string]bool{}}
	c.later = func(d time.Duration, do func()) {
		t.beside(func() {
			if sleep(ctx, d) {
				do()
			}
		})
	}
	for _, check := range t.plan.health {
		c.interval = max(c.interval, check.Interval)
	}
	return c
}

// take turns what one of the checks says into what it means for the task. It is
// called from the goroutine of each check.
func (c *checkup) take(e healthcheck.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := e.Result.Message
	if e.Check != "" {
		reason = "check " + e.Check + ": " + reason
	}
	switch e.Kind {
	case healthcheck.Healthy:
		if !c.healthy[e.Check] {
			c.healthy[e.Check] = true
			c.missing--
		}
		if c.missing > 0 || c.verdict == healthy {
			break
		}
		c.verdict, c.held = healthy, nil
		c.turn++
		c.guard.healthy(c.task)
		if c.told != healthy {
			c.told = healthy
			c.post(becameHealthy{})
		}
	case healthcheck.Unhealthy:
		if c.healthy[e.Check] {
			c.healthy[e.Check] = false
			c.missing++
		}
		if c.verdict == unhealthy {
			c.worse(failedAgain{reason: reason}, 0)
			break
		}
		c.verdict = unhealthy
		var wait time.Duration
		if c.told == healthy { // else nobody finds it anyway
			wait = c.guard.unhealthy(c.task, time.Now(), c.interval)
		}
		if wait > 0 {
			reason += "; " + suspicion
		}
		c.worse(becameUnhealthy{reason: reason}, wait)
	case healthcheck.Failure:
		c.worse(failedAgain{reason: reason}, 0)
	case healthcheck.Threshold:
		wait := c.guard.threshold(c.task, time.Now())
		if wait > 0 {
			reason += "; " + suspicion
		}
		c.worse(reachedThreshold{reason: reason}, wait)
	}
}

// worse posts bad news, in order, and holds back what has to wait.
func (c *checkup) worse(ev event, wait time.Duration) {
	if wait <= 0 && len(c.held) == 0 {
		c.tell(ev)
		return
	}
	c.held = append(c.held, news{ev, wait > 0})
	if wait > 0 {
		turn := c.turn
		c.later(wait, func() { c.release(turn) })
	}
}

// release posts the first news that were held back and what goes with them,
// unless the task has recovered since.
func (c *checkup) release(turn int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turn != c.turn {
		return
	}
	for first := true; len(c.held) > 0 && (first || !c.held[0].own); first = false {
		c.tell(c.held[0].event)
		c.held = c.held[1:]
	}
}

func (c *checkup) tell(ev event) {
	c.told = unhealthy
	c.post(ev)
}
