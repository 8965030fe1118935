package process

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// markerName is a variable in the environment of tasks in mode none. It finds
// descendants that have left their session and lost their parents.
const markerName = "PACER_TASK_TREE"

// A family is a tree without a cgroup: the main process, its process group,
// their descendants, and adopted orphans that carry the family's marker, that
// belong to a group or session of the family, or that were once seen in it.
//
// An orphan that shows none of these (it left its session and cleared its
// environment before anybody looked) is nobody's; it is counted to the family
// that asks if that is the only one.
type family struct {
	reaper  *reaper
	scanner *scanner
	marker  string
	// only reports whether this family is the only one.
	only func() bool

	mu    sync.Mutex
	main  *child
	known map[int]uint64 // process id -> time of start
}

func (f *family) birth() int       { return -1 }
func (f *family) adopt(int) error  { return nil }
func (f *family) needsShim() bool  { return false }
func (f *family) variable() string { return markerName + "=" + f.marker }
func (f *family) remove() error    { return nil }

func (f *family) bind(c *child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.main = c
}

// members walks /proc and returns the family's processes that are no zombies.
func (f *family) members() ([]procStat, error) {
	t, err := f.scanner.scan()
	if err != nil {
		return nil, err
	}
	only := f.only()
	f.mu.Lock()
	defer f.mu.Unlock()

	found := make(map[int]bool)
	var queue []int
	add := func(pid int) {
		if !found[pid] {
			found[pid] = true
			queue = append(queue, pid)
		}
	}
	if f.main != nil {
		// Until main is released neither its id nor its group is anyone else's.
		if _, ok := t.byPID[f.main.pid]; ok {
			add(f.main.pid)
		}
		for _, pid := range t.groups[f.main.pid] {
			add(pid)
		}
	}
	orphans := t.children[f.reaper.self]
	for _, pid := range orphans {
		s := t.byPID[pid]
		if f.reaper.owns(pid) || !s.alive() {
			continue
		}
		if f.known[pid] == s.start && s.start != 0 || t.hasVariable(pid, f.variable()) {
			add(pid)
		}
	}
	f.close(t, &queue, add)
	if only {
		for _, pid := range orphans {
			if s := t.byPID[pid]; !found[pid] && !f.reaper.owns(pid) && !f.reaper.foreign(s) && s.alive() {
				add(pid)
			}
		}
		f.close(t, &queue, add)
	}

	f.known = make(map[int]uint64, len(found))
	alive := make([]procStat, 0, len(found))
	for pid := range found {
		s := t.byPID[pid]
		f.known[pid] = s.start
		if s.alive() {
			alive = append(alive, s)
		}
	}
	return alive, nil
}

// close adds descendants, and who shares a session with a member: a session
// other than this process's own is entered by birth only.
func (f *family) close(t *table, queue *[]int, add func(int)) {
	own := t.byPID[f.reaper.self].session
	for len(*queue) > 0 {
		pid := (*queue)[0]
		*queue = (*queue)[1:]
		for _, c := range t.children[pid] {
			add(c)
		}
		s := t.byPID[pid]
		if s.session == own || s.session == 0 {
			continue
		}
		for _, p := range t.sessions[s.session] {
			add(p)
		}
	}
}

func (f *family) signal(sig unix.Signal) error {
	members, err := f.members()
	if err != nil {
		return err
	}
	return f.signalMembers(members, sig)
}

// signalMembers reaches the main process's group in one system call, which a
// process that forks meanwhile does not escape, and the others one by one.
func (f *family) signalMembers(members []procStat, sig unix.Signal) error {
	f.mu.Lock()
	main := f.main
	f.mu.Unlock()
	var errs []error
	if main != nil {
		errs = append(errs, main.signal(sig, true))
	}
	for _, s := range members {
		if main == nil || s.group != main.pid {
			errs = append(errs, f.send(s, sig))
		}
		if s.stopped() && sig != unix.SIGKILL {
			errs = append(errs, f.send(s, unix.SIGCONT))
		}
	}
	return errors.Join(errs...)
}

// send signals the process that s describes, and no later owner of its id.
func (f *family) send(s procStat, sig unix.Signal) error {
	err := signalIf(s.pid, sig, func() bool {
		now, err := readStat(s.pid)
		return err == nil && now.start == s.start
	})
	if err != nil {
		return fmt.Errorf("signal %s (%d): %w", s.name, s.pid, err)
	}
	return nil
}

// kill answers "nobody" only when two walks in a row found nobody: a process
// that forks and ends while a walk is under way can be missed once.
func (f *family) kill(context.Context) ([]int, error) {
	for range 2 {
		members, err := f.members()
		if err != nil {
			return nil, err
		}
		if len(members) > 0 {
			return pidsOf(members), f.signalMembers(members, unix.SIGKILL)
		}
	}
	return nil, nil
}

func (f *family) memory() memoryStats { return memoryStats{} }

func (f *family) usage() (Usage, error) {
	members, err := f.members()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Processes: len(members)}
	for _, s := range members {
		u.Memory += readResident(s.pid)
		u.CPU += s.cpu
	}
	return u, nil
}

func (f *family) sub(name string) (tree, error) {
	return &family{
		reaper: f.reaper, scanner: f.scanner,
		marker: f.marker + "/" + name,
		only:   func() bool { return false },
	}, nil
}

func pidsOf(stats []procStat) []int {
	pids := make([]int, len(stats))
	for i, s := range stats {
		pids[i] = s.pid
	}
	return pids
}
