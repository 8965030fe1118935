package agent

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a line of /proc/<pid>/stat.
type process struct {
	pid, parent, group, session int
	state                       byte
	started                     string
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, errNoProcess
	}
	return parseStat(pid, text)
}

// parseStat reads proc(5)'s stat. The command, in parentheses, may contain spaces
// and parentheses itself.
func parseStat(pid int, text []byte) (process, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return process{}, errNoProcess
	}
	fields := strings.Fields(string(text[end+1:]))
	const startField = 19 // counted from the state, which is field 3 of stat
	if len(fields) <= startField || len(fields[0]) != 1 {
		return process{}, errNoProcess
	}
	p := process{pid: pid, state: fields[0][0], started: fields[startField]}
	for i, target := range []*int{&p.parent, &p.group, &p.session} {
		v, err := strconv.Atoi(fields[1+i])
		if err != nil {
			return process{}, errNoProcess
		}
		*target = v
	}
	return p, nil
}

func listProcesses() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// tree returns the living processes that belong to root as Mesos' posix launcher
// sees it: root and its descendants, and the sessions and process groups of these.
// When root is dead only its own session and group can be found.
func tree(list []process, root int) []int {
	member := map[int]bool{root: true}
	sessions := map[int]bool{root: true}
	groups := map[int]bool{root: true}
	for grown := true; grown; {
		grown = false
		for _, p := range list {
			if !member[p.pid] && (member[p.parent] || sessions[p.session] || groups[p.group]) {
				member[p.pid] = true
				grown = true
			}
			// Only what leads a session or group within the tree adds it: the tree's
			// outer session, of which the root may be a plain member, is not ours.
			if member[p.pid] && p.session == p.pid {
				sessions[p.pid] = true
			}
			if member[p.pid] && p.group == p.pid {
				groups[p.pid] = true
			}
		}
	}
	var pids []int
	for _, p := range list {
		if member[p.pid] && p.state != 'Z' && p.state != 'X' {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// destroy kills everything that belongs to the container and waits until it has
// gone, for a bounded time: a process in uninterruptible sleep is left behind.
func (c *container) destroy() {
	const patience = 10 * time.Second
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		pids := cgroupProcesses(c.cgroups)
		if c.pid > 0 {
			pids = append(pids, tree(listProcesses(), c.pid)...)
		}
		for _, pid := range pids {
			// Stopped first, so that nothing forks away between two looks.
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(pids) == 0 || time.Now().After(deadline) {
			return
		}
		time.Sleep(pause)
	}
}
