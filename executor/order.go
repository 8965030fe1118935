package executor

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// order is which of the three lists of steps a task follows.
type order int

const (
	launching   order = iota // towards service, and in it
	ordered                  // an end that we bring about
	spontaneous              // an end that came by itself
)

// step is one element of an order. It is entered once, lasts until done says
// so, and is left once. No done means that it lasts until another order begins.
type step struct {
	name  string
	phase phase
	enter func(*transition)
	done  func(*state) bool
	until func(*state) time.Time // when done is worth asking again
	leave func(*transition)
	waits func(*state) string // what done depends on, for operators
}

// launchOrder is what has to happen, one after the other, until a task is in
// service.
var launchOrder = []step{
	{name: "announce", phase: staging, enter: (*transition).announce, done: always},
	{name: "prepare", phase: starting, enter: (*transition).prepare, done: isPrepared, waits: (*state).waitsToBePrepared},
	{name: "spawn", phase: starting, enter: (*transition).spawn, done: hasProcess, waits: (*state).waitsForProcess},
	{name: "become healthy", phase: started, enter: (*transition).watchHealth, done: (*state).serves, waits: (*state).waitsForHealth},
	{name: "become findable", phase: started, enter: (*transition).followHealth, done: (*state).inService, waits: (*state).waitsForService},
	{name: "serve", phase: running, enter: (*transition).reportService, waits: (*state).waitsForService},
}

// killOrder is how we end a task. Nothing in it is skipped; a step without
// anything to do is done at once.
var killOrder = []step{
	{name: "report", phase: killing, enter: (*transition).reportKilling, done: always},
	{name: "stop checks", phase: killing, enter: (*transition).stopChecks, done: always},
	{name: "cancel launch", phase: killing, enter: (*transition).cancelLaunch, done: nothingUnderWay, waits: (*state).waitsForLaunch},
	{name: "deregister", phase: killing, enter: (*transition).deregister, done: isGone, until: (*state).leaveBy, leave: (*transition).noteDeregistration, waits: (*state).waitsToLeave},
	{name: "drain", phase: killing, done: isDrained, until: (*state).drainedAt, leave: (*transition).noteDrain, waits: (*state).waitsToDrain},
	{name: "terminate", phase: killing, enter: (*transition).terminate, done: graceIsOver, until: (*state).graceUntil, leave: (*transition).noteGrace, waits: (*state).waitsForGrace},
	{name: "force", phase: killing, enter: (*transition).killTree, done: isEmpty, waits: (*state).waitsToBeEmpty},
	{name: "end", phase: ended, enter: (*transition).reportEnd},
}

// exitOrder is what follows when a task's first process has ended by itself.
var exitOrder = []step{
	{name: "stop checks", phase: exited, enter: (*transition).stopChecks, done: always},
	{name: "deregister", phase: exited, enter: (*transition).deregister, done: isGone, until: (*state).leaveBy, leave: (*transition).noteDeregistration, waits: (*state).waitsToLeave},
	{name: "force", phase: exited, enter: (*transition).killTree, done: isEmpty, waits: (*state).waitsToBeEmpty},
	{name: "end", phase: ended, enter: (*transition).reportEnd},
}

// step is where the task stands. It is computed rather than stored, so that a
// state stays a plain value.
func (s *state) step() *step {
	switch s.order {
	case ordered:
		return &killOrder[s.at]
	case spontaneous:
		return &exitOrder[s.at]
	}
	return &launchOrder[s.at]
}

func (s *state) phase() phase {
	if !s.begun {
		return staging
	}
	return s.step().phase
}

func always(*state) bool            { return true }
func isPrepared(s *state) bool      { return s.prepared }
func hasProcess(s *state) bool      { return s.process == alive }
func nothingUnderWay(s *state) bool { return !s.preparing && !s.spawning }

func (s *state) inService() bool { return s.serves() && s.findable() }

func isEmpty(s *state) bool { return s.process == noProcess || s.process == processEnded }

func (t *transition) announce() { t.say(mesos.TASK_STARTING, nil, "") }

func (t *transition) prepare() {
	t.preparing = true
	t.do(prepare{})
}

func (t *transition) spawn() {
	t.spawning = true
	t.do(spawn{})
}

func (t *transition) watchHealth() {
	if t.rules.checked {
		t.say(mesos.TASK_RUNNING, nil, "")
	}
	t.do(startChecks{})
}

// reportService reports a task without a health check; one with a check is
// reported by followHealth.
func (t *transition) reportService() {
	if !t.rules.checked {
		t.say(mesos.TASK_RUNNING, nil, "")
	}
}

func (t *transition) stopChecks() {
	if t.process != noProcess {
		t.do(stopChecks{})
	}
}

func (t *transition) cancelLaunch() {
	if t.preparing || t.spawning {
		t.do(cancelLaunch{})
	}
}

func (t *transition) deregister() {
	t.leaveSince = t.now
	switch t.entry {
	case registering, present:
		t.leave(t.leaveBy())
	case leaving:
		// Asked for already, when the task became unhealthy.
		t.do(deregister{by: t.leaveBy()})
	}
}

func (s *state) leaveBy() time.Time {
	return earlier(s.leaveSince.Add(s.times.deregister), s.limits.deregister)
}

func isGone(s *state) bool { return s.entry == absent || reached(s.now, s.leaveBy()) }

// noteDeregistration counts an entry that could not be removed in time as gone
// from now on: the drain that follows is the best that is left.
func (t *transition) noteDeregistration() {
	if t.entry == absent {
		return
	}
	t.goneAt = t.now
	text := "not known to be deregistered: no confirmation within " + brief(t.now.Sub(t.leaveSince))
	if t.registryError != "" {
		text += " (" + t.registryError + ")"
	}
	t.shorten(text)
}

// drainEnd is when clients may be expected to have noticed.
func (s *state) drainEnd() time.Time { return s.goneAt.Add(s.times.drain) }

func (s *state) drainedAt() time.Time { return earlier(s.drainEnd(), s.limits.drain) }

func isDrained(s *state) bool {
	return !s.exposed || s.process != alive || reached(s.now, s.drainedAt())
}

func (t *transition) noteDrain() {
	if t.exposed && t.process == alive && t.now.Before(t.drainEnd()) {
		t.shorten("drain cut by " + brief(t.drainEnd().Sub(t.now)) + " for the shutdown")
	}
}

func (t *transition) terminate() {
	if !graceIsOver(&t.state) {
		t.signaled = t.now
		t.do(terminate{})
	}
}

func (s *state) graceUntil() time.Time {
	return earlier(s.entered.Add(s.times.grace), s.limits.grace)
}

func graceIsOver(s *state) bool {
	return s.process == quiet || isEmpty(s) || reached(s.now, s.graceUntil())
}

func (t *transition) noteGrace() {
	if end := t.entered.Add(t.times.grace); t.process < quiet && t.process != noProcess && t.now.Before(end) {
		t.shorten("grace cut by " + brief(end.Sub(t.now)) + " for the shutdown")
	}
}

// killTree removes whatever is left. It is also what cleans up after a tree
// that has ended by itself.
func (t *transition) killTree() {
	if isEmpty(&t.state) {
		return
	}
	if t.process == alive && t.forced.IsZero() {
		t.forced = t.now
	}
	t.leftovers = t.process == rootExited && t.order == ordered
	t.do(killTree{})
}
