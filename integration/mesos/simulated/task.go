package simulated

import (
	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// framework is what an agent knows of a framework with executors there.
type framework struct {
	id              string
	info            mesos.FrameworkInfo
	partitionAware  bool
	knowsTaskKilled bool // TASK_KILLING_STATE
	executors       map[string]*executor
	tasks           map[string]*task
}

func (f *framework) setInfo(info mesos.FrameworkInfo) {
	f.info = info
	f.partitionAware, f.knowsTaskKilled = false, false
	for _, c := range info.Capabilities {
		switch c.Type {
		case mesos.FrameworkInfo_Capability_PARTITION_AWARE:
			f.partitionAware = true
		case mesos.FrameworkInfo_Capability_TASK_KILLING_STATE:
			f.knowsTaskKilled = true
		}
	}
}

type executorStage int

const (
	executorStarting executorStage = iota
	executorRunning
	executorEnded // and some updates are not acknowledged
)

// executor is one run of an executor.
type executor struct {
	framework *framework
	info      mesos.ExecutorInfo // with framework id
	stage     executorStage
	// tasks is how many there are that have not been acknowledged as ended.
	tasks  int
	status *mesos.ContainerStatus // of all its tasks
}

// task lives until its terminal update is acknowledged. What a re-registration tells
// of it is shared with the message that brought it.
type task struct {
	framework *framework
	executor  *executor // nil for a task that never came to be
	info      *taskInfo

	state     mesos.TaskState
	healthy   *bool
	launched  bool // the executor has it
	killed    bool
	over      bool
	forwarded mesos.TaskState    // state of the last update that was sent
	uuid      []byte             // of the same
	pending   []mesos.TaskStatus // not acknowledged, the one in front has been sent
	attempt   int                // how often something has been sent
}

// taskInfo is what is kept of a TaskInfo: not its data, which may be large.
type taskInfo struct {
	id, name    string
	resources   []mesos.Resource
	labels      *mesos.Labels
	discovery   *mesos.DiscoveryInfo
	container   *mesos.ContainerInfo
	healthCheck *mesos.HealthCheck
	killPolicy  *mesos.KillPolicy
}

func (a *Agent) frameworkLocked(info mesos.FrameworkInfo) *framework {
	id := info.GetID().GetValue()
	f := a.frameworks[id]
	if f == nil {
		f = &framework{id: id, executors: make(map[string]*executor), tasks: make(map[string]*task)}
		f.setInfo(info)
		a.frameworks[id] = f
	}
	return f
}

// protoLocked is a task as masters want it.
func (a *Agent) protoLocked(t *task) mesos.Task {
	state := t.state
	proto := mesos.Task{
		Name: t.info.name, TaskID: mesos.TaskID{Value: t.info.id}, FrameworkID: mesos.FrameworkID{Value: t.framework.id},
		ExecutorID: &t.executor.info.ExecutorID, AgentID: *a.info.ID, State: &state,
		Resources: t.info.resources, Labels: t.info.labels, Discovery: t.info.discovery, Container: t.info.container,
		HealthCheck: t.info.healthCheck, KillPolicy: t.info.killPolicy,
	}
	if t.uuid != nil {
		forwarded := t.forwarded
		proto.StatusUpdateState, proto.StatusUpdateUUID = &forwarded, t.uuid
		proto.Statuses = []mesos.TaskStatus{{
			TaskID: proto.TaskID, State: &state, Healthy: t.healthy, ContainerStatus: t.executor.status,
		}}
	}
	return proto
}

// launchLocked takes tasks for an executor, which is started if it is new.
func (a *Agent) launchLocked(info mesos.FrameworkInfo, executorInfo *mesos.ExecutorInfo, tasks []mesos.TaskInfo, isNew bool) {
	if !a.registered {
		return
	}
	f := a.frameworkLocked(info)
	id := executorInfo.ExecutorID.Value
	e := f.executors[id]
	refuse := func(reason mesos.TaskStatus_Reason, message string) {
		if isNew {
			a.end.Send(link.ExitedExecutor{AgentID: a.idLocked(), FrameworkID: f.id, ExecutorID: id, Status: -1})
		}
		for i := range tasks {
			a.refuseLocked(f, tasks[i].TaskID.Value, id, reason, message)
		}
	}
	switch {
	case a.drain != nil:
		refuse(mesos.REASON_AGENT_DRAINING, "Task was received while agent was already draining")
		return
	case isNew && e != nil:
		refuse(mesos.REASON_EXECUTOR_TERMINATED, "Master wants to launch executor, but one already exists")
		return
	case !isNew && e == nil:
		refuse(mesos.REASON_EXECUTOR_TERMINATED, "No executor is expected to launch and there is no executor running")
		return
	case e != nil && e.stage == executorEnded:
		refuse(mesos.REASON_EXECUTOR_TERMINATED, "Executor terminated")
		return
	}
	if isNew {
		e = a.newExecutorLocked(f, executorInfo)
	}
	a.fleet.stats.launches.Add(int64(len(tasks)))
	for i := range tasks {
		info := &tasks[i]
		t := &task{framework: f, executor: e, state: mesos.TASK_STAGING, info: &taskInfo{
			id: info.TaskID.Value, name: info.Name, resources: info.Resources, labels: info.Labels, discovery: info.Discovery,
			container: info.Container, healthCheck: info.HealthCheck, killPolicy: info.KillPolicy,
		}}
		a.addLocked(t)
		if e.stage == executorRunning {
			a.deliverLocked(t)
		}
	}
}

func (a *Agent) addLocked(t *task) {
	t.framework.tasks[t.info.id] = t
	if t.executor != nil {
		t.executor.tasks++
	}
	a.fleet.stats.tasks.Add(1)
}

func (a *Agent) newExecutorLocked(f *framework, info *mesos.ExecutorInfo) *executor {
	protocol, host := mesos.IPv4, a.host
	e := &executor{framework: f, info: *info, status: &mesos.ContainerStatus{
		ContainerID: &mesos.ContainerID{Value: uuid.NewString()},
		NetworkInfos: []mesos.NetworkInfo{{
			IPAddresses: []mesos.NetworkInfo_IPAddress{{Protocol: &protocol, IPAddress: &host}},
		}},
	}}
	f.executors[info.ExecutorID.Value] = e
	life := &a.fleet.config.Life
	if !life.Executor.given() {
		a.subscribeLocked(e)
		return e
	}
	a.fleet.clock.after(life.Executor.draw(a.random), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if e.stage == executorStarting {
			a.subscribeLocked(e)
		}
	})
	return e
}

