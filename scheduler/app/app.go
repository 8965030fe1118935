package app

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// App is one version of an app's definition, normalised: every default is
// filled in, ports and URIs have one form each. It is not to be changed once
// it is shared; see [App.Clone].
type App struct {
	// ID is the app's path with its leading slash, e.g. "/shop/cart".
	ID string

	// Version names this definition; zero until the scheduler has stamped it.
	// LastConfigChange is the version that last changed something other than
	// Instances; LastScaling the one that last changed Instances. Tasks carry
	// LastConfigChange: scaling replaces none of them.
	Version          Version
	LastConfigChange Version
	LastScaling      Version

	// Exactly one of Cmd, a line for the shell, and Args, a program with its
	// arguments, is set.
	Cmd  string
	Args []string

	// User that tasks run as; empty means the framework's.
	User string

	Env    map[string]string
	Labels map[string]string

	// Resources of one instance: CPUs in cores, Mem and Disk in MiB, GPUs whole.
	CPUs Milli
	Mem  Milli
	Disk Milli
	GPUs Milli

	// Instances wanted, at least 0.
	Instances int

	Ports []Port
	// RequirePorts asks for exactly the host ports that Ports name. Without
	// it, a port number is only what load balancers listen on ("service
	// port"), and instances get any ports that their agent offers.
	RequirePorts bool

	// Fetch lists what the executor fetches before it starts a task.
	Fetch []Artifact

	// HealthCheck is nil for an app that counts as healthy once it runs.
	HealthCheck *HealthCheck

	// KillGrace is the time between SIGTERM and SIGKILL; nil leaves it to the
	// executor.
	KillGrace *time.Duration

	// From here on, fields that only the scheduler reads: changing them
	// restarts nothing.

	Constraints           []Constraint
	AcceptedResourceRoles []string
	UpgradeStrategy       UpgradeStrategy
	Backoff               Backoff
	KillSelection         KillSelection
	Unreachable           UnreachableStrategy
	Deployment            DeploymentPolicy
	// Dependencies are paths of apps, or of groups of them, that are deployed
	// first where one deployment changes both.
	Dependencies []string
}

// Port is one port that every instance gets.
type Port struct {
	// Number is a host port when the app requires its ports, otherwise a
	// service port; 0 means any.
	Number   uint16
	Protocol Protocol
	// Name is unique in the app, or empty.
	Name   string
	Labels map[string]string
}

// Protocol of a port, as Marathon writes it.
type Protocol string

// Protocols of ports. The last one is a single port number for both.
const (
	TCP    Protocol = "tcp"
	UDP    Protocol = "udp"
	UDPTCP Protocol = "udp,tcp"
)

// Artifact is a file to fetch into the task's folder.
type Artifact struct {
	// URI to fetch, absolute.
	URI        string
	Executable bool
	Extract    bool
	Cache      bool
	// OutputFile is the name to save under, relative to the task's folder;
	// empty means the last part of the URI. Marathon calls it destPath.
	OutputFile string
	// SHA256 of the file as fetched, in lower-case hex; empty means unchecked.
	SHA256 string
}

// Constraint restricts where instances are placed.
type Constraint struct {
	// Field is "hostname", "@region", "@zone" or the name of an attribute.
	Field    string
	Operator Operator
	// Value is what Operator compares with; empty where it takes none.
	Value string
}

// Operator of a [Constraint].
type Operator string

// Operators of constraints, with the value that each takes. Regular
// expressions are RE2's and match the whole attribute.
const (
	Unique  Operator = "UNIQUE"   // no value
	Cluster Operator = "CLUSTER"  // a value, or none: all alike
	GroupBy Operator = "GROUP_BY" // number of groups, or none
	Like    Operator = "LIKE"     // regular expression
	Unlike  Operator = "UNLIKE"   // regular expression
	MaxPer  Operator = "MAX_PER"  // number, at least 1
	Is      Operator = "IS"       // a value
)

// UpgradeStrategy bounds the number of instances while one version replaces
// another, as fractions of Instances.
type UpgradeStrategy struct {
	// MinimumHealthCapacity from 0 to 1: at least ceil(Instances x this) stay
	// healthy.
	MinimumHealthCapacity float64
	// MaximumOverCapacity from 0 to 1: at most floor(Instances x (1 + this))
	// exist.
	MaximumOverCapacity float64
}

