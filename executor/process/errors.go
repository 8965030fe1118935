package process

import (
	"errors"
	"fmt"
	"strings"
)

// ErrKilled is returned by [Process.Exec] when the task is being killed.
var ErrKilled = errors.New("the task is being killed")

var errClosed = errors.New("the supervisor is closed")

// SurvivorsError reports processes that SIGKILL has not ended, in D state
// (uninterruptible sleep) as a rule.
type SurvivorsError struct {
	TaskID    string
	Survivors []Survivor
	// Cause is why the kill gave up, such as context.DeadlineExceeded.
	Cause error
}

// Survivor is a process that still exists.
type Survivor struct {
	PID int
	// Name is the kernel's name of the program, at most 15 bytes.
	Name string
	// State is the letter of /proc/<pid>/stat, "D" for uninterruptible sleep.
	State string
}

func (s Survivor) String() string {
	return fmt.Sprintf("%q (pid %d, state %s)", s.Name, s.PID, s.State)
}

// maxNamed is how many survivors a message names.
const maxNamed = 5

func (e *SurvivorsError) Error() string {
	var names []string
	for i, s := range e.Survivors {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("%d more", len(e.Survivors)-maxNamed))
			break
		}
		names = append(names, s.String())
	}
	return fmt.Sprintf("kill task %s: %d processes left after SIGKILL: %s: %v", e.TaskID, len(e.Survivors), strings.Join(names, ", "), e.Cause)
}

func (e *SurvivorsError) Unwrap() error { return e.Cause }

// survivors describes processes that may end meanwhile.
func survivors(pids []int) []Survivor {
	var list []Survivor
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil {
			list = append(list, Survivor{PID: pid, Name: s.name, State: string(s.state)})
		}
	}
	return list
}
