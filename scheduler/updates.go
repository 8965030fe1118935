package scheduler

import (
	"context"
	"math"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/deploy"
	"pacer/scheduler/state"
)

// updated takes a status. It is acknowledged once it has been dealt with,
// which for an end means that the store has it. Statuses repeat, arrive late,
// and are invented by the master without uuid; none of that may matter.
func (c *core) updated(status mesos.TaskStatus) {
	id := status.TaskID.Value
	if status.State == nil || id == "" {
		return // of a kind that this build does not know
	}
	if _, known := mesos.TaskState_name[int32(*status.State)]; !known {
		// Of a later Mesos. Taken for progress it would make every state that
		// follows look old.
		c.log.Warn().Str(keyTask, id).Int32(keyState, int32(*status.State)).Msg("status with a state that this build does not know")
		c.acknowledge(status)
		return
	}
	if id == c.connection.barrier {
		c.barrierReached()
		return
	}
	if id == c.connection.returns {
		c.allReturned()
		return
	}
	if strings.HasPrefix(id, barrierPrefix) {
		return // an older question
	}
	i, known := c.instances[id]
	if !known {
		c.updatedStray(status)
		return
	}
	if i.ended {
		return // acknowledged when its end is stored
	}
	switch st := *status.State; {
	case st == mesos.TASK_UNREACHABLE:
		c.lost(i, unreachableSince(status, c.now), 0)
		c.acknowledge(status)
	case st == mesos.TASK_UNKNOWN:
		c.unknown(i, status)
	case isTerminal(st):
		c.terminal(i, status)
	default:
		c.alive(i, status)
		c.acknowledge(status)
	}
}

func isTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_ERROR, mesos.TASK_LOST,
		mesos.TASK_DROPPED, mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

func (c *core) acknowledge(status mesos.TaskStatus) {
	if len(status.UUID) == 0 {
		return
	}
	c.call(func(ctx context.Context) error { return c.s.mesos.Acknowledge(ctx, status) }, func(err error) {
		if err != nil {
			// The agent sends the status again.
			c.log.Debug().Str(keyTask, status.TaskID.Value).AnErr(keyError, err).Msg("acknowledgement not sent")
		}
	})
}

// alive takes a status of a task that runs, or will.
func (c *core) alive(i *instance, status mesos.TaskStatus) {
	st := *status.State
	// Answers to questions and repeated statuses can be older than what is
	// known: a task never goes back.
	if i.heard && i.unreachable.IsZero() && progress(st) < progress(i.state) {
		return
	}
	returned := !i.unreachable.IsZero()
	was := i.phase()
	changed := !i.heard && !i.restored || i.state != st || returned
	i.stage = launched
	i.heard = true
	i.state = st
	i.unreachable, i.inactive = time.Time{}, false
	i.shown = nil
	if st == mesos.TASK_RUNNING && i.startedAt.IsZero() {
		if !i.restored {
			c.agent(i.record.AgentID).draining = false // it takes tasks again
		}
		i.startedAt = timestamp(status, c.now)
		if reasonIs(status, mesos.REASON_RECONCILIATION) {
			i.startedAt = i.record.Launched // the best that is known after a restart
		}
	}
	if ip := address(status); ip != "" {
		i.ip = ip
	}
	c.takeHealth(i, status)
	if labelled(status, payload.LabelUnhealthy) == "threshold" && i.health == deploy.Failing {
		i.doomed = true
	}
	if reason := labelled(status, payload.LabelRestart); reason != "" {
		i.restart = true
		c.log.Info().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyReason, reason).Msg("executor asks for a replacement")
	}
	if changed {
		c.s.events.StatusUpdate(i.show(), status.GetMessage())
	}
	if was != i.phase() {
		c.log.Info().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyHost, i.record.Hostname).
			Str(keyState, st.String()).Str(keyMessage, describe(status.GetMessage())).Msg("task changed")
	}
	if returned && i.killing {
		c.kills.resend(i) // the master forgot what it was told about a lost agent
	}
	c.touch(i.service)
}

// progress orders the states that a task passes through.
func progress(s mesos.TaskState) int {
	switch s {
	case mesos.TASK_STAGING:
		return 0
	case mesos.TASK_STARTING:
		return 1
	case mesos.TASK_RUNNING:
		return 2
	default:
		return 3
	}
}

