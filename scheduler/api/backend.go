package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pacer/scheduler/app"
)

// Backend is the scheduler as the API sees it. Its methods may be called from
// many goroutines and return before ctx's deadline. What they return is shared
// and not to be changed by either side.
//
// Reads come from memory and never fail for lack of the store; they serve
// the last known state when the scheduler is not connected, see [Info.Stale].
// A yield can take as long as a slow client takes to read, so it is called
// without any lock held, over what was current when the call began.
// Writes return once the store has them, and fail with an error that wraps
// [ErrNotFound], [ErrExists], [ErrChanged] or [ErrUnavailable], or is a
// [*LockedError] or an [*app.Error]; any other error is a bug (500).
type Backend interface {
	// Apps yields all apps in ascending order of their IDs until yield
	// returns false. Tasks is filled in where embed asks.
	Apps(ctx context.Context, embed Embed, yield func(AppStatus) bool) error
	// App is one app, or ErrNotFound.
	App(ctx context.Context, id string, embed Embed) (AppStatus, error)
	// Versions are those of the app that are kept, newest first.
	Versions(ctx context.Context, id string) ([]app.Version, error)
	// AppVersion is one version of an app that is kept, or ErrNotFound. It
	// may ask the store.
	AppVersion(ctx context.Context, id string, version app.Version) (*app.App, error)

	// Change makes all edits as one deployment. Each is a part of its own that
	// waits for no other; one that changes nothing is none. If any of them is
	// refused, none is made. Versions are stamped on copies. When nothing at
	// all changes, Started is a deployment that has ended.
	Change(ctx context.Context, edits []Edit, options ChangeOptions) (Started, error)
	// Kill ends tasks, which are replaced as far as their apps want; IDs that
	// no task has are left out. With wipe, those that cannot be reached are
	// given up at once.
	Kill(ctx context.Context, taskIDs []string, wipe bool) error
	// ResetDelay ends the backoff of an app of which instances wait, or fails
	// with ErrNotFound.
	ResetDelay(ctx context.Context, id string) error

	// Tasks yields all tasks, those of an app together, until yield returns
	// false.
	Tasks(ctx context.Context, yield func(Task) bool) error

	// Deployments that have not ended, oldest first. One that has failed for
	// good has ended.
	Deployments(ctx context.Context) ([]Deployment, error)
	// CancelDeployment ends a deployment: with force where it is, and Started
	// is zero, else by deploying the former versions again. Only the parts
	// that change the given apps are ended; none given means all.
	CancelDeployment(ctx context.Context, id string, apps []string, force bool) (Started, error)

	// Queue is what waits to be launched and why, in order of app IDs.
	Queue(ctx context.Context) ([]QueueItem, error)

	// Revision differs whenever something that Apps, Tasks or Deployments
	// return has changed since.
	Revision() uint64
	// Events of what the scheduler does.
	Events() *Events

	// Info is about the scheduler itself.
	Info(ctx context.Context) (Info, error)
	// Ready is nil when writes are accepted and launches can happen, else it
	// says what is missing.
	Ready(ctx context.Context) error
}

// Sentinels that a [Backend] wraps.
var (
	// ErrNotFound: no such app, version or deployment (404).
	ErrNotFound = errors.New("does not exist")
	// ErrExists: an app of that ID exists, but should not (409).
	ErrExists = errors.New("exists already")
	// ErrChanged: the app is no longer the version that the change was made
	// from. The API reads it again and repeats.
	ErrChanged = errors.New("changed meanwhile")
	// ErrUnavailable: the store cannot be reached, or this scheduler does not
	// lead; nothing was written, or it is not known whether (503, Retry-After).
	ErrUnavailable = errors.New("unavailable")
)

// LockedError refuses a change to an app that a deployment is changing (409).
type LockedError struct {
	App string
	// Deployments that hold the app, at least one.
	Deployments []string
}

// Error is the message that clients see.
func (e *LockedError) Error() string {
	return fmt.Sprintf("App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'. App: %s, deployments: %s", e.App, strings.Join(e.Deployments, ", "))
}

