package scheduler

import (
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
)

// publishRollout tells readers of events about a deployment as a whole.
func (c *core) publishRollout(r *rollout, kind string) {
	services := make([]*service, 0, len(r.parts))
	for v := range r.parts {
		services = append(services, v)
	}
	slices.SortFunc(services, byID)
	c.publishDeployment(r, kind, append(services, r.left...))
}

// publishStep tells that v has left a deployment.
func (c *core) publishStep(r *rollout, v *service, reached bool) {
	kind := api.EventDeploymentStepSuccess
	if !reached {
		kind = api.EventDeploymentStepFailure
	}
	c.publishDeployment(r, kind, []*service{v})
}

func (c *core) publishDeployment(r *rollout, kind string, services []*service) {
	version, _ := app.ParseVersion(r.version)
	d := api.Deployment{ID: r.id, Version: version, Started: r.started}
	for _, v := range services {
		d.Actions = append(d.Actions, api.Action{AppID: v.app.ID, Kind: v.kind, Stalled: v.stalled})
	}
	c.s.events.Deployment(kind, &d)
}

// publishEnd tells how a task has ended.
func (c *core) publishEnd(i *instance, status mesos.TaskStatus) {
	last := *i.show()
	last.State = status.State.String()
	c.s.events.StatusUpdate(&last, status.GetMessage())
}
