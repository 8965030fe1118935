package process

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExec_RunsBesideTheTask(t *testing.T) {
	run(t, func(e *env) {
		spec := shell("web.1", "sleep 1000")
		spec.Env = append(spec.Env, "A=1", "B=2")
		spec.Dir = os.TempDir()
		p := e.start(spec)
		r, err := p.Exec(e.ctx, Command{Argv: []string{"/bin/sh", "-c", `echo "$A $B $(pwd)" >&2; exit 4`}, Env: []string{"B=3"}})
		if err != nil || r.Code != 4 || r.Stderr != "1 3 "+os.TempDir() {
			e.Errorf("Exec = %+v, %v", r, err)
		}
		e.kill(p)
		if _, err := p.Exec(e.ctx, Command{Argv: []string{"true"}}); err != ErrKilled {
			e.Errorf("Exec after Kill: %v, want ErrKilled", err)
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
			for len(e.marked(marker)) < 3 && e.ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
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
