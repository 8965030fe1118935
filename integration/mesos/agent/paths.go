package agent

import (
	"os"
	"path/filepath"
)

// The layout below WorkDir and its meta directory is Mesos'; what the files below
// meta contain is not.

func (a *Agent) metaDir() string { return filepath.Join(a.cfg.WorkDir, "meta") }

func (a *Agent) agentMeta() string {
	return filepath.Join(a.metaDir(), "slaves", a.info.GetID().GetValue())
}

func (a *Agent) frameworkMeta(framework string) string {
	return filepath.Join(a.agentMeta(), "frameworks", framework)
}

func (a *Agent) executorMeta(framework, executor string) string {
	return filepath.Join(a.frameworkMeta(framework), "executors", executor)
}

func (a *Agent) runMeta(e *executor) string {
	return filepath.Join(a.executorMeta(e.framework.id, e.id), "runs", e.container)
}

func (a *Agent) taskMeta(e *executor, task string) string {
	return filepath.Join(a.runMeta(e), "tasks", task)
}

func (a *Agent) updatesFile(e *executor, task string) string {
	return filepath.Join(a.taskMeta(e, task), "task.updates")
}

func (a *Agent) sandboxPath(framework, executor, container string) string {
	return filepath.Join(a.cfg.WorkDir, "slaves", a.info.GetID().GetValue(),
		"frameworks", framework, "executors", executor, "runs", container)
}

func (a *Agent) containerDir(container string) string {
	return filepath.Join(a.cfg.RuntimeDir, "containers", container)
}

// replaceFile writes a file so that readers see the old or the new content.
func replaceFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
