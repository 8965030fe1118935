package master

import (
	"bytes"
	"slices"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
)

// task is one row of the task table, from ACCEPT until the acknowledgement of a
// terminal update.
type task struct {
	framework *framework
	agent     *agent
	proto     mesos.Task
	resources resource.Set // with allocation
	// charged is true while the resources count as used on the agent.
	charged bool
}

func (t *task) key() taskKey { return taskKey{t.framework.id, t.proto.TaskID.Value} }

func isTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_ERROR, mesos.TASK_LOST,
		mesos.TASK_DROPPED, mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// newStatus makes a status that the master itself gives out.
func (c *core) newStatus(taskID, agentID string, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) mesos.TaskStatus {
	source := mesos.SOURCE_MASTER
	status := mesos.TaskStatus{
		TaskID:    mesos.TaskID{Value: taskID},
		State:     &state,
		Source:    &source,
		Reason:    &reason,
		Message:   &message,
		Timestamp: now(),
	}
	if agentID != "" {
		status.AgentID = &mesos.AgentID{Value: agentID}
	}
	return status
}

// forward sends a status to the framework, if it is connected.
func (c *core) forward(f *framework, status mesos.TaskStatus) {
	c.emit(f, &scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: status}})
}

// addTask puts a validated task into the tables, as STAGING.
func (c *core) addTask(f *framework, a *agent, info *mesos.TaskInfo, resources resource.Set) *task {
	state := mesos.TASK_STAGING
	t := &task{framework: f, agent: a, resources: resources}
	t.proto = mesos.Task{
		Name:        info.Name,
		TaskID:      info.TaskID,
		FrameworkID: mesos.FrameworkID{Value: f.id},
		AgentID:     info.AgentID,
		State:       &state,
		Resources:   info.Resources,
		Labels:      info.Labels,
		Discovery:   info.Discovery,
		Container:   info.Container,
		HealthCheck: info.HealthCheck,
		KillPolicy:  info.KillPolicy,
	}
	switch {
	case info.Executor != nil:
		t.proto.ExecutorID = &info.Executor.ExecutorID
		if info.Executor.Command != nil {
			t.proto.User = info.Executor.Command.User
		}
		if info.Command != nil && info.Command.User != nil {
			t.proto.User = info.Command.User
		}
	case info.Command != nil:
		t.proto.User = info.Command.User
	}
	c.insertTask(t)
	c.watch(&watched{taskAdded: t})
	return t
}

// insertTask puts a task into the tables and charges its resources unless it is
// over.
func (c *core) insertTask(t *task) {
	t.framework.tasks[t.proto.TaskID.Value] = t
	t.agent.tasks[t.key()] = t
	if !isTerminal(t.proto.GetState()) {
		c.charge(t.framework, t.agent, t.resources)
		t.charged = true
	}
}

// statusUpdate handles an update from an agent.
func (c *core) statusUpdate(a *agent, update link.StatusUpdate) {
	c.count("master/messages_status_update")
	f := c.frameworks[update.FrameworkID]
	valid := f != nil && f.connected()
	if valid {
		c.forward(f, update.Status)
	}
	t := a.tasks[taskKey{update.FrameworkID, update.Status.TaskID.Value}]
	if t == nil {
		c.count("master/invalid_status_updates")
		return
	}
	c.updateTask(t, update.Status, update.LatestState)
	if valid {
		// What has not been forwarded does not count.
		t.proto.StatusUpdateState = update.Status.State
		t.proto.StatusUpdateUUID = update.Status.UUID
		c.count("master/valid_status_updates")
	} else {
		c.count("master/invalid_status_updates")
	}
}

// updateTask records a status, whoever it is from. latest is the newest state when
// that is another one.
func (c *core) updateTask(t *task, status mesos.TaskStatus, latest *mesos.TaskState) {
	state := status.GetState()
	if latest != nil {
		state = *latest
	}
	before := t.proto.GetState()
	over := isTerminal(state) || state == mesos.TASK_UNREACHABLE
	if !isTerminal(before) {
		t.proto.State = &state
	}
	status.Data = nil
	// Snapshots of the task share the slice, so it is never changed in place.
	statuses := slices.Clone(t.proto.Statuses)
	changed := true
	if n := len(statuses); n > 0 && statuses[n-1].GetState() == status.GetState() {
		statuses = statuses[:n-1]
		changed = false
	}
	t.proto.Statuses = append(statuses, status)
	if status.Reason != nil {
		switch *status.Reason {
		case mesos.REASON_TASK_CHECK_STATUS_UPDATED, mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED:
			changed = true
		}
	}
	if changed {
		c.watch(&watched{taskUpdated: t, status: &status})
	}
	if over && !isTerminal(before) && before != mesos.TASK_UNREACHABLE {
		c.release(t)
		c.countTask(status)
	}
}

// countTask counts a task that is over.
func (c *core) countTask(status mesos.TaskStatus) {
	state := strings.ToLower(strings.TrimPrefix(status.GetState().String(), "TASK_"))
	if status.GetState() != mesos.TASK_UNREACHABLE {
		c.count("master/tasks_" + state)
	}
	if status.Reason != nil {
		source := strings.ToLower(strings.Replace(status.GetSource().String(), "AGENT", "SLAVE", 1))
		reason := strings.ToLower(strings.Replace(status.GetReason().String(), "AGENT", "SLAVE", 1))
		c.count("master/task_" + state + "/" + source + "/" + reason)
	}
}

// release gives a task's resources back.
func (c *core) release(t *task) {
	if t.charged {
		t.charged = false
		c.discharge(t.framework, t.agent, t.resources)
	}
}

