package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Process is one task's tree of processes.
type Process struct {
	s    *Supervisor
	id   string
	spec Spec
	user *User
	log  zerolog.Logger

	tree tree
	main *child
	out  *output
	done chan struct{}

	// ctx ends when the task is being killed; commands hang off it.
	ctx    context.Context
	cancel context.CancelCauseFunc
	kill   chan struct{} // held by the Kill that is at work

	// confidential says that the task has secrets; what follows is theirs.
	confidential bool

	box       *box     // nil without secret files
	namespace *os.File // the task's mount namespace, if it has its own
	secretEnv [][]byte // kept for commands

	mu       sync.Mutex
	exit     Exit
	killing  bool
	gone     bool // Kill has succeeded
	commands sync.WaitGroup
	serial   int // of commands
}

// defaultUmask is that of Mesos' own executors and of most distributions.
const defaultUmask = 0o022

func (p *Process) start(ctx context.Context) (err error) {
	if p.out, err = openOutput(p.spec.Stdout, p.spec.Stderr); err != nil {
		return err
	}
	l, err := p.withSecrets(p.launch(p.spec.Argv, p.spec.Env, p.out.files))
	if err != nil {
		p.out.abort()
		return err
	}
	p.exit.Started = time.Now()
	p.main, err = p.s.launch(ctx, p.tree, l, p.limits())
	if !p.spec.KeepSecretEnv || err != nil {
		wipe(l.secretEnv)
	} else {
		p.secretEnv = l.secretEnv
	}
	p.spec.SecretEnv, p.spec.SecretFiles = nil, nil // The caller's, to be wiped.
	if err != nil {
		p.out.abort()
		return err
	}
	if err := p.openNamespace(); err != nil {
		p.log.Warn().Err(err).Msg("commands will not see the secret files")
	}
	p.out.closeOwn()
	p.out.pump(func(err error) { p.log.Warn().Err(err).Msg("task output lost") })
	if p.spec.CoreDumps {
		// Raising the limit late harms nobody, lowering it late would.
		if err := allowCoreDumps(p.main.pid); err != nil {
			p.log.Warn().Err(err).Msg("core dumps stay forbidden")
		}
	}
	p.s.watches.Go(p.watchLoop)
	return nil
}

// withSecrets makes the files of a task, and adds to its launch what it takes to
// deliver its secrets.
func (p *Process) withSecrets(l launch) (launch, error) {
	l.secretEnv = entries(p.spec.SecretEnv)
	p.spec.Env = slices.DeleteFunc(slices.Clone(p.spec.Env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.ContainsFunc(p.spec.SecretEnv, func(v SecretVariable) bool { return v.Name == name })
	})
	l.env = p.spec.Env
	if len(p.spec.SecretFiles) == 0 {
		return l, nil
	}
	b, reason, err := newBox(p.s.mountPoint, p.spec.Dir, p.user, p.spec.SecretFiles)
	if err != nil {
		return l, err
	}
	p.box = b
	p.log.Info().AnErr(keyReason, reason).Bool("tmpfs", b.mount != nil).Int("files", len(p.spec.SecretFiles)).Msg("secret files made")
	// Commands find it there, too.
	p.spec.Env = append(slices.Clip(p.spec.Env), SecretsVariable+"="+b.dir)
	l.env, l.extra = p.spec.Env, b.inherited()
	if b.mount != nil {
		l.secrets = orderSecrets{Mount: []byte(b.dir)}
	} else {
		l.secrets = orderSecrets{LinksDir: []byte(b.dir), Links: toBytes(b.order)}
	}
	return l, nil
}

// limits are those of every process of the task.
func (p *Process) limits() []Rlimit {
	if !p.confidential {
		return p.spec.Rlimits
	}
	return append(slices.Clip(p.spec.Rlimits), noCoreDumps)
}

func (p *Process) launch(argv, env []string, files []uintptr) launch {
	umask := defaultUmask
	if p.spec.Umask != nil {
		umask = int(*p.spec.Umask)
	}
	return launch{argv: argv, env: env, dir: p.spec.Dir, umask: umask, user: p.user, files: files, name: p.id}
}

