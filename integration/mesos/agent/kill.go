package agent

import (
	"os"
	"path/filepath"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

// killTaskLocked passes a KILL on, or ends a task that its executor has not heard
// of yet.
func (a *Agent) killTaskLocked(m link.KillTask) {
	f := a.frameworks[m.FrameworkID]
	if f == nil || f.terminating {
		return
	}
	e, t := f.executorOf(m.TaskID)
	if e == nil {
		a.updateLocked(f, a.statusLocked(m.TaskID, "", f.either(mesos.TASK_DROPPED),
			mesos.REASON_EXECUTOR_TERMINATED, "Cannot find executor"))
		return
	}
	if e.state == executorTerminating || e.state == executorTerminated {
		return
	}
	if t.stage == queued {
		killed, message := []*task{t}, "Killed before delivery to the executor"
		if t.group != nil {
			killed, message = t.group.tasks, "A task within the task group was killed before delivery to the executor"
		}
		for _, member := range killed {
			a.updateLocked(f, a.statusLocked(member.info.TaskID.Value, e.id, mesos.TASK_KILLED,
				mesos.REASON_TASK_KILLED_DURING_LAUNCH, message))
		}
		if e.state == executorRunning && !e.everHadTask() && len(e.in(queued)) == 0 {
			a.windDownLocked(e)
		}
		return
	}
	if e.state == executorRegistering {
		// Only after a restart of the agent: delivered before, not subscribed yet.
		return
	}
	e.send(a, &execv1.Event{Type: execv1.Event_KILL, Kill: &execv1.Event_Kill{
		TaskID: mesos.TaskID{Value: m.TaskID}, KillPolicy: m.KillPolicy,
	}})
}

// drainTasksLocked kills every task, with the drain's grace period where it is
// shorter than the task's own.
func (a *Agent) drainTasksLocked() {
	for _, f := range a.frameworks {
		for _, e := range f.order {
			for _, t := range e.order {
				if t.stage == ended {
					continue
				}
				var policy *mesos.KillPolicy // nil: what the executor knows already
				if limit := a.drain.GetMaxGracePeriod(); limit != nil {
					own := t.info.GetKillPolicy().GetGracePeriod()
					if own == nil || own.Nanoseconds > limit.Nanoseconds {
						policy = &mesos.KillPolicy{GracePeriod: limit}
					}
				}
				a.killTaskLocked(link.KillTask{FrameworkID: f.id, TaskID: t.info.TaskID.Value, KillPolicy: policy})
			}
		}
	}
}

// messageLocked passes a scheduler's message on, if the executor can hear it.
func (a *Agent) messageLocked(m link.FrameworkMessage) {
	f := a.frameworks[m.FrameworkID]
	if f == nil || f.terminating {
		a.counters.invalidMessages++
		return
	}
	e := f.executors[m.ExecutorID]
	if e == nil || e.state != executorRunning {
		a.counters.invalidMessages++
		return
	}
	a.counters.validMessages++
	e.send(a, &execv1.Event{Type: execv1.Event_MESSAGE, Message: &execv1.Event_Message{Data: m.Data}})
}

func (a *Agent) shutdownExecutorLocked(m link.ShutdownExecutor) {
	f := a.frameworks[m.FrameworkID]
	if f == nil {
		return
	}
	if e := f.executors[m.ExecutorID]; e != nil && e.state < executorTerminating {
		a.windDownLocked(e)
	}
}

// windDownLocked asks an executor to end and destroys it after its grace period.
func (a *Agent) windDownLocked(e *executor) {
	e.state = executorTerminating
	e.send(a, &execv1.Event{Type: execv1.Event_SHUTDOWN})
	a.stopTimerLocked(e.registration)
	e.registration = nil
	e.grace = a.after(e.gracePeriod(a), func() {
		e.grace = nil
		a.destroyLocked(e, nil)
	})
}

// shutdownFrameworkLocked ends all executors of a framework that was removed.
// Nothing is told about its tasks any more.
func (a *Agent) shutdownFrameworkLocked(id string) {
	f := a.frameworks[id]
	if f == nil {
		return
	}
	f.terminating = true
	a.updates.dropLocked(id)
	for _, e := range append([]*executor(nil), f.order...) {
		switch e.state {
		case executorRegistering, executorRunning:
			a.windDownLocked(e)
		case executorTerminated:
			a.removeExecutorLocked(e)
		}
	}
	if len(f.executors) == 0 {
		delete(a.frameworks, id)
	}
}

// shutdownLocked ends the agent for good: told by its operator, which unregisters
// it, or by the master.
func (a *Agent) shutdownLocked(why string, unregister bool) {
	if a.phase == terminating || a.phase == dead {
		return
	}
	a.log.Info().Str(keyReason, why).Msg("agent shutting down")
	if unregister {
		a.sendLocked(link.UnregisterAgent{AgentID: a.info.GetID().GetValue()})
	}
	a.phase = terminating
	// The next life begins as a new agent.
	if err := os.Remove(filepath.Join(a.metaDir(), "slaves", "latest")); err != nil && !os.IsNotExist(err) {
		a.log.Error().Err(err).Msg("agent id cannot be forgotten")
	}
	for id := range a.frameworks {
		a.shutdownFrameworkLocked(id)
	}
	a.finishShutdownLocked()
}

// finishShutdownLocked ends this life when the last executor of an agent that is
// shutting down has gone.
func (a *Agent) finishShutdownLocked() {
	if a.phase != terminating || len(a.frameworks) > 0 {
		return
	}
	// Kill waits for goroutines, of which the caller may be one.
	go a.Kill()
}
