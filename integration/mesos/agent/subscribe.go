package agent

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/wire"
)

// subscribeLocked makes stream the executor's event stream.
func (a *Agent) subscribeLocked(e *executor, stream *wire.Stream, call *execv1.Call_Subscribe) {
	f := e.framework
	if a.phase == terminating || f.terminating || e.state >= executorTerminating {
		// Told to end, whatever it was told before. The stream is not kept.
		if err := stream.Send(&execv1.Event{Type: execv1.Event_SHUTDOWN}); err != nil {
			a.log.Error().Err(err).Msg("event cannot be sent")
		}
		stream.Close()
		return
	}
	e.closeStreamLocked(a)
	e.stream = stream
	e.state = executorRunning
	a.stopTimerLocked(e.registration)
	e.registration = nil
	a.heartbeatLocked(e)
	if f.checkpoints() {
		a.saveMarker(e)
	}
	a.log.Info().Str(keyFramework, f.id).Str(keyExecutor, e.id).Msg("executor subscribed")

	listed := make(map[string]bool)
	for _, t := range call.UnacknowledgedTasks {
		listed[t.TaskID.Value] = true
	}
	var lost []*task
	for _, t := range e.in(launched) {
		if t.state.GetState() == mesos.TASK_STAGING && !listed[t.info.TaskID.Value] {
			lost = append(lost, t)
		}
	}
	kept := len(e.in(launched)) > len(lost)
	if !kept && !e.hasSpoken() && len(e.in(queued)) == 0 {
		// As if it had never been given a task (everHadTask, without the lost ones).
		a.windDownLocked(e)
	} else {
		e.send(a, &execv1.Event{Type: execv1.Event_SUBSCRIBED, Subscribed: &execv1.Event_Subscribed{
			ExecutorInfo:  e.info,
			FrameworkInfo: f.info,
			AgentInfo:     a.info,
			ContainerID:   &mesos.ContainerID{Value: e.container},
		}})
	}
	for _, u := range call.UnacknowledgedUpdates {
		// Not validated by Mesos, which aborts on a malformed uuid.
		if validUUID(u.Status.UUID) && u.Status.GetState() != mesos.TASK_STAGING {
			a.executorUpdateLocked(f, u.Status)
		}
	}
	for _, t := range lost {
		a.updateLocked(f, a.statusLocked(t.info.TaskID.Value, e.id, f.either(mesos.TASK_DROPPED),
			mesos.REASON_AGENT_RESTARTED, "Task launched during agent restart"))
	}
	if e.state == executorRunning {
		a.resizeLocked(e)
		a.deliverLocked(e)
	}
}

// heartbeatLocked sends a HEARTBEAT event each interval while the stream lasts.
func (a *Agent) heartbeatLocked(e *executor) {
	stream := e.stream
	e.heartbeat = a.after(a.cfg.ExecutorHeartbeatInterval, func() {
		if e.stream == stream {
			e.send(a, &execv1.Event{Type: execv1.Event_HEARTBEAT})
			a.heartbeatLocked(e)
		}
	})
}

// executorUpdateLocked takes an update that an executor sent and acknowledges it to
// the executor that owns the task, once it is recorded.
func (a *Agent) executorUpdateLocked(f *framework, status mesos.TaskStatus) {
	if status.AgentID != nil && status.AgentID.Value != a.info.GetID().GetValue() {
		a.counters.invalidUpdates++
		return
	}
	a.counters.validUpdates++
	status.AgentID = &mesos.AgentID{Value: a.info.GetID().GetValue()}
	source := mesos.SOURCE_EXECUTOR
	status.Source = &source
	if status.Timestamp == nil {
		status.Timestamp = now()
	}
	owner, taken := a.updateLocked(f, status)
	if owner != nil && taken {
		owner.send(a, &execv1.Event{Type: execv1.Event_ACKNOWLEDGED, Acknowledged: &execv1.Event_Acknowledged{
			TaskID: status.TaskID, UUID: status.UUID,
		}})
	}
}
