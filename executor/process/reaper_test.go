package process

import (
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

	"golang.org/x/sys/unix"
)

// TestReaper_StealsNoStatus: other code of this process waits for children of
// its own while tasks come, go and leave orphans.
func TestReaper_StealsNoStatus(t *testing.T) {
	run(t, func(e *env) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 30 {
					err := exec.Command("/bin/sh", "-c", fmt.Sprintf("exit %d", i)).Run()
					if i == 0 && err == nil {
						continue
					}
					exit, ok := err.(*exec.ExitError)
					if !ok || exit.ExitCode() != i {
						e.Errorf("os/exec: %v, want exit status %d", err, i)
					}
				}
			})
		}
		for i := range 20 {
			p := e.start(shell(fmt.Sprintf("orphans.%d", i), "(sleep 0.01 &); (setsid true &); exit 7"))
			if exit := e.waitDone(p); exit.Code != 7 {
				e.Errorf("exit = %+v", exit)
			}
			e.kill(p)
		}
		wg.Wait()
		e.noZombies()
	})
}

// reusePID starts a process that gets the id pid, which must be free.
func reusePID(t testing.TB, pid int) *exec.Cmd {
	t.Helper()
	for range 100 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skip("needs to choose process ids:", err)
		}
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		if cmd.Process.Pid == pid {
			return cmd
		}
	}
	t.Skipf("process id %d was not to be had", pid)
	return nil
}

// TestSignal_SparesAReusedID gives a task's process id, which is its group id
// too, to a stranger, and then does everything that would signal the task.
func TestSignal_SparesAReusedID(t *testing.T) {
	needRoot(t)
	run(t, func(e *env) {
		p := e.start(shell("reuse.1", "exit 0"))
		e.waitDone(p)
		pid := p.PID()
		before, err := readStat(pid)
		if err != nil || before.state != 'Z' {
			e.Fatalf("main process = %+v, %v; want a zombie that keeps its id", before, err)
		}
		e.kill(p)
		// As a family that saw it before would: known by id and time of start.
		f := &family{reaper: e.s.reaper, scanner: e.s.scanner, marker: "x", only: func() bool { return false }}

		stranger := reusePID(e, pid)
		for _, err := range []error{
			p.Signal(unix.SIGKILL),
			p.main.signal(unix.SIGKILL, false),
			p.main.signal(unix.SIGKILL, true),
			p.Kill(e.ctx),
			f.send(before, unix.SIGKILL),
			signalIf(pid, unix.SIGKILL, func() bool { return false }),
		} {
			if err != nil {
				e.Error(err)
			}
		}
		if !exists(stranger.Process.Pid) {
			e.Error("a stranger was killed")
		}
	}, ModeNone)
}

func TestSignalIf_RefusesOurselves(t *testing.T) {
	for _, pid := range []int{-1, 0, 1, os.Getpid()} {
		if err := signalIf(pid, unix.Signal(0), func() bool { return true }); err == nil {
			t.Errorf("signalIf(%d) is allowed", pid)
		}
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 22 33 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 987654 1 2"
	cases := []struct {
		name, line string
		want       string // the program's name
		ok         bool
	}{
		{"plain", "42 (sh)" + rest, "sh", true},
		{"spaces and parentheses", "42 (a) S (b c)" + rest, "a) S (b c", true},
		{"newline", "42 (a\nb)" + rest, "a\nb", true},
		{"empty name", "42 ()" + rest, "", true},
		{"empty", "", "", false},
		{"cut off", "42 (sh) S 1 2", "", false},
		{"no number", "x (sh)" + rest, "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := parseStat([]byte(c.line))
			if (err == nil) != c.ok {
				t.Fatalf("error = %v", err)
			}
			if c.ok && (s.pid != 42 || s.name != c.want || s.state != 'S' || s.parent != 1 || s.group != 22 || s.session != 33 || s.start != 987654 || s.cpu.Seconds() != 2) {
				t.Errorf("stat = %+v", s)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 22 33 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2"))
	f.Add([]byte(") ("))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStat(b); err != nil && s != (procStat{}) && s.start != 0 {
			t.Errorf("error %v with %+v", err, s)
		}
	})
}

func TestParseMounts(t *testing.T) {
	const info = `21 1 8:1 / / rw - ext4 /dev/root rw
25 20 0:21 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:22 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
27 25 0:23 / /sys/fs/cgroup/a\040b rw - cgroup2 cgroup2 rw,nsdelegate,memory_localevents
`
	mounts, err := parseMounts([]byte(info))
	if err != nil || len(mounts) != 2 {
		t.Fatalf("mounts = %+v, %v", mounts, err)
	}
	v1, v2 := mounts[0], mounts[1]
	if v1.v2 || !slices.Contains(v1.controllers, "cpuacct") || v1.localEvents {
		t.Errorf("v1 = %+v", v1)
	}
	if !v2.v2 || !v2.localEvents || v2.point != "/sys/fs/cgroup/a b" {
		t.Errorf("v2 = %+v", v2)
	}
	for cgroup, want := range map[string]string{
		"/docker/abc/mesos/1": "/sys/fs/cgroup/cpu,cpuacct/mesos/1",
		"/docker/abc":         "/sys/fs/cgroup/cpu,cpuacct",
		"/docker/abcd":        "",
		"/mesos":              "",
	} {
		if dir, ok := v1.dir(cgroup); dir != want || ok != (want != "") {
			t.Errorf("dir(%s) = %q, %v; want %q", cgroup, dir, ok, want)
		}
	}
	if _, err := parseMounts([]byte("26 25 0:22 / - cgroup cgroup rw\n")); err == nil {
		t.Error("a short line is accepted")
	}
}

func FuzzParseCgroupView(f *testing.F) {
	f.Add([]byte("26 25 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), []byte("4:cpu:/mesos/1\n0::/x\n"))
	f.Add([]byte("\\0 - cgroup2"), []byte(":"))
	f.Fuzz(func(t *testing.T, mountinfo, own []byte) {
		v, err := parseCgroupView(mountinfo, own)
		if err != nil {
			return
		}
		for _, m := range v.mounts {
			if dir, ok := m.dir(v.v2); ok && !strings.HasPrefix(dir, strings.TrimSuffix(m.point, "/")) && strings.HasPrefix(m.point, "/") && m.point == filepath.Clean(m.point) {
				t.Errorf("%q leads out of %q", dir, m.point)
			}
		}
	})
}
