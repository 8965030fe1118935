package healthcheck

import (
	"context"
	"hash/fnv"
	"io"
	"time"
)

// Runner runs a command of a check in the context of the task: its user,
// directory, environment, cgroup and mount namespace. When ctx ends it kills
// the command with its whole tree and returns ctx's error. An error means that
// there is no exit status.
type Runner func(ctx context.Context, cmd Command) (CommandResult, error)

// CommandResult is how a command ended.
type CommandResult struct {
	// ExitCode is the code, or -1 if a signal ended the command.
	ExitCode int
	// Signal is the number of that signal, else 0.
	Signal int
	// Stderr is the end of what the command wrote to standard error. At most
	// [MaxStderr] bytes of it are shown, made printable.
	Stderr []byte
}

// MaxStderr is how many bytes of a command's standard error are in a message.
const MaxStderr = 200

// Task is what a [Monitor] has to know about the task that it checks.
type Task struct {
	// ID spreads the checks of many tasks over their interval.
	ID string
	// Started is when the process was started: Delay and Grace count from it.
	// Zero means the call of [Monitor.Run].
	Started time.Time
	// Run runs command checks; it may be nil if the check is none.
	Run Runner
	// SnoozeFile is the path of the file that suspends the counting of
	// failures (see the package comment); empty means that there is none.
	SnoozeFile string
	// Observe, if not nil, is called with every result, counted or not, for
	// metrics. It must not block.
	Observe func(Result)
}

// Monitor repeats one check of one task and tells what changes.
type Monitor struct {
	prober *Prober
	check  Check
	task   Task
}

// NewMonitor returns a monitor for a check of a task. The error is that of
// [Check.Validate]. Monitors of one process share a [Prober].
func NewMonitor(p *Prober, c Check, t Task) (*Monitor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Command != nil && t.Run == nil {
		return nil, Problems{{"command", "commands cannot be run here"}}
	}
	return &Monitor{prober: p, check: c, task: t}, nil
}

// Run checks the task until ctx ends, and calls report, from its own
// goroutine, with everything that changes. When it returns nothing of it is
// left running and report is not called again; nor is it called with anything
// that was found after ctx had ended.
func (m *Monitor) Run(ctx context.Context, report func(Event)) {
	started := m.task.Started
	if started.IsZero() {
		started = time.Now()
	}
	rules := m.check.Rules()
	var (
		machine machineState
		due     = started.Add(m.check.Delay)
		timer   = time.NewTimer(time.Until(due))
	)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		result := m.prober.Probe(ctx, &m.check, m.task.Run, due)
		if ctx.Err() != nil {
			return
		}
		end := time.Now()
		result.Confirm = machine.Confirming
		if m.task.Observe != nil {
			m.task.Observe(result)
		}
		ignore := m.ignore(&machine, &result, end, report)
		first := !machine.wasHealthy
		kinds := machine.Next(rules, Answer{OK: result.OK(), Ignore: ignore, Age: end.Sub(started)})
		for _, kind := range kinds {
			report(Event{
				Kind: kind, Check: m.check.Name, First: kind == Healthy && first,
				Failures: machine.Failures, Limit: rules.Failures, Result: result,
			})
		}
		pause := machine.Pause(rules, end.Sub(started))
		if first && machine.wasHealthy {
			pause = spread(m.task.ID+m.check.Name, pause)
		}
		due = end.Add(pause)
		timer.Reset(time.Until(due))
	}
}

type machineState struct {
	Machine
	snoozed bool
}

// ignore tells whether a failure must not count, and reports a snooze.
func (m *Monitor) ignore(s *machineState, r *Result, now time.Time, report func(Event)) bool {
	if r.OK() {
		s.snoozed = false
		return false
	}
	if m.task.SnoozeFile != "" {
		until, err := snoozedUntil(m.task.SnoozeFile, now)
		if err != nil {
			r.Message += " (the snooze file has no effect: " + err.Error() + ")"
		}
		was := s.snoozed
		s.snoozed = !until.IsZero()
		if s.snoozed {
			if !was {
				report(Event{Kind: Snoozed, Check: m.check.Name, Failures: s.Failures, Limit: m.check.Failures, Result: *r, Until: until})
			}
			return true
		}
	}
	return r.Late
}

// Rules returns the part of the check that turns answers into verdicts.
func (c *Check) Rules() Rules {
	return Rules{Grace: c.Grace, Interval: c.Interval, Failures: c.Failures, Successes: c.Successes}
}

// spread returns a part of the interval, from [MinInterval] to all of it, that
// depends on the id alone.
func spread(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	io.WriteString(h, id)
	sum := h.Sum64()
	// FNV's low bits are poor for short texts that differ at their end.
	sum ^= sum >> 32
	sum *= 0x9e3779b97f4a7c15
	sum ^= sum >> 29
	return max(MinInterval, time.Duration(sum%uint64(interval))+1)
}
