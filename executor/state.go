package executor

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
)

// phase is where a task stands, as operators see it.
type phase int

const (
	staging  phase = iota // received, nothing done yet
	starting              // secrets and URIs are fetched, the process is made
	started               // the process exists; not yet healthy or not yet findable
	running               // in service
	killing               // being ended by us
	exited                // ended by itself; what it left is being removed
	ended                 // the terminal status has been sent
)

var phaseNames = [...]string{"staging", "starting", "started", "running", "killing", "exited", "ended"}

func (p phase) String() string { return phaseNames[p] }

// rules is what holds for one task from its launch to its end.
type rules struct {
	checked       bool                    // has a health check
	registers     bool                    // has something to register
	required      bool                    // not findable means not in service
	unhealthy     payload.UnhealthyPolicy // who kills at the threshold
	reportKilling bool                    // the framework knows TASK_KILLING
	completion    time.Duration           // longest life from launch on; 0 is unlimited
	register      time.Duration           // longest wait for the first registration
	schedulerKill time.Duration           // longest wait for the scheduler's kill at the threshold
	times         times
}

// times are the longest durations of the steps that come before SIGKILL.
type times struct {
	deregister time.Duration
	drain      time.Duration
	grace      time.Duration
}

// limits are the moments at which SHUTDOWN wants those steps over. Zero means
// no limit.
type limits struct {
	deregister, drain, grace time.Time
}

// cause is why a task ends. The first one stays.
type cause int

const (
	noCause cause = iota
	byExit
	byKill
	byShutdown
	byHealth
	byCompletionTime
	byRegistration
	byProblem // could not be launched, or something broke inside the executor
)

// tree is what is known of a task's process tree.
type tree int

const (
	noProcess    tree = iota
	alive             // the first process runs
	rootExited        // the first process ended, others may be left
	quiet             // no process was seen any more
	processEnded      // none is left, everything of it is cleaned up
)

// entry is what is known of a task's registry entry.
type entry int

const (
	absent entry = iota
	registering
	present
	leaving
)

// health is the last word of the health check.
type health int

const (
	unknown health = iota
	unhealthy
	healthy
)

// problem is why a launch failed.
type problem struct {
	class  string                   // a payload.Failure constant
	reason *mesos.TaskStatus_Reason // what Mesos calls it, if it has a name for it
	text   string                   // what, where, what next
}

// exit is how a task's first process ended.
type exit struct {
	code       int
	signal     string // "SIGSEGV"; empty when the process exited by itself
	oom        bool   // the kernel killed a process of the task for memory
	memory     uint64 // limit of memory that was enforced, in bytes; 0 is none
	peakMemory uint64 // most memory the task ever used, in bytes; 0 is unknown
	stderr     string // its last lines, without secrets
}

// state is all that decides what happens to a task next. It is a value: next
// returns a new one and has no other effect.
type state struct {
	rules rules
	now   time.Time

	order   order // which list of steps is followed
	at      int   // index of the current step
	begun   bool  // the current step has been entered
	entered time.Time

	launched  time.Time
	preparing bool
	prepared  bool
	spawning  bool
	process   tree
	spawned   time.Time
	exit      exit
	exitedAt  time.Time

	entry         entry
	exposed       bool      // an entry may have been visible at some time
	found         bool      // has been registered once
	registerSince time.Time // registration was asked for
	leaveSince    time.Time // the deregistration of the end was asked for
	goneAt        time.Time // the entry was last seen to be gone, or given up
	registryError string

	health      health
	reported    health // what statuses carry
	lastFailure string // of the health check
	threshold   bool
	killBy      time.Time // the executor kills by itself at this moment
	check       *mesos.CheckStatusInfo

	cause     cause
	problem   problem
	why       string // who asked for the end, or what was in the way
	times     times
	limits    limits
	signaled  time.Time // SIGTERM was sent
	forced    time.Time // SIGKILL was sent to the first process
	leftovers bool      // processes were left when the first one had ended
	shortened string    // what was cut short, for the message
	survivors string

	rotated     string // secrets for which the task wants to be replaced
	saidRotated bool

	wait   string    // what the launch waits for
	said   string    // the same as last reported
	saidAt time.Time // when that was
}

