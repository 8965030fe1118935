package healthcheck

import "time"

// Rules are the part of a [Check] that turns answers into verdicts.
type Rules struct {
	// Grace, Failures, Successes and Interval are as in [Check].
	Grace, Interval     time.Duration
	Failures, Successes int
}

// Machine is the state of one check of one task. It is pure: it does not
// know what time it is, and does nothing. The zero value is a task that was
// just started.
type Machine struct {
	// State is Healthy or Unhealthy, or empty as long as nothing is known.
	State EventKind
	// Failures counted and Successes seen in a row.
	Failures, Successes int
	// Confirming: a healthy task has failed once, and the next probe is the
	// repeat that confirms it or not.
	Confirming bool

	wasHealthy bool
	reported   bool // Threshold has been, since the task turned unhealthy
}

// Answer is what a probe means to the machine.
type Answer struct {
	OK bool
	// Ignore is set for a failure that must not count: the probe was late, or
	// the task is snoozed.
	Ignore bool
	// Age of the task when the probe ended.
	Age time.Duration
}

// Next takes an answer and returns what changed.
func (m *Machine) Next(r Rules, a Answer) []EventKind {
	confirming := m.Confirming
	m.Confirming = false
	switch {
	case a.OK:
		return m.success(r)
	case a.Ignore:
		// A repeat that says nothing is repeated.
		m.Confirming = confirming
		return nil
	}
	m.Successes = 0
	switch {
	case m.State == "" && !m.wasHealthy && a.Age <= r.Grace && r.Grace > 0:
		return nil
	case m.State == Healthy && !confirming:
		m.Confirming = true
		return nil
	}
	return m.failure(r)
}

func (m *Machine) success(r Rules) []EventKind {
	m.Failures = 0
	if m.State == Healthy {
		return nil
	}
	m.Successes++
	if m.Successes < r.Successes {
		return nil
	}
	m.State, m.Successes, m.wasHealthy, m.reported = Healthy, 0, true, false
	return []EventKind{Healthy}
}

func (m *Machine) failure(r Rules) []EventKind {
	var events []EventKind
	m.Failures++
	if m.State != Unhealthy {
		m.State = Unhealthy
		events = append(events, Unhealthy)
	}
	switch reached := r.Failures != Never && m.Failures >= r.Failures; {
	case reached && !m.reported:
		m.reported = true
		events = append(events, Threshold)
	case len(events) == 0:
		events = append(events, Failure)
	}
	return events
}

// Pause returns how long after the end of a probe the next one starts, age
// being the task's age at that end.
func (m *Machine) Pause(r Rules, age time.Duration) time.Duration {
	interval := max(r.Interval, MinInterval)
	starting := !m.wasHealthy && age < r.Grace
	if m.Confirming || starting {
		return min(interval, StartupInterval)
	}
	return interval
}
