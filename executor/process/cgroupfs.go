package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What v1 and v2 have in common: directories of the kernel's cgroup file
// systems. Everything here is bounded; the library's own waits for a freezer,
// for one, are not.

// taskPrefix begins the name of every task's cgroup.
const taskPrefix = "task-"

// cgroupName makes a directory's name of an id that Mesos or a user chose.
func cgroupName(prefix, id string) string {
	const longest = 200 // NAME_MAX is 255.
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r == '/' || r == 0x7f {
			return '_'
		}
		return r
	}, id)
	if name != id || len(name) > longest {
		sum := sha256.Sum256([]byte(id))
		name = name[:min(len(name), longest)] + "-" + hex.EncodeToString(sum[:8])
	}
	return prefix + name
}

func writeControl(dir, file, value string) error {
	// Not os.WriteFile: a file that is missing must not be created, it is a
	// controller that is missing.
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readControl(dir, file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b)), err
}

func readNumber(dir, file string) (uint64, error) {
	s, err := readControl(dir, file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(s, 10, 64)
}

// readKey reads one line "key number" of a flat keyed file, such as
// memory.events; 0 if there is no such line.
func readKey(dir, file, key string) (uint64, error) {
	s, err := readControl(dir, file)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(s, "\n") {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			return strconv.ParseUint(v, 10, 64)
		}
	}
	return 0, nil
}

// checkControl reads a limit back. The kernel rounds memory down to pages.
func checkControl(dir, file, want string) error {
	got, err := readControl(dir, file)
	if err != nil {
		return err
	}
	if got == want {
		return nil
	}
	g, err1 := strconv.ParseUint(got, 10, 64)
	w, err2 := strconv.ParseUint(want, 10, 64)
	if err1 == nil && err2 == nil && g <= w && w-g < uint64(os.Getpagesize()) && w > uint64(os.Getpagesize()) {
		return nil
	}
	return fmt.Errorf("limit did not stick: %s holds %q after writing %q", filepath.Join(dir, file), got, want)
}

// gone reports that a cgroup was removed: ENOENT when a file is opened, ENODEV
// when it was open.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// listProcs lists the processes of a cgroup and those below it. This process is
// never among them.
func listProcs(dir string) ([]int, error) {
	var pids []int
	err := walkCgroup(dir, func(dir string) error {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // A threaded cgroup: its processes are listed above it.
		}
		if err != nil {
			return err
		}
		for f := range strings.FieldsSeq(string(b)) {
			// 0 stands for a process outside our pid namespace.
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// walkCgroup calls f for dir and every cgroup below it, children first. What
// vanishes meanwhile is passed over.
func walkCgroup(dir string, f func(dir string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil && !gone(err) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walkCgroup(filepath.Join(dir, e.Name()), f); err != nil {
				return err
			}
		}
	}
	if err := f(dir); err != nil && !gone(err) {
		return err
	}
	return nil
}

// removeTime bounds the removal of a cgroup in which nothing runs: the kernel
// answers EBUSY as long as the last process is on its way out.
const removeTime = 2 * time.Second

// removeCgroup removes dir and the cgroups below it.
func removeCgroup(dir string) error {
	end := time.Now().Add(removeTime)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := walkCgroup(dir, func(dir string) error {
			if err := unix.Rmdir(dir); err != nil {
				return &os.PathError{Op: "rmdir", Path: dir, Err: err}
			}
			return nil
		})
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
		time.Sleep(wait)
	}
}

// signalBatch bounds the pidfds that are open at a time.
const signalBatch = 64

// signalListed sends sig to the main process's group and to every other process
// of a cgroup, each once, and wakes stopped ones. list is asked again after the
// processes are pinned, so that an id that was used again meanwhile is seen.
func signalListed(main *child, list func() ([]int, error), sig unix.Signal) error {
	var errs []error
	if main != nil {
		errs = append(errs, main.signal(sig, true))
	}
	seen := make(map[int]bool)
	// Processes that are born meanwhile: their parent has had the signal, so a
	// few rounds do.
	for range 5 {
		pids, err := list()
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return seen[pid] })
		if len(pids) == 0 {
			break
		}
		for batch := range slices.Chunk(pids, signalBatch) {
			for _, pid := range batch {
				seen[pid] = true
			}
			errs = append(errs, signalBatchOf(main, batch, list, sig))
		}
	}
	return errors.Join(errs...)
}

func signalBatchOf(main *child, pids []int, list func() ([]int, error), sig unix.Signal) error {
	if !pidfdAvailable() {
		return signalWithoutPidfd(main, pids, list, sig)
	}
	fds := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	var errs []error
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			fds[pid] = fd
		} else if ignoreGone(err) != nil {
			errs = append(errs, fmt.Errorf("pidfd_open %d: %w", pid, err))
		}
	}
	still, err := list()
	if err != nil {
		return err
	}
	for _, pid := range still {
		fd, ok := fds[pid]
		if !ok {
			continue
		}
		s, err := readStat(pid)
		if err != nil {
			continue
		}
		if main == nil || s.group != main.pid {
			errs = append(errs, ignoreGone(unix.PidfdSendSignal(fd, sig, nil, 0)))
		}
		if s.stopped() && sig != unix.SIGKILL {
			errs = append(errs, ignoreGone(unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)))
		}
	}
	return errors.Join(errs...)
}

func signalWithoutPidfd(main *child, pids []int, list func() ([]int, error), sig unix.Signal) error {
	var errs []error
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil {
			continue
		}
		same := func() bool {
			still, err := list()
			now, serr := readStat(pid)
			return err == nil && serr == nil && slices.Contains(still, pid) && now.start == s.start
		}
		if main == nil || s.group != main.pid {
			errs = append(errs, signalIf(pid, sig, same))
		}
		if s.stopped() && sig != unix.SIGKILL {
			errs = append(errs, signalIf(pid, unix.SIGCONT, same))
		}
	}
	return errors.Join(errs...)
}

// frozenTime bounds the wait for a cgroup to freeze: a process in
// uninterruptible sleep does not.
const frozenTime = 200 * time.Millisecond

// killFrozen kills the processes of a cgroup while none of them can run, fork
// or be reaped. frozen reports whether that holds yet.
func killFrozen(ctx context.Context, dir string, freeze, thaw func() error, frozen func() (bool, error)) (_ []int, err error) {
	pids, err := listProcs(dir)
	if err != nil || len(pids) == 0 {
		return pids, err
	}
	if err := freeze(); err != nil {
		if gone(err) {
			return nil, nil
		}
		return pids, err
	}
	defer func() {
		if terr := thaw(); terr != nil && !gone(terr) {
			err = errors.Join(err, fmt.Errorf("thaw: %w", terr))
		}
	}()
	still, end := false, time.Now().Add(frozenTime)
	for wait := 100 * time.Microsecond; ctx.Err() == nil && time.Now().Before(end); wait = min(2*wait, 5*time.Millisecond) {
		if still, err = frozen(); err != nil || still {
			break
		}
		time.Sleep(wait)
	}
	if err != nil {
		return pids, err
	}
	list := func() ([]int, error) { return listProcs(dir) }
	if pids, err = list(); err != nil {
		return nil, err
	}
	if !still {
		return pids, signalListed(nil, list, unix.SIGKILL)
	}
	var errs []error
	for _, pid := range pids {
		errs = append(errs, ignoreGone(unix.Kill(pid, unix.SIGKILL)))
	}
	return pids, errors.Join(errs...)
}
