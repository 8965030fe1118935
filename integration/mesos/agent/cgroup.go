package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"golang.org/x/sys/unix"
)

// hierarchy is a place where cgroups are made: a v1 controller's or the unified one.
type hierarchy struct {
	controller string // "" for v2
	mount      string
}

// v1Controllers are those that Mesos uses with the linux launcher and the isolators
// cgroups/cpu and cgroups/mem.
var v1Controllers = []string{"memory", "cpu", "cpuacct", "freezer"}

// Below these Mesos does not go.
const (
	minMemory    = 32 << 20
	minCPUShares = 2
)

// leaf is the cgroup that holds a container's processes in v2, where the container's
// own may have no processes if it shall have children.
const leaf = "leaf"

// hierarchies finds the v1 controllers' mounts, or the unified hierarchy where
// there is no v1 memory controller.
func hierarchies() ([]hierarchy, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(text)
}

// parseMounts reads proc(5)'s mountinfo.
func parseMounts(text []byte) ([]hierarchy, error) {
	var list []hierarchy
	unified := ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(super) < 3 {
			continue
		}
		switch super[0] {
		case "cgroup2":
			unified = fields[4]
		case "cgroup":
			for _, option := range strings.Split(super[2], ",") {
				if slices.Contains(v1Controllers, option) {
					list = append(list, hierarchy{controller: option, mount: fields[4]})
				}
			}
		}
	}
	if slices.ContainsFunc(list, func(h hierarchy) bool { return h.controller == "memory" }) {
		return list, nil
	}
	if unified == "" {
		return nil, errors.New("no cgroup hierarchy is mounted: unset CgroupRoot")
	}
	return []hierarchy{{mount: unified}}, nil
}

// containerDir is the container's own cgroup in a hierarchy.
func (h hierarchy) containerDir(root, container string) string {
	return filepath.Join(h.mount, root, container)
}

// prepareCgroups finds the hierarchies and makes the agent's own cgroup in each.
func (a *Agent) prepareCgroups() error {
	if a.cfg.CgroupRoot == "" {
		return nil
	}
	list, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range list {
		directory := filepath.Join(h.mount, a.cfg.CgroupRoot)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return fmt.Errorf("cgroup of the agent: %w", err)
		}
		if h.controller != "" {
			continue
		}
		for _, parent := range []string{h.mount, directory} {
			if err := delegate(parent); err != nil {
				return fmt.Errorf("cgroup of the agent: %w", err)
			}
		}
	}
	a.hierarchies = list
	return nil
}

// delegate gives a v2 cgroup's children the controllers.
func delegate(directory string) error {
	return os.WriteFile(filepath.Join(directory, "cgroup.subtree_control"), []byte("+cpu +memory"), 0)
}

// cgroupsOf lists a container's cgroups, one per hierarchy.
func (a *Agent) cgroupsOf(container string) []string {
	var list []string
	for _, h := range a.hierarchies {
		list = append(list, h.containerDir(a.cfg.CgroupRoot, container))
	}
	return list
}

// makeCgroupsLocked creates a container's cgroups with their limits and returns
// what its helper has to enter.
func (a *Agent) makeCgroupsLocked(e *executor) (enter []string, err error) {
	for _, h := range a.hierarchies {
		directory := h.containerDir(a.cfg.CgroupRoot, e.container)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return nil, err
		}
		if h.controller == "" {
			if err := delegate(directory); err != nil {
				return nil, err
			}
			directory = filepath.Join(directory, leaf)
			if err := os.MkdirAll(directory, 0o755); err != nil {
				return nil, err
			}
		}
		enter = append(enter, directory)
	}
	return enter, a.applySize(e)
}

// resizeLocked makes the container as large as its executor and tasks.
func (a *Agent) resizeLocked(e *executor) {
	if e.process == nil || e.state == executorTerminated {
		return
	}
	if err := a.applySize(e); err != nil {
		a.log.Error().Str(keyExecutor, e.id).Err(err).Msg("container cannot be resized")
	}
}

// applySize writes the limits. The hard limit of memory is raised only: lowered
// below what is in use it would kill.
func (a *Agent) applySize(e *executor) error {
	s := e.size()
	memory := max(s.megabytes<<20, minMemory)
	var problems []error
	for _, h := range a.hierarchies {
		directory := h.containerDir(a.cfg.CgroupRoot, e.container)
		write := func(file string, value int64) {
			problems = append(problems, os.WriteFile(filepath.Join(directory, file), strconv.AppendInt(nil, value, 10), 0))
		}
		switch h.controller {
		case "memory":
			write("memory.soft_limit_in_bytes", memory)
			if memory > e.memory {
				write("memory.limit_in_bytes", memory)
			}
		case "cpu":
			write("cpu.shares", max(1024*s.milliCPUs/1000, minCPUShares))
		case "":
			write("memory.low", memory)
			if memory > e.memory {
				write("memory.max", memory)
			}
			write("cpu.weight", min(max(100*s.milliCPUs/1000, 1), 10000))
		}
	}
	e.memory = max(e.memory, memory)
	return errors.Join(problems...)
}

