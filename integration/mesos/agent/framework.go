package agent

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// framework is what the agent knows of a framework with executors here. It goes
// when its last executor goes.
type framework struct {
	id          string
	info        mesos.FrameworkInfo
	terminating bool
	executors   map[string]*executor
	order       []*executor
}

// frameworkLocked returns a framework, made when it is new.
func (a *Agent) frameworkLocked(info mesos.FrameworkInfo) *framework {
	id := info.GetID().GetValue()
	f := a.frameworks[id]
	if f == nil {
		f = &framework{id: id, info: info, executors: make(map[string]*executor)}
		a.frameworks[id] = f
	}
	return f
}

func (f *framework) checkpoints() bool { return f.info.GetCheckpoint() }

func (f *framework) capable(want mesos.FrameworkInfo_Capability_Type) bool {
	for _, c := range f.info.GetCapabilities() {
		if c.GetType() == want {
			return true
		}
	}
	return false
}

// either picks the state for a framework with PARTITION_AWARE; others get
// TASK_LOST.
func (f *framework) either(aware mesos.TaskState) mesos.TaskState {
	if f.capable(mesos.FrameworkInfo_Capability_PARTITION_AWARE) {
		return aware
	}
	return mesos.TASK_LOST
}

// executorOf finds the executor that has a task which is not completed.
func (f *framework) executorOf(taskID string) (*executor, *task) {
	for _, e := range f.order {
		if t := e.tasks[taskID]; t != nil {
			return e, t
		}
	}
	return nil, nil
}

func (f *framework) add(e *executor) {
	f.executors[e.id] = e
	f.order = append(f.order, e)
}

// maxCompletedExecutors bounds what the operator API remembers.
const maxCompletedExecutors = 150

// removeExecutorLocked forgets an executor that has terminated, and its framework
// with the last one.
func (a *Agent) removeExecutorLocked(e *executor) {
	f := e.framework
	if f.executors[e.id] != e {
		return
	}
	delete(f.executors, e.id)
	for i := range f.order {
		if f.order[i] == e {
			f.order = append(f.order[:i:i], f.order[i+1:]...)
			break
		}
	}
	e.closeStreamLocked(a)
	a.stopTimerLocked(e.registration)
	a.stopTimerLocked(e.grace)
	a.completed = append(a.completed, e)
	if len(a.completed) > maxCompletedExecutors {
		a.completed = a.completed[1:]
	}
	a.forgetRunLocked(e)
	if len(f.executors) == 0 {
		delete(a.frameworks, f.id)
		a.updates.dropLocked(f.id)
		a.forgetFrameworkLocked(f)
		a.undrainLocked()
	}
	a.finishShutdownLocked()
}

// undrainLocked ends draining: only now, when no framework has an executor here.
func (a *Agent) undrainLocked() {
	if a.drain != nil && len(a.frameworks) == 0 {
		a.drain = nil
		a.saveDrainLocked()
	}
}