// newState is a task that has been received.
func newState(r rules) state {
	return state{rules: r, times: r.times}
}

// transition collects what one event does.
type transition struct {
	state
	actions []action
}

func (t *transition) do(a action) { t.actions = append(t.actions, a) }

// next is the whole life of a task: what an event at a moment makes of a state,
// and what is to be done about it.
func (s state) next(now time.Time, ev event) (state, []action) {
	if s.phase() == ended {
		return s, nil
	}
	t := &transition{state: s}
	t.now = now
	t.take(ev)
	t.interrupt()
	t.advance()
	t.followHealth()
	t.advance()
	t.sayWaiting()
	t.sayRotated()
	return t.state, t.actions
}

// take writes down what an event says. What nobody asked for says nothing.
func (t *transition) take(ev event) {
	switch ev := ev.(type) {
	case launch:
		if t.launched.IsZero() {
			t.launched = t.now
		}
	case refuse:
		t.launched = t.now
		t.problem = ev.problem
		t.end(byProblem)
	case waiting:
		t.wait = ev.reason
	case prepared:
		if !t.preparing {
			break
		}
		t.preparing, t.prepared, t.wait = false, true, ""
	case spawned:
		if !t.spawning {
			break
		}
		t.spawning, t.process, t.spawned = false, alive, t.now
	case failed:
		if nothingUnderWay(&t.state) {
			break
		}
		t.preparing, t.spawning = false, false
		if t.order == launching {
			t.problem = ev.problem
		}
		t.end(byProblem)
	case rootEnded:
		if t.process == alive {
			t.process, t.exit, t.exitedAt = rootExited, ev.exit, t.now
		}
	case treeQuiet:
		if t.process == rootExited {
			t.process = quiet
		}
	case treeEnded:
		if t.order == launching || t.process == noProcess {
			break
		}
		if t.process == alive {
			t.exitedAt = t.now
		}
		t.process, t.exit = processEnded, ev.exit
	case becameHealthy:
		t.health, t.threshold, t.killBy = healthy, false, time.Time{}
	case becameUnhealthy:
		t.health, t.lastFailure = unhealthy, ev.reason
	case reachedThreshold:
		t.health, t.lastFailure = unhealthy, ev.reason
		t.atThreshold()
	case failedAgain:
		t.lastFailure = ev.reason
	case checkChanged:
		t.check = ev.status
		if t.order == launching && t.phase() >= started {
			t.reportCheck()
		}
	case registered:
		if t.entry == registering {
			t.entry, t.found, t.registryError, t.wait = present, true, "", ""
		}
	case registryFailed:
		t.registryError = ev.reason
		if !t.found && t.rules.required {
			t.wait = "registration: " + ev.reason
		}
	case deregistered:
		if t.entry == leaving {
			t.entry, t.goneAt, t.registryError = absent, t.now, ""
		}
	case rotated:
		t.rotated, t.saidRotated = ev.names, false
	case kill:
		grace := t.rules.times.grace
		if ev.hasGrace {
			grace = ev.grace
		}
		if t.order == launching {
			t.times.grace = grace
			t.end(byKill)
		} else {
			t.times.grace = min(t.times.grace, grace)
		}
	case shutdown:
		t.limit(ev.within)
		if t.order == launching {
			t.why = ev.why
		}
		t.end(byShutdown)
	case broke:
		if t.order == launching {
			t.problem = problem{text: "the executor failed while handling this task; its log has the stack"}
			t.end(byProblem)
		} else {
			// What the current step was about to do may not have been done.
			t.begun = false
		}
	case stuck:
		t.reportStuck(ev.processes)
	case tick:
	}
}

// end leaves the launch order for the kill or the exit order. A task that is
// ending already goes on as it was.
func (t *transition) end(c cause) {
	if t.order != launching {
		return
	}
	t.cause, t.order = c, ordered
	if c == byExit {
		t.order = spontaneous
	}
	t.at, t.begun = 0, false
}

