package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// variant is a mode, or a mode on a lesser kernel.
type variant struct {
	name string
	mode Mode
	// prepare makes what Mesos or the operator would have made.
	prepare func(t testing.TB, v cgroupView, id string) Config
	// lessen takes from the supervisor what an older kernel has not.
	lessen func(s *Supervisor)
}

var variants = []variant{
	{name: "none", mode: ModeNone, prepare: func(testing.TB, cgroupView, string) Config { return Config{} }},
	{name: "v2-nested", mode: ModeV2Nested, prepare: nestTestUnified},
	{name: "v2-delegated", mode: ModeV2Delegated, prepare: delegateTestUnified},
	{name: "v2-delegated by shim", mode: ModeV2Delegated, prepare: delegateTestUnified,
		lessen: func(s *Supervisor) { s.place.(*unifiedPlace).birth = false }},
	{name: "v1-nested", mode: ModeV1Nested, prepare: nestTestLegacy},
	{name: "v1-delegated", mode: ModeV1Delegated, prepare: delegateTestLegacy},
}

var serial atomic.Int64

// testID is unlike that of any test that runs beside this one.
func testID() string { return fmt.Sprintf("pacer-test-%d-%d", os.Getpid(), serial.Add(1)) }

// run runs f in every variant that this machine and user allow, each with a
// supervisor of its own. only restricts it to some modes.
func run[T interface {
	testing.TB
	Run(string, func(T)) bool
}](t T, f func(e *env), only ...Mode) {
	for _, v := range variants {
		if len(only) > 0 && !slices.Contains(only, v.mode) {
			continue
		}
		t.Run(v.name, func(t T) { f(v.env(t)) })
	}
}

func (v variant) env(t testing.TB) *env {
	t.Helper()
	if v.mode != ModeNone && os.Getuid() != 0 {
		t.Skip("needs root to make cgroups")
	}
	view, err := readCgroupView()
	if err != nil {
		t.Skip("needs cgroups:", err)
	}
	s := newSupervisor(t, v.prepare(t, view, testID()))
	if st := s.Status(); st.Mode != v.mode {
		t.Fatalf("mode = %+v, want %s", st, v.mode)
	}
	if v.lessen != nil {
		v.lessen(s)
	}
	return &env{TB: t, ctx: testContext(t), s: s}
}

// makeCgroup makes a cgroup that is removed when the test is over.
func makeCgroup(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("needs a writable cgroup hierarchy:", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(dir); err != nil {
			t.Error(err)
		}
	})
}

// enter moves this process into a cgroup until the test is over.
func enter(t testing.TB, dir, back string) {
	t.Helper()
	pid := fmt.Sprint(os.Getpid())
	if err := writeControl(dir, "cgroup.procs", pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := writeControl(back, "cgroup.procs", pid); err != nil {
			t.Error(err)
		}
	})
}

func testUnified(t testing.TB, v cgroupView) cgroupMount {
	t.Helper()
	m, ok := v.unified()
	if !ok {
		t.Skip("needs a cgroup v2 mount")
	}
	return m
}

func delegateTestUnified(t testing.TB, v cgroupView, id string) Config {
	makeCgroup(t, filepath.Join(testUnified(t, v).point, id))
	return Config{CgroupParent: "/" + id, ContainerID: "c1", FrameworkID: "f1"}
}

func nestTestUnified(t testing.TB, v cgroupView, id string) Config {
	m := testUnified(t, v)
	back, ok := m.dir(v.v2)
	if !ok {
		t.Skip("needs its own cgroup mounted")
	}
	dir := filepath.Join(m.point, id)
	makeCgroup(t, dir)
	own := filepath.Join(dir, id+"-container", "leaf")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	enter(t, own, back)
	return Config{ContainerID: id + "-container"}
}

