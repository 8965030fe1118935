package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"golang.org/x/sys/unix"
)

// unifiedPlace makes trees below one cgroup of the v2 hierarchy.
type unifiedPlace struct {
	mode   Mode
	reason string
	cgroup string // as /proc/self/cgroup shows it
	dir    string
	mount  cgroupMount
	// controllers that are enabled for the children.
	controllers []string
	// birth: the kernel can create processes inside a cgroup (5.7).
	birth bool
	// lock proves that we live, below a parent shared with other executors;
	// owners is the prefix of our framework's names there.
	lock   *os.File
	owners string
}

// wanted are the controllers that limits need.
var wanted = []string{"memory", "cpu", "pids"}

// executorLeaf is where a nested executor moves to: a cgroup that has
// controllers for its children must not hold processes itself.
const executorLeaf = "executor"

// nestUnified prepares the executor's own v2 cgroup for children: all its
// processes move into a leaf (the launcher that Mesos puts above the executor
// is one of them), then the controllers are enabled on this one level.
func nestUnified(v cgroupView, containerID string) (*unifiedPlace, error) {
	m, ok := v.unified()
	if !ok {
		return nil, errors.New("no cgroup v2 mount")
	}
	own := v.v2
	if filepath.Base(own) == executorLeaf {
		own = filepath.Dir(own) // An earlier supervisor of this container.
	}
	// Mesos keeps the executor in a leaf of its own below the container's.
	if filepath.Base(own) != containerID && (filepath.Base(own) != "leaf" || filepath.Base(filepath.Dir(own)) != containerID) {
		return nil, fmt.Errorf("own v2 cgroup %q does not belong to container %s", v.v2, containerID)
	}
	dir, ok := m.dir(own)
	if !ok {
		return nil, fmt.Errorf("own v2 cgroup %q is not mounted", own)
	}
	leaf := filepath.Join(dir, executorLeaf)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := moveProcs(dir, leaf); err != nil {
		return nil, err
	}
	return &unifiedPlace{
		mode:        ModeV2Nested,
		reason:      "Mesos made v2 cgroup " + own + " for this container",
		cgroup:      own,
		dir:         dir,
		mount:       m,
		controllers: enableControllers(dir),
	}, nil
}

// moveProcs moves every process of one cgroup to another. New ones may be born
// meanwhile, so it goes on until none is left.
func moveProcs(from, to string) error {
	for range 100 {
		b, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(string(b))
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := writeControl(to, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %s: %w", pid, err)
			}
		}
	}
	return fmt.Errorf("processes keep appearing in %s", from)
}

// enableControllers enables what is wanted for the children of dir and returns
// what is in force. What cannot be enabled is missing in the answer, and so in
// Status.
func enableControllers(dir string) []string {
	available, err := readControl(dir, "cgroup.controllers")
	if err != nil {
		return nil
	}
	for _, c := range wanted {
		if slices.Contains(strings.Fields(available), c) {
			writeControl(dir, "cgroup.subtree_control", "+"+c)
		}
	}
	enabled, _ := readControl(dir, "cgroup.subtree_control")
	return slices.DeleteFunc(strings.Fields(enabled), func(c string) bool { return !slices.Contains(wanted, c) })
}

// delegateUnified takes a cgroup of our own below the one the operator named.
func delegateUnified(v cgroupView, cfg Config) (*unifiedPlace, error) {
	m, ok := v.unified()
	if !ok {
		return nil, errors.New("no cgroup v2 mount")
	}
	parent, ok := m.dir(cfg.CgroupParent)
	if !ok {
		return nil, fmt.Errorf("v2 cgroup %q is not mounted", cfg.CgroupParent)
	}
	if _, err := os.Stat(parent); err != nil {
		return nil, err
	}
	enableControllers(parent)
	name := ownerName(cfg)
	dir := filepath.Join(parent, name)
	lock, err := own(dir)
	if err != nil {
		return nil, err
	}
	return &unifiedPlace{
		mode:        ModeV2Delegated,
		reason:      "PACER_CGROUP_PARENT names v2 cgroup " + cfg.CgroupParent,
		cgroup:      filepath.Join(cfg.CgroupParent, name),
		dir:         dir,
		mount:       m,
		controllers: enableControllers(dir),
		lock:        lock,
		owners:      ownerPrefix(cfg.FrameworkID),
	}, nil
}

