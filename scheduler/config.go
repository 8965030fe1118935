package scheduler

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"pacer/scheduler/app"
	"pacer/scheduler/identity"
	"pacer/scheduler/placement"
)

// Config of a scheduler. [DefaultConfig] fills in what has a default.
type Config struct {
	Framework Framework
	Executor  Executor
	// Strategy of placement; the default is placement.Spread.
	Strategy placement.Strategy
	// KillBudget is how many tasks may be dying at once, 100 by default. More
	// makes large scale-downs faster and mistakes larger.
	KillBudget int
	// GuardScaleDown refuses to scale an app down by more than half unless that
	// is forced.
	GuardScaleDown bool
	// KeepVersions of an app besides the current one, 10 by default.
	KeepVersions int
	// Times are the scheduler's own intervals.
	Times Times
	// Version of the scheduler, for people.
	Version string
	// Leader is the host:port at which the API can be reached.
	Leader string
	// ResetFramework gives up the stored framework id and all task records at
	// the start, for a framework that Mesos has removed.
	ResetFramework bool
}

// Framework is how the scheduler presents itself to Mesos.
type Framework struct {
	// Name, "pacer" by default. Two schedulers on one cluster need two names.
	Name string
	// Role that offers are asked for, "*" by default.
	Role string
	// User that executors run as, and tasks that name none.
	User string
	// Principal to authenticate as, or empty.
	Principal string
	// FailoverTimeout is how long tasks survive without a scheduler, a week
	// by default. After that Mesos kills them all and the id is dead.
	FailoverTimeout time.Duration
	// WebUI is linked in Mesos' own pages, or empty.
	WebUI string
}

// Executor says how agents get and start the executor.
type Executor struct {
	// URI of the binary, the same for every scheduler of this state.
	URI string
	// SHA256 of the binary in lower-case hex, checked by the agent before the
	// binary is started.
	SHA256 string
	// Environment of the executor, its settings; tasks do not see it.
	Environment map[string]string
	// Scope is which tasks share an executor; the default is ScopeAgent.
	Scope Scope
	// CPUs, 0.1 by default, and Mem, 64 MiB by default, of each executor.
	CPUs, Mem app.Milli
	// ShutdownGrace is how long an executor that is shut down may take to end
	// its tasks, 60 s by default.
	ShutdownGrace time.Duration
}

// Scope is which tasks share an executor.
type Scope string

// Scopes.
const (
	ScopeAgent Scope = "agent" // all tasks on an agent
	ScopeApp   Scope = "app"   // those of one app on an agent
	ScopeTask  Scope = "task"  // none
)

// Scopes are all of them.
var Scopes = []Scope{ScopeAgent, ScopeApp, ScopeTask}

// Times are intervals and delays.
type Times struct {
	// KillRepeat is after how long a kill that did not end its task is sent
	// again, 30 s by default.
	KillRepeat time.Duration
	// Reconcile is how often all tasks are asked about, 10 min by default.
	Reconcile time.Duration
	// ReconcileDoubtful is how often tasks are asked about of which too little
	// is known, 15 s by default.
	ReconcileDoubtful time.Duration
	// LaunchTimeout is after how long a launched task that nobody has heard of
	// counts among those, 60 s by default.
	LaunchTimeout time.Duration
	// UnknownGrace is how long a task that the master does not know may still
	// turn up: agents have 10 min to come back to a new master.
	UnknownGrace time.Duration
	// RefuseIdle is for how long offers are refused when nothing is wanted, 1 h
	// by default, RefuseUnfit when they do not fit, 5 s by default.
	RefuseIdle, RefuseUnfit time.Duration
	// AvoidAgent is how long an agent is left alone after it has dropped a
	// launch, 10 s by default.
	AvoidAgent time.Duration
	// TombstoneAge is after how long a deleted app is forgotten, three weeks by
	// default: Mesos remembers lost agents for two.
	TombstoneAge time.Duration
	// EndDelay is how long the end of a task may wait to be stored together
	// with the launch of the next one, 1.5 s by default: a little more than
	// Mesos takes to offer what has become free. The status is acknowledged
	// after that; Mesos repeats it only after 10 s.
	EndDelay time.Duration
	// StoreRetry is after how long a failed write is tried again, 1 s by
	// default.
	StoreRetry time.Duration
	// TokenExpiry of task identities; the default is identity.DefaultExpiry.
	TokenExpiry time.Duration
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Framework:    Framework{Name: "pacer", Role: "*", FailoverTimeout: 7 * 24 * time.Hour},
		Executor:     Executor{Scope: ScopeAgent, CPUs: 100, Mem: 64 * app.Unit, ShutdownGrace: time.Minute},
		Strategy:     placement.Spread,
		KillBudget:   100,
		KeepVersions: 10,
		Times: Times{
			KillRepeat:        30 * time.Second,
			Reconcile:         10 * time.Minute,
			ReconcileDoubtful: 15 * time.Second,
			LaunchTimeout:     time.Minute,
			UnknownGrace:      10 * time.Minute,
			RefuseIdle:        time.Hour,
			RefuseUnfit:       5 * time.Second,
			AvoidAgent:        10 * time.Second,
			TombstoneAge:      21 * 24 * time.Hour,
			EndDelay:          1500 * time.Millisecond,
			StoreRetry:        time.Second,
			TokenExpiry:       identity.DefaultExpiry,
		},
	}
}

