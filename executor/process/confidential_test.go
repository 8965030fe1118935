package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// confidential is a task with a secret of each kind that tells what it sees and
// then waits. It catches HUP by showing the file again.
func confidential(e *env, out *buffer) Spec {
	spec := shell("web.1", `
		show() { cat "$PACER_SECRETS_DIR/key.pem"; }
		echo "env=$PASSWORD plain=$PLAIN file=$(show) core=$(ulimit -c) $(ulimit -Hc)"
		stat -L -c '%a %U' "$PACER_SECRETS_DIR/key.pem"
		grep " $PACER_SECRETS_DIR " /proc/self/mountinfo
		trap 'echo again=$(show)' HUP
		echo ready
		while :; do sleep 1000 & wait; done`)
	spec.Env = append(spec.Env, "PLAIN=p", "PASSWORD=of the app")
	spec.Dir = e.TempDir()
	spec.SecretEnv = []SecretVariable{{Name: "PASSWORD", Value: []byte("canary\xff-env")}}
	spec.SecretFiles = []SecretFile{{Name: "key.pem", Mode: 0o400, Content: []byte("canary-file")}, {Name: "other", Mode: 0o440, Content: []byte("x")}}
	spec.Stdout, spec.Stderr = out, out
	return spec
}

// kinds runs f with both ways of delivering files.
func kinds(t *testing.T, f func(e *env, tmpfs bool)) {
	run(t, func(e *env) {
		if os.Getuid() == 0 {
			f(e, true)
		}
		e.s.mountPoint = "/proc/nowhere" // where nothing can be mounted
		f(e, false)
	})
}

func TestP5_SecretsReachTheTaskAndNobodyElse(t *testing.T) {
	kinds(t, func(e *env, tmpfs bool) {
		var out buffer
		spec := confidential(e, &out)
		who := "root"
		if os.Getuid() == 0 {
			spec.User, spec.Dir, who = "nobody", closedSandbox(e, "nobody"), "nobody"
			if !tmpfs {
				// Links need a way to the directory, as executors make it.
				spec.Dir = openDir(e, "nobody")
			}
		} else if u, err := e.s.LookupUser(e.ctx, fmt.Sprint(os.Getuid())); err == nil {
			who = u.Name
		}
		p := e.start(spec)
		e.eventually("ready", func() bool { return strings.Contains(out.String(), "ready") })
		for _, want := range []string{"env=canary\xff-env plain=p file=canary-file core=0 0\n", "400 " + who + "\n"} {
			if !strings.Contains(out.String(), want) {
				e.Errorf("the task said %q, want %q", out.String(), want)
			}
		}
		if tmpfs {
			line := out.String()
			options := []string{"noexec", "nosuid", "nodev", " tmpfs "}
			if knowsNoSwap(e) {
				options = append(options, "noswap")
			}
			for _, option := range options {
				if !strings.Contains(line, option) {
					e.Errorf("no %s in %s", option, line)
				}
			}
			if entries, err := os.ReadDir(e.s.mountPoint); err != nil || len(entries) > 0 {
				e.Errorf("outside of the task there is %v, %v", entries, err)
			}
		}
		// A file that a task can open is one that it can open as root, too: what
		// is looked for is a regular file with the value.
		err := filepath.WalkDir(spec.Dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("canary")) {
					e.Errorf("%s holds a secret", path)
				}
			}
			return err
		})
		if err != nil {
			e.Error(err)
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID())); err != nil || bytes.Contains(b, []byte("canary")) {
			e.Errorf("argument list %q, %v", b, err)
		}

		// A change, and the signal for it.
		if err := p.ReplaceSecretFiles([]SecretFile{{Name: "key.pem", Mode: 0o400, Content: []byte("new")}}); err != nil {
			e.Error(err)
		}
		if err := p.SignalMain(syscall.SIGHUP); err != nil {
			e.Error(err)
		}
		e.eventually("the new file", func() bool { return strings.Contains(out.String(), "again=new\n") })

		// Commands see the files, and the variables only if they are kept.
		r, err := p.Exec(e.ctx, Command{Argv: []string{"/bin/sh", "-c", `echo "$(cat $PACER_SECRETS_DIR/key.pem) env=$PASSWORD $(pwd)" >&2`}})
		if err != nil || r.Stderr != "new env= "+spec.Dir {
			e.Errorf("a command said %q, %v", r.Stderr, err)
		}
		e.kill(p)
		if _, err := os.Stat(filepath.Join(spec.Dir, linksDir)); err == nil {
			e.Error("links are left behind")
		}
		if err := p.ReplaceSecretFiles(spec.SecretFiles); err != nil {
			e.Errorf("after the end: %v", err)
		}
	})
}

