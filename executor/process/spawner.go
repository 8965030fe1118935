package process

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A spawner forks. It owns one operating-system thread for its whole life:
//
//   - PDEATHSIG fires when the thread that forked ends, not the process, so
//     that thread must not be one that Go's scheduler may retire;
//   - the thread has its own working directory and umask (CLONE_FS), so that a
//     child is born in a directory that its user could not enter from the root,
//     and with its umask, although neither is a parameter of Go's fork.
//
// Forks happen one after the other, as in all Go programs, and each lasts until
// its exec has succeeded: a program on a file system that hangs holds up later
// starts (not the tasks that run, nor their ends), which then fail at their
// deadline.
type spawner struct {
	requests chan func()
	stop     chan struct{}
	stopped  chan struct{}
}

// launch is one fork and exec.
type launch struct {
	path   string // looked up already
	argv   []string
	env    []string
	dir    string
	umask  int
	user   *User     // nil keeps this process's
	files  []uintptr // 0, 1, 2, ...
	cgroup int       // descriptor of a v2 cgroup to be born in, or -1
	name   string    // names the task in errors

	// What only the shim can do.
	secretEnv [][]byte   // wiped by the caller
	extra     []*os.File // descriptors that the shim gets beside its own
	secrets   orderSecrets
}

func newSpawner() (*spawner, error) {
	s := &spawner{
		requests: make(chan func()),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	ready := make(chan error, 1)
	go s.forkLoop(ready)
	if err := <-ready; err != nil {
		<-s.stopped
		return nil, err
	}
	return s, nil
}

// close ends the thread. It does not wait longer than ctx for an exec that
// hangs.
func (s *spawner) close(ctx context.Context) error {
	close(s.stop)
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a start under way: %w", context.Cause(ctx))
	}
}

func (s *spawner) forkLoop(ready chan<- error) {
	defer close(s.stopped)
	// Never unlocked: the thread ends with the goroutine and takes its
	// directory and umask with it.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread never ends, and /proc/self shows its directory:
		// leave it as it is and go on in another thread.
		done := make(chan struct{})
		go func() { defer close(done); s.serve(ready) }()
		<-done
		runtime.UnlockOSThread()
		return
	}
	s.serve(ready)
}

func (s *spawner) serve(ready chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		ready <- fmt.Errorf("give the forking thread its own working directory (unshare CLONE_FS): %w", err)
		return
	}
	close(ready)
	for {
		select {
		case f := <-s.requests:
			f()
		case <-s.stop:
			return
		}
	}
}

// lateTime is how long a fork may go on after its context has ended. It is
// usually a matter of microseconds, and a child in hand is killed properly by
// whoever asked for it; a program on a file system that does not answer may
// never return from exec.
const lateTime = time.Second

// fork starts l. When ctx ends and the fork does not return soon, late is called
// with the child if it ever does.
func (s *spawner) fork(ctx context.Context, r *reaper, l launch, late func(*child)) (*child, error) {
	type answer struct {
		child *child
		err   error
	}
	done := make(chan answer, 1)
	run := func() {
		c, err := r.spawn(func() (int, error) { return forkExec(l) })
		done <- answer{c, err}
	}
	select {
	case s.requests <- run:
	case <-s.stop:
		return nil, fmt.Errorf("start %s: %w", l.name, errClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("start %s: %w while waiting for an earlier start", l.name, context.Cause(ctx))
	}
	select {
	case a := <-done:
		return a.child, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-done:
		return a.child, a.err
	case <-time.After(lateTime):
		go func() {
			if a := <-done; a.child != nil {
				late(a.child)
			}
		}()
		return nil, fmt.Errorf("start %s: %w while the kernel executes %s", l.name, context.Cause(ctx), l.path)
	}
}

// forkExec runs on the spawner's thread.
func forkExec(l launch) (int, error) {
	if err := unix.Chdir(l.dir); err != nil {
		return 0, fmt.Errorf("enter working directory %q: %w", l.dir, err)
	}
	// Do not keep a task's directory busy.
	defer unix.Chdir("/")
	defer unix.Umask(unix.Umask(l.umask))

	attr := &syscall.SysProcAttr{
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	if l.user != nil {
		attr.Credential = &syscall.Credential{Uid: l.user.UID, Gid: l.user.GID, Groups: l.user.Groups}
	}
	if l.cgroup >= 0 {
		attr.UseCgroupFD, attr.CgroupFD = true, l.cgroup
	}
	pid, err := syscall.ForkExec(l.path, l.argv, &syscall.ProcAttr{Env: l.env, Files: l.files, Sys: attr})
	if err != nil {
		return 0, explainExec(l.path, l.user, err)
	}
	return pid, nil
}

// explainExec turns the one errno of fork, setuid and exec into what to look
// at.
func explainExec(path string, user *User, err error) error {
	switch err {
	case unix.ENOENT:
		return fmt.Errorf("execute %q: %w (the file, or the interpreter that its first line names)", path, err)
	case unix.EACCES:
		return fmt.Errorf("execute %q as %s: %w (not executable, or a directory above it that this user may not enter)", path, user, err)
	case unix.EPERM:
		return fmt.Errorf("execute %q as %s: %w (changing user needs an executor that runs as root)", path, user, err)
	case unix.ENOEXEC:
		return fmt.Errorf("execute %q: %w (no #! line, or a program for another machine)", path, err)
	}
	return fmt.Errorf("execute %q: %w", path, err)
}
