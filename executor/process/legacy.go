package process

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// legacyPlace makes trees below one cgroup in each of several v1 hierarchies.
// The executor itself is never moved: a write would have to be taken back in
// every hierarchy, and a fork meanwhile would be in the wrong one.
type legacyPlace struct {
	mode        Mode
	reason      string
	cgroup      string
	hierarchies []hierarchy
	// As in unifiedPlace.
	lock   *os.File
	owners string
}

// hierarchy is one v1 controller and the directory below which tasks go.
type hierarchy struct {
	controller cgroup1.Name
	mount      cgroupMount
	dir        string
	// twin: mounted together with one that comes before it (cpu,cpuacct).
	twin bool
}

// legacyWanted are the v1 controllers that are used where they are, the one to
// kill by first.
var legacyWanted = []cgroup1.Name{cgroup1.Freezer, cgroup1.Memory, cgroup1.Cpu, cgroup1.Cpuacct, cgroup1.Pids}

// nestLegacy uses the hierarchies in which Mesos made a cgroup for this
// container.
func nestLegacy(v cgroupView, containerID string) (*legacyPlace, error) {
	l := &legacyPlace{mode: ModeV1Nested}
	for _, c := range legacyWanted {
		own := v.v1[string(c)]
		if filepath.Base(own) != containerID {
			continue
		}
		l.cgroup = own
		l.add(v, c, own)
	}
	if len(l.hierarchies) == 0 {
		return nil, fmt.Errorf("no own v1 cgroup ends in container id %s", containerID)
	}
	l.reason = fmt.Sprintf("Mesos made v1 cgroup %s (%s) for this container", l.cgroup, l.names())
	return l, nil
}

