package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

func (a *Agent) runTaskLocked(m link.RunTask) {
	if m.Task.Executor == nil {
		a.log.Error().Str(keyTask, m.Task.TaskID.Value).Msg("task without executor ignored: command executors are not emulated")
		return
	}
	a.runLocked(m.Framework, *m.Task.Executor, []mesos.TaskInfo{m.Task}, nil, m.LaunchExecutor)
}

func (a *Agent) runGroupLocked(m link.RunTaskGroup) {
	a.runLocked(m.Framework, m.Executor, m.Group.Tasks, &m.Group, m.LaunchExecutor)
}

// runLocked queues tasks for an executor, which is started if the master expects a
// new one and it does not exist.
func (a *Agent) runLocked(info mesos.FrameworkInfo, executorInfo mesos.ExecutorInfo, tasks []mesos.TaskInfo, group *mesos.TaskGroupInfo, launchExecutor bool) {
	if a.phase != running {
		return
	}
	f := a.frameworkLocked(info)
	if f.terminating {
		return
	}
	drop := func(reason mesos.TaskStatus_Reason, message, executorID string) {
		if launchExecutor {
			a.sendLocked(link.ExitedExecutor{
				AgentID: a.info.GetID().GetValue(), FrameworkID: f.id,
				ExecutorID: executorInfo.ExecutorID.Value, Status: -1,
			})
		}
		for _, task := range tasks {
			a.updateLocked(f, a.statusLocked(task.TaskID.Value, executorID, f.either(mesos.TASK_DROPPED), reason, message))
		}
		if len(f.executors) == 0 {
			delete(a.frameworks, f.id)
		}
	}
	id := executorInfo.ExecutorID.Value
	e := f.executors[id]
	switch {
	case a.drain != nil:
		drop(mesos.REASON_AGENT_DRAINING, "Task was received while agent was already draining", id)
		return
	case launchExecutor && e != nil:
		drop(mesos.REASON_EXECUTOR_TERMINATED, "Master wants to launch executor, but one already exists", id)
		return
	case !launchExecutor && e == nil:
		drop(mesos.REASON_EXECUTOR_TERMINATED, "No executor is expected to launch and there is no executor running", id)
		return
	case e != nil && e.state == executorTerminating:
		drop(mesos.REASON_EXECUTOR_TERMINATED, "Executor terminating", "")
		return
	case e != nil && e.state == executorTerminated:
		drop(mesos.REASON_EXECUTOR_TERMINATED, "Executor terminated", "")
		return
	}
	isNew := e == nil
	if isNew {
		e = newExecutor(f, executorInfo)
		e.container = uuid.NewString()
		e.directory = a.sandboxPath(f.id, e.id, e.container)
		if a.cfg.SwitchUser {
			e.user = f.info.GetUser()
			if user := executorInfo.GetCommand().GetUser(); user != "" {
				e.user = user
			}
		}
		if err := a.makeSandbox(e); err != nil {
			drop(mesos.REASON_EXECUTOR_TERMINATED,
				fmt.Sprintf("Failed to create executor directory '%s': %v", e.directory, err), id)
			return
		}
		f.add(e)
		a.attachLocked(e)
		if f.checkpoints() {
			a.saveFramework(f)
			a.saveExecutor(e)
		}
	}
	var together *taskGroup
	if group != nil {
		together = &taskGroup{info: *group}
	}
	for _, task := range tasks {
		e.add(a, task, together)
	}
	if isNew {
		a.launchExecutorLocked(e)
	} else if e.state == executorRunning {
		a.deliverLocked(e)
	}
}

// deliverLocked hands the queued tasks to a running executor: first single tasks,
// then groups, each in order of arrival.
func (a *Agent) deliverLocked(e *executor) {
	waiting := e.in(queued)
	if len(waiting) == 0 {
		return
	}
	for _, t := range waiting {
		if t.group == nil {
			a.launchTaskLocked(e, t)
			e.send(a, &execv1.Event{Type: execv1.Event_LAUNCH, Launch: &execv1.Event_Launch{Task: t.info}})
		}
	}
	for _, t := range waiting {
		if t.group == nil || t.stage != queued {
			continue
		}
		for _, member := range t.group.tasks {
			a.launchTaskLocked(e, member)
		}
		e.send(a, &execv1.Event{Type: execv1.Event_LAUNCH_GROUP, LaunchGroup: &execv1.Event_LaunchGroup{TaskGroup: t.group.info}})
	}
}

// launchTaskLocked makes a task launched, before the executor hears of it: the
// container grows first.
func (a *Agent) launchTaskLocked(e *executor, t *task) {
	t.stage = launched
	if e.framework.checkpoints() {
		a.saveTask(e, t)
	}
	a.resizeLocked(e)
}

// launchExecutorLocked starts the container of a new executor. The time for its
// first SUBSCRIBE runs from here.
func (a *Agent) launchExecutorLocked(e *executor) {
	a.log.Info().Str(keyFramework, e.framework.id).Str(keyExecutor, e.id).Str(keyContainer, e.container).Msg("launching executor")
	timeout := a.cfg.ExecutorRegistrationTimeout
	e.registration = a.after(timeout, func() {
		e.registration = nil
		if e.state != executorRegistering {
			return
		}
		a.log.Warn().Str(keyExecutor, e.id).Msg("executor has not subscribed in time")
		a.destroyLocked(e, &termination{
			state: mesos.TASK_FAILED, reason: mesos.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
			message: "Executor did not register within " + stoutDuration(timeout),
		})
	})
	spec := a.containerSpecLocked(e)
	a.wg.Go(func() { a.runContainer(e, spec) })
}

