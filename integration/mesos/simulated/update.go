package simulated

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// An update that is not acknowledged is repeated after minRetry, and then after twice
// the time, up to maxRetry.
const (
	minRetry = 10 * time.Second
	maxRetry = 10 * time.Minute
)

func isTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_ERROR, mesos.TASK_LOST, mesos.TASK_DROPPED,
		mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// newUUID is a random UUID of version 4. It need not be hard to guess.
func newUUID() []byte {
	id := make([]byte, 16)
	binary.LittleEndian.PutUint64(id, rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// The states that are told most often, so that statuses can share them.
var (
	sourceExecutor = mesos.SOURCE_EXECUTOR
	sourceAgent    = mesos.SOURCE_AGENT
)

// reportLocked makes an update of a task's new state and sends it when its turn has
// come. Nothing follows a terminal one.
func (a *Agent) reportLocked(t *task, state mesos.TaskState, changes ...func(*mesos.TaskStatus)) {
	if t.over {
		return
	}
	t.state, t.over = state, isTerminal(state)
	at := float64(time.Now().UnixNano()) / 1e9
	status := mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: t.info.id}, AgentID: a.info.ID, State: &state, Source: &sourceExecutor,
		UUID: newUUID(), Timestamp: &at, Healthy: t.healthy,
	}
	if e := t.executor; e != nil {
		status.ExecutorID, status.ContainerStatus = &e.info.ExecutorID, e.status
	}
	for _, change := range changes {
		change(&status)
	}
	t.pending = append(t.pending, status)
	if len(t.pending) == 1 && a.registered {
		a.fleet.stats.updates.Add(1)
		a.forwardLocked(t, minRetry)
	}
}

// fromAgent makes a status one of the agent itself.
func fromAgent(reason mesos.TaskStatus_Reason, message string) func(*mesos.TaskStatus) {
	return func(s *mesos.TaskStatus) {
		s.Source, s.Reason, s.Message = &sourceAgent, &reason, &message
		s.ContainerStatus, s.Healthy = nil, nil
	}
}

// refuseLocked reports a task that never came to be.
func (a *Agent) refuseLocked(f *framework, taskID, executorID string, reason mesos.TaskStatus_Reason, message string) {
	if f.tasks[taskID] != nil {
		return
	}
	t := &task{framework: f, info: &taskInfo{id: taskID}}
	a.addLocked(t)
	state := mesos.TASK_LOST
	if f.partitionAware {
		state = mesos.TASK_DROPPED
	}
	a.reportLocked(t, state, fromAgent(reason, message), func(s *mesos.TaskStatus) {
		if executorID != "" {
			s.ExecutorID = &mesos.ExecutorID{Value: executorID}
		}
	})
}

// forwardLocked sends the update in front, and again after a while.
func (a *Agent) forwardLocked(t *task, retry time.Duration) {
	front := &t.pending[0]
	t.forwarded, t.uuid = front.GetState(), front.UUID
	update := link.StatusUpdate{FrameworkID: t.framework.id, Status: *front}
	if t.executor != nil {
		latest := t.state
		update.LatestState = &latest
	}
	t.attempt++
	end, attempt := a.end, t.attempt
	end.Send(update)
	a.fleet.clock.after(retry, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.end == end && a.registered && len(t.pending) > 0 && t.attempt == attempt {
			a.fleet.stats.repeats.Add(1)
			a.forwardLocked(t, min(2*retry, maxRetry))
		}
	})
}

// resumeLocked sends every front again.
func (a *Agent) resumeLocked() {
	for _, f := range a.frameworks {
		for _, t := range f.tasks {
			if len(t.pending) > 0 {
				a.fleet.stats.repeats.Add(1)
				a.forwardLocked(t, minRetry)
			}
		}
	}
}

// acknowledgeLocked takes the scheduler's word for the update in front.
func (a *Agent) acknowledgeLocked(m link.Acknowledge) {
	f := a.frameworks[m.FrameworkID]
	if f == nil {
		return
	}
	t := f.tasks[m.TaskID]
	if t == nil || len(t.pending) == 0 || !bytes.Equal(t.pending[0].UUID, m.UUID) {
		return
	}
	a.fleet.stats.acknowledgements.Add(1)
	ended := isTerminal(t.pending[0].GetState())
	if t.pending = t.pending[1:]; len(t.pending) == 0 {
		t.pending = nil
	}
	if !ended {
		if t.pending != nil && a.registered {
			a.fleet.stats.updates.Add(1)
			a.forwardLocked(t, minRetry)
		}
		return
	}
	delete(f.tasks, t.info.id)
	a.fleet.stats.tasks.Add(-1)
	if t.executor != nil {
		t.executor.tasks--
		a.cleanLocked(t.executor)
	} else if len(f.tasks) == 0 && len(f.executors) == 0 {
		delete(a.frameworks, f.id)
		a.undrainLocked()
	}
}