// delegateLegacy takes cgroups of our own below those the operator named.
func delegateLegacy(v cgroupView, cfg Config) (_ *legacyPlace, err error) {
	l := &legacyPlace{mode: ModeV1Delegated, owners: ownerPrefix(cfg.FrameworkID)}
	name := ownerName(cfg)
	l.cgroup = filepath.Join(cfg.CgroupParent, name)
	for _, c := range legacyWanted {
		if m, ok := v.legacy(string(c)); ok {
			if parent, ok := m.dir(cfg.CgroupParent); ok && isDir(parent) {
				l.add(v, c, l.cgroup)
			}
		}
	}
	if len(l.hierarchies) == 0 {
		return nil, fmt.Errorf("v1 cgroup %q does not exist", cfg.CgroupParent)
	}
	if l.lock, err = own(l.hierarchies[0].dir); err != nil {
		return nil, err
	}
	for _, h := range l.hierarchies[1:] {
		if err := os.MkdirAll(h.dir, 0o755); err != nil {
			return nil, errors.Join(err, l.lock.Close())
		}
	}
	l.reason = fmt.Sprintf("PACER_CGROUP_PARENT names v1 cgroup %s (%s)", cfg.CgroupParent, l.names())
	return l, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func (l *legacyPlace) add(v cgroupView, c cgroup1.Name, cgroup string) {
	m, ok := v.legacy(string(c))
	if !ok {
		return
	}
	dir, ok := m.dir(cgroup)
	// The library finds a controller at <root>/<controller>.
	if !ok || !samePlace(filepath.Join(filepath.Dir(m.point), string(c)), m.point) {
		return
	}
	h := hierarchy{controller: c, mount: m, dir: dir}
	h.twin = slices.ContainsFunc(l.hierarchies, func(o hierarchy) bool { return o.dir == dir })
	l.hierarchies = append(l.hierarchies, h)
}

func samePlace(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func (l *legacyPlace) names() string {
	var names []string
	for _, h := range l.hierarchies {
		names = append(names, string(h.controller))
	}
	return strings.Join(names, ", ")
}

func (l *legacyPlace) has(c cgroup1.Name) bool {
	return slices.ContainsFunc(l.hierarchies, func(h hierarchy) bool { return h.controller == c })
}

func (l *legacyPlace) status() Status {
	st := Status{Mode: l.mode, Reason: l.reason, Cgroup: l.cgroup}
	for _, c := range wanted {
		if l.has(cgroup1.Name(c)) {
			st.Controllers = append(st.Controllers, c)
		} else {
			st.Caveats = append(st.Caveats, "limits of "+c+" are not enforced: there is no v1 "+c+" cgroup for the executor")
		}
	}
	return st
}

func (l *legacyPlace) close() error {
	if l.lock == nil {
		return nil
	}
	var errs []error
	for _, h := range slices.Backward(l.hierarchies) {
		errs = append(errs, removeCgroup(h.dir))
	}
	return errors.Join(append(errs, l.lock.Close())...)
}

// library lists the controllers for cgroup1.New.
func (l *legacyPlace) library() ([]cgroup1.Subsystem, error) {
	var subsystems []cgroup1.Subsystem
	for _, h := range l.hierarchies {
		root := filepath.Dir(h.mount.point)
		switch h.controller {
		case cgroup1.Freezer:
			subsystems = append(subsystems, cgroup1.NewFreezer(root))
		case cgroup1.Memory:
			subsystems = append(subsystems, cgroup1.NewMemory(root, cgroup1.OptionalSwap()))
		case cgroup1.Cpu:
			subsystems = append(subsystems, cgroup1.NewCpu(root))
		case cgroup1.Cpuacct:
			subsystems = append(subsystems, cgroup1.NewCpuacct(root))
		case cgroup1.Pids:
			subsystems = append(subsystems, cgroup1.NewPids(root))
		}
	}
	return subsystems, nil
}

// tree describes the cgroup of that name in every hierarchy.
func (l *legacyPlace) tree(name string) *legacy {
	t := &legacy{place: l}
	for _, h := range l.hierarchies {
		h.dir = filepath.Join(h.dir, name)
		t.dirs = append(t.dirs, h)
	}
	return t
}

func (l *legacyPlace) newTree(_ *Supervisor, taskID string, limits Limits) (_ tree, err error) {
	t := l.tree(cgroupName(taskPrefix, taskID))
	if isDir(t.dirs[0].dir) {
		return nil, fmt.Errorf("make cgroup of task %s: %s exists", taskID, t.dirs[0].dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.remove())
		}
	}()
	resources, check := l.resources(limits)
	path := func(c cgroup1.Name) (string, error) {
		for _, h := range t.dirs {
			if h.controller == c {
				return filepath.Rel(h.mount.point, h.dir)
			}
		}
		return "", cgroup1.ErrControllerNotActive
	}
	if _, err := cgroup1.New(path, resources, cgroup1.WithHierarchy(l.library)); err != nil {
		return nil, fmt.Errorf("make cgroup of task %s: %w", taskID, err)
	}
	for _, h := range t.dirs {
		for file, want := range check[h.controller] {
			if err := checkControl(h.dir, file, want); err != nil {
				return nil, fmt.Errorf("set limits of task %s: %w", taskID, err)
			}
		}
	}
	if l.has(cgroup1.Memory) {
		t.limit = limits.Memory
	}
	return t, nil
}

// resources translates limits, and says what the files must hold afterwards.
func (l *legacyPlace) resources(limits Limits) (*specs.LinuxResources, map[cgroup1.Name]map[string]string) {
	r, check := &specs.LinuxResources{}, make(map[cgroup1.Name]map[string]string)
	expect := func(c cgroup1.Name, file string, n int64) {
		if check[c] == nil {
			check[c] = make(map[string]string)
		}
		check[c][file] = strconv.FormatInt(n, 10)
	}
	if limits.Memory > 0 {
		limit := int64(limits.Memory)
		r.Memory = &specs.LinuxMemory{Limit: &limit}
		expect(cgroup1.Memory, "memory.limit_in_bytes", limit)
	}
	if limits.CPU > 0 {
		// As Mesos itself: 1024 per cpu, at least 2. The kernel's largest is 2^18.
		shares := uint64(min(max(math.Round(limits.CPU*1024), 2), 1<<18))
		r.CPU = &specs.LinuxCPU{Shares: &shares}
		expect(cgroup1.Cpu, "cpu.shares", int64(shares))
	}
	if limits.CPUQuota > 0 {
		if r.CPU == nil {
			r.CPU = new(specs.LinuxCPU)
		}
		quota, period := cpuQuota(limits.CPUQuota), uint64(cpuPeriod.Microseconds())
		r.CPU.Quota, r.CPU.Period = &quota, &period
		expect(cgroup1.Cpu, "cpu.cfs_quota_us", quota)
	}
	if limits.Pids > 0 {
		n := int64(limits.Pids)
		r.Pids = &specs.LinuxPids{Limit: &n}
		expect(cgroup1.Pids, "pids.max", n)
	}
	return r, check
}

// legacy is a tree in v1 cgroups.
type legacy struct {
	place *legacyPlace
	dirs  []hierarchy // the first is the one to list and kill by
	limit uint64
	main  *child
	// parent is set for a command's tree: only its first directory is its own.
	parent *legacy
}

func (l *legacy) birth() int       { return -1 }
func (l *legacy) needsShim() bool  { return true }
func (l *legacy) variable() string { return "" }
func (l *legacy) bind(c *child)    { l.main = c }

// adopt moves a process, which must not have forked. Each write costs the
// kernel some milliseconds, the first one the most.
func (l *legacy) adopt(pid int) error {
	for _, h := range l.dirs {
		if h.twin {
			continue
		}
		if err := writeControl(h.dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("move process %d: %w", pid, err)
		}
	}
	return nil
}

func (l *legacy) list() ([]int, error) { return listProcs(l.dirs[0].dir) }

func (l *legacy) signal(sig unix.Signal) error { return signalListed(l.main, l.list, sig) }

func (l *legacy) kill(ctx context.Context) ([]int, error) {
	dir := l.dirs[0].dir
	if l.dirs[0].controller != cgroup1.Freezer {
		pids, err := l.list()
		if err != nil || len(pids) == 0 {
			return pids, err
		}
		return pids, signalListed(nil, l.list, unix.SIGKILL)
	}
	return killFrozen(ctx, dir,
		func() error { return writeControl(dir, "freezer.state", "FROZEN") },
		func() error { return writeControl(dir, "freezer.state", "THAWED") },
		func() (bool, error) {
			state, err := readControl(dir, "freezer.state")
			if err == nil && state != "FROZEN" {
				// Reading does not retry what was busy at first, writing does.
				err = writeControl(dir, "freezer.state", "FROZEN")
			}
			return state == "FROZEN", err
		})
}

func (l *legacy) find(c cgroup1.Name) (string, bool) {
	for _, h := range l.dirs {
		if h.controller == c {
			return h.dir, true
		}
	}
	return "", false
}

func (l *legacy) memory() memoryStats {
	m := memoryStats{limit: l.limit}
	if dir, ok := l.find(cgroup1.Memory); ok {
		// oom_kill since 4.13. What cannot be read stays 0, unknown.
		m.oomKills, _ = readKey(dir, "memory.oom_control", "oom_kill")
		m.peak, _ = readNumber(dir, "memory.max_usage_in_bytes")
	}
	return m
}

func (l *legacy) usage() (Usage, error) {
	pids, err := l.list()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Processes: len(pids)}
	if dir, ok := l.find(cgroup1.Memory); ok {
		u.Memory, _ = readNumber(dir, "memory.usage_in_bytes")
		u.PeakMemory, _ = readNumber(dir, "memory.max_usage_in_bytes")
	}
	if dir, ok := l.find(cgroup1.Cpuacct); ok {
		var nanos uint64
		nanos, err = readNumber(dir, "cpuacct.usage")
		u.CPU = time.Duration(nanos)
	}
	return u, err
}

// sub makes a cgroup in the first hierarchy only: it is there to find and kill
// the command's processes, and the others to limit them with the task's.
func (l *legacy) sub(name string) (tree, error) {
	sub := &legacy{place: l.place, dirs: slices.Clone(l.dirs), parent: l}
	sub.dirs[0].dir = filepath.Join(sub.dirs[0].dir, name)
	return sub, os.Mkdir(sub.dirs[0].dir, 0o755)
}

func (l *legacy) remove() error {
	if l.parent != nil {
		return removeCgroup(l.dirs[0].dir)
	}
	var errs []error
	for _, h := range slices.Backward(l.dirs) {
		errs = append(errs, removeCgroup(h.dir))
	}
	return errors.Join(errs...)
}
