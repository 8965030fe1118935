package executor

import (
	"cmp"
	"slices"
	"time"
)

// Snapshot is what operators see of an executor: its tasks as they are, without
// their environment, labels and commands.
type Snapshot struct {
	// Connection is that to the agent.
	Connection Connection `json:"connection"`
	// Ending is why the executor is about to exit; empty while it is not.
	Ending string `json:"ending,omitempty"`
	// Received counts all tasks ever launched.
	Received int `json:"tasks_received"`
	// Tasks are those that have not ended, oldest first.
	Tasks []TaskView `json:"tasks"`
}

// Connection says how things stand with the agent.
type Connection struct {
	// State is one of the constants below.
	State string `json:"state"`
	// Since is when it became so.
	Since time.Time `json:"since"`
	// Reason is why the agent was given up; see ConnectionLost.
	Reason string `json:"reason,omitempty"`
}

// States of a [Connection].
const (
	ConnectionBegins = "connecting"
	Connected        = "subscribed"
	Disconnected     = "disconnected" // tasks go on, and the agent is looked for
	ConnectionLost   = "lost"         // for good
)

// TaskView is one task as operators see it.
type TaskView struct {
	ID  string `json:"id"`
	App string `json:"app"`
	// State is a phase of the state machine: staging, starting, started,
	// running, killing or exited. Since is when the task came into it.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Received is when LAUNCH came, Started when the process began.
	Received time.Time `json:"received"`
	Started  time.Time `json:"started,omitzero"`
	User     string    `json:"user"`
	PID      int       `json:"pid,omitempty"`
	// Healthy is nil without a health check, and before its first result.
	Healthy *bool `json:"healthy,omitempty"`
	// LastFailure is the last one of the health check.
	LastFailure string `json:"last_failure,omitempty"`
	// Registered is one of no, registering, yes and leaving; empty for a task
	// with nothing to register.
	Registered string `json:"registered,omitempty"`
	// WaitsFor says what keeps the task from its next state; empty in service.
	WaitsFor string    `json:"waits_for,omitempty"`
	Waits    time.Time `json:"waits_since,omitzero"`
}

// Snapshot may be called at any time.
func (e *Executor) Snapshot() Snapshot {
	e.mu.Lock()
	s := Snapshot{Connection: e.connection, Ending: e.why, Received: e.begun, Tasks: make([]TaskView, 0, len(e.tasks))}
	for _, t := range e.tasks {
		s.Tasks = append(s.Tasks, *t.view.Load())
	}
	e.mu.Unlock()
	slices.SortFunc(s.Tasks, func(a, b TaskView) int {
		return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.ID, b.ID))
	})
	return s
}

var entryNames = [...]string{absent: "no", registering: "registering", present: "yes", leaving: "leaving"}

// show makes the present state what [Executor.Snapshot] finds. Only the task's
// own goroutine calls it.
func (t *task) show(now time.Time) {
	s := &t.state
	next := &TaskView{
		ID: t.id, App: t.plan.app, User: t.plan.user, Started: s.spawned, LastFailure: s.lastFailure,
		State: s.phase().String(), Since: now, Received: now,
		WaitsFor: s.waitsFor(), Waits: now,
	}
	if last := t.view.Load(); last != nil {
		next.Received = last.Received
		if last.State == next.State {
			next.Since = last.Since
		}
		if last.WaitsFor == next.WaitsFor {
			next.Waits = last.Waits
		}
	}
	if next.WaitsFor == "" {
		next.Waits = time.Time{}
	}
	if t.process != nil {
		next.PID = t.process.PID()
	}
	if s.health != unknown {
		is := s.health == healthy
		next.Healthy = &is
	}
	if s.rules.registers {
		next.Registered = entryNames[s.entry]
	}
	t.view.Store(next)
}

// waitsFor says in words what keeps a task from its next step.
func (s *state) waitsFor() string {
	if !s.begun || s.step().waits == nil {
		return ""
	}
	return s.step().waits(s)
}

func (s *state) waitsToBePrepared() string { return because("secrets and files", s.wait) }
func (s *state) waitsForProcess() string   { return "its process to start" }
func (s *state) waitsForLaunch() string    { return "its launch to be called off" }

func (s *state) waitsForHealth() string {
	return because("its health check to pass", s.lastFailure)
}

// waitsForService is what is missing from a task that runs.
func (s *state) waitsForService() string {
	switch {
	case !s.killBy.IsZero():
		return because("the scheduler to kill it, or its health check to pass", s.lastFailure)
	case !s.serves():
		return s.waitsForHealth()
	case s.rules.registers && s.entry != present:
		return because("registration", s.registryError)
	}
	return ""
}

func (s *state) waitsToLeave() string { return because("deregistration", s.registryError) }

func (s *state) waitsToDrain() string {
	return "the drain delay of " + brief(s.times.drain) + " to pass"
}

func (s *state) waitsForGrace() string {
	return "its end after SIGTERM; SIGKILL follows after " + brief(s.times.grace)
}

func (s *state) waitsToBeEmpty() string {
	if s.survivors != "" {
		return "processes that SIGKILL does not end: " + s.survivors
	}
	return "its last process to end"
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}