func allowCoreDumps(pid int) error {
	var r unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &r); err != nil {
		return fmt.Errorf("read the task's limit of core dumps: %w", err)
	}
	r.Cur = r.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, &r, nil); err != nil {
		return fmt.Errorf("raise the task's limit of core dumps: %w", err)
	}
	return nil
}

// watchLoop waits for the main process and says how it ended.
func (p *Process) watchLoop() {
	select {
	case <-p.main.exited:
	case <-p.s.stop:
		return
	}
	p.readExit()
	close(p.done)
}

// readExit fills in Exit; Kill does it again, when the others have ended too.
func (p *Process) readExit() {
	status, memory := p.main.status, p.tree.memory()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exit.Code, p.exit.Signal, p.exit.CoreDumped = status.code, status.signal, status.core
	p.exit.Ended = status.endedAt
	p.exit.OOMKills, p.exit.OOM = memory.oomKills, memory.oomKills > 0
	p.exit.MemoryLimit = memory.limit
	p.exit.PeakMemory = max(memory.peak, p.exit.PeakMemory)
	if p.exit.PeakMemory == 0 {
		p.exit.PeakMemory = status.maxRSS
	}
}

// PID of the main process.
func (p *Process) PID() int { return p.main.pid }

// Done is closed when the main process has ended. Others of the tree may still
// run; [Process.Kill] ends them.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit tells how the main process ended. Before Done it has no meaning.
// OOMKills and PeakMemory are read again by Kill.
func (p *Process) Exit() Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// Signal sends sig to every process of the task, each once, and wakes those
// that are stopped. It is no error if none is left.
func (p *Process) Signal(sig os.Signal) error {
	n, ok := sig.(syscall.Signal)
	if !ok || n <= 0 {
		return fmt.Errorf("signal task %s: %v is no signal of this system", p.id, sig)
	}
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	if gone {
		return nil
	}
	if err := p.tree.signal(n); err != nil {
		return fmt.Errorf("signal task %s: %w", p.id, err)
	}
	return nil
}

// SignalMain sends sig to the main process only. It is no error if that has
// ended.
func (p *Process) SignalMain(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	if err := p.main.signal(sig, false); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal main process of task %s: %w", p.id, err)
	}
	return nil
}

// drainTime bounds writing the rest of the output when nothing of the task is
// left; what the pipes hold is 64 KiB each.
const drainTime = 10 * time.Second

// Kill sends SIGKILL until nothing of the task is left, writes the rest of its
// output, reaps it and removes its cgroup. When ctx ends first it returns a
// [*SurvivorsError]; call it again to go on. After success it does nothing.
func (p *Process) Kill(ctx context.Context) error {
	select {
	case p.kill <- struct{}{}:
		defer func() { <-p.kill }()
	case <-ctx.Done():
		return fmt.Errorf("kill task %s: %w while another kill is at work", p.id, context.Cause(ctx))
	}
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return nil
	}
	p.killing = true
	p.mu.Unlock()
	p.cancel(ErrKilled)

	if left, err := killTree(ctx, p.tree); err != nil {
		return &SurvivorsError{TaskID: p.id, Survivors: survivors(left), Cause: err}
	}
	p.s.reaper.pass()
	select {
	case <-p.done:
	case <-ctx.Done():
		return &SurvivorsError{TaskID: p.id, Survivors: survivors([]int{p.main.pid}), Cause: context.Cause(ctx)}
	}
	p.commands.Wait()
	p.readExit()

	drained, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), drainTime, errors.New("no progress for "+drainTime.String()))
	defer cancel()
	if err := p.out.drain(drained); err != nil {
		p.log.Error().Err(err).Msg("task output cut off")
	}
	p.s.reaper.release(p.main)
	if err := p.tree.remove(); err != nil {
		// Nothing runs in it: a leftover for the next executor to remove.
		p.log.Warn().Err(err).Msg("cgroup left behind")
	}
	p.mu.Lock()
	p.gone = true
	p.forgetSecrets()
	p.mu.Unlock()
	p.s.forget(p)
	return nil
}

// Usage reads what the task uses now.
func (p *Process) Usage() (Usage, error) {
	u, err := p.tree.usage()
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of task %s: %w", p.id, err)
	}
	return u, nil
}
