package master

import "time"

const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 3 * time.Second
	// steady is how long a subscription has to last for its loss to count as the
	// first of a new row of failures.
	steady = 30 * time.Second
	// reportPause is the least time between two lines about one outage.
	reportPause = 30 * time.Second
)

// backoff says how long to wait between attempts to subscribe. It knows no
// clock.
type backoff struct {
	failures int
	reported time.Time
}

// failed returns the pause after a failed attempt or a lost subscription, for a
// random in [0, 1), and whether to log it. fresh starts a new row.
func (b *backoff) failed(now time.Time, fresh bool, random float64) (pause time.Duration, report bool) {
	if fresh {
		b.failures = 0
	}
	limit := min(pauseMin<<min(b.failures, 10), pauseMax)
	pause = limit/2 + time.Duration(random*float64(limit/2))
	b.failures++
	if report = b.failures == 1 || now.Sub(b.reported) >= reportPause; report {
		b.reported = now
	}
	return pause, report
}