// Edit is what a change does with one app. Exactly one of Next, Restart and
// Delete is set.
type Edit struct {
	// ID of the app.
	ID string
	// At is where the edit stands in a request's body, e.g. "(2)": the
	// beginning of paths in an [*app.Error].
	At string
	// Replaces is the version that the edit was made from. Zero means for
	// Next that the app must not exist yet, and otherwise any version. The
	// change fails with ErrChanged or ErrExists.
	Replaces app.Version
	// Next definition of the app.
	Next *app.App
	// Sought is set if the app was looked for and not found before it was
	// decided to create it.
	Sought bool
	// Former is set when Next is an older version of the app that is kept:
	// instances of it that still run are not replaced.
	Former bool
	// Kill are IDs of the app's tasks that are to end with this edit.
	Kill []string
	// Restart replaces all instances by new ones of the same definition.
	Restart bool
	// Delete removes the app and ends its instances.
	Delete bool
}

// ChangeOptions are about all edits of a change.
type ChangeOptions struct {
	// Force ends the running deployments of the apps, if any, instead of
	// failing with a LockedError. Changing only the number of instances while
	// such a deployment runs needs it too, and so does scaling down by more
	// than half where the operator guards that.
	Force bool
}

// Started is what a write has set going.
type Started struct {
	// DeploymentID is a UUID.
	DeploymentID string
	// Version that was stamped; after a deletion its time.
	Version app.Version
	// Apps as they are now, in the order of the edits, without deleted ones.
	Apps []AppStatus
}

// Embed asks for parts of an [AppStatus] that cost something.
type Embed struct {
	Tasks bool
}

// AppStatus is an app's definition and what is known of its instances.
type AppStatus struct {
	App *app.App
	// JSON is App.JSON(), rendered once when the app changed.
	JSON []byte
	// Counts of instances.
	Counts Counts
	// Deployments are the IDs of those that change the app now.
	Deployments []string
	// Tasks of the app if they were asked for, oldest first.
	Tasks []*Task
	// LastTaskFailure is nil if no task of the app has failed.
	LastTaskFailure *TaskFailure
	// LastDeploymentFailure is nil unless the last deployment of the app has
	// failed for good.
	LastDeploymentFailure *DeploymentFailure
	// Revision differs whenever anything of this has changed.
	Revision uint64
}

// Counts of an app's instances by what is known of them. A task that has been
// sent a kill still counts.
type Counts struct {
	Staged    int // launched, not yet running
	Running   int // running, in whatever health
	Healthy   int // running and found healthy; 0 for an app without check
	Unhealthy int
}

// Task is one instance.
type Task struct {
	ID    string
	AppID string
	// Version is the app's LastConfigChange that the task was made from.
	Version app.Version
	// State as Mesos names it, e.g. "TASK_RUNNING".
	State string
	Host  string
	// AgentID is Mesos'.
	AgentID string
	// IP of the task, empty until it runs.
	IP string
	// Ports on Host, in the order of the definition's.
	Ports []int
	// StagedAt is when it was launched, StartedAt zero until it runs.
	StagedAt  time.Time
	StartedAt time.Time
	// Health is nil where there is no health check or no result yet; after a
	// failover it is unknown until the executor has told it again.
	Health *Health
}

// Health is the result of a task's health check.
type Health struct {
	Alive bool
	// Since is when Alive last changed.
	Since time.Time
	// ConsecutiveFailures is at least 1 where not Alive.
	ConsecutiveFailures int
	// Cause of the last failure, e.g. "status 503".
	Cause string
}

// TaskFailure is the end of a task that nobody asked to end.
type TaskFailure struct {
	AppID     string
	TaskID    string
	Host      string
	AgentID   string
	State     string // as Mesos names it, e.g. "TASK_FAILED"
	Message   string
	Version   app.Version
	Timestamp time.Time
}

// DeploymentFailure is why a deployment was given up.
type DeploymentFailure struct {
	DeploymentID string
	// Version that the deployment was to lead to.
	Version app.Version
	// Message says why, and what was done about it.
	Message   string
	Timestamp time.Time
}

