package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/wire"
)

// recover reads what an earlier life has checkpointed and takes over its
// containers. From its end SUBSCRIBE is served.
func (a *Agent) recover() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.readLocked(); err != nil {
		return err
	}
	a.phase = recovering
	for _, f := range a.frameworks {
		for _, e := range append([]*executor(nil), f.order...) {
			if e.state == executorTerminated {
				if len(e.tasks) == 0 {
					a.removeExecutorLocked(e)
				}
				continue
			}
			a.wg.Go(func() { a.awaitContainer(e, e.process, a.cfg.ReapDelay) })
		}
	}
	known := make(map[string]bool)
	for _, f := range a.frameworks {
		for _, e := range f.order {
			known[e.container] = true
		}
	}
	a.removeUnknownCgroups(known)
	return nil
}

func (a *Agent) readLocked() error {
	latest, err := os.Readlink(filepath.Join(a.metaDir(), "slaves", "latest"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // a new agent
	}
	if err != nil {
		return err
	}
	if saved, err := os.ReadFile(filepath.Join(a.metaDir(), "boot_id")); err == nil && !bytes.Equal(saved, bootID()) {
		a.log.Info().Msg("the machine has been restarted: starting as a new agent")
		return nil
	}
	a.info.ID = &mesos.AgentID{Value: filepath.Base(latest)}
	a.registered = true
	var drain mesos.DrainConfig
	switch err := readMessage(filepath.Join(a.agentMeta(), "drain"), &drain); {
	case err == nil:
		a.drain = &drain
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	names, err := subdirectories(filepath.Join(a.agentMeta(), "frameworks"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.readFrameworkLocked(name); err != nil {
			return fmt.Errorf("framework %s: %w", name, err)
		}
	}
	return nil
}

func (a *Agent) readFrameworkLocked(id string) error {
	var info mesos.FrameworkInfo
	if err := readMessage(filepath.Join(a.frameworkMeta(id), "framework.info"), &info); err != nil {
		return err
	}
	names, err := subdirectories(filepath.Join(a.frameworkMeta(id), "executors"))
	if err != nil || len(names) == 0 {
		return err
	}
	f := a.frameworkLocked(info)
	for _, name := range names {
		if err := a.readExecutorLocked(f, name); err != nil {
			return fmt.Errorf("executor %s: %w", name, err)
		}
	}
	if len(f.executors) == 0 {
		delete(a.frameworks, f.id)
	}
	return nil
}

func (a *Agent) readExecutorLocked(f *framework, id string) error {
	meta := a.executorMeta(f.id, id)
	var info mesos.ExecutorInfo
	if err := readMessage(filepath.Join(meta, "executor.info"), &info); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil // died before it was written: nothing was started
		}
		return err
	}
	latest, err := os.Readlink(filepath.Join(meta, "runs", "latest"))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	e := newExecutor(f, info)
	e.container = filepath.Base(latest)
	e.directory = a.sandboxPath(f.id, e.id, e.container)
	tasks, err := subdirectories(filepath.Join(a.runMeta(e), "tasks"))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if err := a.readTaskLocked(e, task); err != nil {
			return fmt.Errorf("task %s: %w", task, err)
		}
	}
	f.add(e)
	a.attachLocked(e)
	if _, err := os.Stat(filepath.Join(a.runMeta(e), "executor.sentinel")); err == nil {
		e.state = executorTerminated
		return nil
	}
	pid, started := readPID(filepath.Join(a.runMeta(e), "pids", "forked.pid"))
	e.process = a.adoptContainer(e.container, pid, started, a.containerDir(e.container), a.cgroupsOf(e.container))
	return nil
}

func (a *Agent) readTaskLocked(e *executor, id string) error {
	var state mesos.Task
	if err := readMessage(filepath.Join(a.taskMeta(e, id), "task.info"), &state); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	t := e.add(a, mesos.TaskInfo{
		Name: state.Name, TaskID: state.TaskID, AgentID: state.AgentID, Resources: state.Resources,
		KillPolicy: state.KillPolicy, HealthCheck: state.HealthCheck, Labels: state.Labels,
		Discovery: state.Discovery, Container: state.Container,
	}, nil)
	t.state = state
	t.stage = launched
	s := newUpdateStream(updateKey{e.framework.id, id}, a.updatesFile(e, id))
	all, err := readUpdates(s)
	if err != nil {
		return fmt.Errorf("updates: %w", err)
	}
	for _, status := range all {
		e.setTaskState(t, status)
	}
	if t.stage == ended && len(s.pending) == 0 {
		e.complete(t)
	} else if len(all) > 0 {
		a.updates.put(s)
	}
	return nil
}

// awaitExecutors gives recovered executors their time to come back and destroys
// those that have not. It returns false when the life has ended meanwhile.
func (a *Agent) awaitExecutors() bool {
	a.mu.Lock()
	waiting := false
	for _, f := range a.frameworks {
		for _, e := range f.order {
			waiting = waiting || e.state == executorRegistering
		}
	}
	a.mu.Unlock()
	window := a.cfg.ExecutorReregistrationTimeout
	if waiting {
		timer := time.NewTimer(window)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-a.ctx.Done():
			return false
		}
	}
	a.awaitThaw()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != recovering {
		return a.phase != dead
	}
	for _, f := range a.frameworks {
		for _, e := range f.order {
			if e.state == executorRegistering {
				a.log.Warn().Str(keyFramework, f.id).Str(keyExecutor, e.id).Msg("executor has not come back in time")
				a.destroyLocked(e, &termination{
					state: f.either(mesos.TASK_GONE), reason: mesos.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
					message: "Executor did not reregister within " + stoutDuration(window),
				})
			}
		}
	}
	a.phase = disconnected
	return true
}

func readMessage(path string, m wire.Message) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := wire.Protobuf.Unmarshal(content, m); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readPID reads what savePID wrote; pid 0 when there is nothing.
func readPID(path string) (pid int, started string) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, ""
	}
	first, second, _ := strings.Cut(string(content), " ")
	if pid, err = strconv.Atoi(first); err != nil {
		return 0, ""
	}
	return pid, second
}

func subdirectories(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}
