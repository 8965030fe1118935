package executor

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Names of the settings, as environment variables of the executor.
const (
	EnvAllowedUsers  = "PACER_ALLOWED_USERS"
	EnvAdvertiseHost = "PACER_ADVERTISE_HOST"
	EnvKillGrace     = "PACER_KILL_GRACE"
	EnvMaxDrain      = "PACER_MAX_DRAIN"
	EnvOneTask       = "PACER_ONE_TASK"
	EnvTaskPids      = "PACER_TASK_PIDS"
)

// Config is what an operator can set about tasks. Start from [DefaultConfig].
type Config struct {
	// Sandbox is the executor's directory (MESOS_SANDBOX).
	Sandbox string
	// AllowedUsers are the Unix users that tasks may run as. Empty means
	// FrameworkInfo.user, unless that is root.
	AllowedUsers []string
	// AdvertiseHost is the host name or address under which tasks are
	// registered. Empty means the agent's hostname.
	AdvertiseHost string
	// KillGrace is the time between SIGTERM and SIGKILL for tasks that do not
	// say. Default 3 s, as Mesos' own executors have it.
	KillGrace time.Duration
	// MaxDrain is the longest drain delay that a label may ask for. Default
	// 5 min.
	MaxDrain time.Duration
	// OneTask makes the executor end with its only task, as schedulers expect
	// that start one executor for each task.
	OneTask bool
	// TaskPids is how many processes and threads a task may have, where a pids
	// controller is there to enforce it. Default 0: as many as the system.
	TaskPids uint64
	// Argv are the arguments of this executor: where a scheduler starts one for
	// each task, they are the command of a task that has no other.
	Argv []string
	// Environment is that of this executor, NAME=value. Only tasks of a scheduler
	// that starts one executor for each get it, without what is for the executor.
	Environment []string
	// OwnUser is the name of the user that this executor runs as. Those tasks may
	// always run as it, unless it is root: Mesos has authorised it.
	OwnUser string
	// ShutdownGrace is the time between SHUTDOWN and the end of the container
	// (MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD). Default 5 s.
	ShutdownGrace time.Duration

	// RegisterTimeout is how long a task may wait to be found for the first
	// time; it fails then. Default 2 min: a restart of the registry fits in.
	RegisterTimeout time.Duration
	// DeregisterTimeout is how long a registry that does not answer delays the
	// end of a task. Default 5 s.
	DeregisterTimeout time.Duration
	// SchedulerKillTimeout is how long the scheduler may take to kill a task at
	// the threshold of its health check. Default 5 min.
	SchedulerKillTimeout time.Duration
}

// DefaultConfig has every default; Sandbox is empty.
func DefaultConfig() Config {
	return Config{
		KillGrace:            3 * time.Second,
		MaxDrain:             5 * time.Minute,
		ShutdownGrace:        5 * time.Second,
		RegisterTimeout:      2 * time.Minute,
		DeregisterTimeout:    5 * time.Second,
		SchedulerKillTimeout: 5 * time.Minute,
	}
}

// ConfigFromEnv reads the settings named above. Sandbox and ShutdownGrace are
// among what the agent client reads. The error joins every problem.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := DefaultConfig()
	c.AdvertiseHost = getenv(EnvAdvertiseHost)
	var problems []error
	for name := range strings.SplitSeq(getenv(EnvAllowedUsers), ",") {
		if name = strings.TrimSpace(name); name != "" {
			c.AllowedUsers = append(c.AllowedUsers, name)
		}
	}
	duration := func(variable string, field *time.Duration) {
		value := getenv(variable)
		if value == "" {
			return
		}
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			problems = append(problems, fmt.Errorf("%s=%q: not a duration: write for example 30s", variable, value))
			return
		}
		*field = d
	}
	duration(EnvKillGrace, &c.KillGrace)
	duration(EnvMaxDrain, &c.MaxDrain)
	if value := getenv(EnvOneTask); value != "" {
		one, err := strconv.ParseBool(value)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s=%q: write 1 or 0", EnvOneTask, value))
		}
		c.OneTask = one
	}
	if value := getenv(EnvTaskPids); value != "" {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s=%q: not a number of processes from 0 (no limit) to %d", EnvTaskPids, value, math.MaxInt32))
		}
		c.TaskPids = n
	}
	return c, errors.Join(problems...)
}