// knowsNoSwap reports whether the kernel is 6.4 or later.
func knowsNoSwap(e *env) bool {
	e.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		e.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		e.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 4
}

// openDir is a user's directory that can be reached from the root.
func openDir(e *env, user string) string {
	e.Helper()
	dir, err := os.MkdirTemp("/tmp", "pacer-test-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { os.RemoveAll(dir) })
	id, err := e.s.LookupUser(e.ctx, user)
	if err != nil {
		e.Fatal(err)
	}
	if err := os.Chown(dir, int(id.UID), int(id.GID)); err != nil {
		e.Fatal(err)
	}
	return dir
}

func TestExec_HasSecretVariablesThatAreKept(t *testing.T) {
	run(t, func(e *env) {
		spec := shell("web.1", "sleep 1000")
		spec.SecretEnv = []SecretVariable{{Name: "A", Value: []byte("1")}, {Name: "B", Value: []byte("2")}}
		spec.KeepSecretEnv = true
		p := e.start(spec)
		clear(spec.SecretEnv[0].Value) // as callers do after the start
		r, err := p.Exec(e.ctx, Command{Argv: []string{"/bin/sh", "-c", `echo "$A $B" >&2`}, Env: []string{"B=3"}})
		if err != nil || r.Stderr != "1 3" {
			e.Errorf("a command said %q, %v", r.Stderr, err)
		}
		kept := p.secretEnv
		e.kill(p)
		for _, entry := range kept {
			if bytes.ContainsAny(entry, "AB12=") {
				e.Errorf("%q is left after the end", entry)
			}
		}
	})
}

// TestP5_TaskWithSecretsDumpsNoCore: also where it asks for it.
func TestP5_TaskWithSecretsDumpsNoCore(t *testing.T) {
	run(t, func(e *env) {
		spec := shell("web.1", `ulimit -c unlimited 2>/dev/null; kill -SEGV $$; sleep 1000`)
		spec.Dir = e.TempDir()
		spec.SecretEnv = []SecretVariable{{Name: "A", Value: []byte("1")}}
		p := e.start(spec)
		e.waitDone(p)
		e.kill(p)
		if x := p.Exit(); x.Signal != int(unix.SIGSEGV) || x.CoreDumped {
			e.Errorf("exit %+v, want SIGSEGV without a core", x)
		}
		if files, err := os.ReadDir(spec.Dir); err != nil || len(files) > 0 {
			e.Errorf("files %v, %v", files, err)
		}
	})
}

func TestStart_FailureWithSecretsLeavesNothing(t *testing.T) {
	kinds(t, func(e *env, _ bool) {
		before := descriptors(e)
		var out buffer
		spec := confidential(e, &out)
		spec.Argv = []string{"/nowhere/program"}
		if _, err := e.s.Start(e.ctx, spec); err == nil || strings.Contains(err.Error(), "canary") {
			e.Errorf("error %v", err)
		}
		if after := descriptors(e); after != before {
			e.Errorf("%d descriptors are open, %d were before", after, before)
		}
		if _, err := os.Stat(filepath.Join(spec.Dir, linksDir)); err == nil {
			e.Error("links are left behind")
		}
	})
}

func descriptors(e *env) int {
	e.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		e.Fatal(err)
	}
	return len(list)
}

func TestSpec_ValidatesSecrets(t *testing.T) {
	spec := shell("web.1", "true")
	spec.CoreDumps = true
	spec.SecretEnv = []SecretVariable{{Name: "A=B", Value: []byte("canary")}, {Name: "C", Value: []byte("canary\x00")}}
	spec.SecretFiles = []SecretFile{{Name: "../x", Content: []byte("canary")}, {Name: "y", Mode: 0o4400}}
	err := spec.Validate()
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Fatal(err)
	}
	for _, want := range []string{"core dumps", `"A=B"`, "variable C", `"../x"`, "file y"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func FuzzDecodeOrders(f *testing.F) {
	var b bytes.Buffer
	if err := writeOrders(&b, []byte(`{"Path":"L2E="}`), [][]byte{[]byte("A=1"), nil}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-1])
	f.Add([]byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o order
		secret, err := decodeOrders(slices.Clone(b), &o)
		if err == nil && len(b) < lengthSize*(2+len(secret)) {
			t.Errorf("%d secrets of %d bytes", len(secret), len(b))
		}
	})
}
