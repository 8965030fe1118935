package scheduler

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/deploy"
	"pacer/scheduler/state"
)

// instance is one task of an app from the decision to launch it until its end
// is stored. Only the core touches it.
//
//	storing --record stored--> accepting --202--> launched
//	   |                           |  \--outcome unknown--> doubtful --status--> launched
//	   \--write failed: gone       \--refused: dropped from the store
type instance struct {
	record  *state.Task // shared with the journal: replaced, never changed
	service *service
	stage   stage
	// restored is set for what was loaded from the store, heard once a status
	// has arrived in this life of the scheduler.
	restored, heard bool
	state           mesos.TaskState

	health      deploy.Health
	healthSince time.Time
	failures    int
	cause       string
	startedAt   time.Time
	ip          string

	// unreachable since then; zero while it can be reached.
	unreachable time.Time
	// inactive means that a replacement is wanted.
	inactive bool
	// doomed by its health check; restart wanted by the executor.
	doomed, restart bool

	// killing is set from the decision to kill it, killStored once the intent
	// is stored, killSent and budgeted once the call was made.
	killing, killStored, killSent, budgeted bool
	// ended means that its end is being stored.
	ended bool

	shown *api.Task // nil when it has to be rendered again
}

// stage of a launch.
type stage uint8

const (
	launched stage = iota
	storing
	accepting
	doubtful
)

// phase of the instance as deployments see it.
func (i *instance) phase() deploy.Phase {
	switch {
	case i.inactive:
		return deploy.Inactive
	case !i.unreachable.IsZero():
		return deploy.Unreachable
	case i.restored && !i.heard:
		return deploy.Unknown
	case i.heard && (i.state == mesos.TASK_RUNNING || i.state == mesos.TASK_KILLING):
		return deploy.Running
	default:
		return deploy.Staging
	}
}

// settled means that Mesos knows the task, or that nobody can tell.
func (i *instance) settled() bool { return i.stage == launched || i.stage == doubtful }

// current tells whether it was made from the app's present configuration.
func (i *instance) current() bool { return i.record.Version == i.service.app.LastConfigChange.String() }

// forDeploy is the instance as deployments see it.
func (i *instance) forDeploy() deploy.Instance {
	return deploy.Instance{
		ID:       i.record.ID,
		Phase:    i.phase(),
		Health:   i.health,
		Current:  i.current(),
		Restart:  i.restart,
		Doomed:   i.doomed,
		Killing:  i.killing,
		Launched: i.record.Launched,
		Group:    i.group(),
	}
}

// group is the value of the field over which the app spreads its instances.
func (i *instance) group() string {
	for _, c := range i.service.app.Constraints {
		if c.Operator != app.GroupBy {
			continue
		}
		if c.Field == "hostname" {
			return i.record.Hostname
		}
		return i.record.Attributes[c.Field]
	}
	return ""
}

// hidden tells whether it is no longer shown: given up, and only remembered so
// that it is killed should it come back.
func (i *instance) hidden() bool { return i.ended || i.killing && !i.unreachable.IsZero() }

// show renders the instance for the API.
func (i *instance) show() *api.Task {
	if i.shown != nil {
		return i.shown
	}
	version, _ := app.ParseVersion(i.record.Version) // zero, if an older store has another form
	t := &api.Task{
		ID:        i.record.ID,
		AppID:     i.record.App,
		Version:   version,
		State:     i.shownState(),
		Host:      i.record.Hostname,
		AgentID:   i.record.AgentID,
		IP:        i.ip,
		Ports:     make([]int, 0, len(i.record.Ports)),
		StagedAt:  i.record.Launched,
		StartedAt: i.startedAt,
	}
	for _, port := range i.record.Ports {
		t.Ports = append(t.Ports, int(port))
	}
	if i.health != deploy.Pending {
		t.Health = &api.Health{
			Alive:               i.health == deploy.Passing,
			Since:               i.healthSince,
			ConsecutiveFailures: i.failures,
			Cause:               i.cause,
		}
	}
	i.shown = t
	return t
}

func (i *instance) shownState() string {
	switch {
	case !i.unreachable.IsZero():
		return mesos.TASK_UNREACHABLE.String()
	case i.heard && i.killing && i.state == mesos.TASK_RUNNING:
		return mesos.TASK_KILLING.String()
	case i.heard:
		return i.state.String()
	case i.restored:
		// What it was when the store was written is all that is known.
		return mesos.TASK_UNKNOWN.String()
	default:
		return mesos.TASK_STAGING.String()
	}
}
