package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const defaultTailSize = 1024

// Exec runs a command in the task's directory, cgroup and environment, as its
// user. When ctx ends the command and all its descendants are killed and the
// error is ctx's. The result's Code says how it ended, also when that is not 0;
// an error means that it could not be run or did not end.
func (p *Process) Exec(ctx context.Context, cmd Command) (Result, error) {
	if err := errors.Join(validateCommand(cmd.Argv, cmd.Env)...); err != nil {
		return Result{}, err
	}
	p.mu.Lock()
	if p.killing {
		p.mu.Unlock()
		return Result{}, ErrKilled
	}
	p.serial++
	name := "check-" + strconv.Itoa(p.serial)
	p.commands.Add(1)
	p.mu.Unlock()
	defer p.commands.Done()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(ErrKilled) })()

	t, err := p.tree.sub(name)
	if err != nil {
		return Result{}, fmt.Errorf("run command: %w", err)
	}
	r, err := p.run(ctx, t, cmd)
	if rerr := t.remove(); rerr != nil {
		p.log.Warn().Err(rerr).Msg("cgroup of a command left behind")
	}
	return r, err
}

func (p *Process) run(ctx context.Context, t tree, cmd Command) (Result, error) {
	tail := &tailWriter{size: cmd.TailSize}
	if tail.size <= 0 {
		tail.size = defaultTailSize
	}
	out, err := openOutput(nil, tail)
	if err != nil {
		return Result{}, fmt.Errorf("run command: %w", err)
	}
	l := p.launch(cmd.Argv, overlay(p.spec.Env, cmd.Env), out.files)
	l.secretEnv = without(p.secretEnv, cmd.Env)
	if p.namespace != nil {
		l.extra, l.secrets = []*os.File{p.namespace}, orderSecrets{Join: []byte(p.spec.Dir)}
	}
	c, err := p.s.launch(ctx, t, l, p.limits())
	if err != nil {
		out.abort()
		return Result{}, fmt.Errorf("run command: %w", err)
	}
	out.closeOwn()
	out.pump(func(err error) { p.log.Debug().Err(err).Msg("output of a command lost") })

	var ended error
	select {
	case <-c.exited:
	case <-ctx.Done():
		ended = context.Cause(ctx)
	}
	// Not bounded by ctx, which may be over: what a command leaves behind must
	// not outlive it.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	left := p.finish(clean, t, c, ended != nil)
	if err := out.drain(clean); err != nil {
		return Result{}, fmt.Errorf("run command: %w", err)
	}
	if left != nil {
		return Result{}, fmt.Errorf("run command: %w", left)
	}
	if ended != nil {
		return Result{Stderr: tail.String()}, fmt.Errorf("run command: %w", ended)
	}
	return Result{Code: c.status.code, Signal: c.status.signal, Stderr: tail.String()}, nil
}

// finish kills what is left of a command and reaps it. Without a cgroup the
// walk over /proc is spared for a command that ended by itself: its group is
// killed, and what left the group is found when the task ends.
func (p *Process) finish(ctx context.Context, t tree, c *child, timedOut bool) error {
	if _, ok := t.(*family); ok && !timedOut {
		c.signal(unix.SIGKILL, true)
		p.s.reaper.release(c)
		return nil
	}
	if left, err := killTree(ctx, t); err != nil {
		p.s.reaper.abandon(c)
		return &SurvivorsError{TaskID: p.id, Survivors: survivors(left), Cause: err}
	}
	p.s.reaper.pass()
	select {
	case <-c.exited:
		p.s.reaper.release(c)
	case <-ctx.Done():
		p.s.reaper.abandon(c)
	}
	return nil
}

// overlay replaces entries of env by those of over with the same name.
func overlay(env, over []string) []string {
	if len(over) == 0 {
		return env
	}
	merged := make([]string, 0, len(env)+len(over))
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(over, func(o string) bool { return strings.HasPrefix(o, name+"=") }) {
			merged = append(merged, e)
		}
	}
	return append(merged, over...)
}

// without leaves out those secret variables that are overridden.
func without(secret [][]byte, over []string) [][]byte {
	if len(over) == 0 {
		return secret
	}
	return slices.DeleteFunc(slices.Clone(secret), func(e []byte) bool {
		name, _, _ := bytes.Cut(e, []byte("="))
		return slices.ContainsFunc(over, func(o string) bool { return strings.HasPrefix(o, string(name)+"=") })
	})
}

// String is what was kept, from the beginning of a line if there is one.
func (t *tailWriter) String() string {
	b := t.buf
	if t.cut {
		if i := bytes.IndexByte(b, '\n'); i >= 0 && i+1 < len(b) {
			b = b[i+1:]
		}
	}
	return string(bytes.TrimRight(b, "\n"))
}
