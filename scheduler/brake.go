package scheduler

import "time"

// brake bounds how fast instances are killed because their health checks have
// failed. A few at a time pass without delay. When a large part of the cluster
// turns unhealthy at once, the cause is most likely one that killing does not
// cure, a database for example, and a restart of everything would make it
// worse: then it takes a twentieth of all instances in a minute, and ten more.
type brake struct {
	tokens float64
	at     time.Time // of the last refill; zero before the first
	// waiting services are looked at again when there are tokens.
	waiting map[*service]struct{}
	// reported is when it last held something back.
	reported time.Time
}

// brakePause is the time between two looks at services that wait.
const brakePause = time.Second

func brakeCapacity(instances int) float64 { return 10 + float64(instances)/20 }

// pass tells whether one more instance may be killed now.
func (b *brake) pass(now time.Time, instances int) bool {
	capacity := brakeCapacity(instances)
	if b.at.IsZero() {
		b.tokens = capacity
	} else {
		b.tokens = min(capacity, b.tokens+capacity*now.Sub(b.at).Minutes())
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// hold has a service looked at again later.
func (c *core) hold(v *service) {
	b := &c.brake
	if b.waiting == nil {
		b.waiting = make(map[*service]struct{})
	}
	if len(b.waiting) == 0 {
		if c.now.Sub(b.reported) > time.Minute {
			c.log.Warn().Int(keyTasks, len(c.instances)).Msg("many instances are unhealthy at once; they are killed slowly")
		}
		b.reported = c.now
		c.after(brakePause, func() {
			waiting := b.waiting
			b.waiting = nil
			for v := range waiting {
				c.touch(v)
			}
		})
	}
	b.waiting[v] = struct{}{}
}
