package state

import (
	"time"
)

// App is what is stored of an app.
type App struct {
	// Path with its leading slash, e.g. "/shop/cart".
	Path       string
	Definition Definition
	// Deployment that is under way, or nil.
	Deployment *Deployment
	// Backoff of launches as of some time ago; zero if there was none.
	Backoff Backoff
}

// Backoff delays launches of an app whose instances keep failing.
type Backoff struct {
	Delay time.Duration // in whole milliseconds
	Until time.Time
}

// Definition is one version of an app. It is immutable.
type Definition struct {
	// Version is RFC 3339 with milliseconds in UTC, so that later versions
	// compare greater as strings.
	Version string
	// Body is what package app encodes a definition to.
	Body []byte
}

// Deployment is the cursor of a change under way.
type Deployment struct {
	ID string
	// PreviousVersion is empty for a new app.
	PreviousVersion string
	TargetVersion   string
	Started         time.Time
	// Failed counts the instances of the target that ended by themselves.
	Failed int
	// Rollback is set if it goes back to the former version because another
	// one has failed. It is not rolled back itself.
	Rollback bool
}

// OldVersion is a former definition of an app.
type OldVersion struct {
	Path       string
	Definition Definition
}

// Intent is what the scheduler wants of a task.
type Intent uint8

// Intents.
const (
	IntentRun  Intent = iota
	IntentKill        // repeated until the task is known to have ended
)

// Task is the record of one task, written before the task is launched.
// Records are shared and must not be changed: put a changed copy instead.
type Task struct {
	// ID is the Mesos task ID.
	ID string
	// App is the path of the app the task belongs to.
	App string
	// Version of the app's definition that the task was made from.
	Version    string
	AgentID    string
	Hostname   string
	ExecutorID string
	// Ports in the order of the app's port definitions.
	Ports  []uint32
	Intent Intent
	// Reason of IntentKill, for people.
	Reason   string
	Launched time.Time
	// Shard is the number among the app's instances, from 0; -1 is none.
	Shard int
	// Attributes of the agent that the app's constraints mention.
	Attributes map[string]string
}

// Executor is an ExecutorInfo that was sent to Mesos.
type Executor struct {
	// Hash of Info in lower-case hex.
	Hash string
	// Info is the serialised ExecutorInfo without executor_id and
	// framework_id.
	Info []byte
}

// Tombstone says that an app was deleted.
type Tombstone struct {
	Path    string
	Deleted time.Time
	// Version is the newest that the deletion covers. A later app of the same
	// path has later versions.
	Version string
	// Deployment that removes the instances.
	Deployment string
}

// PublicKey verifies task identities.
type PublicKey struct {
	ID      string
	Ed25519 []byte // 32 bytes
	Created time.Time
}

// Snapshot is everything that a state holds.
type Snapshot struct {
	FrameworkID string
	// Identity is the private key that signs task identities (PKCS #8, DER),
	// or nil when none was stored.
	Identity   []byte
	Executors  map[string]Executor     // by hash
	Apps       map[string]*App         // by path
	Versions   map[string][]OldVersion // by path, oldest first
	Tasks      map[string]*Task        // by ID
	Tombstones map[string]Tombstone    // by path
	Keys       map[string]PublicKey    // by ID
	// Corrupt lists nodes that could not be read. They are left as they are.
	Corrupt []*RecordError
}