func (c *core) takeHealth(i *instance, status mesos.TaskStatus) {
	if status.Healthy == nil || *status.State != mesos.TASK_RUNNING {
		return
	}
	health := deploy.Failing
	if *status.Healthy {
		health = deploy.Passing
	}
	if health == i.health {
		return
	}
	i.health, i.healthSince = health, timestamp(status, c.now)
	i.failures, i.cause = 0, ""
	if health == deploy.Failing {
		i.failures, i.cause = 1, describe(status.GetMessage())
	} else {
		i.doomed = false
	}
	i.shown = nil
	c.s.events.HealthChanged(i.show())
	c.log.Info().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Bool("healthy", *status.Healthy).Str(keyMessage, i.cause).Msg("health changed")
}

// lost notes that a task cannot be reached since then. It is replaced after
// the time that its app gives it, at least after grace from now.
func (c *core) lost(i *instance, since time.Time, grace time.Duration) {
	if !i.unreachable.IsZero() {
		return
	}
	i.stage = launched
	i.unreachable = since
	i.shown = nil
	i.heard = true
	c.s.events.StatusUpdate(i.show(), "the agent cannot be reached")
	c.kills.unbudget(i)
	c.log.Warn().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyAgent, i.record.AgentID).Msg("task is unreachable")
	strategy := i.service.app.Unreachable
	if !strategy.Disabled {
		c.at(later(since.Add(strategy.InactiveAfter), c.now.Add(grace)), func() {
			if i.unreachable.Equal(since) && !i.ended {
				i.inactive = true
				c.touch(i.service)
			}
		})
		c.at(later(since.Add(strategy.ExpungeAfter), c.now.Add(grace)), func() {
			if i.unreachable.Equal(since) && !i.ended && i.inactive {
				// Remembered as to be killed, should it ever come back.
				c.kill(i, "given up while unreachable")
			}
		})
	}
	c.touch(i.service)
}

// at does something at a time, at once if that has passed.
func (c *core) at(t time.Time, do func()) {
	if t.After(c.now) {
		c.agenda.add(t, do)
		return
	}
	do()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// unknown takes the answer that the master never heard of a task: its agent
// was forgotten, or is still to come back to a new master, or the launch never
// arrived.
func (c *core) unknown(i *instance, status mesos.TaskStatus) {
	switch {
	case i.stage == doubtful, i.killing:
		c.terminal(i, status)
	default:
		c.lost(i, c.now, c.config.Times.UnknownGrace)
		c.acknowledge(status)
	}
}

// terminal takes the end of a task.
func (c *core) terminal(i *instance, status mesos.TaskStatus) {
	st := *status.State
	if st == mesos.TASK_DROPPED && reasonIs(status, mesos.REASON_INVALID_OFFERS) && i.heard {
		return // an answer to an ACCEPT that was sent twice; the task runs
	}
	if st == mesos.TASK_ERROR && len(status.UUID) == 0 && i.heard {
		return // about another launch with the same ID
	}
	if i.stage == storing || i.stage == accepting {
		// The master answers an ACCEPT with statuses before its 202 arrives.
		i.stage = launched
	}
	c.s.metrics.ended.WithLabelValues(st.String()).Inc()
	event := c.log.Info()
	if !i.killing && st != mesos.TASK_FINISHED {
		event = c.log.Warn()
	}
	event.Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyHost, i.record.Hostname).Str(keyState, st.String()).
		Str(keyReason, reasonText(status)).Str(keyMessage, describe(status.GetMessage())).Msg("task ended")
	v := i.service
	if failed(i, status) {
		v.lastFailure = c.failureOf(i, status)
		v.backoff.fail(c.now, v.app.Backoff)
		c.endOfBackoff(v)
		c.keepBackoff(v)
		c.countFailure(i)
	}
	c.publishEnd(i, status)
	if reasonIs(status, mesos.REASON_AGENT_DRAINING) {
		c.agent(i.record.AgentID).draining = true
	}
	if st == mesos.TASK_DROPPED || launchFailed(status) {
		c.avoid(i.record.AgentID)
	}
	c.end(i, status)
}