// Backoff is the delay before an instance of an app that keeps failing is
// launched again: Initial, then times Factor, at most Max.
type Backoff struct {
	Initial time.Duration
	Factor  float64
	Max     time.Duration
}

// KillSelection says which instances go first when there are too many.
type KillSelection string

// Kill selections.
const (
	YoungestFirst KillSelection = "YOUNGEST_FIRST"
	OldestFirst   KillSelection = "OLDEST_FIRST"
)

// UnreachableStrategy says what happens to instances on an agent that the
// master has lost.
type UnreachableStrategy struct {
	// Disabled means that they are waited for, however long it takes.
	Disabled bool
	// InactiveAfter is when a replacement is launched, ExpungeAfter, which is
	// not shorter, when the lost instance is given up.
	InactiveAfter time.Duration
	ExpungeAfter  time.Duration
}

// DeploymentPolicy is when a deployment counts as failed, and what then. The
// zero value is Marathon's behaviour: it goes on for ever.
type DeploymentPolicy struct {
	// Deadline since the start of the deployment; 0 means none.
	Deadline time.Duration
	// MaxFailures of new instances; 0 means any number.
	MaxFailures int
	// Rollback to the former version instead of stopping where it is.
	Rollback bool
}

// Defaults of a definition, Marathon's.
const (
	DefaultInstances = 1
	DefaultCPUs      = 1 * Unit
	DefaultMem       = 128 * Unit

	defaultBackoff       = time.Second
	defaultBackoffFactor = 1.15
	defaultBackoffMax    = 300 * time.Second
)

// Default is the app that a definition with nothing but an ID and a command
// describes, still without the command.
func Default(id string) *App {
	return &App{
		ID:              id,
		CPUs:            DefaultCPUs,
		Mem:             DefaultMem,
		Instances:       DefaultInstances,
		Ports:           []Port{{Protocol: TCP, Name: "default"}},
		UpgradeStrategy: UpgradeStrategy{MinimumHealthCapacity: 1, MaximumOverCapacity: 1},
		Backoff:         Backoff{Initial: defaultBackoff, Factor: defaultBackoffFactor, Max: defaultBackoffMax},
		KillSelection:   YoungestFirst,
	}
}

// Clone is a copy that shares nothing with a.
func (a *App) Clone() *App {
	c := *a
	c.Args = slices.Clone(a.Args)
	c.Env = maps.Clone(a.Env)
	c.Labels = maps.Clone(a.Labels)
	c.Ports = slices.Clone(a.Ports)
	for i := range c.Ports {
		c.Ports[i].Labels = maps.Clone(c.Ports[i].Labels)
	}
	c.Fetch = slices.Clone(a.Fetch)
	c.HealthCheck = a.HealthCheck.clone()
	c.KillGrace = clonePointer(a.KillGrace)
	c.Constraints = slices.Clone(a.Constraints)
	c.AcceptedResourceRoles = slices.Clone(a.AcceptedResourceRoles)
	c.Dependencies = slices.Clone(a.Dependencies)
	return &c
}

// TaskPrefix is what the IDs of the app's tasks begin with, up to and without
// the dot: the path without its leading slash, with "_" for "/". Clients turn
// it back into the app's ID, and IDs cannot contain "_".
func (a *App) TaskPrefix() string { return TaskPrefix(a.ID) }

// TaskPrefix is [App.TaskPrefix] for an ID.
func TaskPrefix(id string) string {
	return strings.ReplaceAll(strings.TrimPrefix(id, "/"), "/", "_")
}

// IDOfTask is the app's ID that a task's ID begins with: the inverse of
// [TaskPrefix]. It is false for a task ID that Pacer cannot have made.
func IDOfTask(taskID string) (id string, ok bool) {
	dot := strings.LastIndexByte(taskID, '.')
	if dot <= 0 {
		return "", false
	}
	id = "/" + strings.ReplaceAll(taskID[:dot], "_", "/")
	return id, CheckID(id) == nil
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
