package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Keys of log fields.
const (
	keyTask   = "task_id"
	keyMode   = "cgroup_mode"
	keyReason = "reason"
	keyCgroup = "cgroup"
	keyPID    = "pid"
)

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

// Supervisor is the parent of all tasks. There is at most one per process at a
// time.
type Supervisor struct {
	log     zerolog.Logger
	reaper  *reaper
	spawner *spawner
	scanner *scanner
	place   place
	// mountPoint is where tasks have their secret files.
	mountPoint string

	stop    chan struct{} // closed by Close, when nothing is left to watch
	watches sync.WaitGroup

	// ctx ends when Close begins, and with it every Start under way.
	ctx    context.Context
	cancel context.CancelFunc
	starts sync.WaitGroup

	mu     sync.Mutex
	tasks  map[string]*Process // until Kill has succeeded
	closed bool
}

// A place makes the trees of one mode.
type place interface {
	status() Status
	newTree(s *Supervisor, taskID string, l Limits) (tree, error)
	close() error
}

// New makes this process the reaper of orphaned descendants, chooses the mode,
// removes what dead executors of the same framework left, and logs the choice.
func New(ctx context.Context, cfg Config, log zerolog.Logger) (_ *Supervisor, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the reaper of orphaned descendants: %w", err)
	}
	if err := forbidCoreDumps(); err != nil {
		return nil, err
	}
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	s := &Supervisor{
		log:     log,
		scanner: &scanner{},

		mountPoint: secretsMountPoint,

		tasks: make(map[string]*Process),
		stop:  make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.spawner, err = newSpawner(); err != nil {
		return nil, err
	}
	s.reaper = newReaper()
	if s.place, err = choosePlace(ctx, s, cfg); err != nil {
		s.reaper.close()
		return nil, errors.Join(err, s.spawner.close(ctx))
	}
	st := s.Status()
	log.Info().Str(keyMode, string(st.Mode)).Str(keyReason, st.Reason).Str(keyCgroup, st.Cgroup).
		Strs("controllers", st.Controllers).Strs("caveats", st.Caveats).Msg("cgroup mode chosen")
	return s, nil
}

// forbidCoreDumps sets this process's limit, which children inherit. Core files
// of the executor would hold secrets as well. 1 byte, not 0: a core_pattern that
// pipes to a program ignores every limit but 1 (core(5) and fs/coredump.c).
func forbidCoreDumps() error {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_CORE, &r); err != nil {
		return fmt.Errorf("read limit of core dumps: %w", err)
	}
	r.Cur = min(1, r.Max)
	if err := syscall.Setrlimit(unix.RLIMIT_CORE, &r); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// closeOnExec keeps descriptors that whoever started the executor left open
// from reaching tasks. Go opens all of its own with O_CLOEXEC.
func closeOnExec() error {
	err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	// A kernel before 5.11.
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open descriptors: %w", err)
	}
	for _, e := range fds {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// Status reports the mode, why it was chosen and what it can enforce.
func (s *Supervisor) Status() Status {
	st := s.place.status()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Tasks = len(s.tasks)
	return st
}

// Mode is short for Status().Mode.
func (s *Supervisor) Mode() Mode { return s.place.status().Mode }

// Start starts a task. It returns once the program runs (exec succeeded) inside
// its limits, or with an error after which nothing of it is left. ctx bounds
// the start only.
func (s *Supervisor) Start(ctx context.Context, spec Spec) (_ *Process, err error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	p := &Process{
		s:    s,
		id:   spec.TaskID,
		spec: spec,

		confidential: spec.confidential(),

		log:  s.log.With().Str(keyTask, spec.TaskID).Logger(),
		done: make(chan struct{}),
		kill: make(chan struct{}, 1), // A lock that a context can give up.
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	if err := s.reserve(p); err != nil {
		return nil, err
	}
	defer s.starts.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(errClosed) })()
	defer func() {
		if err != nil {
			p.cancel(err)
			s.forget(p)
		}
	}()
	if p.user, err = s.userOf(ctx, spec.User); err != nil {
		return nil, err
	}
	if p.tree, err = s.place.newTree(s, spec.TaskID, spec.Limits); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.forgetSecrets()
		return nil, errors.Join(err, p.tree.remove())
	}
	return p, nil
}

func (s *Supervisor) reserve(p *Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("start task %s: %w", p.id, errClosed)
	}
	if s.tasks[p.id] != nil {
		return fmt.Errorf("start task %s: a task of this id has not been killed yet", p.id)
	}
	s.tasks[p.id] = p
	s.starts.Add(1)
	return nil
}

func (s *Supervisor) forget(p *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, p.id)
}

// alone reports whether at most one task is left.
func (s *Supervisor) alone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tasks) <= 1
}

// launch forks a child into a tree.
func (s *Supervisor) launch(ctx context.Context, t tree, l launch, limits []Rlimit) (*child, error) {
	path, err := lookupProgram(l.argv[0], l.dir, l.env)
	if err != nil {
		return nil, err
	}
	l.path, l.cgroup = path, t.birth()
	if v := t.variable(); v != "" {
		l.env = append(slices.Clip(l.env), v)
	}
	if t.needsShim() || len(limits) > 0 || len(l.secretEnv) > 0 || len(l.extra) > 0 {
		return s.launchShim(ctx, t, l, limits)
	}
	c, err := s.spawner.fork(ctx, s.reaper, l, s.late(t))
	if err == nil {
		t.bind(c)
	}
	return c, err
}

// late cleans up after a fork that returned when nobody waited for it any more.
func (s *Supervisor) late(t tree) func(*child) {
	return func(c *child) {
		t.bind(c)
		ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
		defer cancel()
		left, err := killTree(ctx, t)
		s.reaper.abandon(c)
		if err = errors.Join(err, t.remove()); err != nil {
			s.log.Error().Err(err).Ints(keyPID, left).Msg("a start that came too late is not cleaned up")
		}
	}
}

// cleanUpTime bounds what follows a failure whose own deadline has passed.
const cleanUpTime = 5 * time.Second

// Close kills every task that is left, until ctx ends, and stops reaping.
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.starts.Wait()
	s.mu.Lock()
	left := make([]*Process, 0, len(s.tasks))
	for _, p := range s.tasks {
		left = append(left, p)
	}
	s.mu.Unlock()

	errs := make([]error, len(left))
	var kills sync.WaitGroup
	for i, p := range left {
		kills.Go(func() { errs[i] = p.Kill(ctx) })
	}
	kills.Wait()
	close(s.stop)
	s.watches.Wait()
	errs = append(errs, s.spawner.close(ctx))
	s.reaper.close()
	return errors.Join(append(errs, s.place.close())...)
}
