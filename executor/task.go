package executor

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/payload"
	"pacer/secrets"
)

// task is one task's life. Its state belongs to the goroutine in run; everybody
// else puts events into its mailbox.
type task struct {
	id    string
	plan  *plan
	parts Parts
	log   zerolog.Logger
	mail  *mailbox

	metrics *metrics
	guard   *guard
	view    atomic.Pointer[TaskView] // what operators see; see show
	killed  time.Time                // when the decision to end it fell

	// ctx ends with the task; everything that works for it hangs off it.
	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup
	done    chan struct{}

	state    state
	pending  []action // what the last event asked for and is not done yet
	terminal bool     // the terminal status has been handed to the agent

	launching context.Context // secrets, files, spawn
	abort     context.CancelFunc
	grant     *secrets.Grant
	redactor  *redactor // knows the secrets; nil without any
	process   Process
	checking  context.CancelFunc
	entry     registration
	// closeOutput closes the files of stdout and stderr; nil before the start.
	closeOutput func() error
	// tail reads the end of stderr; see [Streams].
	tail func(bytes int) string
}

// newTask makes a task; nothing happens before run.
func newTask(ctx context.Context, id string, p *plan, parts Parts, m *metrics, g *guard, log zerolog.Logger) *task {
	t := &task{
		id:      id,
		plan:    p,
		parts:   parts,
		log:     log.With().Str(keyTask, id).Logger(),
		mail:    newMailbox(),
		metrics: m,
		guard:   g,
		done:    make(chan struct{}),
		state:   newState(p.rules),
	}
	if p.check != nil {
		t.state.check = p.check.status(nil)
	}
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.launching, t.abort = context.WithCancel(t.ctx)
	t.show(time.Now())
	return t
}

// post hands an event to the task. It never blocks; after the end of the task
// it does nothing.
func (t *task) post(ev event) { t.mail.put(letter{event: ev}) }

// run lives the task's life and returns when nothing of it is left and its
// terminal status is on its way. A panic costs the task, never the executor.
func (t *task) run() {
	defer close(t.done)
	defer t.workers.Wait()
	defer t.cancel()
	defer t.release()
	if t.live() {
		return
	}
	// The state machine gets one chance to end the task in good order.
	t.post(broke{})
	if t.live() {
		return
	}
	t.abandon()
}

// live handles events until the task has ended. It returns false after a panic.
func (t *task) live() (finished bool) {
	defer func() {
		if r := recover(); r != nil {
			t.logPanic(r)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	t.carryOut()
	for t.state.phase() != ended {
		var alarm <-chan time.Time
		if wake := t.state.wake(); !wake.IsZero() {
			timer.Reset(time.Until(wake))
			alarm = timer.C
		}
		next := letter{event: tick{}}
		if l, ok := t.mail.take(); ok {
			next = l
		} else {
			select {
			case <-t.mail.arrived:
				continue
			case <-alarm:
			}
		}
		if next.takeOver != nil {
			next.takeOver()
		}
		t.handle(next.event)
	}
	return t.terminal
}

// handle lets the state machine judge an event and carries out what it says.
func (t *task) handle(ev event) {
	before, now := t.state.phase(), time.Now()
	next, actions := t.state.next(now, ev)
	t.registered(&next, now)
	t.state = next
	if after := next.phase(); after != before {
		t.log.Info().Stringer(keyFrom, before).Stringer(keyState, after).Msg("task state")
		t.moved(after, now)
	}
	t.show(now)
	t.pending = actions
	t.carryOut()
}

// carryOut does what is pending. An action that panics is not repeated, but
// those after it are not lost: the state counts on them.
func (t *task) carryOut() {
	for len(t.pending) > 0 {
		a := t.pending[0]
		t.pending = t.pending[1:]
		t.do(a)
	}
}

// do carries out an action. None blocks: what takes time runs in a worker.
func (t *task) do(a action) {
	switch a := a.(type) {
	case report:
		t.report(a)
	case prepare:
		t.prepare()
	case spawn:
		t.spawn()
	case cancelLaunch:
		t.abort()
	case startChecks:
		t.startChecks()
	case stopChecks:
		t.stopChecks()
	case register:
		t.register()
	case deregister:
		t.deregister(a.by)
	case terminate:
		t.terminate()
	case killTree:
		t.killTree()
	case release:
		t.release()
	default:
		panic(fmt.Sprintf("unknown action %T", a))
	}
}

// beside runs work in a worker, whose panic becomes this task's problem: it ends
// with broke, and then with what the state may be waiting for.
func (t *task) beside(work func(), atPanic ...event) {
	t.workers.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				t.logPanic(r)
				t.post(broke{})
				for _, ev := range atPanic {
					t.post(ev)
				}
			}
		}()
		work()
	})
}

