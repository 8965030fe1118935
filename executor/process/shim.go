package process

import (
	"context"
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
)

// order is what the shim is told. Byte slices, because JSON strings would
// change what is not UTF-8.
type order struct {
	Path   []byte
	Argv   [][]byte
	Env    [][]byte
	Limits []Rlimit
	User   *orderUser
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
	if err := json.Unmarshal(b, &o); err != nil {
		// The parent died before it had written all.
		return "read orders", unix.EPIPE
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
	return "exec", syscall.Exec(string(o.Path), toStrings(o.Argv), toStrings(o.Env))
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

	o := order{Path: []byte(l.path), Argv: toBytes(l.argv), Env: toBytes(l.env), Limits: limits}
	if l.user != nil {
		o.User = &orderUser{UID: l.user.UID, GID: l.user.GID, Groups: l.user.Groups}
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode orders: %w", err)
	}
	_, werr := ordersWrite.Write(b)
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
