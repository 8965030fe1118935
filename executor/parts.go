package executor

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/agent"
	"pacer/executor/artifact"
	"pacer/executor/logs"
	"pacer/executor/process"
	"pacer/executor/registry"
	"pacer/healthcheck"
	"pacer/secrets"
)

// Parts are what an executor is built from. Each of them is used by all tasks
// at once and bounds its own calls; the executor closes none of them.
type Parts struct {
	Agent     Agent
	Processes Processes
	Output    Output
	// Artifacts fetches the files that tasks ask for. Nil where none can be.
	Artifacts Artifacts
	// Registry is nil where none is configured.
	Registry registry.Registry
	// Secrets is nil where no store is configured.
	Secrets *secrets.Keeper
	// Scheduler is asked for fresh identity tokens; nil where nobody can be.
	Scheduler Scheduler
	Checks    Checks
}

// Agent carries statuses to the Mesos agent, in order and until acknowledged.
// [agent.Client] is one.
type Agent interface {
	// Update queues a status and returns at once.
	Update(status mesos.TaskStatus) error
	// Drain returns when every status has been acknowledged, or when ctx ends.
	Drain(ctx context.Context) error
}

// Scheduler is the way to the framework. [agent.Client] is one.
type Scheduler interface {
	// Message sends data, which may be lost, and returns at once.
	Message(data []byte) error
}

// Processes starts tasks. [FromSupervisor] makes one of package process.
type Processes interface {
	// LookupUser finds a user by name or number, in directory services too.
	LookupUser(ctx context.Context, name string) (process.User, error)
	// Start returns once the program runs, or with an error after which nothing
	// of it is left. ctx bounds the start only.
	Start(ctx context.Context, spec process.Spec) (Process, error)
}

// Artifacts fetches files. [artifact.Fetcher] does.
type Artifacts interface {
	// Fetch returns when every file is in its place, or with an error, or when
	// ctx ends; no process is left of it then.
	Fetch(ctx context.Context, job artifact.Job) error
}

// Process is one task's tree of processes; see [process.Process].
type Process interface {
	PID() int
	Done() <-chan struct{}
	Exit() process.Exit
	Signal(sig os.Signal) error
	SignalMain(sig syscall.Signal) error
	ReplaceSecretFiles(files []process.SecretFile) error
	Kill(ctx context.Context) error
	Exec(ctx context.Context, cmd process.Command) (process.Result, error)
	Usage() (process.Usage, error)
}

// Output opens the files that a task's output goes to.
type Output interface {
	// Open makes the files below dir.
	Open(dir string) (Streams, error)
}

// Streams are a task's open output files.
type Streams struct {
	Stdout, Stderr io.Writer
	// Tail returns the end of what was written to Stderr, at most so many bytes;
	// nil where nothing is kept.
	Tail  func(bytes int) string
	Close func() error
}

// Checks runs health checks.
type Checks interface {
	// Run checks until ctx ends and tells what changes from one goroutine; tell
	// does not block. It returns early only with an error.
	Run(ctx context.Context, check healthcheck.Check, task healthcheck.Task, tell func(healthcheck.Event)) error
	// Probe asks once.
	Probe(ctx context.Context, check healthcheck.Check, task healthcheck.Task) healthcheck.Result
}

var (
	_ Agent         = (*agent.Client)(nil)
	_ Scheduler     = (*agent.Client)(nil)
	_ agent.Handler = (*Executor)(nil)
	_ Process       = (*process.Process)(nil)
	_ Artifacts     = (*artifact.Fetcher)(nil)
)

// FromSupervisor makes the processes of s those of an executor.
func FromSupervisor(s *process.Supervisor) Processes { return supervised{s} }

// FromLogs makes each task's output a pair of rotating files.
func FromLogs(policy logs.Policy) Output { return logged{policy} }

type logged struct{ policy logs.Policy }

func (l logged) Open(dir string) (Streams, error) {
	files, err := logs.Open(dir, l.policy)
	if err != nil {
		return Streams{}, err
	}
	tail := func(bytes int) string { return string(files.Stderr.End(bytes)) }
	return Streams{Stdout: files.Stdout, Stderr: files.Stderr, Tail: tail, Close: files.Close}, nil
}

// FromProber makes health checks of probes that p performs.
func FromProber(p *healthcheck.Prober) Checks { return probed{p} }

type probed struct{ prober *healthcheck.Prober }

func (p probed) Run(ctx context.Context, check healthcheck.Check, task healthcheck.Task, tell func(healthcheck.Event)) error {
	monitor, err := healthcheck.NewMonitor(p.prober, check, task)
	if err != nil {
		return err
	}
	monitor.Run(ctx, tell)
	return ctx.Err()
}

func (p probed) Probe(ctx context.Context, check healthcheck.Check, task healthcheck.Task) healthcheck.Result {
	return p.prober.Probe(ctx, &check, task.Run, time.Now())
}

type supervised struct{ *process.Supervisor }

func (s supervised) Start(ctx context.Context, spec process.Spec) (Process, error) {
	p, err := s.Supervisor.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return p, nil
}
