package executor

import (
	"context"
	"fmt"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/agent"
	"pacer/executor/labels"
	"pacer/executor/payload"
	"pacer/secrets"
)

// Executor is all tasks of one Mesos executor. It implements [agent.Handler].
type Executor struct {
	config Config
	parts  Parts
	log    zerolog.Logger
	tokens *tokens

	// ctx is what tasks live in. It ends after all of them have.
	ctx    context.Context
	cancel context.CancelFunc
	ending chan struct{} // closed when Run is to wind up

	metrics *metrics
	guard   *guard

	mu         sync.Mutex
	site       site
	connection Connection
	tasks      map[string]*task
	over       chan struct{} // closed, and replaced, when a task has ended
	oneTask    bool          // it ends with its only task
	begun      int           // tasks ever launched
	why        string        // the executor is ending, and why
	endedBy    time.Time     // when the executor must have ended
}

// New makes an executor without tasks; nothing runs before [Executor.Run].
func New(config Config, parts Parts, registries labels.Limits, log zerolog.Logger) (*Executor, error) {
	if err := sandbox(config.Sandbox).prepare(); err != nil {
		return nil, err
	}
	registries.MaxDrain = config.MaxDrain
	e := &Executor{
		config:     config,
		parts:      parts,
		log:        log,
		tokens:     newTokens(parts.Scheduler, log),
		ending:     make(chan struct{}),
		site:       site{config: config, registries: registries},
		metrics:    newMetrics(),
		guard:      newGuard(log),
		connection: Connection{State: ConnectionBegins, Since: time.Now()},
		oneTask:    config.OneTask,
		tasks:      map[string]*task{},
		over:       make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// margin is what a shutdown leaves for acknowledgements and the exit itself: a
// quarter of the time, but no more than 2 s.
func (c Config) margin() time.Duration { return min(2*time.Second, c.ShutdownGrace/4) }

// oneTaskWait is how long an executor for one task waits for it. The agent sends
// it right after the subscription.
const oneTaskWait = 5 * time.Minute

// Run lets tasks come and go until the agent, or the end of ctx, asks for the
// end of all of them. It returns when they have ended and their statuses are
// acknowledged, or when the agent's time for that is up.
func (e *Executor) Run(ctx context.Context) error {
	defer e.cancel()
	var none <-chan time.Time
	if e.config.OneTask {
		none = time.After(oneTaskWait)
	}
	for waiting := true; waiting; {
		select {
		case <-e.ending:
			waiting = false
		case <-ctx.Done():
			e.endAll("the executor was told to end by a signal")
		case <-none:
			e.endUnused()
		}
	}
	<-e.idle()
	e.mu.Lock()
	by := e.endedBy
	e.mu.Unlock()
	// However late it is, statuses get a moment.
	drain, cancel := context.WithDeadline(context.Background(), latest(by, time.Now().Add(e.config.margin()/2)))
	defer cancel()
	if err := e.parts.Agent.Drain(drain); err != nil {
		return fmt.Errorf("statuses not acknowledged: %w", err)
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// idle returns a channel that is closed when no task is left.
func (e *Executor) idle() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			e.mu.Lock()
			n, over := len(e.tasks), e.over
			e.mu.Unlock()
			if n == 0 {
				return
			}
			<-over
		}
	}()
	return done
}

// Subscribed takes note of what the agent says about the framework and itself.
func (e *Executor) Subscribed(s agent.Subscription) {
	e.mu.Lock()
	e.site.framework, e.site.agent = s.Framework, s.Agent
	e.connection = Connection{State: Connected, Since: time.Now()}
	e.mu.Unlock()
}

// Launch begins a task. A living task of the same id is left alone.
func (e *Executor) Launch(info mesos.TaskInfo) { e.launch(info, nil) }

// LaunchGroup begins tasks that live and die together: when one of them fails
// or is killed, the others are killed.
func (e *Executor) LaunchGroup(infos []mesos.TaskInfo) {
	group := new(group)
	for _, info := range infos {
		e.launch(info, group)
	}
}

func (e *Executor) launch(info mesos.TaskInfo, g *group) {
	id := info.TaskID.Value
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tasks[id] != nil {
		e.log.Warn().Str(keyTask, id).Msg("launch of a living task ignored")
		return
	}
	p, err := e.plan(info)
	var first event = launch{}
	switch {
	case err != nil:
		first = refuse{problem{class: payload.FailureInvalid, reason: mesos.REASON_TASK_INVALID.Enum(), text: oneLine(err)}}
	case e.why != "":
		first = refuse{problem{class: payload.FailureStart, reason: mesos.REASON_EXECUTOR_TERMINATED.Enum(), text: "not started: this executor is ending: " + e.why}}
	case (e.oneTask || p.marathons) && e.begun > 0:
		first = refuse{problem{class: payload.FailureStart, text: fmt.Sprintf("not started: this executor runs one task only (%s)", EnvOneTask)}}
	}
	if e.parts.Scheduler != nil {
		p.identity.Fresh = func(ctx context.Context) (secrets.Secret, error) { return e.tokens.fresh(ctx, id) }
	}
	if p.marathons && e.begun == 0 {
		e.oneTask = true
	}
	t := newTask(e.ctx, id, p, e.parts, e.metrics, e.guard, e.log)
	t.log.Info().Str(keyApp, p.app).Msg("task received")
	t.post(first)
	e.tasks[id] = t
	e.begun++
	g.add(t)
	go e.live(t, g)
}

// plan reads a TaskInfo; a panic over it is the same as a mistake in it.
func (e *Executor) plan(info mesos.TaskInfo) (p *plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = new(plan), fmt.Errorf("TaskInfo cannot be read: %v", r)
		}
	}()
	return newPlan(info, e.site)
}