// launchFailed tells whether an agent could not start an executor. It is then
// the emptiest one, and would get the next task, too.
func launchFailed(status mesos.TaskStatus) bool {
	switch status.GetReason() {
	case mesos.REASON_CONTAINER_LAUNCH_FAILED, mesos.REASON_EXECUTOR_REGISTRATION_TIMEOUT:
		return true
	}
	return false
}

// failed tells whether an end counts against the app. Ends that the cluster
// caused do not: dropped launches, lost agents, operators, and our own kills.
func failed(i *instance, status mesos.TaskStatus) bool {
	if i.killing {
		return false
	}
	switch *status.State {
	case mesos.TASK_FAILED, mesos.TASK_FINISHED, mesos.TASK_ERROR:
		return true
	case mesos.TASK_KILLED:
		return labelled(status, payload.LabelFailure) == payload.FailureHealth
	}
	return false
}

func (c *core) failureOf(i *instance, status mesos.TaskStatus) *api.TaskFailure {
	version, _ := app.ParseVersion(i.record.Version)
	return &api.TaskFailure{
		AppID: i.record.App, TaskID: i.record.ID, Host: i.record.Hostname, AgentID: i.record.AgentID,
		State: status.State.String(), Message: describe(status.GetMessage()), Version: version, Timestamp: c.now,
	}
}

// end forgets a task, in memory at once, in the store as soon as it takes it,
// and only then acknowledges.
func (c *core) end(i *instance, status mesos.TaskStatus) {
	i.ended = true
	c.kills.release(i)
	i.service.remove(i)
	c.touch(i.service)
	c.leave(i)
	c.ends.add(c, ending{i, status})
	if v := i.service; v.deleted || v.deployment == nil || v.kind != api.RestartApplication {
		c.storeEnds() // no launch is to follow
	}
}

// updatedStray takes a status of a task without a service.
func (c *core) updatedStray(status mesos.TaskStatus) {
	id, st := status.TaskID.Value, *status.State
	s := c.strays[id]
	c.straysChanged = true
	if isTerminal(st) || st == mesos.TASK_UNKNOWN {
		if s != nil && s.recorded {
			if st == mesos.TASK_UNKNOWN {
				return // its agent may still come back
			}
			var change state.Change
			change.DropTask(id)
			c.submit(&change, func(err error) {
				if err == nil {
					delete(c.strays, id)
					c.straysChanged = true
					c.acknowledge(status)
				}
			})
			return
		}
		delete(c.strays, id)
		c.acknowledge(status)
		return
	}
	if s == nil {
		s = &stray{id: id}
		c.strays[id] = s
		c.log.Warn().Str(keyTask, id).Str(keyState, st.String()).Msg("task without record")
		c.examineSoon()
	}
	s.state = st.String()
	s.agentID, s.executorID = status.GetAgentID().GetValue(), status.GetExecutorID().GetValue()
	c.acknowledge(status)
}

func labelled(status mesos.TaskStatus, key string) string {
	for _, l := range status.GetLabels().GetLabels() {
		if l.Key == key {
			return l.GetValue()
		}
	}
	return ""
}

func reasonIs(status mesos.TaskStatus, reason mesos.TaskStatus_Reason) bool {
	return status.Reason != nil && *status.Reason == reason
}

func reasonText(status mesos.TaskStatus) string {
	if status.Reason == nil {
		return ""
	}
	return status.Reason.String()
}

// timestamp of a status, or now if it has none that makes sense.
func timestamp(status mesos.TaskStatus, now time.Time) time.Time {
	if status.Timestamp == nil {
		return now
	}
	seconds := *status.Timestamp
	if math.IsNaN(seconds) || seconds <= 0 || seconds > float64(now.Unix()+86400) {
		return now
	}
	return time.UnixMilli(int64(seconds * 1000))
}

func unreachableSince(status mesos.TaskStatus, now time.Time) time.Time {
	if t := status.UnreachableTime; t != nil && t.Nanoseconds > 0 && t.Nanoseconds <= now.UnixNano() {
		return time.Unix(0, t.Nanoseconds)
	}
	return now
}

// address is the first IP of a task's container.
func address(status mesos.TaskStatus) string {
	for _, network := range status.GetContainerStatus().GetNetworkInfos() {
		for _, ip := range network.IPAddresses {
			if ip.GetIPAddress() != "" {
				return ip.GetIPAddress()
			}
		}
	}
	return ""
}
