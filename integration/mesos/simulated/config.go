package simulated

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"pacer/integration/mesos/resource"
)

// Config says what a Fleet consists of.
type Config struct {
	// Agents is how many there are; at least 1.
	Agents int
	// Resources of each agent in the form of Mesos' flag. Default
	// "cpus:32;mem:131072;disk:1048576;ports:[31000-32000]".
	Resources string
	// Attributes of each agent in the form of Mesos' flag; nil gives none.
	Attributes func(i int) string
	// Life is what tasks and executors do. The zero value starts them at once and
	// lets them run until they are killed.
	Life Life
	// Seed makes chances repeatable per agent.
	Seed uint64
	// Log gets a line per agent that registers; the zero Logger writes nowhere.
	Log zerolog.Logger
}

// Span is a time that is drawn evenly from Min to Max. Max below Min counts as Min;
// the zero value means at once, or never where it says so.
type Span struct{ Min, Max time.Duration }

// Always is a Span without variation.
func Always(d time.Duration) Span { return Span{d, d} }

func (s Span) draw(r *rand.Rand) time.Duration {
	if s.Max <= s.Min {
		return s.Min
	}
	return s.Min + time.Duration(r.Int64N(int64(s.Max-s.Min)+1))
}

func (s Span) given() bool { return s.Min > 0 || s.Max > 0 }

// Life is what simulated tasks and executors do.
type Life struct {
	// Executor is the time from the launch of a new executor to its subscription.
	Executor Span
	// Starting makes executors report TASK_STARTING when they get a task.
	Starting bool
	// Staging is the time from a task's arrival at its executor to RUNNING.
	Staging Span
	// FailureRate is the share of tasks, from 0 to 1, that end as TASK_FAILED instead
	// of RUNNING.
	FailureRate float64
	// Run is the time from RUNNING to FINISHED. Zero: until killed.
	Run Span
	// Health is the time from RUNNING to RUNNING with healthy=true, for tasks with a
	// health check.
	Health Span
	// Flap is the time between changes of health after that. Zero: none.
	Flap Span
	// Killing makes executors report TASK_KILLING to frameworks that know it.
	Killing bool
	// Kill is the time from KILL to KILLED.
	Kill Span
	// ExecutorExit is the time from an executor's subscription to its crash. Zero:
	// never.
	ExecutorExit Span
}

// Validate reports every field that has no meaning.
func (c Config) Validate() error {
	var problems []error
	if c.Agents < 1 || c.Agents > maxAgents {
		problems = append(problems, fmt.Errorf("field Agents is %d: give 1 to %d", c.Agents, maxAgents))
	}
	if _, err := resource.Parse(c.Resources); err != nil {
		problems = append(problems, fmt.Errorf("field Resources: %w", err))
	}
	if r := c.Life.FailureRate; !(r >= 0 && r <= 1) {
		problems = append(problems, fmt.Errorf("field Life.FailureRate is %v: give 0 to 1", r))
	}
	for _, s := range []struct {
		name string
		span Span
	}{
		{"Executor", c.Life.Executor}, {"Staging", c.Life.Staging}, {"Run", c.Life.Run}, {"Health", c.Life.Health},
		{"Flap", c.Life.Flap}, {"Kill", c.Life.Kill}, {"ExecutorExit", c.Life.ExecutorExit},
	} {
		if s.span.Min < 0 || s.span.Max < 0 {
			problems = append(problems, fmt.Errorf("field Life.%s is %v to %v: must not be negative", s.name, s.span.Min, s.span.Max))
		}
	}
	return errors.Join(problems...)
}
