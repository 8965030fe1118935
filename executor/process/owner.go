package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Below a parent that executors share, each has a cgroup of its own, and holds
// a lock on its directory as long as it lives. Whoever gets the lock of another
// one has proved its owner dead and may clean up.

// ownerPrefix begins the names of what one framework's executors make. Other
// frameworks' are not touched.
func ownerPrefix(frameworkID string) string {
	return cgroupName("pacer.", strings.ReplaceAll(frameworkID, ".", "_")) + "."
}

func ownerName(cfg Config) string {
	id := cfg.ContainerID
	if id == "" {
		id = "pid-" + strconv.Itoa(os.Getpid())
	}
	return cgroupName(ownerPrefix(cfg.FrameworkID), id)
}

// own makes the cgroup dir and locks it. If it exists and is locked, an
// executor of the same container is alive.
func own(dir string) (*os.File, error) {
	for range 10 {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		lock, err := tryLock(dir)
		if err != nil {
			if gone(err) {
				continue // A sweeper took it for a leftover before we had the lock.
			}
			return nil, err
		}
		if lock == nil {
			return nil, fmt.Errorf("cgroup %s is in use by another executor", dir)
		}
		return lock, nil
	}
	return nil, fmt.Errorf("cgroup %s is removed again and again", dir)
}

// tryLock returns nil without an error if somebody else holds the lock.
func tryLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// Removed between open and lock?
	var locked, now unix.Stat_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &locked), unix.Stat(dir, &now)); err != nil || locked.Ino != now.Ino {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: fs.ErrNotExist}
	}
	return f, nil
}

// sweepTime bounds the removal of leftovers, so that processes that cannot be
// killed do not keep an executor from starting.
const sweepTime = 5 * time.Second

// sweep kills and removes what dead executors left: below parent the cgroups
// whose name begins with prefix and whose lock is free. keep is ours. tree makes
// a tree of a cgroup's name, to kill it by.
func sweep(ctx context.Context, parent, prefix, keep string, locked bool, tree func(name string) tree) (removed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || e.Name() == keep {
			continue
		}
		if locked {
			lock, err := tryLock(filepath.Join(parent, e.Name()))
			if err != nil || lock == nil {
				if err != nil && !gone(err) {
					errs = append(errs, err)
				}
				continue
			}
			defer lock.Close()
		}
		t := tree(e.Name())
		if left, err := killTree(ctx, t); err != nil {
			errs = append(errs, &SurvivorsError{TaskID: e.Name(), Survivors: survivors(left), Cause: err})
			continue
		}
		if err := t.remove(); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, e.Name())
	}
	return removed, errors.Join(errs...)
}
