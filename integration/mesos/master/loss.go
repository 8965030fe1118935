package master

import (
	"fmt"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
)

// linkBroken is called when an agent's connection has ended.
func (c *core) linkBroken(end *link.End) {
	a := c.agentOf(end)
	if a == nil {
		return
	}
	c.log.Info().Str(keyAgent, a.id).Msg("agent disconnected")
	c.unbind(a)
	a.active = false
	for _, o := range a.offers {
		c.rescind(o)
	}
	// Without checkpointing the executors die with the agent.
	for key, t := range a.tasks {
		if t.framework.info.GetCheckpoint() {
			continue
		}
		status := c.newStatus(key.task, a.id, mesos.TASK_LOST, mesos.REASON_AGENT_DISCONNECTED,
			fmt.Sprintf("Agent %s disconnected", a.info.Hostname))
		status.ExecutorID = t.proto.ExecutorID
		c.updateTask(t, status, nil)
		c.removeTask(t, false)
		c.forward(t.framework, status)
	}
	for key, e := range a.executors {
		if !e.framework.info.GetCheckpoint() {
			c.removeExecutor(a, key)
		}
	}
	lost := time.Now()
	c.m.after(c.config.AgentReregisterTimeout, func() {
		if c.agents[a.id] == a && !a.connected && a.reregistered.Before(lost) {
			c.markUnreachable(a, "agent did not re-register within "+c.config.AgentReregisterTimeout.String()+" after disconnecting")
		}
	})
}

// giveUpRecovered marks agents unreachable that have not come back after a master
// failover.
func (c *core) giveUpRecovered() {
	for id := range c.recovered {
		c.registry.markUnreachable(id, *timeInfo(time.Now()))
		delete(c.recovered, id)
		c.agentLost(id)
	}
}

// agentLost tells all frameworks.
func (c *core) agentLost(id string) {
	for _, f := range c.frameworks {
		c.emit(f, &scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{
			AgentID: &mesos.AgentID{Value: id},
		}})
	}
}

// markUnreachable is what happens to an agent that does not answer.
func (c *core) markUnreachable(a *agent, reason string) {
	since := *timeInfo(time.Now())
	c.count("master/slave_removals")
	c.count("master/slave_removals/reason_unhealthy")
	c.registry.markUnreachable(a.id, since)
	c.log.Info().Str(keyAgent, a.id).Str(keyReason, reason).Msg("agent unreachable")
	c.dropAgent(a, func(t *task) (status mesos.TaskStatus, unreachable bool) {
		status = c.newStatus(t.proto.TaskID.Value, a.id, t.framework.lost(mesos.TASK_UNREACHABLE), mesos.REASON_AGENT_REMOVED, reason)
		status.UnreachableTime = &since
		return status, true
	})
}

// removeAgent is what happens to an agent that has ended for good.
func (c *core) removeAgent(a *agent, reason string) {
	c.count("master/slave_removals")
	c.registry.remove(a.id)
	c.log.Info().Str(keyAgent, a.id).Str(keyReason, reason).Msg("agent removed")
	c.dropAgent(a, func(t *task) (mesos.TaskStatus, bool) {
		return c.newStatus(t.proto.TaskID.Value, a.id, mesos.TASK_LOST, mesos.REASON_AGENT_REMOVED,
			fmt.Sprintf("Agent %s removed: %s", a.info.Hostname, reason)), false
	})
}

// markGone is an operator's word that an agent will not come back. It reports
// whether the agent was known.
func (c *core) markGone(id string) bool {
	const text = "Agent has been marked gone"
	_, wasUnreachable := c.registry.unreachableSince(id)
	_, wasRecovered := c.recovered[id]
	a := c.agents[id]
	if a == nil && !wasUnreachable && !wasRecovered {
		return false
	}
	c.registry.markGone(id, *timeInfo(time.Now()))
	c.log.Info().Str(keyAgent, id).Msg("agent marked gone")
	fate := func(f *framework, taskID string, executorID *mesos.ExecutorID) mesos.TaskStatus {
		reason := mesos.REASON_AGENT_REMOVED
		if f.partitionAware {
			reason = mesos.REASON_AGENT_REMOVED_BY_OPERATOR
		}
		status := c.newStatus(taskID, id, f.lost(mesos.TASK_GONE_BY_OPERATOR), reason, text)
		status.ExecutorID = executorID
		return status
	}
	if a != nil {
		c.toAgent(a, link.Shutdown{Message: text})
		c.dropAgent(a, func(t *task) (mesos.TaskStatus, bool) {
			return fate(t.framework, t.proto.TaskID.Value, t.proto.ExecutorID), !t.framework.partitionAware
		})
		return true
	}
	delete(c.recovered, id)
	for _, key := range c.unreachable[id] {
		f := c.frameworks[key.framework]
		if f == nil {
			continue
		}
		proto, known := f.unreachable[key.task]
		if !known {
			continue
		}
		status := fate(f, key.task, proto.ExecutorID)
		if !isTerminal(proto.GetState()) {
			proto.State = status.State
		}
		proto.Statuses = append(slices.Clone(proto.Statuses), status)
		delete(f.unreachable, key.task)
		c.completeTask(f, proto)
		c.forward(f, status)
	}
	delete(c.unreachable, id)
	return true
}

// dropAgent takes an agent out of the tables. fate says what each of its tasks
// becomes and whether it is kept as unreachable.
func (c *core) dropAgent(a *agent, fate func(*task) (status mesos.TaskStatus, unreachable bool)) {
	a.cancelPing()
	a.active = false
	for _, t := range a.tasks {
		status, unreachable := fate(t)
		status.ExecutorID = t.proto.ExecutorID
		recorded := status
		recorded.ExecutorID = nil // as Mesos keeps it
		c.updateTask(t, recorded, nil)
		c.removeTask(t, unreachable)
		c.forward(t.framework, status)
	}
	for key := range a.executors {
		c.removeExecutor(a, key)
	}
	for _, o := range a.offers {
		c.rescind(o)
	}
	delete(c.agents, a.id)
	if a.end != nil {
		// The connection stays: the agent may re-register on it.
		c.unbind(a)
	}
	c.watch(&watched{agentRemoved: a.id})
	c.agentLost(a.id)
}
