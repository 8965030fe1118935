package executor

import (
	"context"
	"errors"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"golang.org/x/sys/unix"

	"pacer/executor/artifact"
	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/healthcheck"
	"pacer/secrets"
)

// Bounds of what runs beside a task.
const (
	// launchDeadline is how long secrets may take, Vault's outages included.
	launchDeadline = 15 * time.Minute
	// killAttempt is how long SIGKILL gets before its survivors are named. Later
	// attempts are each twice as long, up to maxKillAttempt.
	killAttempt    = 5 * time.Second
	maxKillAttempt = 5 * time.Minute
	// registryAttempt is how long a registry gets before the task is told what
	// it waits for; the registry goes on trying all the same.
	registryAttempt = 10 * time.Second
	// firstQuietLook and lastQuietLook are the pauses between looks at whether
	// anything is left once the first process has ended.
	firstQuietLook = time.Millisecond
	lastQuietLook  = 100 * time.Millisecond
	// giveBack bounds what happens after the terminal status.
	giveBack = 10 * time.Second
)

// prepare gets the task's files, and then its secrets, which are not kept longer
// than they have to be.
func (t *task) prepare() {
	t.beside(func() {
		ctx, cancel := context.WithTimeout(t.launching, t.plan.launchDeadline)
		defer cancel()
		if err := t.fetch(ctx); err != nil {
			text := "fetch: " + oneLine(err)
			if errors.Is(err, context.DeadlineExceeded) {
				text = "fetch: files not there within " + brief(t.plan.launchDeadline)
			}
			t.post(failed{problem: problem{class: payload.FailureFetch, reason: mesos.REASON_CONTAINER_LAUNCH_FAILED.Enum(), text: text + "; task not started"}})
			return
		}
		last := ""
		grant, err := t.parts.Secrets.Acquire(ctx, t.plan.identity, t.plan.secrets, func(reason string) {
			last = reason
			t.log.Warn().Str(keyWaitFor, reason).Msg("launch waits")
			t.post(waiting{reason: reason})
		})
		if err != nil {
			text := "secrets: " + oneLine(err)
			if errors.Is(err, context.DeadlineExceeded) {
				text = "secrets: not there within " + brief(t.plan.launchDeadline) + ": " + last
			}
			t.post(failed{problem: problem{class: payload.FailureSecrets, reason: mesos.REASON_CONTAINER_LAUNCH_FAILED.Enum(), text: text + "; task not started"}})
			return
		}
		known := t.plan.redactor(grant)
		t.mail.put(letter{event: prepared{}, takeOver: func() { t.grant, t.redactor = grant, known }})
	}, failed{})
}

// spawn makes the task's directory and output files, and starts its process.
func (t *task) spawn() {
	grant := t.grant
	t.beside(func() {
		begin := time.Now()
		proc, streams, err := t.start(grant)
		if err != nil {
			t.post(failed{problem: problem{class: payload.FailureStart, reason: mesos.REASON_CONTAINER_LAUNCH_FAILED.Enum(), text: oneLine(err)}})
			return
		}
		t.log.Info().Int(keyPID, proc.PID()).Str(keyUser, t.plan.user).Dur(keyTook, time.Since(begin)).Msg("process started")
		t.mail.put(letter{event: spawned{}, takeOver: func() {
			t.process = proc
			t.beside(func() { t.watch(proc) })
			if grant != nil && grant.Changes() != nil {
				known := t.redactor
				t.beside(func() { t.followSecrets(proc, grant, known) })
			}
			t.closeOutput, t.tail = streams.Close, streams.Tail
		}})
	}, failed{})
}

// fetch puts the files that the task asks for into its directory.
func (t *task) fetch(ctx context.Context) error {
	if len(t.plan.uris) == 0 {
		return nil
	}
	if t.parts.Artifacts == nil {
		return errors.New("this executor fetches no files for tasks: put them into its own URIs")
	}
	if err := t.makeDirectory(ctx); err != nil {
		return err
	}
	begin := time.Now()
	err := t.parts.Artifacts.Fetch(ctx, artifact.Job{TaskID: t.id, Dir: t.plan.directory, User: t.plan.user, URIs: t.plan.uris, CPU: t.plan.limits.CPU})
	if err == nil {
		t.log.Info().Int(keyFiles, len(t.plan.uris)).Dur(keyTook, time.Since(begin)).Msg("files fetched")
	}
	return err
}

