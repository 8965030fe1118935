package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	RunShim()
	if arg, ok := os.LookupEnv(helperVariable); ok {
		fmt.Fprintln(os.Stderr, helper(arg))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

var discard = zerolog.Nop()

// patience bounds every wait of the tests; a busy machine may need some of it.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// env is what one test in one mode has.
type env struct {
	testing.TB
	ctx context.Context
	s   *Supervisor
}

// buffer is a writer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var testPath = "PATH=" + defaultPath

// shell is a task that runs a line of sh.
func shell(id, line string) Spec {
	return Spec{TaskID: id, Argv: []string{"/bin/sh", "-c", line}, Env: []string{testPath}, Dir: "/"}
}

func (e *env) start(spec Spec) *Process {
	e.Helper()
	p, err := e.s.Start(e.ctx, spec)
	if err != nil {
		e.Fatalf("Start(%s): %v", spec.TaskID, err)
	}
	return p
}

func (e *env) kill(p *Process) {
	e.Helper()
	if err := p.Kill(e.ctx); err != nil {
		e.Fatalf("Kill: %v", err)
	}
}

// waitDone waits for the main process.
func (e *env) waitDone(p *Process) Exit {
	e.Helper()
	select {
	case <-p.Done():
	case <-e.ctx.Done():
		e.Fatalf("main process %d has not ended", p.PID())
	}
	return p.Exit()
}

// eventually polls a condition that the kernel or another process makes true.
func (e *env) eventually(what string, cond func() bool) {
	e.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			e.Fatalf("not in time: %s", what)
		}
	}
}

// output waits until a task has printed a whole line and returns its output.
func (e *env) output(b *buffer) string {
	e.Helper()
	e.eventually("a line of output", func() bool { return strings.HasSuffix(b.String(), "\n") })
	return b.String()
}

func newSupervisor(t testing.TB, cfg Config) *Supervisor {
	t.Helper()
	s, err := New(testContext(t), cfg, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// exists reports whether a process that is no zombie has this id.
func exists(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.alive()
}

func TestStart_RunsTheProgram(t *testing.T) {
	run(t, func(e *env) {
		var out, err buffer
		spec := shell("web.1", `echo "out $X"; echo err >&2; exit 3`)
		spec.Env = append(spec.Env, "X=y")
		spec.Stdout, spec.Stderr = &out, &err
		p := e.start(spec)
		exit := e.waitDone(p)
		if exit.Code != 3 || exit.Signal != 0 || exit.OOM {
			e.Errorf("exit = %+v, want code 3", exit)
		}
		if exit.Started.IsZero() || exit.Ended.Before(exit.Started) || exit.PeakMemory == 0 {
			e.Errorf("exit = %+v, want times and peak memory", exit)
		}
		e.kill(p)
		if out.String() != "out y\n" || err.String() != "err\n" {
			e.Errorf("output = %q, %q", out.String(), err.String())
		}
	})
}

func TestKill_LeavesNothing(t *testing.T) {
	cases := []struct{ name, line string }{
		{"plain", `sleep 1000 & echo $!; wait`},
		{"main ended", `sleep 1000 & echo $!`},
		{"other session", `setsid sleep 1000 & echo $!; wait`},
		{"double fork", `(setsid sh -c 'sleep 1000 & echo $!; wait' &) ; exit 0`},
		{"ignores signals", `trap '' TERM INT HUP; echo $$; while :; do sleep 1000; done`},
		{"stopped", `sleep 1000 & echo $!; kill -STOP $!; kill -STOP $$`},
	}
	run(t, func(e *env) {
		for _, c := range cases {
			var out buffer
			spec := shell("kill."+strings.ReplaceAll(c.name, " ", "-"), c.line)
			spec.Stdout = &out
			p := e.start(spec)
			var pid int
			if _, err := fmt.Sscan(e.output(&out), &pid); err != nil {
				e.Fatal(err)
			}
			e.kill(p)
			if exists(pid) || exists(p.PID()) {
				e.Errorf("%s: process %d or %d is left", c.name, pid, p.PID())
			}
		}
	})
}

func TestExit_NamesTheSignal(t *testing.T) {
	run(t, func(e *env) {
		p := e.start(shell("a.1", "kill -USR1 $$"))
		if exit := e.waitDone(p); exit.Signal != int(syscall.SIGUSR1) || exit.Code != -1 {
			e.Errorf("exit = %+v, want SIGUSR1", exit)
		}
		e.kill(p)
	})
}
