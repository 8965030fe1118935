package consul

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Owner is the executor that entries belong to. The zero value owns entries
// that nobody but Consul removes once it has died.
type Owner struct {
	// Framework is the ID of the executor's framework.
	Framework string
	// Dir is where its lock is: the sandbox, whose path no other executor has.
	Dir string
	// HostDir is the same as other executors of the machine see it. Empty means
	// Dir.
	HostDir string
}

// lockName is the file that a living executor holds a lock on.
const lockName = ".pacer-executor.lock"

// lockFile is the path of the lock as entries name it.
func (o Owner) lockFile() string {
	switch {
	case o.Dir == "":
		return ""
	case o.HostDir != "":
		return filepath.Join(o.HostDir, lockName)
	}
	return filepath.Join(o.Dir, lockName)
}

// lock takes the lock of a living owner. It goes with the process, or with the
// file that is returned.
func (o Owner) lock() (*os.File, error) {
	if o.Dir == "" {
		return nil, nil
	}
	file, err := os.OpenFile(filepath.Join(o.Dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the lock that tells a living executor: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: another executor has it: %w", file.Name(), err), file.Close())
	}
	return file, nil
}

// provenDead reports whether the owner who named this lock has ended. What
// cannot be found out proves nothing. The name comes from an entry, which
// anybody may have written: nothing but a file of that name is touched.
func provenDead(lock string) bool {
	if !filepath.IsAbs(lock) || filepath.Base(lock) != lockName {
		return false
	}
	file, err := os.OpenFile(lock, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	// Shared, so that two who ask at once do not take each other for the owner.
	return unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}
