package executor

import (
	"sync"

	"pacer/healthcheck"
)

// checkup makes one verdict of the health checks of a task: healthy when all of
// them say so, unhealthy when one does.
type checkup struct {
	post func(event)

	mu      sync.Mutex
	missing int // checks that have not said healthy, or no longer
	healthy map[string]bool
	verdict health
}

func newCheckup(checks int, post func(event)) *checkup {
	return &checkup{post: post, missing: checks, healthy: map[string]bool{}}
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
		if c.missing == 0 && c.verdict != healthy {
			c.verdict = healthy
			c.post(becameHealthy{})
		}
	case healthcheck.Unhealthy:
		if c.healthy[e.Check] {
			c.healthy[e.Check] = false
			c.missing++
		}
		if c.verdict == unhealthy {
			c.post(failedAgain{reason: reason})
			break
		}
		c.verdict = unhealthy
		c.post(becameUnhealthy{reason: reason})
	case healthcheck.Failure:
		c.post(failedAgain{reason: reason})
	case healthcheck.Threshold:
		c.post(reachedThreshold{reason: reason})
	}
}