func testLegacy(t testing.TB, v cgroupView) []cgroupMount {
	t.Helper()
	var mounts []cgroupMount
	for _, c := range legacyWanted {
		m, ok := v.legacy(string(c))
		if !ok {
			t.Skipf("needs a cgroup v1 %s hierarchy", c)
		}
		if !slices.ContainsFunc(mounts, func(o cgroupMount) bool { return o.point == m.point }) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

func delegateTestLegacy(t testing.TB, v cgroupView, id string) Config {
	for _, m := range testLegacy(t, v) {
		makeCgroup(t, filepath.Join(m.point, id))
	}
	return Config{CgroupParent: "/" + id, ContainerID: "c1", FrameworkID: "f1"}
}

func nestTestLegacy(t testing.TB, v cgroupView, id string) Config {
	for _, m := range testLegacy(t, v) {
		back, ok := m.dir(v.v1[m.controllers[len(m.controllers)-1]])
		if !ok {
			t.Skip("needs its own cgroup mounted")
		}
		dir := filepath.Join(m.point, id)
		makeCgroup(t, dir)
		own := filepath.Join(dir, id+"-container")
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		enter(t, own, back)
	}
	return Config{ContainerID: id + "-container"}
}

// leftovers lists the cgroups of tasks that still exist.
func (e *env) leftovers() []string {
	e.Helper()
	var dirs []string
	switch p := e.s.place.(type) {
	case *unifiedPlace:
		dirs = append(dirs, p.dir)
	case *legacyPlace:
		for _, h := range p.hierarchies {
			dirs = append(dirs, h.dir)
		}
	}
	var left []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, taskPrefix+"*"))
		if err != nil {
			e.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

func TestNew_SaysWhyThereIsNoCgroup(t *testing.T) {
	cases := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"nothing configured", Config{}, []string{"MESOS_SANDBOX names no container", "PACER_CGROUP_PARENT is not set"}},
		{"not Mesos' cgroup", Config{ContainerID: "5c0ffee"}, []string{"container 5c0ffee", "PACER_CGROUP_PARENT is not set"}},
		{"no such parent", Config{CgroupParent: "/no-such-cgroup"}, []string{"/no-such-cgroup", "MESOS_SANDBOX names no container"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			st := newSupervisor(t, c.cfg).Status()
			if st.Mode != ModeNone || len(st.Caveats) == 0 || st.Cgroup != "" {
				t.Errorf("status = %+v, want mode none with caveats", st)
			}
			for _, w := range c.want {
				if !strings.Contains(st.Reason, w) {
					t.Errorf("reason %q does not say %q", st.Reason, w)
				}
			}
		})
	}
}

