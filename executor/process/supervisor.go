package process

import (
	"context"
	"errors"
	"os"

	"github.com/rs/zerolog"
)

// Config says where cgroups may be made. [ConfigFromEnv] reads it.
type Config struct {
	// ContainerID is the id that Mesos gave the executor's container. Cgroups
	// are nested below the executor's own one only if its path ends in this id,
	// which proves that Mesos made it for this container.
	ContainerID string
	// FrameworkID is part of the name of what is made below CgroupParent, so
	// that frameworks leave each other's leftovers alone.
	FrameworkID string
	// CgroupParent is the path of an existing cgroup as /proc/self/cgroup shows
	// it (e.g. "/pacer"), used when Mesos made none. Empty means none.
	CgroupParent string
}

// Mode is where the processes of tasks live; the package comment lists them.
type Mode string

// Modes, as they appear in logs and status.
const (
	ModeV2Nested    Mode = "v2-nested"
	ModeV1Nested    Mode = "v1-nested"
	ModeV2Delegated Mode = "v2-delegated"
	ModeV1Delegated Mode = "v1-delegated"
	ModeNone        Mode = "none"
)

// Status describes a supervisor for operators.
type Status struct {
	Mode Mode `json:"mode"`
	// Reason says why this mode and not a better one.
	Reason string `json:"reason"`
	// Cgroup is the path below which tasks' cgroups are made; empty for none.
	Cgroup string `json:"cgroup,omitempty"`
	// Controllers that enforce limits: memory, cpu, pids.
	Controllers []string `json:"controllers,omitempty"`
	// Caveats are what operators should know about this host, one sentence
	// each.
	Caveats []string `json:"caveats,omitempty"`
	// Tasks is the number of trees not yet killed.
	Tasks int `json:"tasks"`
}

// Supervisor is the parent of all tasks. There is at most one per process.
type Supervisor struct{}

// ConfigFromEnv reads MESOS_SANDBOX (its last element is the container's id),
// MESOS_FRAMEWORK_ID and PACER_CGROUP_PARENT.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	return Config{}, errors.ErrUnsupported
}

// New makes this process the reaper of orphaned descendants, chooses the mode,
// removes what dead executors of the same framework left, and logs the choice.
func New(ctx context.Context, cfg Config, log zerolog.Logger) (*Supervisor, error) {
	return nil, errors.ErrUnsupported
}

// Status reports the mode, why it was chosen and what it can enforce.
func (s *Supervisor) Status() Status { return Status{} }

// Mode is short for Status().Mode.
func (s *Supervisor) Mode() Mode { return ModeNone }

// Start starts a task. It returns once the program runs (exec succeeded) inside
// its limits, or with an error after which nothing of it is left. ctx bounds
// the start only.
func (s *Supervisor) Start(ctx context.Context, spec Spec) (*Process, error) {
	return nil, errors.ErrUnsupported
}

// Close kills every task that is left, until ctx ends, and stops reaping.
func (s *Supervisor) Close(ctx context.Context) error { return nil }

// Process is one task's tree of processes.
type Process struct{}

// PID of the main process.
func (p *Process) PID() int { return 0 }

// Done is closed when the main process has ended. Others of the tree may still
// run; [Process.Kill] ends them.
func (p *Process) Done() <-chan struct{} { return nil }

// Exit tells how the main process ended. Before Done it has no meaning.
// OOMKills and PeakMemory are read again by Kill.
func (p *Process) Exit() Exit { return Exit{} }

// Signal sends sig to every process of the task, each once, and wakes those
// that are stopped. It is no error if none is left.
func (p *Process) Signal(sig os.Signal) error { return nil }

// Kill sends SIGKILL until nothing of the task is left, writes the rest of its
// output, reaps it and removes its cgroup. When ctx ends first it returns a
// [*SurvivorsError]; call it again to go on. After success it does nothing.
func (p *Process) Kill(ctx context.Context) error { return nil }

// Exec runs a command in the task's directory, cgroup and environment, as its
// user. When ctx ends the command and all its descendants are killed and the
// error is ctx's. The result's Code says how it ended, also when that is not 0;
// an error means that it could not be run or did not end.
func (p *Process) Exec(ctx context.Context, cmd Command) (Result, error) { return Result{}, nil }

// Usage reads what the task uses now.
func (p *Process) Usage() (Usage, error) { return Usage{}, nil }

// RunShim turns this process into the shim if it was started as one, and then
// never returns. main and TestMain call it before anything else.
func RunShim() {}

// SurvivorsError reports processes that SIGKILL has not ended, in D state
// (uninterruptible sleep) as a rule.
type SurvivorsError struct {
	TaskID    string
	Survivors []Survivor
}

// Survivor is a process that still exists.
type Survivor struct {
	PID int
	// Name is the kernel's name of the program, at most 15 bytes.
	Name string
	// State is the letter of /proc/<pid>/stat, "D" for uninterruptible sleep.
	State string
}

func (e *SurvivorsError) Error() string { return "" }
