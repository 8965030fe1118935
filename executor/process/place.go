package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// nowhere is mode none.
type nowhere struct {
	reason string
}

func (n nowhere) status() Status {
	return Status{Mode: ModeNone, Reason: n.reason, Caveats: []string{
		"limits of memory, cpu and processes are not enforced",
		"a process of a task that left its session, lost its parents and cleared its environment is found only while no other task runs",
	}}
}

func (n nowhere) newTree(s *Supervisor, _ string, _ Limits) (tree, error) {
	return &family{reaper: s.reaper, scanner: s.scanner, marker: rand.Text(), only: s.alone}, nil
}

func (n nowhere) close() error { return nil }

// choosePlace takes the first place that works: what Mesos made for the
// container, what the operator named, none. A place works if a process has been
// started and killed in it.
func choosePlace(ctx context.Context, s *Supervisor, cfg Config) (place, error) {
	view, err := readCgroupView()
	if err != nil {
		return nowhere{"cgroups cannot be read: " + err.Error()}, nil
	}
	var reasons []string
	for _, try := range candidates(view, cfg) {
		p, err := try()
		if err == nil {
			if err = prove(ctx, s, p); err == nil {
				return p, nil
			}
			err = errors.Join(err, p.close())
		}
		reasons = append(reasons, err.Error())
	}
	if cfg.ContainerID == "" {
		reasons = append(reasons, "MESOS_SANDBOX names no container")
	}
	if cfg.CgroupParent == "" {
		reasons = append(reasons, "PACER_CGROUP_PARENT is not set")
	}
	return nowhere{strings.Join(reasons, "; ")}, nil
}

// candidates lists the places to try, the best first. Where both versions are
// mounted, the one that has the memory controller comes first.
func candidates(v cgroupView, cfg Config) []func() (place, error) {
	var list []func() (place, error)
	order := func(first, second func() (place, error)) {
		if m, ok := v.unified(); !ok || !hasMemory(m) {
			first, second = second, first
		}
		list = append(list, first, second)
	}
	if id := cfg.ContainerID; id != "" {
		order(
			func() (place, error) { return erase(nestUnified(v, id)) },
			func() (place, error) { return erase(nestLegacy(v, id)) })
	}
	if cfg.CgroupParent != "" {
		order(
			func() (place, error) { return erase(delegateUnified(v, cfg)) },
			func() (place, error) { return erase(delegateLegacy(v, cfg)) })
	}
	return list
}

// erase keeps a nil pointer from becoming a place.
func erase[P place](p P, err error) (place, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func hasMemory(m cgroupMount) bool {
	c, err := readControl(m.point, "cgroup.controllers")
	return err == nil && slices.Contains(strings.Fields(c), "memory")
}

// proofTime bounds the trial of a place.
const proofTime = 10 * time.Second

// prove sweeps a place and starts a process in it. On v2 that also tells
// whether the kernel can create processes inside a cgroup.
func prove(ctx context.Context, s *Supervisor, p place) error {
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	removed, err := sweepPlace(ctx, p)
	if len(removed) > 0 {
		s.log.Warn().Strs(keyCgroup, removed).Msg("removed what a dead executor left")
	}
	if err != nil {
		s.log.Error().Err(err).Msg("leftovers of a dead executor stay")
	}
	u, ok := p.(*unifiedPlace)
	if !ok {
		return proveStart(ctx, s, p)
	}
	u.birth = true
	err = proveStart(ctx, s, p)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) {
		u.birth = false
		err = proveStart(ctx, s, p)
	}
	return err
}

// sweepPlace removes leftovers: of this container (an earlier supervisor in the
// same cgroup) and, below a shared parent, of dead executors.
func sweepPlace(ctx context.Context, p place) ([]string, error) {
	switch p := p.(type) {
	case *unifiedPlace:
		below := func(parent string) func(string) tree {
			return func(name string) tree { return &unified{place: p, dir: filepath.Join(parent, name)} }
		}
		return sweepBoth(ctx, p.dir, p.lock != nil, p.owners, below)
	case *legacyPlace:
		dir := p.hierarchies[0].dir
		below := func(parent string) func(string) tree {
			up, _ := filepath.Rel(dir, parent)
			return func(name string) tree { return p.tree(filepath.Join(up, name)) }
		}
		return sweepBoth(ctx, dir, p.lock != nil, p.owners, below)
	}
	return nil, nil
}

func sweepBoth(ctx context.Context, dir string, shared bool, owners string, below func(string) func(string) tree) ([]string, error) {
	removed, err := sweep(ctx, dir, taskPrefix, "", false, below(dir))
	if !shared {
		return removed, err
	}
	parent := filepath.Dir(dir)
	more, merr := sweep(ctx, parent, owners, filepath.Base(dir), true, below(parent))
	return append(removed, more...), errors.Join(err, merr)
}

// proofID names the trial's cgroup; "." cannot begin a task's.
const proofID = "..proof"

func proveStart(ctx context.Context, s *Supervisor, p place) (err error) {
	t, err := p.newTree(s, proofID, Limits{})
	if err != nil {
		return err
	}
	defer func() {
		left, kerr := killTree(ctx, t)
		if kerr != nil {
			kerr = &SurvivorsError{TaskID: proofID, Survivors: survivors(left), Cause: kerr}
		}
		err = errors.Join(err, kerr, t.remove())
	}()
	// The shim waits for orders until it is killed.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	n := null.Fd()
	c, err := s.spawner.fork(ctx, s.reaper, launch{
		path: "/proc/self/exe", argv: []string{shimName}, env: []string{}, dir: "/", umask: defaultUmask,
		cgroup: t.birth(), name: proofID, files: []uintptr{n, n, n, r.Fd(), n},
	}, s.late(t))
	if err != nil {
		return fmt.Errorf("start a process in a cgroup: %w", err)
	}
	defer s.reaper.abandon(c)
	if t.needsShim() {
		if err := t.adopt(c.pid); err != nil {
			return err
		}
	}
	pids, err := t.kill(ctx)
	if err != nil {
		return fmt.Errorf("kill in a cgroup: %w", err)
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
		return fmt.Errorf("kill in a cgroup: %w", context.Cause(ctx))
	}
	if !slices.Contains(pids, c.pid) && !slices.Contains(pids, 0) {
		return fmt.Errorf("process %d was started in a cgroup and is not in it: %w", c.pid, fs.ErrNotExist)
	}
	return nil
}
