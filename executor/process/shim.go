package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The shim is this program under another name, between fork and exec of a task:
// it waits until its parent has moved it into the task's cgroups, takes on the
// task's limits and user, and becomes the task. Its own environment is empty,
// so that no variable of a task (GODEBUG, say) acts on a process that is still
// root; the task's arrives through a pipe.

// shimName is argv[0] of the shim; RunShim looks for nothing else.
const shimName = "pacer-task-shim"

// Descriptors of the shim beside 0, 1 and 2.
const (
	shimOrders = 3 // read: one JSON order, then the end of the stream
	shimReport = 4 // write: shimReady, and a shimFailure if exec fails
	shimExtra  = 5 // and the following: see orderSecrets
)

// order is what the shim is told. Byte slices, because JSON strings would
// change what is not UTF-8. After it, in the same stream, come the secret
// variables, which no encoder has seen.
type order struct {
	Path    []byte
	Argv    [][]byte
	Env     [][]byte
	Limits  []Rlimit
	User    *orderUser
	Secrets orderSecrets
}

// orderSecrets says what to do with the descriptors from shimExtra on.
type orderSecrets struct {
	// Mount: the first is a file system for this directory, in a mount
	// namespace to be made.
	Mount []byte
	// Join: the first is a mount namespace to enter; then the working directory
	// is this one again.
	Join []byte
	// Links: they are files, left open for the task, to which links of these
	// names are made in the directory LinksDir.
	LinksDir []byte
	Links    [][]byte
}

type orderUser struct {
	UID, GID uint32
	Groups   []uint32
}

// shimReady precedes exec: the report's end without it means that the shim was
// killed before.
const shimReady = '+'

// shimFailure names the step that failed.
type shimFailure struct {
	Step  string
	Errno int
}

// RunShim turns this process into the shim if it was started as one, and then
// never returns. main and TestMain call it before anything else.
func RunShim() {
	if len(os.Args) != 1 || os.Args[0] != shimName {
		return
	}
	// PDEATHSIG and the working directory belong to a thread.
	runtime.LockOSThread()
	unix.CloseOnExec(shimOrders)
	unix.CloseOnExec(shimReport)
	report := os.NewFile(shimReport, "report")
	step, err := runShim(os.NewFile(shimOrders, "orders"), report)
	var errno syscall.Errno
	errors.As(err, &errno)
	json.NewEncoder(report).Encode(shimFailure{Step: step, Errno: int(errno)})
	os.Exit(127)
}

func runShim(orders io.ReadCloser, report io.Writer) (step string, err error) {
	parent := os.Getppid()
	b, err := io.ReadAll(orders)
	if err != nil {
		return "read orders", err
	}
	var o order
	secretEnv, err := decodeOrders(b, &o)
	if err != nil {
		// The parent died before it had written all.
		return "read orders", unix.EPIPE
	}
	if step, err := o.Secrets.deliver(); err != nil {
		return step, err
	}
	for _, l := range o.Limits {
		if err := syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Sprintf("set rlimit %d to %d/%d", l.Resource, l.Soft, l.Hard), err
		}
	}
	if u := o.User; u != nil {
		groups := make([]int, len(u.Groups))
		for i, g := range u.Groups {
			groups[i] = int(g)
		}
		if err := syscall.Setgroups(groups); err != nil {
			return "set groups", err
		}
		if err := syscall.Setgid(int(u.GID)); err != nil {
			return "set group", err
		}
		if err := syscall.Setuid(int(u.UID)); err != nil {
			return "set user", err
		}
	}
	// A change of user has cleared it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return "ask for a signal when the executor dies", err
	}
	if os.Getppid() != parent {
		return "start", unix.ESRCH
	}
	if _, err := report.Write([]byte{shimReady}); err != nil {
		return "report", err
	}
	return "exec", syscall.Exec(string(o.Path), toStrings(o.Argv), toStrings(append(o.Env, secretEnv...)))
}

// deliver makes the task's secret files visible to it. It runs as the executor's
// user.
func (o orderSecrets) deliver() (step string, err error) {
	switch {
	case len(o.Mount) > 0:
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return "make a mount namespace", err
		}
		// Mounts of the host still arrive, and none goes back.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return "separate the mount namespace", err
		}
		if err := unix.MoveMount(shimExtra, "", unix.AT_FDCWD, string(o.Mount), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return "mount the secret files", err
		}
		unix.CloseOnExec(shimExtra)
	case len(o.Join) > 0:
		// A thread can enter one only when it shares nothing with the others.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return "enter the task's mount namespace", err
		}
		if err := unix.Setns(shimExtra, unix.CLONE_NEWNS); err != nil {
			return "enter the task's mount namespace", err
		}
		if err := unix.Chdir(string(o.Join)); err != nil {
			return "enter the working directory", err
		}
		unix.CloseOnExec(shimExtra)
	}
	for i, name := range o.Links {
		target := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), shimExtra+i)
		if err := unix.Symlink(target, string(o.LinksDir)+"/"+string(name)); err != nil {
			return "link a secret file", err
		}
	}
	return "", nil
}

