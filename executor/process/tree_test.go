package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// marked lists the living processes whose environment had the entry.
func (e *env) marked(entry string) []procStat {
	e.Helper()
	t, err := scanTable()
	if err != nil {
		e.Fatal(err)
	}
	var found []procStat
	for pid, s := range t.byPID {
		if s.alive() && t.hasVariable(pid, entry) {
			found = append(found, s)
		}
	}
	return found
}

// noZombies waits until every zombie of this process is reaped.
func (e *env) noZombies() {
	e.Helper()
	e.eventually("zombies reaped", func() bool {
		t, err := scanTable()
		if err != nil {
			e.Fatal(err)
		}
		for _, pid := range t.children[os.Getpid()] {
			if !t.byPID[pid].alive() {
				return false
			}
		}
		return true
	})
}

// TestKillStorm kills many tasks that fork, leave their session and lose their
// parents while they are killed, and looks for survivors everywhere.
func TestKillStorm(t *testing.T) {
	tasks, wave := 1000, 50
	if testing.Short() {
		tasks, wave = 60, 20
	}
	// Processes gather until the task is killed: some live, some pass the pid
	// table quickly, some have left session and parent.
	const line = `while :; do
		setsid sh -c 'sleep 1000 & (setsid sleep 1000 &); :' &
		(sleep 0.1 & :)
		sleep 0.2
	done`
	run(t, func(e *env) {
		marker := "STORM=" + testID()
		var kills []time.Duration
		for first := 0; first < tasks; first += wave {
			procs := make([]*Process, wave)
			var wg sync.WaitGroup
			ctx, cancel := context.WithTimeout(e.Context(), 2*patience)
			for i := range wave {
				wg.Go(func() {
					spec := shell(fmt.Sprintf("storm.%d", first+i), line)
					spec.Env = append(spec.Env, marker)
					var err error
					if procs[i], err = e.s.Start(ctx, spec); err != nil {
						e.Error(err)
					}
				})
			}
			wg.Wait()
			if e.Failed() {
				cancel()
				e.FailNow()
			}
			(&env{TB: e.TB, ctx: ctx, s: e.s}).eventually("the storm rages", func() bool { return len(e.marked(marker)) >= 4*wave })
			start := time.Now()
			for _, p := range procs {
				wg.Go(func() {
					if err := p.Kill(ctx); err != nil {
						e.Error(err)
					}
				})
			}
			wg.Wait()
			cancel()
			kills = append(kills, time.Since(start))
			if left := e.marked(marker); len(left) > 0 {
				e.Fatalf("%d survivors, first %+v", len(left), left[0])
			}
			if left := e.leftovers(); len(left) > 0 {
				e.Fatalf("cgroups left: %v", left)
			}
		}
		e.noZombies()
		var sum time.Duration
		for _, d := range kills {
			sum += d
		}
		e.Logf("%d tasks, waves of %d killed in %v on average", tasks, wave, (sum / time.Duration(len(kills))).Round(time.Millisecond))
	})
}

// TestKill_FindsACleanedOrphan: without a cgroup, a process that hides from
// every mark is still found when its task is the only one.
func TestKill_FindsACleanedOrphan(t *testing.T) {
	run(t, func(e *env) {
		var out buffer
		spec := shell("clean.1", `(setsid env -i /bin/sh -c '/bin/sleep 1000 & echo $!' &); exit 0`)
		spec.Stdout = &out
		p := e.start(spec)
		e.waitDone(p)
		pid, err := strconv.Atoi(strings.TrimSpace(e.output(&out)))
		if err != nil {
			e.Fatal(err)
		}
		e.eventually("orphan adopted", func() bool { s, err := readStat(pid); return err == nil && s.parent == os.Getpid() })
		e.kill(p)
		if exists(pid) {
			e.Errorf("process %d is left", pid)
		}
	})
}

