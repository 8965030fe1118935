package master

import (
	"errors"
	"fmt"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"
)

// Config holds the flags of a master. The zero value of a field means Mesos'
// default unless the field says otherwise.
type Config struct {
	// Listen is the address of the HTTP server, default 127.0.0.1:0.
	Listen string
	// ID is the master's id, the prefix of all ids it gives; default a new UUID.
	ID string
	// Version is the Mesos version to report, default 1.12.0.
	Version string
	// Domain is the master's fault domain. Agents of another region are offered
	// only to frameworks with REGION_AWARE.
	Domain *mesos.DomainInfo
	// Registry is what outlives the master. Nil is Mesos' --registry=in_memory: a
	// new master has never heard of any agent.
	Registry *Registry

	// HeartbeatInterval is the time between HEARTBEAT events, default 15 s.
	HeartbeatInterval time.Duration
	// AllocationInterval is the time between allocation cycles, default 1 s. No
	// filter is shorter.
	AllocationInterval time.Duration
	// OfferTimeout rescinds offers after that long; 0 never.
	OfferTimeout time.Duration
	// AgentPingTimeout and MaxAgentPingTimeouts decide when an agent is
	// unreachable, default 15 s and 5.
	AgentPingTimeout     time.Duration
	MaxAgentPingTimeouts int
	// AgentReregisterTimeout is how long agents have to come back after a master
	// failover or a broken connection, default 10 min.
	AgentReregisterTimeout time.Duration
	// InitializationTime is how long a new process answers 404 to everything before
	// its routes exist, default 0; Mesos takes some 20 ms.
	InitializationTime time.Duration
	// Standby starts a master that waits for Lead, instead of one that leads.
	Standby bool
	// RecoveryTime is how long a new leader answers 503, default 0. Agents are not
	// listened to meanwhile.
	RecoveryTime time.Duration

	// MaxCompletedFrameworks, MaxCompletedTasks and MaxUnreachableTasks bound what
	// is remembered, the latter two per framework. Default 50, 1000, 1000.
	MaxCompletedFrameworks int
	MaxCompletedTasks      int
	MaxUnreachableTasks    int

	// Credentials switches on authentication of schedulers (HTTP basic): password
	// by principal. Nil: off.
	Credentials map[string]string

	// Trace is called for every call, event and message, in the order in which the
	// master handles them, with a lock held: it must be quick and not call back.
	Trace func(Entry)
	// Log is where the master says what it does; the zero Logger writes nowhere.
	Log zerolog.Logger
}

// Entry is one thing that the master received or sent.
type Entry struct {
	Time time.Time
	// From and To name the parties: "master", a framework id or an agent id.
	From, To string
	// Message is a scheduler.Call, *scheduler.Event or link.Message.
	Message any
}

func (c Config) withDefaults() Config {
	text := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	duration := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	number := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	text(&c.Listen, "127.0.0.1:0")
	text(&c.Version, "1.12.0")
	duration(&c.HeartbeatInterval, 15*time.Second)
	duration(&c.AllocationInterval, time.Second)
	duration(&c.AgentPingTimeout, 15*time.Second)
	duration(&c.AgentReregisterTimeout, 10*time.Minute)
	number(&c.MaxAgentPingTimeouts, 5)
	number(&c.MaxCompletedFrameworks, 50)
	number(&c.MaxCompletedTasks, 1000)
	number(&c.MaxUnreachableTasks, 1000)
	return c
}

// Validate reports every field that has no meaning.
func (c Config) Validate() error {
	var problems []error
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"HeartbeatInterval", c.HeartbeatInterval},
		{"AllocationInterval", c.AllocationInterval},
		{"OfferTimeout", c.OfferTimeout},
		{"AgentPingTimeout", c.AgentPingTimeout},
		{"AgentReregisterTimeout", c.AgentReregisterTimeout},
		{"InitializationTime", c.InitializationTime},
		{"RecoveryTime", c.RecoveryTime},
	} {
		if d.v < 0 {
			problems = append(problems, fmt.Errorf("%s is %v: must not be negative", d.name, d.v))
		}
	}
	for _, n := range []struct {
		name string
		v    int
	}{
		{"MaxAgentPingTimeouts", c.MaxAgentPingTimeouts},
		{"MaxCompletedFrameworks", c.MaxCompletedFrameworks},
		{"MaxCompletedTasks", c.MaxCompletedTasks},
		{"MaxUnreachableTasks", c.MaxUnreachableTasks},
	} {
		if n.v < 0 {
			problems = append(problems, fmt.Errorf("%s is %d: must not be negative", n.name, n.v))
		}
	}
	return errors.Join(problems...)
}
