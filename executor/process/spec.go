package process

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"
)

// Spec says what to run and how. The zero value of a field asks for nothing,
// except where the field says otherwise.
type Spec struct {
	// TaskID names the task: in logs, in errors and in its cgroup's name.
	TaskID string
	// Argv is the program and its arguments. A program without a slash is
	// looked up in the PATH of Env, one with a relative path below Dir.
	Argv []string
	// Env is the whole environment, each entry NAME=value. Nothing of this
	// process's own environment is added.
	Env []string
	// Dir is the working directory, an absolute path; this process must be able to enter it,
	// the task's user need not be able to reach it from the root.
	Dir string
	// User is the name or numeric id of a Unix user; empty means the user of
	// this process. The user's primary and supplementary groups come with it.
	User string
	// Umask of the task; nil means 0022.
	Umask *uint32
	// Rlimits are set before the program starts.
	Rlimits []Rlimit
	// Limits are enforced by the kernel where Status lists the controller.
	Limits Limits
	// Stdout and Stderr receive what the task writes, each from a goroutine of
	// its own, until Kill returns. nil discards. An *os.File is handed to the
	// task as it is. Equal writers share one pipe, so that the order is kept.
	// A Write that fails does not stop the task: later output is tried again.
	Stdout, Stderr io.Writer
	// CoreDumps allows core files. They hold secrets, so the default is none.
	CoreDumps bool
	// SecretEnv is added to Env, and wins over it. Its values reach the program and nothing else:
	// they are not kept, unless KeepSecretEnv asks for it because commands
	// ([Process.Exec]) are to have them, too; then until Kill has succeeded.
	SecretEnv     []SecretVariable
	KeepSecretEnv bool
	// SecretFiles are in memory, in a directory that SecretsVariable names. A
	// task with secrets of either kind cannot dump core.
	SecretFiles []SecretFile
}

// Rlimit is one resource limit, see setrlimit(2).
type Rlimit struct {
	// Resource is a constant of golang.org/x/sys/unix, such as RLIMIT_NOFILE.
	Resource int
	// Soft and Hard are in the resource's unit; ^uint64(0) is unlimited.
	Soft, Hard uint64
}

// Limits of one task. Zero means unlimited, or the kernel's default.
type Limits struct {
	// Memory in bytes.
	Memory uint64
	// CPU is the task's share in cpus, a weight among its siblings: what Mesos
	// allocated. 1.0 weighs as much as the executor itself.
	CPU float64
	// CPUQuota is an upper bound, in cpus.
	CPUQuota float64
	// Pids is the number of processes and threads.
	Pids uint64
}

// Exit tells how a task's main process ended and what the task used.
type Exit struct {
	// Code is the exit code, -1 when Signal is set.
	Code int
	// Signal is the number of the signal that ended the process, 0 for none.
	Signal int
	// CoreDumped reports that a core file was written.
	CoreDumped bool
	// OOM reports that the kernel, or the guard of the memory limit, killed a
	// process of the task because the task was out of memory.
	OOM bool
	// OOMKills counts processes of the task that were killed so.
	OOMKills uint64
	// PeakMemory is the largest amount of memory used, in bytes: of the whole
	// task with a memory cgroup, else of its largest process that ended. 0
	// means unknown.
	PeakMemory uint64
	// MemoryLimit is the limit that was enforced, in bytes; 0 means none.
	MemoryLimit uint64
	// Started and Ended bound the life of the main process.
	Started, Ended time.Time
}

// Usage is what a task uses now.
type Usage struct {
	// Memory and PeakMemory in bytes, page cache included; 0 means unknown.
	Memory, PeakMemory uint64
	// CPU is the processor time used so far.
	CPU time.Duration
	// Processes is the number of processes.
	Processes int
}

// Command is a program run beside a task, for a command health check.
type Command struct {
	// Argv as in [Spec].
	Argv []string
	// Env entries (NAME=value) override those of the task.
	Env []string
	// TailSize is how many bytes of the end of its stderr are kept; 0 means
	// 1024.
	TailSize int
}

// Result tells how a [Command] ended by itself.
type Result struct {
	// Code is the exit code, -1 when Signal is set.
	Code int
	// Signal is the number of the signal that ended the process, 0 for none.
	Signal int
	// Stderr is the end of what the command wrote to its stderr, cut at a line
	// where possible. It is not redacted.
	Stderr string
}

// Validate reports every mistake of s at once, without the values of Env.
func (s Spec) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.TaskID == "" || len(s.TaskID) > 255 || strings.ContainsAny(s.TaskID, "/\x00\n") || s.TaskID == "." || s.TaskID == ".." {
		fail("task id %q: must have 1 to 255 bytes and no slash, newline or NUL", s.TaskID)
	}
	errs = append(errs, validateCommand(s.Argv, s.Env)...)
	errs = append(errs, s.validateSecrets()...)
	if !filepath.IsAbs(s.Dir) || strings.ContainsRune(s.Dir, 0) {
		fail("working directory %q: must be an absolute path", s.Dir)
	}
	if s.Umask != nil && *s.Umask > 0o777 {
		fail("umask %#o: must be at most 0777", *s.Umask)
	}
	for _, r := range s.Rlimits {
		if r.Resource < 0 || r.Resource > 15 {
			fail("rlimit %d: unknown to setrlimit(2), which has 0 to 15", r.Resource)
		}
		if r.Soft > r.Hard {
			fail("rlimit %d: soft limit %d is above the hard limit %d", r.Resource, r.Soft, r.Hard)
		}
	}
	for _, c := range []struct {
		name string
		cpus float64
	}{{"cpus", s.Limits.CPU}, {"cpu quota", s.Limits.CPUQuota}} {
		if c.cpus < 0 || math.IsNaN(c.cpus) || math.IsInf(c.cpus, 0) {
			fail("%s %v: must be zero or a positive number", c.name, c.cpus)
		}
	}
	if s.Limits.Memory > math.MaxInt64 || s.Limits.Pids > math.MaxInt32 {
		fail("limits: memory %d bytes or pids %d out of range", s.Limits.Memory, s.Limits.Pids)
	}
	return errors.Join(errs...)
}

func validateCommand(argv, env []string) []error {
	var errs []error
	if len(argv) == 0 || argv[0] == "" {
		errs = append(errs, errors.New("command: no program; argv[0] must name one"))
	}
	for i, a := range argv {
		if strings.ContainsRune(a, 0) {
			errs = append(errs, fmt.Errorf("command: argument %d contains a NUL byte", i))
		}
	}
	for i, e := range env {
		name, _, ok := strings.Cut(e, "=")
		switch {
		case !ok || name == "":
			errs = append(errs, fmt.Errorf("environment: entry %d of %d is not NAME=value", i, len(env)))
		case strings.ContainsRune(e, 0):
			errs = append(errs, fmt.Errorf("environment: %s contains a NUL byte", strings.ReplaceAll(name, "\x00", "\\0")))
		}
	}
	return errs
}