// TestKill_TouchesNoOtherTask kills one of two tasks with the same shape.
func TestKill_TouchesNoOtherTask(t *testing.T) {
	run(t, func(e *env) {
		const line = `(setsid sleep 1000 & echo $!) ; exec sleep 1000`
		var outs [2]buffer
		var procs [2]*Process
		var orphans [2]int
		for i := range procs {
			spec := shell(fmt.Sprintf("pair.%d", i), line)
			spec.Stdout = &outs[i]
			procs[i] = e.start(spec)
			if _, err := fmt.Sscan(e.output(&outs[i]), &orphans[i]); err != nil {
				e.Fatal(err)
			}
		}
		e.kill(procs[0])
		if exists(orphans[0]) || exists(procs[0].PID()) {
			e.Error("the killed task is left")
		}
		if !exists(orphans[1]) || !exists(procs[1].PID()) {
			e.Error("the other task was touched")
		}
		e.kill(procs[1])
		e.noZombies()
	})
}

func TestSignal_ReachesEveryProcessOnce(t *testing.T) {
	run(t, func(e *env) {
		var out buffer
		// Each says once per signal who it is; sleep is short, because a shell
		// runs its trap after it.
		who := func(name string) string {
			return `trap "echo ` + name + ` got it" TERM; echo ready; while :; do sleep 0.02; done`
		}
		spec := shell("signal.1", fmt.Sprintf(`sh -c '%s' & setsid sh -c '%s' & (setsid sh -c '%s' &); %s`, who("child"), who("session"), who("orphan"), who("main")))
		spec.Stdout = &out
		p := e.start(spec)
		e.eventually("all ready", func() bool { return strings.Count(out.String(), "ready\n") == 4 })
		if err := p.Signal(syscall.SIGTERM); err != nil {
			e.Fatal(err)
		}
		names := []string{"child", "session", "orphan", "main"}
		e.eventually("all signalled", func() bool {
			for _, n := range names {
				if !strings.Contains(out.String(), n+" got it\n") {
					return false
				}
			}
			return true
		})
		e.kill(p)
		for _, n := range names {
			if c := strings.Count(out.String(), n+" got it\n"); c != 1 {
				e.Errorf("%s got the signal %d times", n, c)
			}
		}
		if err := p.Signal(syscall.SIGTERM); err != nil {
			e.Errorf("Signal after Kill: %v", err)
		}
	})
}

func TestSignal_WakesTheStopped(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("stopped.1", `kill -STOP $$; exit 5`))
		e.eventually("stopped", func() bool { s, err := readStat(p.PID()); return err == nil && s.stopped() })
		if err := p.Signal(syscall.SIGTERM); err != nil {
			e.Fatal(err)
		}
		if exit := e.waitDone(p); exit.Signal != int(syscall.SIGTERM) {
			e.Errorf("exit = %+v, want SIGTERM", exit)
		}
		e.kill(p)
	})
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to change user")
	}
}

// closedSandbox is as Mesos makes it, 0750 and the executor's, with the task's
// own folder inside. Every directory on the way is closed to the user.
func closedSandbox(t testing.TB, user string) string {
	t.Helper()
	id, err := newSupervisor(t, Config{}).LookupUser(t.Context(), user)
	if err != nil {
		t.Skipf("needs user %s: %v", user, err)
	}
	sandbox := t.TempDir()
	task := filepath.Join(sandbox, "task")
	if err := errors.Join(os.Chmod(sandbox, 0o750), os.Mkdir(task, 0o700), os.Chown(task, int(id.UID), int(id.GID))); err != nil {
		t.Fatal(err)
	}
	return task
}

func TestStart_ChangesUserAndDirectory(t *testing.T) {
	needRoot(t)
	run(t, func(e *env) {
		var out buffer
		spec := shell("user.1", `id -un; id -g; umask; echo x > file && cat file; exit 0`)
		spec.User, spec.Dir = "nobody", closedSandbox(e, "nobody")
		umask := uint32(0o027)
		spec.Umask = &umask
		spec.Stdout, spec.Stderr = &out, &out
		p := e.start(spec)
		e.waitDone(p)
		e.kill(p)
		nobody, err := e.s.LookupUser(e.ctx, "nobody")
		if err != nil {
			e.Fatal(err)
		}
		if want := fmt.Sprintf("nobody\n%d\n0027\nx\n", nobody.GID); out.String() != want {
			e.Errorf("output = %q, want %q", out.String(), want)
		}
		info, err := os.Stat(filepath.Join(spec.Dir, "file"))
		if err != nil {
			e.Fatal(err)
		}
		if info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Uid != nobody.UID {
			e.Errorf("file is %v of uid %d", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
		}
	})
}

// TestLookupUser_FindsAllGroups compares with what id(1) says, for every user of
// the machine, by both ways.
func TestLookupUser_FindsAllGroups(t *testing.T) {
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Skip(err)
	}
	s := newSupervisor(t, Config{})
	n := 0
	for line := range strings.Lines(string(b)) {
		if n++; n > 20 {
			break
		}
		name, _, _ := strings.Cut(line, ":")
		out, err := exec.Command("id", "-G", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		for way, lookup := range map[string]func(context.Context, string) (User, error){"files": s.LookupUser, "getent": s.getentUser} {
			u, err := lookup(t.Context(), name)
			if err != nil {
				t.Errorf("%s: %s: %v", way, name, err)
				continue
			}
			var got []string
			for _, g := range u.Groups {
				got = append(got, strconv.Itoa(int(g)))
			}
			want := strings.Fields(string(out))
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) || u.Name != name {
				t.Errorf("%s: user %s has groups %v, want %v", way, u.Name, got, want)
			}
			byID, err := lookup(t.Context(), strconv.Itoa(int(u.UID)))
			if err != nil || byID.UID != u.UID {
				t.Errorf("%s: uid %d: %+v, %v", way, u.UID, byID, err)
			}
		}
	}
	for _, name := range []string{"no-such-user", "--help", ""} {
		if u, err := s.LookupUser(t.Context(), name); err == nil {
			t.Errorf("user %q: found %+v", name, u)
		}
	}
}

// TestStart_GivesSupplementaryGroups looks at what the kernel gave.
func TestStart_GivesSupplementaryGroups(t *testing.T) {
	needRoot(t)
	run(t, func(e *env) {
		p := e.start(Spec{TaskID: "groups.1", Argv: []string{"/bin/sleep", "1000"}, Dir: "/"})
		defer e.kill(p)
		// As launch does it, with groups that no user of this machine has.
		q := &Process{s: e.s, id: "groups.2", spec: Spec{Dir: "/"}, user: &User{Name: "x", UID: 65534, GID: 65534, Groups: []uint32{65534, 4242, 4243}}}
		out, err := openOutput(nil, nil)
		if err != nil {
			e.Fatal(err)
		}
		t, err := p.tree.sub("groups")
		if err != nil {
			e.Fatal(err)
		}
		c, err := e.s.launch(e.ctx, t, q.launch([]string{"/bin/sleep", "1000"}, nil, out.files), nil)
		out.closeOwn()
		if err != nil {
			e.Fatal(err)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
		if err != nil || !strings.Contains(string(b), "\nGroups:\t4242 4243 65534 \n") || !strings.Contains(string(b), "\nUid:\t65534\t65534\t65534\t65534\n") {
			e.Errorf("status = %s, %v", b, err)
		}
		if _, err := killTree(e.ctx, t); err != nil {
			e.Error(err)
		}
		e.s.reaper.pass()
		e.s.reaper.release(c)
		if err := t.remove(); err != nil {
			e.Error(err)
		}
	})
}

// TestKill_ReachesSetuidChildren: the task's user could not signal them.
func TestKill_ReachesSetuidChildren(t *testing.T) {
	needRoot(t)
	run(t, func(e *env) {
		dir := closedSandbox(e, "nobody")
		sleep := filepath.Join(dir, "sleep")
		b, err := os.ReadFile("/bin/sleep")
		if err != nil {
			e.Skip(err)
		}
		if err := errors.Join(os.WriteFile(sleep, b, 0o755), os.Chmod(sleep, 0o755|os.ModeSetuid)); err != nil {
			e.Fatal(err)
		}
		for _, how := range []string{"term", "kill"} {
			var out buffer
			spec := shell("setuid."+how, `setsid ./sleep 1000 & echo $!; wait`)
			spec.User, spec.Dir, spec.Stdout = "nobody", dir, &out
			p := e.start(spec)
			pid, err := strconv.Atoi(strings.TrimSpace(e.output(&out)))
			if err != nil {
				e.Fatal(err)
			}
			e.eventually("running as root", func() bool {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				return strings.Contains(string(b), "\nName:\tsleep\n") || strings.HasPrefix(string(b), "Name:\tsleep\n") && strings.Contains(string(b), "\t0\t0\t0\n")
			})
			if how == "term" {
				if err := p.Signal(syscall.SIGTERM); err != nil {
					e.Error(err)
				}
				e.eventually("SIGTERM ends it", func() bool { return !exists(pid) })
			}
			e.kill(p)
			if exists(pid) {
				e.Errorf("process %d is left", pid)
			}
		}
	})
}

// TestStart_InheritsNothing: environment, descriptors, session.
func TestStart_InheritsNothing(t *testing.T) {
	t.Setenv("PACER_SECRET_OF_THE_EXECUTOR", "canary")
	leaked, err := unix.Open("/dev/zero", unix.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	session, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(e *env) {
		var out buffer
		p := e.start(Spec{TaskID: "clean.1", Argv: []string{"/bin/sleep", "1000"}, Env: []string{"A=canary-1", "B=\xff"}, Dir: "/", Stdout: &out})
		defer e.kill(p)
		proc := fmt.Sprintf("/proc/%d", p.PID())
		// exec has succeeded a moment before the kernel shows its arguments.
		var b []byte
		e.eventually("environment shown", func() bool {
			var err error
			if b, err = os.ReadFile(proc + "/environ"); err != nil {
				e.Fatal(err)
			}
			return len(b) > 0
		})
		want := "A=canary-1\x00B=\xff\x00"
		if v := p.tree.variable(); v != "" {
			want += v + "\x00"
		}
		if string(b) != want {
			e.Errorf("environment = %q, want %q", b, want)
		}
		if b, _ := os.ReadFile(proc + "/cmdline"); string(b) != "/bin/sleep\x001000\x00" {
			e.Errorf("command line = %q", b)
		}
		// The dynamic loader opens files of its own for a moment.
		e.eventually("no more than three descriptors", func() bool {
			fds, err := os.ReadDir(proc + "/fd")
			if err != nil {
				e.Fatal(err)
			}
			return len(fds) == 3
		})
		s, err := readStat(p.PID())
		if err != nil {
			e.Fatal(err)
		}
		if s.group != p.PID() || s.session != session || s.parent != os.Getpid() {
			e.Errorf("group %d, session %d, parent %d; want %d, %d, %d", s.group, s.session, s.parent, p.PID(), session, os.Getpid())
		}
	})
}

func TestStart_SetsRlimits(t *testing.T) {
	run(t, func(e *env) {
		var out buffer
		spec := shell("rlimit.1", `ulimit -Sn; ulimit -Hn; ulimit -c`)
		spec.Rlimits = []Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 77, Hard: 99}}
		spec.Stdout = &out
		p := e.start(spec)
		e.waitDone(p)
		e.kill(p)
		if out.String() != "77\n99\n0\n" {
			e.Errorf("limits = %q", out.String())
		}
		var r unix.Rlimit
		q := e.start(Spec{TaskID: "core.1", Argv: []string{"/bin/sleep", "1000"}, Dir: "/", CoreDumps: true})
		if err := unix.Prlimit(q.PID(), unix.RLIMIT_CORE, nil, &r); err != nil || r.Cur != r.Max {
			e.Errorf("limit of core dumps = %+v, %v; want the hard limit", r, err)
		}
		e.kill(q)
	})
}

func TestStart_NamesTheStepThatFailed(t *testing.T) {
	needRoot(t)
	run(t, func(e *env) {
		spec := shell("step.1", "exit 0")
		// Above fs.nr_open, which not even root may pass.
		spec.Rlimits = []Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 1 << 40, Hard: 1 << 40}}
		if _, err := e.s.Start(e.ctx, spec); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "set rlimit 7 to 1099511627776") {
			e.Errorf("Start = %v", err)
		}
		if left := e.leftovers(); len(left) > 0 {
			e.Errorf("cgroups left: %v", left)
		}
		e.noZombies()
	})
}

// TestStart_LeaksNoDescriptor counts after starts that work and that fail.
func TestStart_LeaksNoDescriptor(t *testing.T) {
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	run(t, func(e *env) {
		life := func() {
			var out, err buffer
			spec := shell("fd.1", "exit 0")
			spec.Stdout, spec.Stderr = &out, &err
			p := e.start(spec)
			p.Exec(e.ctx, Command{Argv: []string{"true"}})
			p.Exec(e.ctx, Command{Argv: []string{"no-such-program"}})
			e.kill(p)
			spec.Argv = []string{"./no-such-program"}
			e.s.Start(e.ctx, spec)
		}
		life()
		before := count()
		for range 20 {
			life()
		}
		if after := count(); after > before {
			e.Errorf("%d descriptors became %d", before, after)
		}
	})
}

func TestOutput_IsWholeWhenKillReturns(t *testing.T) {
	run(t, func(e *env) {
		cases := []struct{ name, line, want string }{
			{"no newline at the end", `printf 'a\nb'`, "a\nb"},
			{"held by an orphan", `echo a; (setsid sh -c 'echo b; exec sleep 1000' &); sleep 0.1; echo c`, "a\nb\nc\n"},
			{"binary", `printf '\000\377\n\r\n'`, "\x00\xff\n\r\n"},
			{"both streams in order", `for i in 1 2 3; do echo $i; echo -$i >&2; done`, "1\n-1\n2\n-2\n3\n-3\n"},
			{"more than a pipe holds", `i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done`,
				strings.Repeat("0123456789012345678901234567890123456789\n", 3000)},
		}
		for i, c := range cases {
			var out buffer
			spec := shell(fmt.Sprintf("output.%d", i), c.line)
			spec.Stdout, spec.Stderr = &out, &out
			p := e.start(spec)
			e.waitDone(p)
			e.kill(p)
			if out.String() != c.want {
				e.Errorf("%s: %d bytes %.60q, want %d bytes", c.name, len(out.String()), out.String(), len(c.want))
			}
		}
	})
}

func TestExec_TimeoutKillsTheWholeCommand(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("web.1", "sleep 1000"))
		marker := "CHECK=" + testID()
		ctx, cancel := context.WithCancelCause(e.ctx)
		go func() {
			defer cancel(errors.New("too slow"))
			e.eventually("the command has spread", func() bool { return len(e.marked(marker)) >= 3 || e.ctx.Err() != nil })
		}()
		r, err := p.Exec(ctx, Command{Argv: []string{"/bin/sh", "-c", `echo why >&2; setsid sleep 1000 & (setsid sleep 1000 &); sleep 1000`}, Env: []string{marker}})
		if err == nil || !strings.Contains(err.Error(), "too slow") || r.Stderr != "why" {
			e.Errorf("Exec = %+v, %v; want the cause and the stderr", r, err)
		}
		if left := e.marked(marker); len(left) > 0 {
			e.Errorf("%d processes of the command are left: %+v", len(left), left)
		}
		if !exists(p.PID()) {
			e.Error("the task was killed with its check")
		}
		e.kill(p)
	})
}

func TestExec_EndsWhenTheTaskIsKilled(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("web.1", "sleep 1000"))
		marker := "CHECK=" + testID()
		done := make(chan error, 1)
		go func() {
			_, err := p.Exec(e.ctx, Command{Argv: []string{"sleep", "1000"}, Env: []string{marker}})
			done <- err
		}()
		e.eventually("the command runs", func() bool { return len(e.marked(marker)) == 1 })
		e.kill(p)
		if err := <-done; !errors.Is(err, ErrKilled) {
			e.Errorf("Exec = %v, want ErrKilled", err)
		}
		if left := e.marked(marker); len(left) > 0 {
			e.Errorf("left: %+v", left)
		}
	})
}

func TestExec_ReportsTheEndOfStderr(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("web.1", "sleep 1000"))
		defer e.kill(p)
		r, err := p.Exec(e.ctx, Command{
			Argv:     []string{"/bin/sh", "-c", `i=0; while [ $i -lt 1000 ]; do echo line $i >&2; i=$((i+1)); done; kill -TERM $$`},
			TailSize: 15,
		})
		if err != nil || r.Signal != int(syscall.SIGTERM) || r.Code != -1 || r.Stderr != "line 999" {
			e.Errorf("Exec = %+v, %v", r, err)
		}
	})
}

// stubborn is a tree in which one process never dies.
type stubborn struct {
	tree
	pid int
}

func (s stubborn) kill(context.Context) ([]int, error) { return []int{s.pid}, nil }

func TestKill_NamesWhatItCannotKill(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("stuck.1", "exec sleep 1000"))
		e.eventually("sleep runs", func() bool { s, err := readStat(p.PID()); return err == nil && s.name == "sleep" })
		real := p.tree
		p.tree = stubborn{real, p.PID()}
		ctx, cancel := context.WithTimeout(e.ctx, 50*time.Millisecond)
		defer cancel()
		err := p.Kill(ctx)
		var left *SurvivorsError
		if !errors.As(err, &left) || !errors.Is(err, context.DeadlineExceeded) {
			e.Fatalf("Kill = %v, want a SurvivorsError", err)
		}
		if want := fmt.Sprintf(`"sleep" (pid %d, state S)`, p.PID()); !strings.Contains(err.Error(), want) {
			e.Errorf("error %q does not name %s", err, want)
		}
		p.tree = real
		e.kill(p) // Goes on where it gave up.
		e.kill(p) // Nothing to do.
	}, ModeNone)
}

func TestStart_RefusesAnIDThatIsInUse(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("twice.1", "exit 0"))
		e.waitDone(p)
		if _, err := e.s.Start(e.ctx, shell("twice.1", "exit 0")); err == nil || !strings.Contains(err.Error(), "has not been killed yet") {
			e.Errorf("second Start = %v", err)
		}
		e.kill(p)
		e.kill(e.start(shell("twice.1", "exit 0")))
	})
}

func TestClose_KillsWhatIsLeft(t *testing.T) {
	run(t, func(e *env) {
		marker := "CLOSE=" + testID()
		for i := range 5 {
			spec := shell(fmt.Sprintf("close.%d", i), "setsid sleep 1000 & sleep 1000")
			spec.Env = append(spec.Env, marker)
			e.start(spec)
		}
		if err := e.s.Close(e.ctx); err != nil {
			e.Error(err)
		}
		if left := e.marked(marker); len(left) > 0 {
			e.Errorf("left: %+v", left)
		}
		if _, err := e.s.Start(e.ctx, shell("late.1", "exit 0")); !errors.Is(err, errClosed) {
			e.Errorf("Start after Close = %v", err)
		}
	})
}

// TestParentDeath kills an executor with SIGKILL: no main process survives it.
func TestParentDeath(t *testing.T) {
	needRoot(t)
	for _, user := range []string{"", "nobody"} {
		for _, shim := range []bool{false, true} {
			t.Run(fmt.Sprintf("user %q shim %v", user, shim), func(t *testing.T) {
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%v", helperVariable, user, shim))
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				var pid int
				if _, err := fmt.Fscan(out, &pid); err != nil {
					t.Fatal(err)
				}
				if !exists(pid) {
					t.Error("the task does not run")
				}
				cmd.Process.Kill()
				cmd.Wait()
				e := &env{TB: t, ctx: testContext(t)}
				e.eventually("the task died with its executor", func() bool { return !exists(pid) })
			})
		}
	}
}

// helperVariable makes TestMain play an executor: it starts one task, prints
// its id and waits to be killed.
const helperVariable = "PACER_TEST_HELPER"

func helper(arg string) error {
	user, shim, _ := strings.Cut(arg, ",")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := New(ctx, Config{}, discard)
	if err != nil {
		return err
	}
	spec := shell("helper.1", "exec sleep 1000")
	spec.User = user
	if shim == "true" {
		spec.Rlimits = []Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 100, Hard: 100}}
	}
	p, err := s.Start(ctx, spec)
	if err != nil {
		return err
	}
	fmt.Println(p.PID())
	<-p.Done()
	return errors.New("the task ended first")
}
