package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStart_ExplainsWhatIsWrong(t *testing.T) {
	run(t, func(e *env) {
		cases := []struct {
			name string
			edit func(*Spec)
			want string
		}{
			{"no program", func(s *Spec) { s.Argv = nil }, "argv[0] must name one"},
			{"not in PATH", func(s *Spec) { s.Argv = []string{"no-such-program"} }, `"no-such-program": not found in PATH`},
			{"no such file", func(s *Spec) { s.Argv = []string{"./no-such-program"} }, "no such file or directory"},
			{"not executable", func(s *Spec) { s.Argv = []string{"/etc/passwd"} }, "permission denied"},
			{"no such directory", func(s *Spec) { s.Dir = "/no/such/dir" }, `"/no/such/dir": no such file`},
			{"relative directory", func(s *Spec) { s.Dir = "x" }, "must be an absolute path"},
			{"no such user", func(s *Spec) { s.User = "no-such-user" }, `user "no-such-user": neither in /etc/passwd nor known to getent`},
			{"environment", func(s *Spec) { s.Env = []string{"secret-without-name"} }, "entry 0 of 1 is not NAME=value"},
			{"slash in id", func(s *Spec) { s.TaskID = "a/b" }, `task id "a/b"`},
		}
		for _, c := range cases {
			spec := shell("bad.1", "exit 0")
			c.edit(&spec)
			p, err := e.s.Start(e.ctx, spec)
			if err == nil {
				e.Errorf("%s: started", c.name)
				e.kill(p)
				continue
			}
			if !strings.Contains(err.Error(), c.want) {
				e.Errorf("%s: error %q does not say %q", c.name, err, c.want)
			}
			if strings.Contains(err.Error(), "secret-without-name") {
				e.Errorf("%s: error shows the environment: %q", c.name, err)
			}
		}
		if n := e.s.Status().Tasks; n != 0 {
			e.Errorf("%d tasks left after failed starts", n)
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
		// The reaper may be reading /proc at this moment.
		e.eventually(fmt.Sprintf("no more than the %d descriptors of before", before), func() bool { return count() <= before })
	})
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