// launchDeadline is the longest that an executor tries to launch a task.
const launchDeadline = 15 * time.Minute

// Validate reports every problem at once.
func (c *Config) Validate() error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Framework.Name == "" {
		refuse("framework name is empty: name this scheduler, e.g. pacer")
	}
	if err := checkRole(c.Framework.Role); err != nil {
		refuse("role %q %w, e.g. pacer or teams/web", c.Framework.Role, err)
	}
	if c.Framework.User == "" {
		refuse("user is empty: name the Unix user that executors run as")
	}
	if c.Framework.FailoverTimeout < time.Minute {
		refuse("failover timeout %s is below 1m: Mesos kills all tasks when it has passed without a scheduler", c.Framework.FailoverTimeout)
	}
	e := c.Executor
	if uri, err := url.Parse(e.URI); err != nil || uri.Scheme == "" || uri.Path == "" {
		refuse("executor URI is %q, expected an absolute one, e.g. http://scheduler.example.com:8081/executor/<sha256>/pacer-executor", e.URI)
	}
	if sum, err := hex.DecodeString(e.SHA256); err != nil || len(sum) != 32 || strings.ToLower(e.SHA256) != e.SHA256 {
		refuse("executor SHA-256 is %q, expected 64 lower-case hex digits", e.SHA256)
	}
	if !slices.Contains(Scopes, e.Scope) {
		refuse("executor scope is %q, expected one of %v", e.Scope, Scopes)
	}
	if e.CPUs < 10 || e.Mem < 32*app.Unit {
		refuse("executor has %s cpus and %s MiB, expected at least 0.01 and 32, which Mesos asks for", e.CPUs, e.Mem)
	}
	if e.ShutdownGrace < 0 {
		refuse("executor shutdown grace is %s, expected 0 or more", e.ShutdownGrace)
	}
	if c.KillBudget < 1 {
		refuse("kill budget is %d, expected at least 1", c.KillBudget)
	}
	if c.Times.TokenExpiry <= launchDeadline {
		refuse("token expiry is %s, expected more than the %s that a launch may take", c.Times.TokenExpiry, launchDeadline)
	}
	return errors.Join(problems...)
}

// checkRole applies Mesos' rules for roles.
func checkRole(role string) error {
	if role == "" {
		return errors.New("is empty, expected a role")
	}
	if role == "*" {
		return nil
	}
	for part := range strings.SplitSeq(role, "/") {
		switch {
		case part == "" || part == "." || part == ".." || part == "*":
			return errors.New("has an empty part or one that Mesos reserves, expected a role")
		case strings.HasPrefix(part, "-") || strings.ContainsAny(part, " \t\n\r\v\f\b"):
			return errors.New("has a part that begins with a hyphen or holds white space, expected a role")
		}
	}
	return nil
}
