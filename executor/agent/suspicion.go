package agent

import "time"

const (
	suspicionMin = 30 * time.Second
	suspicionMax = 30 * time.Minute
)

// suspicion bounds how often a stream that still looks open is given up. It
// knows no clock.
type suspicion struct {
	pause time.Duration
	next  time.Time
}

// act tells whether a suspicion at now may be acted upon, and if so makes the
// next one wait.
func (s *suspicion) act(now time.Time) bool {
	if now.Before(s.next) {
		return false
	}
	s.pause = min(max(2*s.pause, suspicionMin), suspicionMax)
	s.next = now.Add(s.pause)
	return true
}

// unfounded takes note of an acknowledgement: events do arrive.
func (s *suspicion) unfounded() { s.pause = 0 }