// makeDirectory makes the task's directory for its user, if that user may be.
func (t *task) makeDirectory(ctx context.Context) error {
	user, err := t.parts.Processes.LookupUser(ctx, t.plan.user)
	if err != nil {
		return err
	}
	if err := t.plan.checkRoot(user); err != nil {
		return err
	}
	return t.plan.sandbox.makeTaskDir(t.plan.directory, user)
}

func (t *task) start(grant *secrets.Grant) (Process, Streams, error) {
	if err := t.makeDirectory(t.launching); err != nil {
		return nil, Streams{}, err
	}
	streams, err := t.parts.Output.Open(t.plan.directory)
	if err != nil {
		return nil, Streams{}, err
	}
	spec := process.Spec{
		TaskID: t.id,
		Argv:   t.plan.argv,
		Env:    t.plan.environment.list(),
		Dir:    t.plan.workdir,
		User:   t.plan.user,
		Limits: t.plan.limits,
		Stdout: streams.Stdout,
		Stderr: streams.Stderr,
	}
	if grant != nil {
		defer grant.Bundle.Wipe()
		t.plan.deliver(grant.Bundle, &spec)
	}
	proc, err := t.parts.Processes.Start(t.launching, spec)
	if err != nil {
		return nil, Streams{}, errors.Join(err, streams.Close())
	}
	return proc, streams, nil
}

// watch tells when the first process has ended, and when no other is seen.
func (t *task) watch(proc Process) {
	select {
	case <-proc.Done():
	case <-t.ctx.Done():
		return
	}
	t.post(rootEnded{exit: exitOf(proc.Exit())})
	for pause := firstQuietLook; ; pause = min(2*pause, lastQuietLook) {
		// An error is no reason to give up the grace of what may be left.
		if usage, err := proc.Usage(); err == nil && usage.Processes == 0 {
			t.post(treeQuiet{})
			return
		}
		if !sleep(t.ctx, pause) {
			return
		}
	}
}

func exitOf(e process.Exit) exit {
	x := exit{code: e.Code, oom: e.OOM, memory: e.MemoryLimit, peakMemory: e.PeakMemory}
	if e.Signal != 0 {
		x.signal = unix.SignalName(syscall.Signal(e.Signal))
	}
	return x
}

func (t *task) terminate() {
	proc := t.process
	t.beside(func() {
		// What Signal could not reach, Kill will.
		if err := proc.Signal(syscall.SIGTERM); err != nil {
			t.log.Warn().Err(err).Msg("SIGTERM")
		}
	})
}

// killTree kills until nothing is left, and names what resists.
func (t *task) killTree() {
	proc, tail, known := t.process, t.tail, t.redactor
	t.beside(func() {
		if t.killUntilGone(proc, func(err error) { t.post(stuck{processes: oneLine(err)}) }) {
			x := exitOf(proc.Exit())
			x.stderr = lastWords(tail, known)
			t.post(treeEnded{exit: x})
		}
	})
}

// killUntilGone returns true when nothing is left, or false at the task's end,
// and tells after each attempt what resists.
func (t *task) killUntilGone(proc Process, resists func(error)) bool {
	for attempt := killAttempt; t.ctx.Err() == nil; attempt = min(2*attempt, maxKillAttempt) {
		ctx, cancel := context.WithTimeout(t.ctx, attempt)
		err := proc.Kill(ctx)
		if err == nil {
			cancel()
			return true
		}
		t.log.Error().Err(err).Msg("processes survive SIGKILL")
		resists(err)
		// An error that came at once must not turn this into a busy loop.
		<-ctx.Done()
		cancel()
	}
	return false
}

// startChecks begins the checks.
func (t *task) startChecks() {
	ctx, cancel := context.WithCancel(t.ctx)
	t.checking = cancel
	proc := t.process
	subject := healthcheck.Task{ID: t.id, Started: t.state.spawned, Run: runner(proc, t.redactor), SnoozeFile: t.plan.snoozeFile()}
	if check := t.plan.check; check != nil {
		t.beside(func() { t.checkLoop(ctx, check, subject) })
	}
	heard := newCheckup(ctx, t)
	for _, check := range t.plan.health {
		subject := subject
		subject.Observe = t.metrics.probed(check)
		t.beside(func() {
			defer t.guard.leave(t.id)
			tell := func(e healthcheck.Event) {
				// What a check's command or the task itself answered may hold secrets.
				e.Result.Message = t.redactor.redact(e.Result.Message)
				t.log.Info().Str(keyCheck, string(e.Kind)).Str(keyName, e.Check).Str(keyReason, string(e.Result.Reason)).
					Str(keyMessage, e.Result.Message).Msg("health check")
				heard.take(e)
			}
			if err := t.parts.Checks.Run(ctx, check, subject, tell); err != nil && ctx.Err() == nil {
				t.log.Error().Err(err).Msg("health check ended")
				t.post(broke{})
			}
		})
	}
}