func (t *task) logPanic(r any) {
	t.metrics.panics.Inc()
	t.log.Error().Str(keyError, fmt.Sprint(r)).Bytes(keyStack, debug.Stack()).Msg("panic while handling a task")
}

// report hands a status to the agent.
func (t *task) report(r report) {
	status := t.status(r)
	if isTerminal(r.state) {
		t.terminal = true
		t.metrics.ended(r.state, r.class())
	}
	if err := t.parts.Agent.Update(status); err != nil {
		t.log.Error().Err(err).Stringer(keyState, r.state).Msg("status not accepted for delivery")
	}
	line := t.log.Info().Stringer(keyState, r.state).Str(keyMessage, status.GetMessage())
	if r.reason != nil {
		line = line.Stringer(keyReason, r.reason)
	}
	if status.Healthy != nil {
		line = line.Bool(keyHealthy, *status.Healthy)
	}
	line.Msg("status")
}

// status is a report as Mesos wants it. The agent client adds identifiers, time
// and source; container_status is the agent's to fill in.
func (t *task) status(r report) mesos.TaskStatus {
	status := mesos.TaskStatus{
		TaskID:      mesos.TaskID{Value: t.id},
		State:       r.state.Enum(),
		Reason:      r.reason,
		CheckStatus: r.check,
	}
	if text := clip(r.message); text != "" {
		status.Message = &text
	}
	if r.healthy != unknown {
		is := r.healthy == healthy
		status.Healthy = &is
	}
	if len(r.labels) > 0 {
		status.Labels = new(mesos.Labels)
		for _, l := range r.labels {
			status.Labels.Labels = append(status.Labels.Labels, mesos.Label{Key: l[0], Value: &l[1]})
		}
	}
	return status
}

// class is the class of failure that a report names, if any.
func (r report) class() string {
	for _, l := range r.labels {
		if l[0] == payload.LabelFailure {
			return l[1]
		}
	}
	return ""
}

func isTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_ERROR:
		return true
	}
	return false
}

// abandon ends a task whose state machine can no longer be trusted: without
// order, but with nothing left and one terminal status.
func (t *task) abandon() {
	defer func() {
		if r := recover(); r != nil {
			t.logPanic(r)
		}
	}()
	t.abort()
	t.stopChecks()
	for t.state.spawning {
		// A process that is being made must not be left to itself.
		l, ok := t.mail.take()
		if !ok {
			<-t.mail.arrived
			continue
		}
		if l.takeOver != nil {
			l.takeOver()
		}
		switch l.event.(type) {
		case spawned, failed:
			t.state.spawning = false
		}
	}
	t.deregister(time.Now().Add(t.plan.rules.times.deregister))
	t.entry.wait(t.plan.rules.times.deregister)
	if t.process != nil {
		t.killUntilGone(t.process, func(error) {})
	}
	if !t.terminal {
		t.report(report{state: mesos.TASK_FAILED, healthy: t.state.reported, check: t.state.check,
			message: "the executor failed twice while handling this task, which was killed; its log has the stacks"})
	}
}