// interrupt ends a task whose time is up or whose process has ended.
func (t *transition) interrupt() {
	if t.order != launching {
		return
	}
	switch {
	case t.process >= rootExited:
		t.end(byExit)
	case reached(t.now, t.completionAt()):
		t.times.grace = 0
		t.times.drain = min(t.times.drain, completionDrain)
		t.end(byCompletionTime)
	case reached(t.now, t.killBy):
		t.end(byHealth)
	case reached(t.now, t.registerBy()):
		t.why = t.registryError
		t.end(byRegistration)
	}
}

// completionDrain is the longest drain of a task that exceeded its time.
const completionDrain = 5 * time.Second

// advance walks the steps of the current order as far as the facts allow.
func (t *transition) advance() {
	for {
		step := t.step()
		if !t.begun {
			if t.launched.IsZero() {
				return
			}
			t.begun, t.entered = true, t.now
			if step.enter != nil {
				step.enter(t)
			}
		}
		if step.done == nil || !step.done(&t.state) {
			return
		}
		if step.leave != nil {
			step.leave(t)
		}
		t.at, t.begun = t.at+1, false
	}
}

// followHealth is the one switch between readiness and registration: an
// instance that serves is registered, one that does not is deregistered, and
// what Mesos is told follows from both.
func (t *transition) followHealth() {
	if t.order != launching || t.process != alive {
		return
	}
	switch serves := t.serves(); {
	case serves && t.entry == absent:
		t.register()
	case !serves && (t.entry == registering || t.entry == present):
		t.leave(time.Time{})
	}
	if t.health != t.reported && (t.health == unhealthy || t.health == healthy && t.findable()) {
		t.reported = t.health
		t.reportHealth()
	}
}

// serves reports whether the instance wants to be found.
func (s *state) serves() bool { return !s.rules.checked || s.health == healthy }

// findable reports whether the instance can be found, or need not be.
func (s *state) findable() bool {
	return !s.rules.registers || !s.rules.required || s.entry == present
}

func (t *transition) register() {
	if !t.rules.registers {
		return
	}
	t.entry, t.exposed, t.registerSince = registering, true, t.now
	t.do(register{})
}

func (t *transition) leave(by time.Time) {
	t.entry = leaving
	t.do(deregister{by: by})
}

func (t *transition) atThreshold() {
	if t.order != launching || t.threshold {
		return
	}
	t.threshold = true
	switch t.rules.unhealthy {
	case payload.UnhealthyPolicy_UNHEALTHY_POLICY_NEVER_KILL:
	case payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS:
		t.killBy = t.now.Add(t.rules.schedulerKill)
		t.reported = unhealthy
		t.reportThreshold()
	default:
		t.reported = unhealthy
		t.end(byHealth)
	}
}

// limit fits what is left of the end into a time: the order stays, the times
// shrink. Deregistration gets at most a quarter, the grace at least what it
// asks for up to a half, the drain what is between. A later limit may only
// shorten.
func (t *transition) limit(within time.Duration) {
	within = max(within, 0)
	end := t.now.Add(within)
	t.limits = limits{
		deregister: earlier(t.limits.deregister, t.now.Add(within/4)),
		drain:      earlier(t.limits.drain, end.Add(-min(t.times.grace, within/2))),
		grace:      earlier(t.limits.grace, end),
	}
}

// wake is the next moment at which something happens by itself; zero is never.
func (s *state) wake() time.Time {
	var at time.Time
	if s.phase() == ended || s.launched.IsZero() {
		return at
	}
	if step := s.step(); step.until != nil {
		at = earlier(at, step.until(s))
	}
	if s.order == launching {
		at = earlier(at, s.completionAt())
		at = earlier(at, s.killBy)
		at = earlier(at, s.registerBy())
		at = earlier(at, s.sayAt())
	}
	return at
}

func (s *state) completionAt() time.Time {
	if s.rules.completion <= 0 {
		return time.Time{}
	}
	return s.launched.Add(s.rules.completion)
}

// registerBy is when a task that has never been found fails.
func (s *state) registerBy() time.Time {
	if s.found || !s.rules.required || s.entry != registering {
		return time.Time{}
	}
	return s.registerSince.Add(s.rules.register)
}

// earlier is the first of two moments, of which a zero one never comes.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// reached reports whether a moment has come; a zero one never does.
func reached(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }
