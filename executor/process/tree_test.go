package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
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
	}, ModeNone, ModeV2Nested, ModeV1Nested) // The delegated modes differ in the parent only.
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