// runContainer fetches, starts the helper and waits for its end, as far as this
// life of the agent goes.
func (a *Agent) runContainer(e *executor, spec containerSpec) {
	status, err := a.fetcher.fetch(a.ctx, spec)
	a.awaitThaw()
	if len(spec.URIs) > 0 {
		a.countFetch(err == nil)
	}
	var process *container
	if err == nil {
		a.mu.Lock()
		if a.phase == dead {
			a.mu.Unlock()
			return
		}
		if e.destroying {
			// Destroyed between fetch and start.
			a.executorEndedLocked(e, -1)
			a.mu.Unlock()
			return
		}
		if spec.Enter, err = a.makeCgroupsLocked(e); err == nil {
			process, err = startContainer(spec)
		}
		if err == nil {
			e.process = process
			if e.framework.checkpoints() {
				err = a.savePID(e, process)
			}
		} else {
			status = -1
		}
		a.mu.Unlock()
	}
	if err != nil && process == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.phase == dead {
			return
		}
		a.counters.launchErrors++
		a.log.Warn().Str(keyExecutor, e.id).Err(err).Msg("container cannot be started")
		e.pending = &termination{
			state: mesos.TASK_FAILED, reason: mesos.REASON_CONTAINER_LAUNCH_FAILED,
			message: "Failed to launch container: " + err.Error(),
		}
		a.executorEndedLocked(e, status)
		return
	}
	a.awaitContainer(e, process, 0)
}

// awaitContainer waits for the end of a container's helper, which it notices after a
// delay, and cleans up after it.
func (a *Agent) awaitContainer(e *executor, process *container, delay time.Duration) {
	if len(a.hierarchies) > 0 {
		a.wg.Go(func() { a.watchMemory(e, process) })
	}
	select {
	case <-process.done:
	case <-a.ctx.Done():
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.ctx.Done():
		return
	}
	a.awaitThaw()
	// What the executor has left in its session and group goes with it.
	process.destroy()
	a.removeCgroups(process.cgroups)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != dead {
		a.executorEndedLocked(e, process.status())
	}
}

// executorEndedLocked is called once per container, with its raw wait status.
func (a *Agent) executorEndedLocked(e *executor, status int32) {
	f := e.framework
	e.state = executorTerminated
	a.stopTimerLocked(e.registration)
	a.stopTimerLocked(e.grace)
	e.registration, e.grace = nil, nil
	e.closeStreamLocked(a)
	a.saveSentinel(e)
	a.log.Info().Str(keyFramework, f.id).Str(keyExecutor, e.id).Int32(keyStatus, status).Msg("executor ended")
	exited := link.ExitedExecutor{
		AgentID: a.info.GetID().GetValue(), FrameworkID: f.id, ExecutorID: e.id, Status: status,
	}
	if a.phase == recovering || a.phase == disconnected {
		// Mesos reaps after a restart at leisure, so that this usually reaches the
		// master behind the registration.
		a.unsent = append(a.unsent, exited)
	} else {
		a.sendLocked(exited)
	}
	if f.terminating {
		a.removeExecutorLocked(e)
		return
	}
	why := termination{state: mesos.TASK_FAILED, reason: mesos.REASON_EXECUTOR_TERMINATED, message: "Executor terminated"}
	if e.pending != nil {
		why = *e.pending
	}
	for _, s := range []stage{launched, queued} {
		for _, t := range e.in(s) {
			status := a.statusLocked(t.info.TaskID.Value, e.id, why.state, why.reason, why.message)
			status.Limitation = why.limitation
			a.updateLocked(f, status)
		}
	}
	if len(e.tasks) == 0 {
		a.removeExecutorLocked(e)
	}
}

// destroyLocked kills a container; what follows comes with its end.
func (a *Agent) destroyLocked(e *executor, why *termination) {
	if e.state == executorTerminated {
		return
	}
	e.state = executorTerminating
	if why != nil {
		e.pending = why
	}
	e.destroying = true
	if e.process == nil {
		a.fetcher.cancel(e.container)
		return
	}
	process := e.process
	a.wg.Go(process.destroy)
}

// makeSandbox creates the executor's directory and the links to it.
func (a *Agent) makeSandbox(e *executor) error {
	if err := os.MkdirAll(filepath.Dir(e.directory), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(e.directory, 0o750); err != nil {
		return err
	}
	// Mkdir is subject to the umask.
	if err := os.Chmod(e.directory, 0o750); err != nil {
		return err
	}
	if a.cfg.SwitchUser {
		owner, err := lookupUser(e.user)
		if err == nil {
			err = os.Chown(e.directory, int(owner.uid), int(owner.gid))
		}
		if err != nil {
			return errors.Join(wording(fmt.Sprintf("Failed to chown directory to '%s': %v", e.user, err)), os.Remove(e.directory))
		}
	}
	return relink(filepath.Join(filepath.Dir(e.directory), "latest"), e.directory)
}

// relink makes name a symbolic link to target, whatever it was.
func relink(name, target string) error {
	temporary := name + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}
