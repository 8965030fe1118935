package scheduler

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/deploy"
	"pacer/scheduler/placement"
	"pacer/scheduler/state"
)

// service is an app with its instances. Only the core touches it, except for
// its view.
type service struct {
	app        *app.App
	json       []byte
	versions   []state.OldVersion // oldest first
	deployment *state.Deployment
	kind       api.ActionKind

	// deleted apps only wait for their instances to end.
	deleted bool

	instances   []*instance
	backoff     backoff
	decision    deploy.Decision
	finishing   bool // the end of the deployment is being stored
	lastFailure *api.TaskFailure
	// lastDeploymentFailure is nil once another deployment has begun.
	lastDeploymentFailure *api.DeploymentFailure
	// stalled is why its deployment cannot go on, or empty.
	stalled string
	// holding names what it depends on and waits for, or is empty.
	holding string

	// wanted instances that are not placed yet, and why.
	wanted       int
	waitingSince time.Time
	waiting      *placement.Waiting
	offers       offerCounts

	view atomic.Pointer[view]
}

// offerCounts since instances of the app have been waiting.
type offerCounts struct {
	processed, unused    int
	lastUnused, lastUsed time.Time
}

// view is what readers see of a service. It is immutable.
type view struct {
	status     api.AppStatus // without tasks
	tasks      []*api.Task
	deployment *api.Deployment
	queue      *api.QueueItem
	versions   []state.OldVersion
}

// target is what deployments work towards.
func (s *service) target() deploy.Target {
	t := deploy.Target{
		Instances: s.app.Instances,
		Upgrade:   s.app.UpgradeStrategy,
		Selection: s.app.KillSelection,
		Checked:   s.app.HealthCheck != nil,
		Replace:   s.deployment != nil,
	}
	if s.deleted {
		t.Instances = 0
	}
	return t
}

func (s *service) decide() deploy.Decision {
	instances := make([]deploy.Instance, 0, len(s.instances))
	for _, i := range s.instances {
		if !i.ended {
			instances = append(instances, i.forDeploy())
		}
	}
	return deploy.Decide(s.target(), instances)
}

func (s *service) remove(i *instance) {
	s.instances = slices.DeleteFunc(s.instances, func(have *instance) bool { return have == i })
}

// placed are the instances that constraints have to look at: all that may
// still run, the unreachable ones until they are replaced.
func (s *service) placed() []placement.Placed {
	var list []placement.Placed
	for _, i := range s.instances {
		if !i.ended && !i.inactive {
			list = append(list, placement.Placed{
				AgentID: i.record.AgentID, Hostname: i.record.Hostname, Attributes: i.record.Attributes,
			})
		}
	}
	return list
}

// shards are the numbers of an app's instances, while new ones are given out.
type shards struct {
	taken map[int]bool
	next  int // all below are taken
}

func newShards(s *service) *shards {
	numbers := &shards{taken: make(map[int]bool, len(s.instances))}
	for _, i := range s.instances {
		if !i.killing && !i.inactive && !i.ended && i.record.Shard >= 0 {
			numbers.taken[i.record.Shard] = true
		}
	}
	return numbers
}

// take returns the lowest number that no instance has.
func (n *shards) take() int {
	for n.taken[n.next] {
		n.next++
	}
	n.next++
	return n.next - 1
}

func (s *service) counts() api.Counts {
	var n api.Counts
	for _, i := range s.instances {
		if i.hidden() {
			continue
		}
		switch i.phase() {
		case deploy.Running:
			n.Running++
			switch i.health {
			case deploy.Passing:
				n.Healthy++
			case deploy.Failing:
				n.Unhealthy++
			}
		case deploy.Staging:
			n.Staged++
		case deploy.Unknown:
			// It was launched in an earlier life; most likely it runs.
			n.Running++
		}
	}
	return n
}

// render makes the view anew.
func (s *service) render(now time.Time, blocked string, revision uint64) {
	v := &view{
		status: api.AppStatus{
			App: s.app, JSON: s.json, Counts: s.counts(), LastTaskFailure: s.lastFailure,
			LastDeploymentFailure: s.lastDeploymentFailure, Revision: revision,
		},
		versions: s.versions,
	}
	for _, i := range s.instances {
		if !i.hidden() {
			v.tasks = append(v.tasks, i.show())
		}
	}
	slices.SortFunc(v.tasks, func(a, b *api.Task) int {
		return cmp.Or(a.StagedAt.Compare(b.StagedAt), cmp.Compare(a.ID, b.ID))
	})
	progress := s.decision.Progress(s.target())
	if s.holding != "" {
		progress = "waits for " + s.holding + ", which it depends on"
	}
	if d := s.deployment; d != nil {
		target, _ := app.ParseVersion(d.TargetVersion)
		v.status.Deployments = []string{d.ID}
		v.deployment = &api.Deployment{
			ID: d.ID, Version: target, Started: d.Started,
			Actions: []api.Action{{AppID: s.app.ID, Kind: s.kind, Progress: progress, Stalled: s.stalled}},
		}
	}
	if s.wanted > 0 && !s.deleted {
		v.queue = s.queueItem(now, blocked)
	}
	s.view.Store(v)
}

// queueItem says what waits and why. blocked is why nothing at all is
// launched, or empty.
func (s *service) queueItem(now time.Time, blocked string) *api.QueueItem {
	item := &api.QueueItem{
		App: s.app, JSON: s.json, Count: s.wanted, Since: s.waitingSince, NotBefore: s.backoff.until,
		Reason:          "waiting for offers",
		ProcessedOffers: s.offers.processed,
		UnusedOffers:    s.offers.unused,
		LastUnusedOffer: s.offers.lastUnused,
		LastUsedOffer:   s.offers.lastUsed,
	}
	if w := s.waiting; w != nil {
		item.Reason = w.Text
		for _, r := range w.Rejections {
			item.Rejections = append(item.Rejections, api.Rejection{Reason: string(r.Reason), Declined: r.Declined, Processed: r.Processed})
		}
		for _, u := range w.Samples {
			item.Unused = append(item.Unused, api.UnusedOffer{OfferID: u.OfferID, AgentID: u.AgentID, Hostname: u.Hostname, Reason: string(u.Reason)})
		}
		for _, f := range w.Constraints {
			item.Constraints = append(item.Constraints, api.ConstraintRejection{Constraint: f.Constraint, Declined: f.Declined})
		}
	}
	switch {
	case blocked != "":
		item.Reason = blocked
	case s.stalled != "":
		item.Reason = s.stalled
	case s.backoff.waits(now):
		item.Reason = "backoff until " + s.backoff.until.UTC().Format(time.RFC3339) + ", because instances keep failing"
	}
	return item
}
