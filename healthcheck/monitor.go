package healthcheck

import (
	"context"
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
	return &Monitor{prober: p, check: c, task: t}, nil
}