// Orders are JSON and any number of secret variables, each with its length
// before it.
const lengthSize = 4

func writeOrders(w io.Writer, plain []byte, secret [][]byte) error {
	for _, part := range append([][]byte{plain}, secret...) {
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	// So that a stream cut at a part's end is not taken for the whole.
	_, err := w.Write(ordersEnd)
	return err
}

var ordersEnd = []byte{0xff, 0xff, 0xff, 0xff}

func decodeOrders(b []byte, o *order) (secret [][]byte, err error) {
	var parts [][]byte
	for {
		if len(b) < lengthSize {
			return nil, io.ErrUnexpectedEOF
		}
		length, rest := b[:lengthSize], b[lengthSize:]
		if bytes.Equal(length, ordersEnd) && len(rest) == 0 && len(parts) > 0 {
			return parts[1:], json.Unmarshal(parts[0], o)
		}
		n := binary.BigEndian.Uint32(length)
		if uint64(n) > uint64(len(rest)) {
			return nil, io.ErrUnexpectedEOF
		}
		parts, b = append(parts, rest[:n]), rest[n:]
	}
}

// shimTime bounds the shim, whose every step is local. It is generous: machines
// swap.
const shimTime = 30 * time.Second

// launchShim starts l through the shim.
func (s *Supervisor) launchShim(ctx context.Context, t tree, l launch, limits []Rlimit) (_ *child, err error) {
	ctx, cancel := context.WithTimeout(ctx, shimTime)
	defer cancel()

	ordersRead, ordersWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer ordersRead.Close()
	defer ordersWrite.Close()
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer reportRead.Close()
	defer reportWrite.Close()

	shim := launch{
		path: "/proc/self/exe", argv: []string{shimName}, env: []string{},
		dir: l.dir, umask: l.umask, cgroup: l.cgroup, name: l.name,
		// Fd makes the shim's ends block, as it expects.
		files: append(append([]uintptr{}, l.files...), ordersRead.Fd(), reportWrite.Fd()),
	}
	for _, f := range l.extra {
		shim.files = append(shim.files, f.Fd())
	}
	c, err := s.spawner.fork(ctx, s.reaper, shim, s.late(t))
	if err != nil {
		return nil, fmt.Errorf("start the shim: %w", err)
	}
	defer func() {
		if err == nil {
			return
		}
		// Usually the shim alone; the whole tree if only its report was late.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		c.signal(unix.SIGKILL, true)
		_, kerr := killTree(clean, t)
		select {
		case <-c.exited:
		case <-clean.Done():
		}
		s.reaper.abandon(c)
		err = errors.Join(err, kerr)
	}()
	ordersRead.Close()
	reportWrite.Close()
	if t.needsShim() {
		if err := t.adopt(c.pid); err != nil {
			return nil, err
		}
	}
	t.bind(c)

	deadline, _ := ctx.Deadline()
	defer context.AfterFunc(ctx, func() {
		ordersWrite.SetDeadline(time.Unix(1, 0))
		reportRead.SetDeadline(time.Unix(1, 0))
	})()
	ordersWrite.SetDeadline(deadline)
	reportRead.SetDeadline(deadline)

	o := order{Path: []byte(l.path), Argv: toBytes(l.argv), Env: toBytes(l.env), Limits: limits, Secrets: l.secrets}
	if l.user != nil {
		o.User = &orderUser{UID: l.user.UID, GID: l.user.GID, Groups: l.user.Groups}
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode orders: %w", err)
	}
	werr := writeOrders(ordersWrite, b, l.secretEnv)
	clear(b) // It holds the environment.
	ordersWrite.Close()
	report, err := io.ReadAll(reportRead)
	if err != nil {
		return nil, fmt.Errorf("wait for the shim: %w", errors.Join(context.Cause(ctx), err))
	}
	return c, judgeReport(l, report, werr)
}

// judgeReport says from what the shim wrote whether the task runs.
func judgeReport(l launch, report []byte, werr error) error {
	if len(report) == 1 && report[0] == shimReady {
		return nil
	}
	failure := strings.TrimPrefix(string(report), string(shimReady))
	var f shimFailure
	if err := json.Unmarshal([]byte(failure), &f); err != nil {
		return errors.Join(errors.New("the shim died before it executed the task; is the memory limit very small?"), werr)
	}
	if f.Step == "exec" {
		return explainExec(l.path, l.user, syscall.Errno(f.Errno))
	}
	return fmt.Errorf("%s: %w", f.Step, syscall.Errno(f.Errno))
}

func toBytes(s []string) [][]byte {
	b := make([][]byte, len(s))
	for i := range s {
		b[i] = []byte(s[i])
	}
	return b
}

func toStrings(b [][]byte) []string {
	s := make([]string, len(b))
	for i := range b {
		s[i] = string(b[i])
	}
	return s
}
