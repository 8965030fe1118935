package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// errNotOurs means that something else than a plain file of our own has the
// name of a log.
var errNotOurs = errors.New("not a regular file with one name")

// File is one rotating file. It is safe for concurrent use.
type File struct {
	dir    *os.File
	name   string
	policy Policy

	dropped atomic.Int64

	mu      sync.Mutex
	file    *os.File
	size    int64
	midLine bool // the last byte written does not end a line
}

func openFile(dir *os.File, name string, policy Policy) (*File, error) {
	f := &File{dir: dir, name: name, policy: policy}
	file, err := f.openCurrent(0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, errNotOurs) || errors.Is(err, unix.ENXIO) {
		// A link, a pipe or a second name that somebody put there: out of the
		// way with it, and whatever it led to stays untouched.
		if err := unix.Unlinkat(f.fd(), name, 0); err != nil {
			return nil, fmt.Errorf("replace log %s, which is no plain file: %w", name, err)
		}
		file, err = f.openCurrent(unix.O_EXCL)
	}
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", name, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", name, err), file.Close())
	}
	f.file, f.size = file, info.Size()
	if f.size > 0 {
		var last [1]byte
		if _, err := file.ReadAt(last[:], f.size-1); err == nil {
			f.midLine = last[0] != '\n'
		}
	}
	return f, nil
}

func (f *File) fd() int { return int(f.dir.Fd()) }

// openCurrent opens the current file below the directory's handle. O_NONBLOCK
// keeps a named pipe from blocking the open; on a regular file it means
// nothing.
func (f *File) openCurrent(flags int) (*os.File, error) {
	const always = unix.O_RDWR | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat(f.fd(), f.name, always|flags, 0o644)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || int(st.Uid) != os.Geteuid() {
		unix.Close(fd)
		return nil, errNotOurs
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.dir.Name()+"/"+f.name), nil
}

// Write appends p. When the disk refuses, it reports the error, counts what was
// lost, and the next call tries again.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0, os.ErrClosed
	}
	var written int
	for len(p) > 0 {
		n, rotate := cut(p, f.size, f.midLine, f.policy.MaxSize)
		m, err := f.append(p[:n])
		written += m
		if err != nil {
			f.dropped.Add(int64(len(p) - m))
			return written, fmt.Errorf("write log %s: %w", f.name, err)
		}
		p = p[n:]
		if rotate {
			if err := f.rotate(); err != nil {
				return written, f.goOn(p, err)
			}
		}
	}
	return written, nil
}

func (f *File) append(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	if n > 0 {
		f.midLine = p[n-1] != '\n'
	}
	return n, err
}

// goOn writes p to the old file after a rotation that failed: too large is
// better than lost. A task that owns the directory can make every rotation fail
// (a directory named stdout.1), so what exceeds the bound is dropped.
func (f *File) goOn(p []byte, cause error) error {
	cause = fmt.Errorf("rotate log %s: %w", f.name, cause)
	if f.size >= 2*f.policy.MaxSize {
		if err := f.file.Truncate(0); err != nil {
			f.dropped.Add(int64(len(p)))
			return errors.Join(cause, err)
		}
		f.dropped.Add(f.size)
		f.size, f.midLine = 0, false
	}
	m, err := f.append(p)
	f.dropped.Add(int64(len(p) - m))
	return errors.Join(cause, err)
}

// cut decides how much of p belongs into a file of the given size, and whether
// the file is full then. It is the whole of the rule that lines stay whole: a
// file ends at the last end of line within limit; a line that is longer than
// what is left begins in the next file, unless its beginning is already
// written; then it ends in this file, and is divided only where the file would
// become twice the limit.
func cut(p []byte, size int64, midLine bool, limit int64) (n int, rotate bool) {
	if size+int64(len(p)) <= limit {
		return len(p), false
	}
	fits := int(max(0, limit-size))
	if i := bytes.LastIndexByte(p[:min(fits, len(p))], '\n'); i >= 0 {
		return i + 1, true
	}
	if size > 0 && !midLine {
		return 0, true
	}
	// The line has begun in this file, or begins an empty one.
	most := min(int(max(0, 2*limit-size)), len(p))
	if i := bytes.IndexByte(p[:most], '\n'); i >= 0 {
		return i + 1, true
	}
	return most, size+int64(most) >= 2*limit
}

// rotate renames stdout.N-1 to stdout.N, ..., stdout to stdout.1 and starts a
// new file.
func (f *File) rotate() error {
	old := f.file
	if f.policy.MaxFiles == 0 {
		if err := unix.Unlinkat(f.fd(), f.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for i := f.policy.MaxFiles; i >= 1; i-- {
		from := f.rotated(i - 1)
		if err := unix.Renameat(f.fd(), from, f.fd(), f.rotated(i)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("rename %s: %w", from, err)
		}
	}
	file, err := f.openCurrent(unix.O_EXCL)
	if err != nil {
		return err
	}
	f.file, f.size, f.midLine = file, 0, false
	return old.Close()
}

// rotated is the name of the i-th newest file, 0 being the current one.
func (f *File) rotated(i int) string {
	if i == 0 {
		return f.name
	}
	return f.name + "." + strconv.Itoa(i)
}

// Dropped is how many bytes could not be written.
func (f *File) Dropped() int64 { return f.dropped.Load() }

// Tail returns the last lines, at most maxLines and maxBytes, from the current
// file and the newest rotated one. It is not redacted.
func (f *File) Tail(maxLines, maxBytes int) string {
	if maxLines <= 0 || maxBytes <= 0 {
		return ""
	}
	// Two bytes more: the newline at the end, which is not shown, and the byte
	// that tells whether the first line is whole.
	return lastLines(f.End(maxBytes+2), maxLines, maxBytes)
}

// End returns the last bytes, at most so many, from the current file and the
// newest rotated one.
func (f *File) End(bytes int) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil || bytes <= 0 {
		return nil
	}
	b := readEnd(f.file, int64(bytes))
	if len(b) < bytes {
		if older, err := f.openRotated(); err == nil {
			b = append(readEnd(older, int64(bytes-len(b))), b...)
			older.Close()
		}
	}
	return b
}

func (f *File) openRotated() (*os.File, error) {
	fd, err := unix.Openat(f.fd(), f.rotated(1), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.rotated(1)), nil
}

// readEnd reads at most n bytes from the end of a file; what cannot be read is
// left out, because a tail is a help and no result.
func readEnd(file *os.File, n int64) []byte {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	start := max(0, info.Size()-n)
	b := make([]byte, info.Size()-start)
	m, _ := file.ReadAt(b, start)
	return b[:m]
}

// lastLines cuts b to maxLines and maxBytes, and to whole lines where there are
// any.
func lastLines(b []byte, maxLines, maxBytes int) string {
	b = bytes.TrimSuffix(b, []byte("\n"))
	whole := true
	if len(b) > maxBytes {
		first := b[:len(b)-maxBytes]
		b = b[len(b)-maxBytes:]
		whole = bytes.HasSuffix(first, []byte("\n"))
	}
	end := len(b)
	for range maxLines {
		i := bytes.LastIndexByte(b[:end], '\n')
		if i < 0 {
			if whole || end == len(b) {
				return string(b)
			}
			return string(b[end+1:])
		}
		end = i
	}
	return string(b[end+1:])
}

func (f *File) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
