package logs

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Policy bounds the size of one stream's files.
type Policy struct {
	// MaxSize of one file in bytes. A file ends at the end of a line, so it is
	// smaller, or larger (at most twice) when a single line does not fit.
	MaxSize int64
	// MaxFiles is how many rotated files are kept beside the current one.
	MaxFiles int
}

// DefaultPolicy keeps at most about 60 MiB per stream.
func DefaultPolicy() Policy { return Policy{MaxSize: 10 << 20, MaxFiles: 5} }

// Names of the settings for [PolicyFromEnv].
const (
	EnvSize  = "PACER_LOG_MIB"
	EnvFiles = "PACER_LOG_FILES"
)

// PolicyFromEnv reads EnvSize, the size of one file in MiB, and EnvFiles, how
// many rotated ones are kept. The error joins every problem.
func PolicyFromEnv(getenv func(string) string) (Policy, error) {
	p := DefaultPolicy()
	var problems []error
	if value := getenv(EnvSize); value != "" {
		mib, err := strconv.ParseUint(value, 10, 20)
		if err != nil || mib == 0 {
			problems = append(problems, fmt.Errorf("%s=%q: not a number of MiB from 1 to %d", EnvSize, value, 1<<20-1))
		}
		p.MaxSize = int64(mib) << 20
	}
	if value := getenv(EnvFiles); value != "" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > maxFiles {
			problems = append(problems, fmt.Errorf("%s=%q: not a number of files from 0 to %d", EnvFiles, value, maxFiles))
		}
		p.MaxFiles = n
	}
	return p, errors.Join(problems...)
}

// maxFiles is far more than anyone wants to rename at each rotation.
const maxFiles = 1000

// minSize keeps rotation from costing more than writing.
const minSize = 4 << 10

// Validate reports every problem of p at once.
func (p Policy) Validate() error {
	var errs []error
	if p.MaxSize < minSize {
		errs = append(errs, fmt.Errorf("log file size %d bytes: must be at least %d", p.MaxSize, minSize))
	}
	if p.MaxFiles < 0 || p.MaxFiles > maxFiles {
		errs = append(errs, fmt.Errorf("number of rotated log files %d: must be between 0 and %d", p.MaxFiles, maxFiles))
	}
	return errors.Join(errs...)
}

// Names of the files, which are part of what operators rely on.
const (
	StdoutName = "stdout"
	StderrName = "stderr"
)

// Logs are the output files of one task.
type Logs struct {
	Stdout, Stderr *File

	dir *os.File
}

// Open opens dir/stdout and dir/stderr for appending. dir is created with mode
// 0755 when it is missing; its parent must exist. dir itself may not be a
// symbolic link; what leads to it is trusted.
func Open(dir string, policy Policy) (_ *Logs, err error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open log directory: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	l := &Logs{dir: os.NewFile(uintptr(fd), dir)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.Stdout, err = openFile(l.dir, StdoutName, policy); err != nil {
		return nil, err
	}
	if l.Stderr, err = openFile(l.dir, StderrName, policy); err != nil {
		return nil, err
	}
	return l, nil
}

// Close closes both files. Nothing is buffered, so nothing is lost without it.
func (l *Logs) Close() error {
	var errs []error
	for _, f := range []*File{l.Stdout, l.Stderr} {
		if f != nil {
			errs = append(errs, f.close())
		}
	}
	if l.dir != nil {
		errs = append(errs, l.dir.Close())
		l.dir = nil
	}
	return errors.Join(errs...)
}