// subscribeLocked makes an executor run.
func (a *Agent) subscribeLocked(e *executor) {
	e.stage = executorRunning
	for _, t := range e.framework.tasks {
		if t.executor == e && !t.over {
			a.deliverLocked(t)
		}
	}
	if life := &a.fleet.config.Life; life.ExecutorExit.given() {
		a.fleet.clock.after(life.ExecutorExit.draw(a.random), func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.exitLocked(e, 9)
		})
	}
}

// deliverLocked begins a task's life at its executor.
func (a *Agent) deliverLocked(t *task) {
	life := &a.fleet.config.Life
	t.launched = true
	if life.Starting {
		a.reportLocked(t, mesos.TASK_STARTING)
	}
	fails := life.FailureRate > 0 && a.random.Float64() < life.FailureRate
	a.laterLocked(life.Staging, t, func() {
		if t.killed {
			return
		}
		if fails {
			a.reportLocked(t, mesos.TASK_FAILED)
			return
		}
		a.reportLocked(t, mesos.TASK_RUNNING)
		if life.Run.given() {
			a.laterLocked(life.Run, t, func() { a.reportLocked(t, mesos.TASK_FINISHED) })
		}
		if t.info.healthCheck != nil {
			a.laterLocked(life.Health, t, func() { a.healthLocked(t, true) })
		}
	})
}

// healthLocked reports a change of health, and the next one later.
func (a *Agent) healthLocked(t *task, healthy bool) {
	if t.killed {
		return
	}
	t.healthy = &healthy
	a.reportLocked(t, mesos.TASK_RUNNING, func(s *mesos.TaskStatus) {
		reason := mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
		s.Reason = &reason
	})
	if flap := a.fleet.config.Life.Flap; flap.given() {
		a.laterLocked(flap, t, func() { a.healthLocked(t, !healthy) })
	}
}

// laterLocked does the next thing of a task's life, unless the task ends before.
func (a *Agent) laterLocked(when Span, t *task, action func()) {
	if !when.given() {
		action()
		return
	}
	a.fleet.clock.after(when.draw(a.random), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !t.over {
			action()
		}
	})
}

// killLocked passes a KILL on to the executor.
func (a *Agent) killLocked(frameworkID, taskID string) {
	a.fleet.stats.kills.Add(1)
	f := a.frameworks[frameworkID]
	if f == nil {
		return
	}
	t := f.tasks[taskID]
	switch {
	case t == nil:
		a.refuseLocked(f, taskID, "", mesos.REASON_EXECUTOR_TERMINATED, "Cannot find executor")
	case t.over || t.killed:
	case !t.launched:
		a.reportLocked(t, mesos.TASK_KILLED, fromAgent(mesos.REASON_TASK_KILLED_DURING_LAUNCH, "Killed before delivery to the executor"))
	default:
		t.killed = true
		life := &a.fleet.config.Life
		if life.Killing && f.knowsTaskKilled {
			a.reportLocked(t, mesos.TASK_KILLING, a.drained)
		}
		a.laterLocked(life.Kill, t, func() { a.reportLocked(t, mesos.TASK_KILLED, a.drained) })
	}
}

// drained marks kills that draining caused.
func (a *Agent) drained(s *mesos.TaskStatus) {
	if a.drain != nil {
		reason := mesos.REASON_AGENT_DRAINING
		s.Reason = &reason
	}
}

// exitLocked is the end of an executor, by itself or by force.
func (a *Agent) exitLocked(e *executor, status int32) {
	if e.stage == executorEnded {
		return
	}
	e.stage = executorEnded
	exited := link.ExitedExecutor{
		AgentID: a.idLocked(), FrameworkID: e.framework.id, ExecutorID: e.info.ExecutorID.Value, Status: status,
	}
	if a.registered {
		a.end.Send(exited)
	} else {
		a.unsent = append(a.unsent, exited)
	}
	for _, t := range e.framework.tasks {
		if t.executor == e && !t.over {
			a.reportLocked(t, mesos.TASK_FAILED, fromAgent(mesos.REASON_EXECUTOR_TERMINATED, "Executor terminated"))
		}
	}
	a.cleanLocked(e)
}

// cleanLocked forgets an executor that has ended when its tasks have gone, and its
// framework with the last one.
func (a *Agent) cleanLocked(e *executor) {
	f := e.framework
	if e.stage != executorEnded || e.tasks > 0 || f.executors[e.info.ExecutorID.Value] != e {
		return
	}
	delete(f.executors, e.info.ExecutorID.Value)
	if len(f.executors) == 0 && len(f.tasks) == 0 && a.frameworks[f.id] == f {
		delete(a.frameworks, f.id)
		a.undrainLocked()
	}
}