func (u *unifiedPlace) status() Status {
	st := Status{Mode: u.mode, Reason: u.reason, Cgroup: u.cgroup, Controllers: u.controllers}
	for _, c := range wanted {
		if !slices.Contains(u.controllers, c) {
			st.Caveats = append(st.Caveats, "limits of "+c+" are not enforced: the controller is not available in "+u.cgroup)
		}
	}
	if u.guarded() {
		st.Caveats = append(st.Caveats, guardCaveat)
	}
	return st
}

// guarded: Mesos' v2 agent destroys the container when memory.events of its
// cgroup counts an oom, and without memory_localevents a task's counts there.
func (u *unifiedPlace) guarded() bool {
	return u.mode == ModeV2Nested && u.has("memory") && !u.mount.localEvents
}

func (u *unifiedPlace) has(controller string) bool { return slices.Contains(u.controllers, controller) }

func (u *unifiedPlace) close() error {
	if u.lock == nil {
		return nil
	}
	return errors.Join(removeCgroup(u.dir), u.lock.Close())
}

func (u *unifiedPlace) newTree(s *Supervisor, taskID string, l Limits) (_ tree, err error) {
	name := cgroupName(taskPrefix, taskID)
	if err := os.Mkdir(filepath.Join(u.dir, name), 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup of task %s: %w", taskID, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeCgroup(filepath.Join(u.dir, name)))
		}
	}()
	// Load, not NewManager: that writes cgroup.subtree_control at every level
	// from the mount's root.
	rel, err := filepath.Rel(u.mount.point, filepath.Join(u.dir, name))
	if err != nil {
		return nil, err
	}
	m, err := cgroup2.Load("/"+rel, cgroup2.WithMountpoint(u.mount.point))
	if err != nil {
		return nil, fmt.Errorf("load cgroup of task %s: %w", taskID, err)
	}
	resources, check := u.resources(l)
	if err := m.Update(resources); err != nil {
		return nil, fmt.Errorf("set limits of task %s: %w", taskID, err)
	}
	t := &unified{place: u, dir: filepath.Join(u.dir, name)}
	for file, want := range check {
		if err := checkControl(t.dir, file, want); err != nil {
			return nil, fmt.Errorf("set limits of task %s: %w", taskID, err)
		}
	}
	if u.has("memory") {
		t.limit = l.Memory
	}
	return t, t.open()
}

// cpuPeriod is the kernel's default for cpu.max and cpu.cfs_period_us.
const cpuPeriod = 100 * time.Millisecond

// minQuota is the smallest the kernel accepts.
const minQuota = time.Millisecond

// cpuQuota is the processor time per cpuPeriod, in microseconds.
func cpuQuota(cpus float64) int64 {
	return max(int64(math.Ceil(cpus*float64(cpuPeriod.Microseconds()))), minQuota.Microseconds())
}

// resources translates limits, as far as their controllers are there, and says
// what the files must hold afterwards.
func (u *unifiedPlace) resources(l Limits) (*cgroup2.Resources, map[string]string) {
	r, check := &cgroup2.Resources{}, make(map[string]string)
	if u.has("memory") && l.Memory > 0 {
		limit, group := int64(l.Memory), true
		r.Memory = &cgroup2.Memory{Max: &limit, OOMGroup: &group}
		if u.guarded() {
			high := limit
			limit = guardMax(l.Memory)
			r.Memory.High = &high
			check["memory.high"] = strconv.FormatInt(high, 10)
		}
		check["memory.max"] = strconv.FormatInt(limit, 10)
		check["memory.oom.group"] = "1"
	}
	if u.has("cpu") && (l.CPU > 0 || l.CPUQuota > 0) {
		r.CPU = new(cgroup2.CPU)
	}
	if u.has("cpu") && l.CPU > 0 {
		// 100 is what a cgroup has that nobody configured, the executor's too.
		weight := uint64(min(max(math.Round(l.CPU*100), 1), 10_000))
		r.CPU.Weight = &weight
		check["cpu.weight"] = strconv.FormatUint(weight, 10)
	}
	if u.has("cpu") && l.CPUQuota > 0 {
		quota, period := cpuQuota(l.CPUQuota), uint64(cpuPeriod.Microseconds())
		r.CPU.Max = cgroup2.NewCPUMax(&quota, &period)
		check["cpu.max"] = string(r.CPU.Max)
	}
	if u.has("pids") && l.Pids > 0 {
		r.Pids = &cgroup2.Pids{Max: int64(l.Pids)}
		check["pids.max"] = strconv.FormatUint(l.Pids, 10)
	}
	return r, check
}

