package agent

import (
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/wire"
)

// executorState is Mesos' state of an executor.
type executorState int

const (
	executorRegistering executorState = iota // has not subscribed in this life of the agent
	executorRunning
	executorTerminating // asked to end, or being destroyed
	executorTerminated  // its container is gone
)

func (s executorState) String() string {
	return [...]string{"REGISTERING", "RUNNING", "TERMINATING", "TERMINATED"}[s]
}

// executor is one run of an executor in one container.
type executor struct {
	framework *framework
	id        string
	info      mesos.ExecutorInfo // with framework id
	container string             // container id
	directory string             // sandbox
	user      string             // "" without SwitchUser
	state     executorState

	stream    *wire.Stream
	heartbeat *time.Timer

	tasks     map[string]*task // all but the completed
	order     []*task          // the same, in order of arrival
	completed []*task

	process *container // nil until the helper runs
	memory  int64      // hard limit of its cgroup in bytes, 0 before there is one
	// destroying is set when the container has been told to end, so that a launch
	// in progress gives up.
	destroying bool
	// pending is why the agent itself ends the container.
	pending      *termination
	registration *time.Timer
	grace        *time.Timer
}

// termination replaces what tasks are told when their executor's container ends.
type termination struct {
	state   mesos.TaskState
	reason  mesos.TaskStatus_Reason
	message string
	// limitation is what was exceeded, if that was the reason.
	limitation *mesos.TaskResourceLimitation
}

// stage is how far a task has come.
type stage int

const (
	queued   stage = iota // the executor has not been told
	launched              // delivered
	ended                 // terminal, but the scheduler has not acknowledged it
	taskGone              // completed: terminal and acknowledged
)

// task is a task of an executor.
type task struct {
	stage stage
	info  mesos.TaskInfo
	// group is the other tasks of a task group, itself included; nil for a task
	// launched alone.
	group *taskGroup
	// state is what master and operators are shown.
	state mesos.Task
}

// taskGroup is delivered, and killed while queued, as a whole.
type taskGroup struct {
	info  mesos.TaskGroupInfo
	tasks []*task
}

// maxCompletedTasks bounds what is remembered per executor.
const maxCompletedTasks = 200

func newExecutor(f *framework, info mesos.ExecutorInfo) *executor {
	info.FrameworkID = &mesos.FrameworkID{Value: f.id}
	return &executor{
		framework: f,
		id:        info.GetExecutorID().Value,
		info:      info,
		tasks:     make(map[string]*task),
	}
}

func (e *executor) add(a *Agent, info mesos.TaskInfo, group *taskGroup) *task {
	t := &task{info: info, group: group}
	state := mesos.TASK_STAGING
	t.state = mesos.Task{
		Name:        info.GetName(),
		TaskID:      info.GetTaskID(),
		FrameworkID: mesos.FrameworkID{Value: e.framework.id},
		ExecutorID:  &mesos.ExecutorID{Value: e.id},
		AgentID:     mesos.AgentID{Value: a.info.GetID().GetValue()},
		State:       &state,
		Resources:   info.GetResources(),
		Labels:      info.GetLabels(),
		Discovery:   info.GetDiscovery(),
		Container:   info.GetContainer(),
		HealthCheck: info.GetHealthCheck(),
		KillPolicy:  info.GetKillPolicy(),
	}
	if user := e.info.GetCommand().GetUser(); user != "" {
		t.state.User = &user
	}
	if group != nil {
		group.tasks = append(group.tasks, t)
	}
	e.tasks[info.TaskID.Value] = t
	e.order = append(e.order, t)
	return t
}

// in lists the tasks at a stage, in order of arrival.
func (e *executor) in(s stage) []*task {
	var list []*task
	for _, t := range e.order {
		if t.stage == s {
			list = append(list, t)
		}
	}
	return list
}

// complete moves a task to the completed ones.
func (e *executor) complete(t *task) {
	id := t.info.TaskID.Value
	delete(e.tasks, id)
	for i := range e.order {
		if e.order[i] == t {
			e.order = append(e.order[:i:i], e.order[i+1:]...)
			break
		}
	}
	t.stage = taskGone
	e.completed = append(e.completed, t)
	if len(e.completed) > maxCompletedTasks {
		e.completed = e.completed[1:]
	}
}

// everHadTask reports whether a task was delivered and, if it is over, the
// executor has said anything about it. An executor for which this is false and
// whose queue is empty is shut down, because all its tasks were killed or dropped
// before it knew of them.
func (e *executor) everHadTask() bool {
	return len(e.in(launched)) > 0 || e.hasSpoken()
}

// hasSpoken reports whether the executor has sent an update about a task that is
// over.
func (e *executor) hasSpoken() bool {
	about := func(t *task) bool {
		return slices.ContainsFunc(t.state.Statuses, func(s mesos.TaskStatus) bool {
			return s.GetSource() == mesos.SOURCE_EXECUTOR
		})
	}
	return slices.ContainsFunc(e.in(ended), about) || slices.ContainsFunc(e.completed, about)
}

// send puts an event into the executor's stream, whether anyone listens or not.
func (e *executor) send(a *Agent, event *execv1.Event) {
	if e.stream == nil || a.faults.loseLocked(event.Type) {
		a.log.Debug().Str(keyExecutor, e.id).Stringer("event", event.Type).Msg("event lost")
		return
	}
	if err := e.stream.Send(event); err != nil {
		a.log.Error().Str(keyExecutor, e.id).Err(err).Msg("event cannot be sent")
	}
}

func (e *executor) closeStreamLocked(a *Agent) {
	if e.stream != nil {
		e.stream.Close()
		e.stream = nil
	}
	a.stopTimerLocked(e.heartbeat)
	e.heartbeat = nil
}

// gracePeriod is how long the executor may take after SHUTDOWN.
func (e *executor) gracePeriod(a *Agent) time.Duration {
	if p := e.info.GetShutdownGracePeriod(); p != nil {
		return time.Duration(p.Nanoseconds)
	}
	return a.cfg.ExecutorShutdownGracePeriod
}

// isTerminal reports whether a state ends a task, as Mesos sees it at the agent.
func isTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_LOST,
		mesos.TASK_ERROR, mesos.TASK_DROPPED, mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}