// cgroupProcesses lists the processes in cgroups and everything below them.
func cgroupProcesses(cgroups []string) []int {
	var pids []int
	for _, cgroup := range cgroups {
		walkCgroups(cgroup, func(directory string) {
			text, err := os.ReadFile(filepath.Join(directory, "cgroup.procs"))
			if err != nil {
				return
			}
			for _, line := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
		})
	}
	return pids
}

// walkCgroups calls f for a cgroup and all below, children first.
func walkCgroups(cgroup string, f func(string)) {
	entries, err := os.ReadDir(cgroup)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			walkCgroups(filepath.Join(cgroup, entry.Name()), f)
		}
	}
	f(cgroup)
}

// removeCgroups removes cgroups without processes. A process that has just died can
// still be in the way for a moment.
func (a *Agent) removeCgroups(cgroups []string) {
	for _, cgroup := range cgroups {
		var err error
		for pause := time.Millisecond; pause < time.Second; pause *= 2 {
			walkCgroups(cgroup, func(directory string) { err = os.Remove(directory) })
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				err = nil
				break
			}
			time.Sleep(pause)
		}
		if err != nil {
			a.log.Error().Err(err).Msg("cgroup cannot be removed")
		}
	}
}

// removeUnknownCgroups destroys containers that nothing is known of: those of
// frameworks that do not checkpoint.
func (a *Agent) removeUnknownCgroups(known map[string]bool) {
	unknown := make(map[string]bool)
	for _, h := range a.hierarchies {
		names, err := subdirectories(filepath.Join(h.mount, a.cfg.CgroupRoot))
		if err != nil {
			a.log.Error().Err(err).Msg("cgroups of orphans cannot be listed")
		}
		for _, name := range names {
			if !known[name] {
				unknown[name] = true
			}
		}
	}
	for name := range unknown {
		a.log.Info().Str(keyContainer, name).Msg("destroying an orphaned container")
		cgroups := a.cgroupsOf(name)
		(&container{cgroups: cgroups}).destroy()
		a.removeCgroups(cgroups)
	}
}

// watchMemory destroys a container that has run out of memory, with the
// explanation that its tasks are told. It returns with the container or this life.
func (a *Agent) watchMemory(e *executor, process *container) {
	index := slices.IndexFunc(a.hierarchies, func(h hierarchy) bool { return h.controller == "memory" || h.controller == "" })
	if index < 0 {
		return
	}
	h := a.hierarchies[index]
	directory := h.containerDir(a.cfg.CgroupRoot, e.container)
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	a.wg.Go(func() {
		select {
		case <-process.done:
			cancel()
		case <-stop:
		case <-ctx.Done():
		}
	})
	var err error
	if h.controller == "" {
		err = awaitOOMv2(ctx, directory)
	} else {
		err = awaitOOMv1(ctx, directory)
	}
	if err != nil {
		if ctx.Err() == nil {
			a.log.Error().Str(keyExecutor, e.id).Err(err).Msg("memory cannot be watched")
		}
		return
	}
	a.awaitThaw()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != dead {
		a.log.Warn().Str(keyExecutor, e.id).Msg("container ran out of memory")
		a.destroyLocked(e, outOfMemory(h, directory, e.memory))
	}
}

// awaitOOMv1 returns nil when the kernel tells of an OOM at this very cgroup; one in
// a child with a limit of its own is not told.
func awaitOOMv1(ctx context.Context, directory string) error {
	control, err := os.Open(filepath.Join(directory, "memory.oom_control"))
	if err != nil {
		return err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	event := os.NewFile(uintptr(fd), "oom")
	defer event.Close()
	text := fmt.Appendf(nil, "%d %d", fd, control.Fd())
	if err := os.WriteFile(filepath.Join(directory, "cgroup.event_control"), text, 0); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = event.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := event.Read(make([]byte, 8)); err != nil {
		return err
	}
	// The removal of the cgroup wakes up, too.
	if _, err := os.Stat(filepath.Join(directory, "memory.oom_control")); err != nil {
		return err
	}
	return nil
}

// awaitOOMv2 looks at the cgroup's own events until they tell of an OOM.
func awaitOOMv2(ctx context.Context, directory string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(filepath.Join(directory, "memory.events.local"))
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if count, ok := strings.CutPrefix(line, "oom "); ok && count != "0" {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// outOfMemory words what Mesos says of a container that has hit its limit.
func outOfMemory(h hierarchy, directory string, limit int64) *termination {
	peak := "memory.max_usage_in_bytes"
	if h.controller == "" {
		peak = "memory.peak"
	}
	used := limit
	if text, err := os.ReadFile(filepath.Join(directory, peak)); err == nil {
		if v, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			used = v
		}
	}
	message := fmt.Sprintf("Memory limit exceeded: Requested: %dMB Maximum Used: %dKB\n", limit>>20, used>>10)
	if text, err := os.ReadFile(filepath.Join(directory, "memory.stat")); err == nil {
		message += "\nMEMORY STATISTICS: \n" + string(text) + "\n"
	}
	kind := mesos.SCALAR
	return &termination{
		state: mesos.TASK_FAILED, reason: mesos.REASON_CONTAINER_LIMITATION_MEMORY, message: message,
		limitation: &mesos.TaskResourceLimitation{Resources: []mesos.Resource{{
			Name: "mem", Type: &kind, Scalar: &mesos.Value_Scalar{Value: float64(used*1000>>20) / 1000},
		}}},
	}
}
