package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Own is the stderr of this process as a log that does not fill the disk. The
// Mesos agent, which opened it, and the Go runtime, which writes there when it
// crashes, keep the file that they have, so it is copied and truncated. It is
// safe for concurrent use; everything has to be written through it, because
// what is written between the copy and the truncation would be lost.
type Own struct {
	policy Policy
	reason error // why it is not rotated

	mu   sync.Mutex
	file *os.File
	dir  *os.File
	size int64
}

// NewOwn makes a log of stderr, which is rotated if it is the file of that name
// in dir. It is not where the agent has a container logger of its own.
func NewOwn(stderr *os.File, dir string, policy Policy) *Own {
	o := &Own{file: stderr, policy: policy}
	o.reason = o.prepare(dir)
	return o
}

// Reason is why the log is not rotated, nil if it is.
func (o *Own) Reason() error { return o.reason }

func (o *Own) prepare(dir string) error {
	if err := o.policy.Validate(); err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the directory of the log: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	o.dir = os.NewFile(uintptr(fd), dir)
	var open, named unix.Stat_t
	if err := errors.Join(unix.Fstat(int(o.file.Fd()), &open), unix.Fstatat(fd, StderrName, &named, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return errors.Join(fmt.Errorf("find the log: %w", err), o.dir.Close())
	}
	if open.Mode&unix.S_IFMT != unix.S_IFREG || open.Dev != named.Dev || open.Ino != named.Ino {
		return errors.Join(fmt.Errorf("stderr is not %s/%s", dir, StderrName), o.dir.Close())
	}
	// Without it the next write after a truncation would leave a hole.
	flags, err := unix.FcntlInt(o.file.Fd(), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_APPEND == 0 {
		_, err = unix.FcntlInt(o.file.Fd(), unix.F_SETFL, flags|unix.O_APPEND)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("append to the log: %w", err), o.dir.Close())
	}
	o.size = open.Size
	return nil
}

// Write writes p, which should be whole lines.
func (o *Own) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reason == nil && o.size > 0 && o.size+int64(len(p)) > o.policy.MaxSize {
		if err := o.rotate(); err != nil && o.size >= 2*o.policy.MaxSize {
			// The bound matters more than what is in the file.
			o.truncate(fmt.Sprintf("{\"level\":\"error\",\"error\":%q,\"bytes\":%d,\"message\":\"log lost\"}\n", err, o.size))
		}
	}
	n, err := o.file.Write(p)
	o.size += int64(n)
	return n, err
}

// rotate copies the log to stderr.1, after the older ones have made room.
func (o *Own) rotate() error {
	fd := int(o.dir.Fd())
	name := func(i int) string { return StderrName + "." + strconv.Itoa(i) }
	if o.policy.MaxFiles > 0 {
		for i := o.policy.MaxFiles; i > 1; i-- {
			if err := unix.Renameat(fd, name(i-1), fd, name(i)); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("rename %s: %w", name(i-1), err)
			}
		}
		if err := o.copyTo(name(1)); err != nil {
			return err
		}
	}
	return o.truncate("")
}

func (o *Own) copyTo(name string) (err error) {
	open := func(name string, flags int) (*os.File, error) {
		fd, err := unix.Openat(int(o.dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open log %s: %w", name, err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	from, err := open(StderrName, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// truncate empties the log and begins it with a first line.
func (o *Own) truncate(first string) error {
	if err := o.file.Truncate(0); err != nil {
		return fmt.Errorf("truncate log: %w", err)
	}
	n, err := o.file.WriteString(first)
	o.size = int64(n)
	return err
}
