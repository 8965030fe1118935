package executor

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Bounds of a [guard].
const (
	// leastSuspect is how many tasks have to turn unhealthy together at least: of
	// two or three the cause may well be their own.
	leastSuspect = 4
	// spreadOver is the time over which deregistrations, and then kills, are
	// spread when the agent is suspect.
	spreadOver = 30 * time.Second
	// confirmation is how much later than its interval the verdict on a failure
	// comes: the repeat that confirms it.
	confirmation = time.Second
)

// suspicion is added to the message of a task whose bad health may not be its
// own.
const suspicion = "most tasks of this agent turned unhealthy at the same time: the agent itself is suspect"

// guard keeps an agent whose tasks all turn unhealthy at once, because its CPU,
// its disk or its network is at fault and not they, from taking all of them out
// of service at once. From the task on with which most are unhealthy, each has
// to wait for its turn; one that recovers before is not touched. It bounds the
// damage and no more: on an agent that stays bad all tasks have had their turn
// after spreadOver.
type guard struct {
	log zerolog.Logger

	mu      sync.Mutex
	judged  map[string]time.Time // when a task that was healthy turned unhealthy; zero if it is healthy
	last    time.Time            // the turn that was given last
	suspect bool                 // as far as has been logged
}

func newGuard(log zerolog.Logger) *guard {
	return &guard{log: log, judged: map[string]time.Time{}}
}

// healthy notes that a task is healthy.
func (g *guard) healthy(task string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.judged[task] = time.Time{}
	g.clear()
}

// leave forgets a task whose checks have ended.
func (g *guard) leave(task string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.judged, task)
	g.clear()
}

// unhealthy notes that a task turned unhealthy whose checks have this interval,
// and returns how long it has to wait for its turn: 0 unless the agent is
// suspect.
func (g *guard) unhealthy(task string, now time.Time, interval time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.judged[task] = now
	together := 0
	for _, at := range g.judged {
		if !at.IsZero() && now.Sub(at) <= interval+confirmation {
			together++
		}
	}
	if !mostOf(together, len(g.judged)) {
		return 0
	}
	if !g.suspect {
		g.suspect = true
		g.log.Error().Int(keyUnhealthy, together).Int(keyTasks, len(g.judged)).Dur(keySpread, spreadOver).
			Msg("most tasks turned unhealthy at once: is this agent itself at fault? they are taken out of service one by one")
	}
	return g.turn(now)
}

// threshold returns how long a task that has reached its threshold has to wait
// for its kill: 0 unless the agent is suspect.
func (g *guard) threshold(task string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.judged[task]; !g.suspect || at.IsZero() {
		return 0
	}
	return g.turn(now)
}

// turn gives the next turn.
func (g *guard) turn(now time.Time) time.Duration {
	if g.last.Before(now) {
		g.last = now
	}
	g.last = g.last.Add(spreadOver / time.Duration(max(len(g.judged), 1)))
	return g.last.Sub(now)
}

// clear ends the suspicion when most tasks are healthy, or gone.
func (g *guard) clear() {
	if !g.suspect {
		return
	}
	bad := 0
	for _, at := range g.judged {
		if !at.IsZero() {
			bad++
		}
	}
	if mostOf(bad, len(g.judged)) {
		return
	}
	g.suspect = false
	g.log.Warn().Int(keyUnhealthy, bad).Int(keyTasks, len(g.judged)).Msg("most tasks are healthy again, or have ended")
}

// suspects reports whether the agent is suspect.
func (g *guard) suspects() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspect
}

func mostOf(bad, all int) bool { return bad >= leastSuspect && 2*bad > all }