func TestConfigFromEnv(t *testing.T) {
	const sandbox = "/var/lib/mesos/slaves/a/frameworks/f/executors/e/runs/77f8-11"
	cases := []struct {
		name string
		env  map[string]string
		want Config
		err  string
	}{
		{"empty", nil, Config{}, ""},
		{"mesos", map[string]string{"MESOS_SANDBOX": sandbox, "MESOS_FRAMEWORK_ID": "f"}, Config{ContainerID: "77f8-11", FrameworkID: "f"}, ""},
		{"sandbox of another shape", map[string]string{"MESOS_SANDBOX": "/mnt/mesos/sandbox"}, Config{}, ""},
		{"parent", map[string]string{"PACER_CGROUP_PARENT": "/pacer/x"}, Config{CgroupParent: "/pacer/x"}, ""},
		{"parent in the file system", map[string]string{"PACER_CGROUP_PARENT": "/sys/fs/cgroup/pacer"}, Config{}, "without /sys/fs/cgroup"},
		{"relative parent", map[string]string{"PACER_CGROUP_PARENT": "pacer"}, Config{}, "absolute"},
		{"unclean parent", map[string]string{"PACER_CGROUP_PARENT": "/pacer/../x"}, Config{}, "absolute"},
		{"root", map[string]string{"PACER_CGROUP_PARENT": "/"}, Config{}, "not the root"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ConfigFromEnv(func(k string) string { return c.env[k] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error = %v, want one that says %q", err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("config = %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// TestNew_SweepsOnlyDeadOwners leaves a cgroup with a process in it as an
// executor does that died, one that a living executor holds, and one of another
// framework.
func TestNew_SweepsOnlyDeadOwners(t *testing.T) {
	for _, v := range variants {
		if v.mode != ModeV2Delegated && v.mode != ModeV1Delegated || v.lessen != nil {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("needs root to make cgroups")
			}
			view, err := readCgroupView()
			if err != nil {
				t.Skip(err)
			}
			cfg := v.prepare(t, view, testID())
			host := newSupervisor(t, Config{})
			e := &env{TB: t, ctx: testContext(t), s: host}
			dirs := map[string]string{}
			procs := map[string]*Process{}
			for _, name := range []string{"pacer.f1.dead", "pacer.f1.alive", "pacer.f2.dead"} {
				for _, m := range view.mounts {
					parent, ok := m.dir(cfg.CgroupParent)
					if !ok || !isDir(parent) {
						continue
					}
					dir := filepath.Join(parent, name, "task-x")
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					if m.v2 || slices.Contains(m.controllers, "freezer") {
						dirs[name] = filepath.Dir(dir)
						procs[name] = e.start(shell(name, "sleep 1000"))
						if err := writeControl(dir, "cgroup.procs", fmt.Sprint(procs[name].PID())); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			lock, err := tryLock(dirs["pacer.f1.alive"])
			if err != nil || lock == nil {
				t.Fatal("lock:", err)
			}
			defer lock.Close()
			if st := newSupervisor(t, cfg).Status(); st.Mode != v.mode {
				t.Fatalf("status = %+v", st)
			}
			e.waitDone(procs["pacer.f1.dead"])
			if isDir(dirs["pacer.f1.dead"]) {
				t.Error("the dead executor's cgroup is left")
			}
			for _, name := range []string{"pacer.f1.alive", "pacer.f2.dead"} {
				if !exists(procs[name].PID()) || !isDir(dirs[name]) {
					t.Errorf("%s was touched", name)
				}
			}
		})
	}
}

func TestOwn_RefusesAHeldName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "own")
	lock, err := own(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own(dir); err == nil || !strings.Contains(err.Error(), "another executor") {
		t.Errorf("error = %v", err)
	}
	lock.Close()
	again, err := own(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestLimits_AreInForce(t *testing.T) {
	run(t, func(e *env) {
		spec := shell("limits.1", "sleep 1000")
		spec.Limits = Limits{Memory: 64<<20 + 1, CPU: 1.5, CPUQuota: 2, Pids: 50}
		p := e.start(spec)
		defer e.kill(p)
		l, ok := p.tree.(*legacy)
		if !ok {
			if n := len(e.s.Status().Controllers); n != 0 {
				e.Fatalf("%d controllers on a hierarchy that has none", n)
			}
			return // Nothing to enforce with; the caveats say so.
		}
		for _, c := range []struct{ controller, file, want string }{
			{"memory", "memory.limit_in_bytes", "67108864"},
			{"cpu", "cpu.shares", "1536"},
			{"cpu", "cpu.cfs_quota_us", "200000"},
			{"pids", "pids.max", "50"},
		} {
			for _, h := range l.dirs {
				if string(h.controller) != c.controller {
					continue
				}
				if got, err := readControl(h.dir, c.file); got != c.want || err != nil {
					e.Errorf("%s = %q, %v; want %s", c.file, got, err, c.want)
				}
				if procs, err := readControl(h.dir, "cgroup.procs"); !strings.Contains(procs, fmt.Sprint(p.PID())) {
					e.Errorf("%s: processes %q, %v: want %d", h.dir, procs, err, p.PID())
				}
			}
		}
	})
}

func TestOOM_IsToldApart(t *testing.T) {
	run(t, func(e *env) {
		var out buffer
		// The tail of a stream without newlines is kept in memory whole.
		spec := shell("oom.1", "head -c 300000000 /dev/zero | tail; echo survived")
		spec.Stdout = &out
		spec.Limits.Memory = 32 << 20
		p := e.start(spec)
		exit := e.waitDone(p)
		e.kill(p)
		exit = p.Exit()
		if !exit.OOM || exit.OOMKills == 0 {
			e.Errorf("exit = %+v, want an oom kill", exit)
		}
		if exit.PeakMemory < 24<<20 || exit.PeakMemory > 33<<20 || exit.MemoryLimit != 32<<20 {
			e.Errorf("exit = %+v, want a peak near the limit of 32 MiB", exit)
		}
		// Another task is not touched, and a plain kill is no oom.
		q := e.start(shell("fine.1", "kill -KILL $$"))
		if exit := e.waitDone(q); exit.OOM || exit.Signal != int(unix.SIGKILL) {
			e.Errorf("exit = %+v, want SIGKILL without oom", exit)
		}
		e.kill(q)
	}, ModeV1Nested, ModeV1Delegated)
}

// TestMemoryGuard runs the guard on a directory that looks like a cgroup: this
// kernel has no v2 memory controller to try it on.
func TestMemoryGuard(t *testing.T) {
	const limit = 100 << 20
	write := func(t *testing.T, dir, file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name          string
		current, file uint64
		killed        bool
	}{
		{"below the limit", limit - 1, 0, false},
		{"above, but page cache", limit + 1<<20, 30 << 20, false},
		{"above with anonymous memory", limit + 1<<20, 1 << 19, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "memory.current", fmt.Sprintln(c.current))
			write(t, dir, "memory.stat", fmt.Sprintf("anon 1\nfile %d\nshmem 0\nslab_reclaimable 0\n", c.file))
			write(t, dir, "memory.events", "high 0\n")
			kills := make(chan struct{}, 1)
			g := startMemoryGuard(dir, limit, func() { kills <- struct{}{} })
			write(t, dir, "memory.events", "high 1\n")
			if c.killed {
				select {
				case <-kills:
				case <-time.After(patience):
					t.Error("not killed")
				}
			}
			// The look after the event has been taken when a peak is known.
			for {
				if _, peak := g.result(); peak == c.current {
					break
				}
				time.Sleep(time.Millisecond)
			}
			g.stop()
			if killed, _ := g.result(); killed != c.killed {
				t.Errorf("killed = %v, want %v", killed, c.killed)
			}
		})
	}
}

func TestUnifiedResources(t *testing.T) {
	all := &unifiedPlace{mode: ModeV2Nested, controllers: wanted, mount: cgroupMount{v2: true, localEvents: true}}
	guarded := &unifiedPlace{mode: ModeV2Nested, controllers: wanted, mount: cgroupMount{v2: true}}
	none := &unifiedPlace{mode: ModeV2Nested}
	limits := Limits{Memory: 800 << 20, CPU: 0.25, CPUQuota: 0.5, Pids: 10}
	cases := []struct {
		name  string
		place *unifiedPlace
		want  map[string]string
	}{
		{"all", all, map[string]string{"memory.max": "838860800", "memory.oom.group": "1", "cpu.weight": "25", "cpu.max": "50000 100000", "pids.max": "10"}},
		{"guarded", guarded, map[string]string{"memory.high": "838860800", "memory.max": "943718400", "memory.oom.group": "1", "cpu.weight": "25", "cpu.max": "50000 100000", "pids.max": "10"}},
		{"no controllers", none, map[string]string{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, check := c.place.resources(limits)
			if len(check) != len(c.want) || len(r.Values()) != len(c.want) {
				t.Errorf("%d values to write, to check %v; want %v", len(r.Values()), check, c.want)
			}
			for file, want := range c.want {
				if check[file] != want {
					t.Errorf("%s = %q, want %q", file, check[file], want)
				}
			}
		})
	}
}

func TestCheckControl(t *testing.T) {
	cases := []struct {
		name, holds, want string
		ok                bool
	}{
		{"same", "100", "100", true},
		{"rounded down to a page", "67108864", "67108865", true},
		{"smaller by more", "67100000", "67108864", false},
		{"unlimited", "max", "67108864", false},
		{"small number", "1", "2", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "limit"), []byte(c.holds+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := checkControl(dir, "limit", c.want); (err == nil) != c.ok {
				t.Errorf("checkControl = %v, want ok %v", err, c.ok)
			}
		})
	}
	if err := checkControl(t.TempDir(), "limit", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
