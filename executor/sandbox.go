package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
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
func (s sandbox) makeTaskDir(dir, username string) error {
	uid, gid, err := lookup(username)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the task's directory: %w", err)
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("make the task's directory: %s exists and is no directory", dir)
		}
	}
	if uid == os.Geteuid() {
		return nil
	}
	if err := os.Lchown(dir, uid, gid); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the executor (uid %d) cannot run tasks as user %s: set the task's user to its own, or let the framework's user be root", os.Geteuid(), username)
	} else if err != nil {
		return fmt.Errorf("give the task's directory to user %s: %w", username, err)
	}
	return nil
}

// lookup finds a user by name or number.
func lookup(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		if _, notNumber := strconv.ParseUint(name, 10, 31); notNumber == nil {
			u, err = user.LookupId(name)
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("user %q does not exist on this agent: add it, or set another user", name)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, fmt.Errorf("user %q has no numeric id: %w", name, err)
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return 0, 0, fmt.Errorf("user %q has no numeric group: %w", name, err)
	}
	return uid, gid, nil
}
