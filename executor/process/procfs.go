package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// procStat is what /proc/<pid>/stat tells of a process, see proc_pid_stat(5).
type procStat struct {
	pid     int
	name    string
	state   byte
	parent  int
	group   int
	session int
	// start is the time of the start in clock ticks since boot. Together with
	// pid it identifies a process for as long as the machine runs.
	start uint64
	// cpu is the processor time used so far.
	cpu time.Duration
}

// tickRate is USER_HZ, the unit of cpu times in /proc/<pid>/stat: 100 on every
// architecture that Go runs Linux on.
const tickRate = 100

// alive is false for what only waits to be reaped.
func (s procStat) alive() bool { return s.state != 'Z' && s.state != 'X' && s.state != 'x' }

// stopped is true for a process that SIGCONT would wake.
func (s procStat) stopped() bool { return s.state == 'T' }

func readStat(pid int) (procStat, error) {
	return readStatInto(pid, make([]byte, 1024))
}

func readStatInto(pid int, buf []byte) (procStat, error) {
	b, err := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", buf)
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// readSmall reads a file of /proc in one read(2), without the poller's set-up
// that os.ReadFile pays for: a scan opens thousands.
func readSmall(path string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		return buf[:n], nil
	}
}

// parseStat parses one line of /proc/<pid>/stat. The name may contain spaces,
// parentheses and newlines, so the fields after it are found from the right.
func parseStat(b []byte) (procStat, error) {
	var s procStat
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return s, fmt.Errorf("parse stat: no name in %d bytes", len(b))
	}
	// From state (field 3) on; starttime is field 22.
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return s, fmt.Errorf("parse stat: %d fields after the name, want at least 20", len(fields))
	}
	var err error
	num := func(b []byte) int {
		n, e := strconv.Atoi(string(bytes.TrimSpace(b)))
		err = errors.Join(err, e)
		return n
	}
	s.pid = num(b[:open])
	s.name = string(b[open+1 : end])
	s.state = fields[0][0]
	s.parent, s.group, s.session = num(fields[1]), num(fields[2]), num(fields[3])
	start, e := strconv.ParseUint(string(fields[19]), 10, 64)
	s.cpu = time.Duration(num(fields[11])+num(fields[12])) * (time.Second / tickRate)
	if err = errors.Join(err, e); err != nil {
		return procStat{}, fmt.Errorf("parse stat: %w", err)
	}
	s.start = start
	return s, nil
}

// table is the processes of the machine as one walk over /proc saw them.
type table struct {
	byPID    map[int]procStat
	children map[int][]int
	groups   map[int][]int
	sessions map[int][]int

	mu sync.Mutex
	// environs caches what was read of /proc/<pid>/environ.
	environs map[int]string
}

func scanTable() (*table, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	t := &table{
		byPID:    make(map[int]procStat, len(names)),
		children: make(map[int][]int),
		groups:   make(map[int][]int),
		sessions: make(map[int][]int),
		environs: make(map[int]string),
	}
	buf := make([]byte, 1024)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		s, err := readStatInto(pid, buf)
		if err != nil {
			continue // It ended meanwhile.
		}
		t.byPID[pid] = s
		t.children[s.parent] = append(t.children[s.parent], pid)
		t.groups[s.group] = append(t.groups[s.group], pid)
		t.sessions[s.session] = append(t.sessions[s.session], pid)
	}
	return t, nil
}

// hasVariable reports whether pid was started with the entry NAME=value in its
// environment, or NAME=value/..., as the trees below have. What cannot be read (another user's process) has not.
func (t *table) hasVariable(pid int, entry string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	env, ok := t.environs[pid]
	if !ok {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		env = "\x00" + string(b) + "\x00"
		t.environs[pid] = env
	}
	return strings.Contains(env, "\x00"+entry+"\x00") || strings.Contains(env, "\x00"+entry+"/")
}

// scanner shares walks over /proc: a walk costs some ten microseconds per
// process of the machine, and 500 tasks that are killed at once ask at once.
type scanner struct {
	mu      sync.Mutex
	running *walk // the walk under way
	next    *walk // who asks while one is under way waits for this one
}

type walk struct {
	done  chan struct{}
	table *table
	err   error
}

// scan returns a table whose walk began after the call.
func (s *scanner) scan() (*table, error) {
	s.mu.Lock()
	if s.running == nil {
		w := &walk{done: make(chan struct{})}
		s.running = w
		s.mu.Unlock()
		s.run(w)
		return w.table, w.err
	}
	first := s.next == nil
	if first {
		s.next = &walk{done: make(chan struct{})}
	}
	w, before := s.next, s.running
	s.mu.Unlock()
	if !first {
		<-w.done
		return w.table, w.err
	}
	<-before.done
	s.mu.Lock()
	s.running, s.next = w, nil
	s.mu.Unlock()
	s.run(w)
	return w.table, w.err
}

func (s *scanner) run(w *walk) {
	w.table, w.err = scanTable()
	s.mu.Lock()
	// Whoever waits for the next walk takes over running by itself.
	if s.next == nil {
		s.running = nil
	}
	s.mu.Unlock()
	close(w.done)
}

// readResident reads the resident memory of a process in bytes; 0 when it has
// ended.
func readResident(pid int) uint64 {
	b, err := readSmall("/proc/"+strconv.Itoa(pid)+"/statm", make([]byte, 128))
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(f[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}