// Deployment is a change on its way.
type Deployment struct {
	ID string
	// Version that the change leads to.
	Version app.Version
	// Actions, one per app. Their order has no meaning: they run together.
	Actions []Action
	Started time.Time
}

// Action is what a [Deployment] does with one app.
type Action struct {
	AppID string
	Kind  ActionKind
	// Progress is one line for people, e.g. "3 of 5 instances replaced".
	Progress string
	// Stalled says why the action cannot go on and what would help; empty
	// while it can.
	Stalled string
}

// ActionKind as Marathon names it.
type ActionKind string

// Kinds of actions.
const (
	StartApplication   ActionKind = "StartApplication"
	StopApplication    ActionKind = "StopApplication"
	ScaleApplication   ActionKind = "ScaleApplication"
	RestartApplication ActionKind = "RestartApplication"
)

// QueueItem is an app of which instances wait to be launched.
type QueueItem struct {
	App *app.App
	// JSON is App.JSON().
	JSON []byte
	// Count of instances that wait.
	Count int
	// Since when they wait.
	Since time.Time
	// NotBefore is the end of the backoff; zero or past when there is none.
	NotBefore time.Time
	// Reason is one line for people: why nothing is launched now, e.g. "no
	// offer has 4 cpus: the largest of 3 has 2".
	Reason string
	// Offers looked at and not used since the app has been waiting.
	ProcessedOffers int
	UnusedOffers    int
	// LastUnusedOffer and LastUsedOffer are zero if there was none.
	LastUnusedOffer time.Time
	LastUsedOffer   time.Time
	// Rejections count, per reason in the order in which they are tested, how
	// many offers were looked at and declined.
	Rejections []Rejection
	// Unused are some of the offers that were not used last.
	Unused []UnusedOffer
	// Constraints count the offers that each of the app's constraints has
	// declined.
	Constraints []ConstraintRejection
}

// UnusedOffer is an offer and the reason for which it was not used.
type UnusedOffer struct {
	OfferID, AgentID, Hostname string
	Reason                     string
}

// ConstraintRejection is one constraint by which offers were declined.
type ConstraintRejection struct {
	Constraint app.Constraint
	Declined   int
}

// Rejection is one reason for which offers do not fit.
type Rejection struct {
	// Reason as Marathon names it, e.g. "InsufficientCpus".
	Reason    string
	Declined  int
	Processed int
}

// Reasons of rejections, Marathon's.
const (
	UnfulfilledRole                 = "UnfulfilledRole"
	UnfulfilledConstraint           = "UnfulfilledConstraint"
	NoCorrespondingReservationFound = "NoCorrespondingReservationFound"
	AgentMaintenance                = "AgentMaintenance"
	InsufficientCpus                = "InsufficientCpus"
	InsufficientMemory              = "InsufficientMemory"
	InsufficientDisk                = "InsufficientDisk"
	InsufficientGpus                = "InsufficientGpus"
	InsufficientPorts               = "InsufficientPorts"
	DeclinedScarceResources         = "DeclinedScarceResources"
)

// Info is about the scheduler itself.
type Info struct {
	// Name and FrameworkID in Mesos; the ID is empty until the first subscription.
	Name        string
	FrameworkID string
	// Version of the scheduler.
	Version string
	// Leader is host:port of the API of the leading scheduler, empty if none.
	Leader string
	// Stale is set while what is served was loaded from the store and the
	// master has not yet confirmed it.
	Stale bool
	// Master is the URL of the leading Mesos master, empty if there is none.
	Master string
	// Role, User and FailoverTimeout of the framework.
	Role            string
	User            string
	FailoverTimeout time.Duration
	Checkpoint      bool
	// Quarantine are tasks of the framework that no app here knows, and that
	// are hence left alone: the first hundred by ID of QuarantineCount.
	Quarantine      []QuarantinedTask
	QuarantineCount int
}

// QuarantinedTask is one that no app here knows.
type QuarantinedTask struct {
	ID      string
	AgentID string
	// State as Mesos names it, empty until a status has arrived.
	State string
}