// live runs a task and forgets it.
func (e *Executor) live(t *task, g *group) {
	t.run()
	g.ended(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tasks, t.id)
	close(e.over)
	e.over = make(chan struct{})
	if e.oneTask && len(e.tasks) == 0 {
		e.endLocked("its only task has ended")
	}
}

// Kill ends a task. Unknown and ended tasks are no mistake: the agent repeats.
func (e *Executor) Kill(id string, policy *mesos.KillPolicy) {
	e.mu.Lock()
	t := e.tasks[id]
	e.mu.Unlock()
	if t == nil {
		e.log.Warn().Str(keyTask, id).Msg("kill of an unknown task ignored")
		return
	}
	ev := kill{}
	if grace := killGrace(-1, policy); grace >= 0 {
		ev = kill{grace: grace, hasGrace: true}
	}
	t.log.Info().Bool("override", ev.hasGrace).Dur("grace", ev.grace).Msg("kill")
	t.post(ev)
}

// Message takes the scheduler's answer to a question; what others send is
// logged and ignored.
func (e *Executor) Message(data []byte) {
	m, err := payload.DecodeMessage(data)
	if err != nil {
		e.log.Debug().Err(err).Msg("message from the framework ignored")
		return
	}
	e.tokens.take(m)
}

// Shutdown ends all tasks within the agent's grace period, and then Run.
func (e *Executor) Shutdown() { e.endAll("the agent shuts this executor down") }

// Disconnected is no reason to do anything: tasks live on.
func (e *Executor) Disconnected(since time.Time) {
	e.mu.Lock()
	e.connection = Connection{State: Disconnected, Since: since}
	e.mu.Unlock()
	e.log.Warn().Time("since", since).Msg("agent gone; tasks go on")
}

// Lost ends all tasks, since nobody will ever ask for it, and then Run.
func (e *Executor) Lost(reason error) {
	e.mu.Lock()
	e.connection = Connection{State: ConnectionLost, Since: time.Now(), Reason: oneLine(reason)}
	e.mu.Unlock()
	e.endAll(oneLine(reason))
}

func (e *Executor) endAll(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endLocked(why)
}

// endUnused ends an executor whose only task has never come.
func (e *Executor) endUnused() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.begun == 0 {
		e.endLocked("no task came within " + brief(oneTaskWait))
	}
}

func (e *Executor) endLocked(why string) {
	if e.why != "" {
		return
	}
	now, margin := time.Now(), e.config.margin()
	e.why, e.endedBy = why, now.Add(e.config.ShutdownGrace-margin/2)
	within := e.config.ShutdownGrace - margin
	e.log.Info().Str(keyReason, why).Int(keyTasks, len(e.tasks)).Dur(keyWithin, within).Msg("executor ends")
	close(e.ending)
	for _, t := range e.tasks {
		t.post(shutdown{within: within, why: why})
	}
}

// group is tasks that live and die together; nil is a task on its own.
type group struct {
	mu    sync.Mutex
	tasks []*task
	dead  bool
}

func (g *group) add(t *task) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tasks = append(g.tasks, t)
	if g.dead {
		t.post(kill{})
	}
}

// ended kills what is left of a group whose member did not finish by itself.
func (g *group) ended(t *task) {
	if g == nil || t.state.cause == byExit && t.state.exit.succeeded() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dead = true
	for _, other := range g.tasks {
		if other != t {
			other.post(kill{})
		}
	}
}
