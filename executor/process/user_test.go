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
	"syscall"
	"testing"
)

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
