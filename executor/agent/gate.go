package agent

import "time"

const (
	gateMin = 100 * time.Millisecond
	gateMax = time.Second
	// logPause is the least time between two lines about one outage.
	logPause = 30 * time.Second
)

// gate bounds the attempts to send while the agent does not take calls: after
// a failure it lets one pass at a time, in growing intervals, until one
// succeeds. It knows no clock.
type gate struct {
	failures int
	until    time.Time
}

// limit is how many calls may be in flight at now, of at most most.
func (g *gate) limit(now time.Time, most int) int {
	switch {
	case g.failures == 0:
		return most
	case now.Before(g.until):
		return 0
	default:
		return 1
	}
}

// failed takes note of a failed call. Calls that were in flight together and
// fail together count once.
func (g *gate) failed(now time.Time) {
	if g.failures > 0 && now.Before(g.until) {
		return
	}
	g.until = now.Add(min(gateMin<<min(g.failures, 10), gateMax))
	g.failures++
}

// passed opens the gate.
func (g *gate) passed() { *g = gate{} }

// outage bounds the lines that are logged about one trouble.
type outage struct {
	count  int
	logged time.Time
}

// failed counts a failure and tells whether to log it.
func (o *outage) failed(now time.Time) bool {
	o.count++
	if o.count > 1 && now.Sub(o.logged) < logPause {
		return false
	}
	o.logged = now
	return true
}

// over ends the outage and returns how many failures it had.
func (o *outage) over() int {
	n := o.count
	*o = outage{}
	return n
}