// removeTask takes a task out of the tables.
func (c *core) removeTask(t *task, unreachable bool) {
	c.release(t)
	f := t.framework
	id := t.proto.TaskID.Value
	delete(f.tasks, id)
	delete(t.agent.tasks, t.key())
	delete(t.agent.killed, t.key())
	if unreachable {
		f.unreachable[id] = t.proto
		f.unreachableOrder = append(f.unreachableOrder, id)
		for len(f.unreachable) > c.config.MaxUnreachableTasks {
			delete(f.unreachable, f.unreachableOrder[0])
			f.unreachableOrder = f.unreachableOrder[1:]
		}
		c.unreachable[t.agent.id] = append(c.unreachable[t.agent.id], t.key())
		return
	}
	c.completeTask(f, t.proto)
	c.checkDrained(t.agent)
}

func (c *core) completeTask(f *framework, t mesos.Task) {
	f.completed = append(f.completed, t)
	if over := len(f.completed) - c.config.MaxCompletedTasks; over > 0 {
		f.completed = f.completed[over:]
	}
}

// acknowledge handles a scheduler's acknowledgement.
func (c *core) acknowledge(f *framework, call *scheduler.Call_Acknowledge) {
	c.count("master/messages_status_update_acknowledgement")
	a := c.agents[call.AgentID.Value]
	if a == nil || !a.connected {
		c.count("master/invalid_status_update_acknowledgements")
		return
	}
	t := a.tasks[taskKey{f.id, call.TaskID.Value}]
	if t != nil {
		if t.proto.StatusUpdateUUID == nil {
			c.count("master/invalid_status_update_acknowledgements")
			return
		}
		if isTerminal(t.proto.GetStatusUpdateState()) && bytes.Equal(t.proto.StatusUpdateUUID, call.UUID) {
			c.removeTask(t, false)
		}
	}
	c.toAgent(a, link.Acknowledge{FrameworkID: f.id, TaskID: call.TaskID.Value, UUID: call.UUID})
	c.count("master/valid_status_update_acknowledgements")
}

// kill handles KILL. A task that is not known is answered as in a reconciliation.
func (c *core) kill(f *framework, call *scheduler.Call_Kill) {
	c.count("master/messages_kill_task")
	t := f.tasks[call.TaskID.Value]
	if t == nil {
		c.reconcileOne(f, call.TaskID.Value, call.AgentID.GetValue())
		return
	}
	if call.AgentID != nil && call.AgentID.Value != t.agent.id {
		c.log.Warn().Str(keyTask, call.TaskID.Value).Str(keyAgent, call.AgentID.Value).Msg("kill ignored, wrong agent")
		return
	}
	if !t.agent.connected {
		t.agent.killed[t.key()] = true
		return
	}
	c.toAgent(t.agent, link.KillTask{FrameworkID: f.id, TaskID: call.TaskID.Value, KillPolicy: call.KillPolicy})
}

// reconcile answers RECONCILE.
func (c *core) reconcile(f *framework, tasks []scheduler.Call_Reconcile_Task) {
	c.count("master/messages_reconcile_tasks")
	if len(tasks) > 0 {
		for _, t := range tasks {
			c.reconcileOne(f, t.TaskID.Value, t.AgentID.GetValue())
		}
		return
	}
	for _, t := range f.tasks {
		c.forward(f, c.reconciled(t))
	}
}

// reconcileOne answers a question about one task, or not at all while agents are
// still expected back after a master failover.
func (c *core) reconcileOne(f *framework, taskID, agentID string) {
	if t := f.tasks[taskID]; t != nil {
		c.forward(f, c.reconciled(t))
		return
	}
	answer := func(precise mesos.TaskState, message string) mesos.TaskStatus {
		return c.newStatus(taskID, agentID, f.lost(precise), mesos.REASON_RECONCILIATION, "Reconciliation: "+message)
	}
	_, returning := c.recovered[agentID]
	since, unreachable := c.registry.unreachableSince(agentID)
	switch {
	case returning, agentID == "" && len(c.recovered) > 0:
	case c.agents[agentID] != nil:
		c.forward(f, answer(mesos.TASK_GONE, "Task is unknown to the agent"))
	case unreachable:
		status := answer(mesos.TASK_UNREACHABLE, "Task is unreachable")
		status.UnreachableTime = &since
		c.forward(f, status)
	case c.registry.isGone(agentID):
		c.forward(f, answer(mesos.TASK_GONE_BY_OPERATOR, "Task is gone"))
	default:
		c.forward(f, answer(mesos.TASK_UNKNOWN, "Task is unknown"))
	}
}

// reconciled is the answer for a task that the master holds: the last state that
// was forwarded, else the latest.
func (c *core) reconciled(t *task) mesos.TaskStatus {
	state := t.proto.GetState()
	if t.proto.StatusUpdateState != nil {
		state = *t.proto.StatusUpdateState
	}
	return c.describe(t.proto, state, mesos.REASON_RECONCILIATION, "Reconciliation: Latest task state")
}

// describe makes a status of what is known of a task.
func (c *core) describe(t mesos.Task, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) mesos.TaskStatus {
	status := c.newStatus(t.TaskID.Value, t.AgentID.Value, state, reason, message)
	status.ExecutorID = t.ExecutorID
	if n := len(t.Statuses); n > 0 {
		last := t.Statuses[n-1]
		status.Healthy, status.CheckStatus, status.ContainerStatus = last.Healthy, last.CheckStatus, last.ContainerStatus
	}
	return status
}
