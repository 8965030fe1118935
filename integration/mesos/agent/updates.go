package agent

import (
	"slices"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// updateManager delivers status updates to the scheduler: per task in order, the
// next after the acknowledgement of the one before, repeated until then. All its
// methods are called with the agent's lock held.
type updateManager struct {
	agent   *Agent
	streams map[updateKey]*updateStream
	order   []updateKey
	paused  bool // no master
}

type updateKey struct{ framework, task string }

// updateStream is one task's updates.
type updateStream struct {
	key          updateKey
	pending      []mesos.TaskStatus
	received     map[string]bool // by uuid
	acknowledged map[string]bool
	retry        *time.Timer
	interval     time.Duration
	file         string // checkpoint, "" for none
}

func newUpdateManager(a *Agent) *updateManager {
	return &updateManager{agent: a, streams: make(map[updateKey]*updateStream), paused: true}
}

func newUpdateStream(key updateKey, file string) *updateStream {
	return &updateStream{
		key:          key,
		received:     make(map[string]bool),
		acknowledged: make(map[string]bool),
		file:         file,
	}
}

// add takes an update. A uuid that has been seen before is ignored. file is where
// the task's updates are checkpointed.
func (m *updateManager) add(key updateKey, status mesos.TaskStatus, file string) error {
	s := m.streams[key]
	if s == nil {
		s = newUpdateStream(key, file)
		m.put(s)
	}
	id := string(status.UUID)
	if s.received[id] || s.acknowledged[id] {
		m.agent.log.Debug().Str(keyTask, key.task).Msg("repeated status update ignored")
		return nil
	}
	if err := m.agent.saveUpdate(s, &status); err != nil {
		return err
	}
	s.received[id] = true
	s.pending = append(s.pending, status)
	if len(s.pending) == 1 && !m.paused {
		m.forward(s, true)
	}
	return nil
}

func (m *updateManager) put(s *updateStream) {
	m.streams[s.key] = s
	m.order = append(m.order, s.key)
}

// acknowledge takes the scheduler's word for the update in front. terminal reports
// that this ended the task's updates.
func (m *updateManager) acknowledge(key updateKey, id []byte) (terminal, ok bool) {
	s := m.streams[key]
	if s == nil || len(s.pending) == 0 || string(s.pending[0].UUID) != string(id) {
		m.agent.log.Debug().Str(keyTask, key.task).Msg("unexpected acknowledgement ignored")
		return false, false
	}
	if err := m.agent.saveAcknowledgement(s, id); err != nil {
		m.agent.log.Error().Str(keyTask, key.task).Err(err).Msg("acknowledgement cannot be checkpointed")
	}
	m.agent.stopTimerLocked(s.retry)
	s.retry = nil
	s.acknowledged[string(id)] = true
	state := s.pending[0].GetState()
	s.pending = s.pending[1:]
	if isTerminal(state) {
		m.remove(key)
		return true, true
	}
	if len(s.pending) > 0 && !m.paused {
		m.forward(s, true)
	}
	return false, true
}

func (m *updateManager) remove(key updateKey) {
	if s := m.streams[key]; s != nil {
		m.agent.stopTimerLocked(s.retry)
		delete(m.streams, key)
		m.order = slices.DeleteFunc(m.order, func(k updateKey) bool { return k == key })
	}
}

// dropLocked forgets all updates of a framework that is gone.
func (m *updateManager) dropLocked(framework string) {
	for _, key := range slices.Clone(m.order) {
		if key.framework == framework {
			m.remove(key)
		}
	}
}

// pause stops sending while there is no master.
func (m *updateManager) pause() {
	m.paused = true
	for _, s := range m.streams {
		m.agent.stopTimerLocked(s.retry)
		s.retry = nil
	}
}

// resume sends every front again, at once.
func (m *updateManager) resume() {
	m.paused = false
	for _, key := range m.order {
		if s := m.streams[key]; len(s.pending) > 0 {
			m.forward(s, true)
		}
	}
}

// forward sends the front and sets the timer for its repetition; fresh starts the
// interval anew.
func (m *updateManager) forward(s *updateStream, fresh bool) {
	a := m.agent
	if fresh {
		s.interval = a.cfg.StatusUpdateRetryMin
	} else {
		s.interval = min(2*s.interval, a.cfg.StatusUpdateRetryMax)
	}
	a.stopTimerLocked(s.retry)
	s.retry = a.after(s.interval, func() {
		s.retry = nil
		if len(s.pending) > 0 && !m.paused {
			m.forward(s, false)
		}
	})
	status := s.pending[0]
	update := link.StatusUpdate{FrameworkID: s.key.framework, Status: status}
	if f := a.frameworks[s.key.framework]; f != nil {
		if _, t := f.executorOf(s.key.task); t != nil {
			latest := t.state.GetState()
			update.LatestState = &latest
			state := status.GetState()
			t.state.StatusUpdateState = &state
			t.state.StatusUpdateUUID = status.UUID
		}
	}
	for range 1 + a.faults.duplicateLocked() {
		a.sendLocked(update)
	}
}

// statusLocked is an update made by the agent itself.
func (a *Agent) statusLocked(taskID string, executorID string, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) mesos.TaskStatus {
	source := mesos.SOURCE_AGENT
	id := uuid.New()
	status := mesos.TaskStatus{
		TaskID:    mesos.TaskID{Value: taskID},
		State:     &state,
		Source:    &source,
		Reason:    &reason,
		UUID:      id[:],
		AgentID:   &mesos.AgentID{Value: a.info.GetID().GetValue()},
		Timestamp: now(),
	}
	if message != "" {
		status.Message = &message
	}
	if executorID != "" {
		status.ExecutorID = &mesos.ExecutorID{Value: executorID}
	}
	return status
}

func now() *float64 {
	t := float64(time.Now().UnixNano()) / 1e9
	return &t
}

// updateLocked is the way of every update, from executors and from the agent
// itself, to the manager. It reports whether the update is recorded, or known
// already, so that an executor may be told so. The executor that owns the task is
// returned, nil when nobody does.
func (a *Agent) updateLocked(f *framework, status mesos.TaskStatus) (owner *executor, taken bool) {
	if f.terminating {
		return nil, false
	}
	fromExecutor := status.GetSource() == mesos.SOURCE_EXECUTOR
	e, t := f.executorOf(status.TaskID.Value)
	key := updateKey{f.id, status.TaskID.Value}
	if e == nil {
		// Also for tasks that are completed: forwarded, but nobody is told.
		if err := a.updates.add(key, status, ""); err != nil {
			a.log.Error().Str(keyTask, key.task).Err(err).Msg("status update cannot be recorded")
		}
		return nil, true
	}
	if fromExecutor {
		a.completeContainerStatusLocked(e, &status)
		a.applyDrainLocked(f, &status)
	}
	if t.stage == queued && f.checkpoints() {
		a.saveTask(e, t) // otherwise only when it is delivered
	}
	if !e.setTaskState(t, status) {
		a.log.Debug().Str(keyTask, key.task).Stringer(keyState, t.state.GetState()).Msg("status update of a task that has ended is not forwarded")
		return e, true
	}
	if isTerminal(status.GetState()) {
		a.counters.countEnd(status.GetState())
		a.resizeLocked(e)
	}
	file := ""
	if f.checkpoints() {
		file = a.updatesFile(e, key.task)
	}
	if err := a.updates.add(key, status, file); err != nil {
		a.log.Error().Str(keyTask, key.task).Err(err).Msg("status update cannot be recorded")
		return e, false
	}
	return e, true
}

// setTaskState applies an update to its task. It reports false when the task has
// ended already. The uuid is not looked at: a terminal state under a uuid used
// before ends the task although the update will be ignored, as in Mesos.
func (e *executor) setTaskState(t *task, status mesos.TaskStatus) bool {
	if t.stage == ended {
		return false
	}
	if isTerminal(status.GetState()) {
		t.stage = ended
	}
	state := status.GetState()
	t.state.State = &state
	status.Data = nil
	if n := len(t.state.Statuses); n > 0 && t.state.Statuses[n-1].GetState() == state {
		// A copy: the old list may be on its way to the master.
		t.state.Statuses = append(slices.Clone(t.state.Statuses[:n-1]), status)
	} else {
		t.state.Statuses = append(slices.Clone(t.state.Statuses), status)
	}
	return true
}

// completeContainerStatusLocked adds what the agent knows of the container.
func (a *Agent) completeContainerStatusLocked(e *executor, status *mesos.TaskStatus) {
	var c mesos.ContainerStatus
	if status.ContainerStatus != nil {
		c = *status.ContainerStatus
	}
	c.ContainerID = &mesos.ContainerID{Value: e.container}
	if e.process != nil {
		pid := uint32(e.process.pid)
		c.ExecutorPID = &pid
	}
	if len(c.NetworkInfos) == 0 {
		host := a.hostIP()
		protocol := mesos.IPv4
		if isIPv6(host) {
			protocol = mesos.IPv6
		}
		c.NetworkInfos = []mesos.NetworkInfo{{
			IPAddresses: []mesos.NetworkInfo_IPAddress{{Protocol: &protocol, IPAddress: &host}},
		}}
	}
	status.ContainerStatus = &c
}

// applyDrainLocked marks kills that draining caused.
func (a *Agent) applyDrainLocked(f *framework, status *mesos.TaskStatus) {
	if a.drain == nil {
		return
	}
	switch status.GetState() {
	case mesos.TASK_KILLING, mesos.TASK_KILLED:
	default:
		return
	}
	reason := mesos.REASON_AGENT_DRAINING
	status.Reason = &reason
	if a.drain.GetMarkGone() && status.GetState() == mesos.TASK_KILLED &&
		f.capable(mesos.FrameworkInfo_Capability_PARTITION_AWARE) {
		state := mesos.TASK_GONE_BY_OPERATOR
		status.State = &state
	}
}

// acknowledgedLocked takes the scheduler's acknowledgement.
func (a *Agent) acknowledgedLocked(m link.Acknowledge) {
	terminal, ok := a.updates.acknowledge(updateKey{m.FrameworkID, m.TaskID}, m.UUID)
	if !ok || !terminal {
		return
	}
	f := a.frameworks[m.FrameworkID]
	if f == nil {
		return
	}
	e, t := f.executorOf(m.TaskID)
	if e == nil || t.stage != ended {
		return
	}
	e.complete(t)
	if e.state == executorTerminated && len(e.tasks) == 0 {
		a.removeExecutorLocked(e)
	}
}