// unified is a tree in a v2 cgroup.
type unified struct {
	place *unifiedPlace
	dir   string
	limit uint64
	fd    *os.File
	main  *child
	guard *memoryGuard
}

func (u *unified) open() (err error) {
	u.fd, err = os.OpenFile(u.dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	return err
}

func (u *unified) birth() int {
	if !u.place.birth {
		return -1
	}
	return int(u.fd.Fd())
}

func (u *unified) needsShim() bool     { return !u.place.birth }
func (u *unified) variable() string    { return "" }
func (u *unified) adopt(pid int) error { return writeControl(u.dir, "cgroup.procs", strconv.Itoa(pid)) }

func (u *unified) bind(c *child) {
	u.main = c
	if u.limit > 0 && u.place.guarded() {
		u.guard = startMemoryGuard(u.dir, u.limit, func() { u.killAll() })
	}
}

func (u *unified) list() ([]int, error) { return listProcs(u.dir) }

func (u *unified) signal(sig unix.Signal) error { return signalListed(u.main, u.list, sig) }

func (u *unified) kill(ctx context.Context) ([]int, error) {
	populated, err := readKey(u.dir, "cgroup.events", "populated")
	if gone(err) || err == nil && populated == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = u.killAll()
	if errors.Is(err, fs.ErrNotExist) {
		return u.killWithoutFile(ctx)
	}
	if err != nil {
		return nil, err
	}
	pids, err := u.list()
	if err == nil && len(pids) == 0 {
		// Empty to us and populated to the kernel: on its way out.
		pids = []int{0}
	}
	return pids, err
}

// killAll kills every process in the cgroup at once (5.14). The library's Kill
// is not used: its fallback waits without bound and reaps children that are not
// its own.
func (u *unified) killAll() error { return writeControl(u.dir, "cgroup.kill", "1") }

// killWithoutFile is for kernels before 5.14; those before 5.2 cannot freeze
// either.
func (u *unified) killWithoutFile(ctx context.Context) ([]int, error) {
	if _, err := os.Stat(filepath.Join(u.dir, "cgroup.freeze")); err != nil {
		pids, err := u.list()
		return pids, errors.Join(err, signalListed(nil, u.list, unix.SIGKILL))
	}
	return killFrozen(ctx, u.dir,
		func() error { return writeControl(u.dir, "cgroup.freeze", "1") },
		func() error { return writeControl(u.dir, "cgroup.freeze", "0") },
		func() (bool, error) {
			n, err := readKey(u.dir, "cgroup.events", "frozen")
			return n == 1, err
		})
}

func (u *unified) memory() memoryStats {
	m := memoryStats{limit: u.limit}
	if !u.place.has("memory") {
		return m
	}
	// What a kernel does not count (memory.peak before 5.19) stays 0, unknown.
	m.oomKills, _ = readKey(u.dir, "memory.events", "oom_kill")
	m.peak, _ = readNumber(u.dir, "memory.peak")
	if u.guard != nil {
		killed, peak := u.guard.result()
		m.peak = max(m.peak, peak)
		if killed {
			m.oomKills = max(m.oomKills, 1)
		}
	}
	return m
}

func (u *unified) usage() (Usage, error) {
	pids, err := u.list()
	if err != nil {
		return Usage{}, err
	}
	usage := Usage{Processes: len(pids)}
	if u.place.has("memory") {
		usage.Memory, _ = readNumber(u.dir, "memory.current")
		usage.PeakMemory, _ = readNumber(u.dir, "memory.peak")
	}
	// cpu.stat counts without the controller, too.
	micros, err := readKey(u.dir, "cpu.stat", "usage_usec")
	usage.CPU = time.Duration(micros) * time.Microsecond
	return usage, err
}

func (u *unified) sub(name string) (tree, error) {
	sub := &unified{place: u.place, dir: filepath.Join(u.dir, name)}
	if err := os.Mkdir(sub.dir, 0o755); err != nil {
		return nil, err
	}
	return sub, sub.open()
}

func (u *unified) remove() error {
	if u.guard != nil {
		u.guard.stop()
	}
	if u.fd != nil {
		u.fd.Close()
	}
	return removeCgroup(u.dir)
}