// runner runs the commands of checks beside the task. What they write to stderr
// has no secrets that known knows.
func runner(proc Process, known *redactor) healthcheck.Runner {
	return func(ctx context.Context, cmd healthcheck.Command) (healthcheck.CommandResult, error) {
		argv := cmd.Argv
		if cmd.Shell != "" {
			argv = shell(cmd.Shell)
		}
		var env []string
		for name, value := range cmd.Env {
			env = append(env, name+"="+value)
		}
		result, err := proc.Exec(ctx, process.Command{Argv: argv, Env: env, TailSize: healthcheck.MaxStderr + known.longest()})
		stderr := known.redactEnd(result.Stderr, healthcheck.MaxStderr)
		return healthcheck.CommandResult{ExitCode: result.Code, Signal: result.Signal, Stderr: []byte(stderr)}, err
	}
}

func (t *task) stopChecks() {
	if t.checking != nil {
		t.checking()
	}
}

// registration serialises what is asked of the registry for one task: the last
// wish wins, and the call before it has returned.
type registration struct {
	cancel context.CancelFunc
	over   chan struct{}
}

// ask cancels the call under way and runs the next one after it.
func (r *registration) ask(t *task, call func(ctx context.Context)) {
	previous := r.over
	if r.cancel != nil {
		r.cancel()
	}
	ctx, cancel := context.WithCancel(t.ctx)
	over := make(chan struct{})
	r.cancel, r.over = cancel, over
	t.beside(func() {
		defer close(over)
		if previous != nil {
			<-previous
		}
		call(ctx)
	})
}

// wait waits for the last call, but no longer than a time.
func (r *registration) wait(longest time.Duration) {
	if r.over == nil {
		return
	}
	select {
	case <-r.over:
	case <-time.After(longest):
	}
}

// register asks until the instances can be found, or until the next wish.
func (t *task) register() {
	t.entry.ask(t, func(ctx context.Context) {
		for ctx.Err() == nil {
			err := bounded(ctx, registryAttempt, func(ctx context.Context) error {
				return t.parts.Registry.Register(ctx, t.plan.instances)
			})
			if err == nil {
				t.post(registered{})
				return
			}
			if ctx.Err() == nil {
				t.post(registryFailed{reason: oneLine(err)})
				sleep(ctx, time.Second)
			}
		}
	})
}

// deregister asks until the instances are gone, or until the next wish.
func (t *task) deregister(by time.Time) {
	t.entry.ask(t, func(ctx context.Context) {
		for ctx.Err() == nil {
			attempt := registryAttempt
			if !by.IsZero() {
				attempt = max(min(attempt, time.Until(by)), time.Millisecond)
			}
			err := bounded(ctx, attempt, func(ctx context.Context) error {
				return t.parts.Registry.Deregister(ctx, t.plan.instances)
			})
			if err == nil {
				t.post(deregistered{})
				return
			}
			if ctx.Err() == nil {
				t.post(registryFailed{reason: oneLine(err)})
				if !by.IsZero() && !time.Now().Before(by) {
					// The wish stands: the registry goes on by itself.
					return
				}
				sleep(ctx, time.Second)
			}
		}
	})
}

// release gives back what the task had. It works on after the terminal status
// has been sent, but not for long.
func (t *task) release() {
	t.stopChecks()
	t.abort()
	closeOutput, grant, known := t.closeOutput, t.grant, t.redactor
	t.closeOutput, t.grant = nil, nil
	t.beside(func() {
		known.wipe()
		if closeOutput != nil {
			if err := closeOutput(); err != nil {
				t.log.Warn().Err(err).Msg("close output files")
			}
		}
		if grant != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), giveBack)
			defer cancel()
			if err := grant.Close(ctx); err != nil {
				t.log.Warn().Err(err).Msg("give secrets back")
			}
		}
	})
}

// bounded runs a call with a deadline of its own.
func bounded(ctx context.Context, longest time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	return call(ctx)
}

// sleep waits, and reports whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
