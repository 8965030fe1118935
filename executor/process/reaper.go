package process

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reaper is the only caller of wait(2) in the executor.
//
// It watches the children that the spawner started and leaves each of them a
// zombie until its owner releases it: as long as a zombie exists, the kernel
// gives neither its process id nor its group id to anyone else, so that both
// can be signalled without a race on every kernel. Orphans of tasks, adopted
// because this process is their subreaper, are reaped at once. A child that
// other code started (os/exec) is recognised by this process's own group and
// left alone.
type reaper struct {
	self  int
	group int

	mu       sync.Mutex
	children map[int]*child
	// spawning counts forks under way. A child whose fork has not returned is
	// in nobody's list yet and must not be taken for an orphan.
	spawning int

	kick    chan struct{} // buffered 1: a pass is wanted
	signals chan os.Signal
	stop    chan struct{}
	stopped chan struct{}
}

// child is a process that the spawner started.
type child struct {
	pid    int
	exited chan struct{} // closed when it is a zombie

	mu     sync.Mutex
	reaped bool

	// abandoned: nobody will release it. Guarded by the reaper's lock.
	abandoned bool

	// Valid once exited is closed.
	status waitStatus
}

// waitStatus is how a child ended.
type waitStatus struct {
	code    int // -1 if a signal ended it
	signal  int
	core    bool
	maxRSS  uint64 // bytes, of the child or its largest waited-for child
	endedAt time.Time
}

// safetyNet is how often the reaper looks without having been told: signals
// are not lost, but an interval costs nothing and mends what we did not think
// of.
const safetyNet = 5 * time.Second

func newReaper() *reaper {
	r := &reaper{
		self:     os.Getpid(),
		group:    unix.Getpgrp(),
		children: make(map[int]*child),
		kick:     make(chan struct{}, 1),
		signals:  make(chan os.Signal, 1),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.reapLoop()
	return r
}

func (r *reaper) close() {
	signal.Stop(r.signals)
	close(r.stop)
	<-r.stopped
}

func (r *reaper) reapLoop() {
	defer close(r.stopped)
	tick := time.NewTicker(safetyNet)
	defer tick.Stop()
	for {
		select {
		case <-r.signals:
		case <-r.kick:
		case <-tick.C:
		case <-r.stop:
			return
		}
		r.pass()
	}
}

// spawn runs start, which forks one child and returns its id, and begins to
// watch it. Nothing is reaped wrongly meanwhile, and a fork that hangs delays
// nobody's exit status.
func (r *reaper) spawn(start func() (int, error)) (*child, error) {
	r.mu.Lock()
	r.spawning++
	r.mu.Unlock()

	pid, err := start()

	r.mu.Lock()
	r.spawning--
	var c *child
	if err == nil {
		c = &child{pid: pid, exited: make(chan struct{})}
		r.children[pid] = c
	}
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return c, err
}

// release reaps c, which must have exited. From then on its id may be used
// again and signal does nothing.
func (r *reaper) release(c *child) {
	<-c.exited
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(c)
}

// abandon kills c and leaves reaping it to the reaper, whenever it ends.
func (r *reaper) abandon(c *child) {
	c.signal(unix.SIGKILL, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	c.abandoned = true
	select {
	case <-c.exited:
		r.releaseLocked(c)
	default:
	}
}

func (r *reaper) releaseLocked(c *child) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.reaped = true
	delete(r.children, c.pid)
	reap(c.pid)
}

// signal sends sig to c, or to its process group if toGroup, if c has not been
// released.
func (c *child) signal(sig unix.Signal, toGroup bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	pid := c.pid
	if toGroup {
		pid = -pid
	}
	return ignoreGone(unix.Kill(pid, sig))
}

// owns reports whether pid is a child that has an owner, so no orphan.
func (r *reaper) owns(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.children[pid] != nil
}

// pass notes which children have ended and reaps the orphans that have.
func (r *reaper) pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.children {
		select {
		case <-c.exited:
			continue
		default:
		}
		if status, ended := peek(c.pid); ended {
			c.status = status
			close(c.exited)
			if c.abandoned {
				r.releaseLocked(c)
			}
		}
	}
	if r.spawning > 0 {
		return // The end of the spawn kicks again.
	}
	for _, pid := range r.adopted() {
		if r.children[pid] != nil {
			continue
		}
		if _, ended := peek(pid); ended {
			if s, err := readStat(pid); err == nil && !r.foreign(s) {
				reap(pid)
			}
		}
	}
}

// foreign reports whether a child of this process was started by other code of
// it, which then waits for it. os/exec leaves its children in our group, tasks
// are put in their own.
func (r *reaper) foreign(s procStat) bool { return s.group == r.group }

// adopted lists the children of the main thread. The kernel gives orphans to
// the first thread of a subreaper that lives, and Go's main thread does not end;
// children started by the spawner belong to its thread.
func (r *reaper) adopted() []int {
	self := strconv.Itoa(r.self)
	b, err := os.ReadFile("/proc/" + self + "/task/" + self + "/children")
	if err != nil {
		return r.adoptedByScan() // A kernel without CONFIG_PROC_CHILDREN.
	}
	var pids []int
	for _, f := range bytes.Fields(b) {
		if pid, err := strconv.Atoi(string(f)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *reaper) adoptedByScan() []int {
	t, err := scanTable()
	if err != nil {
		return nil // The next pass tries again.
	}
	return t.children[r.self]
}

// siginfo is the head of siginfo_t as waitid(2) fills it.
type siginfo struct {
	Signo, Errno, Code int32
	_                  [unsafe.Sizeof(uintptr(0)) - 4]byte
	PID                int32
	UID                uint32
	Status             int32
	_                  [128]byte
}

// Values of si_code for SIGCHLD, see sigaction(2).
const (
	cldKilled = 2
	cldDumped = 3
)

// peek tells whether the child has ended and how, and leaves it a zombie.
func peek(pid int) (waitStatus, bool) {
	var info siginfo
	var usage unix.Rusage
	for {
		err := unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, &usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || info.PID == 0 {
			return waitStatus{}, false
		}
		break
	}
	s := waitStatus{endedAt: time.Now(), maxRSS: uint64(usage.Maxrss) << 10}
	switch info.Code {
	case cldKilled, cldDumped:
		s.code, s.signal, s.core = -1, int(info.Status), info.Code == cldDumped
	default:
		s.code = int(info.Status)
	}
	return s, true
}

// reap collects a zombie.
func reap(pid int) {
	for {
		_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
