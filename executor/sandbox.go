package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pacer/executor/process"
)

// sandbox is the path of the directory that Mesos made for this executor.
type sandbox string

// tasksDir holds one directory for each task.
const tasksDir = "tasks"

// prepare makes the sandbox traversable, so that tasks of other users reach
// their own directories, but not readable.
func (s sandbox) prepare() error {
	if err := os.Chmod(string(s), 0o711); err != nil {
		return fmt.Errorf("make the sandbox traversable: %w", err)
	}
	tasks := filepath.Join(string(s), tasksDir)
	if err := os.Mkdir(tasks, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the directory for tasks: %w", err)
	}
	// Mkdir is subject to the umask.
	if err := os.Chmod(tasks, 0o711); err != nil {
		return fmt.Errorf("make the directory for tasks traversable: %w", err)
	}
	return nil
}

// makeTaskDir makes a task's own directory: its user's, and nobody else's. Only
// the executor can write to the directory that it is in.
func (s sandbox) makeTaskDir(dir string, u process.User) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the task's directory: %w", err)
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("make the task's directory: %s exists and is no directory", dir)
		}
	}
	if int(u.UID) == os.Geteuid() {
		return nil
	}
	if err := os.Lchown(dir, int(u.UID), int(u.GID)); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the executor (uid %d) cannot run tasks as user %s: set the task's user to its own, or let the framework's user be root", os.Geteuid(), u.Name)
	} else if err != nil {
		return fmt.Errorf("give the task's directory to user %s: %w", u.Name, err)
	}
	return nil
}
