package status

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"pacer/executor"
	"pacer/executor/process"
)

// Report is everything that an executor tells of itself.
type Report struct {
	Versions Versions `json:"versions"`
	// Started is when this process began.
	Started     time.Time `json:"started"`
	PID         int       `json:"pid"`
	FrameworkID string    `json:"framework_id"`
	ExecutorID  string    `json:"executor_id"`
	AgentID     string    `json:"agent_id"`
	// Unacknowledged statuses wait for the agent.
	Unacknowledged int            `json:"unacknowledged_statuses"`
	Cgroups        process.Status `json:"cgroups"`
	executor.Snapshot
}

// Versions of what an executor consists of.
type Versions struct {
	Executor string `json:"executor"`
	Go       string `json:"go"`
	// Payload is the newest format of TaskInfo.data that is understood.
	Payload int `json:"payload"`
}

// Print writes r as text: a few lines on the executor, then a table of tasks.
// Ages are relative to now.
func (r Report) Print(w io.Writer, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, plain(fmt.Sprintf(format, args...)))
	}
	line("executor", "%s, version %s (%s, payload %d), pid %d, up %s", r.ExecutorID, r.Versions.Executor, r.Versions.Go, r.Versions.Payload, r.PID, age(now, r.Started))
	line("framework", "%s", r.FrameworkID)
	line("agent", "%s, %s for %s", r.AgentID, because(r.Connection.State, r.Connection.Reason), age(now, r.Connection.Since))
	line("statuses", "%d not acknowledged", r.Unacknowledged)
	line("cgroups", "%s", because(string(r.Cgroups.Mode), r.Cgroups.Reason))
	for _, caveat := range r.Cgroups.Caveats {
		line("", "%s", caveat)
	}
	if r.Ending != "" {
		line("ending", "%s", r.Ending)
	}
	line("tasks", "%d, %d received so far", len(r.Tasks), r.Received)
	if err := t.Flush(); err != nil || len(r.Tasks) == 0 {
		return err
	}
	fmt.Fprint(t, "\nTASK\tSTATE\tFOR\tHEALTHY\tREGISTERED\tPID\tUSER\tWAITS\n")
	for _, task := range r.Tasks {
		healthy := "-"
		if task.Healthy != nil {
			healthy = map[bool]string{true: "yes", false: "no"}[*task.Healthy]
		}
		pid := "-"
		if task.PID != 0 {
			pid = strconv.Itoa(task.PID)
		}
		waits := "-"
		if task.WaitsFor != "" {
			waits = age(now, task.Waits) + " for " + task.WaitsFor
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(task.ID), task.State, age(now, task.Since), healthy,
			cmp.Or(task.Registered, "-"), pid, plain(task.User), plain(waits))
	}
	return t.Flush()
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// age is rounded to what matters at its size.
func age(now, since time.Time) string {
	d := now.Sub(since)
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// plain keeps what tasks can influence from steering a terminal, or a table.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
