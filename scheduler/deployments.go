package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state"
)

// rollout is a deployment: the apps that a change of the API concerns, until
// each of them has come to its end. They do not wait for each other.
type rollout struct {
	id      string
	version string
	started time.Time
	parts   map[*service]struct{}
	// left are those that have come to their end.
	left []*service
	// beginning is set until all parts are stored.
	beginning bool
	// failed are the apps that did not reach their targets.
	failed map[string]bool
}

// rollout of that deployment.
func (c *core) rollout(d *state.Deployment) *rollout {
	r := c.rollouts[d.ID]
	if r == nil {
		r = &rollout{id: d.ID, version: d.TargetVersion, started: d.Started, parts: make(map[*service]struct{}), failed: make(map[string]bool)}
		c.rollouts[d.ID] = r
	}
	return r
}

// setDeployment makes d the deployment that changes v, in place of another.
func (c *core) setDeployment(v *service, d *state.Deployment) {
	if v.deployment != nil {
		c.leaveRollout(v, false)
	}
	v.deployment = d
	c.rollout(d).parts[v] = struct{}{}
	if deadline := v.app.Deployment.Deadline; deadline > 0 {
		c.at(d.Started.Add(deadline), func() { c.touch(v) })
	}
}

// begun: everything of a deployment is stored that will be.
func (c *core) begun(id string) {
	r := c.rollouts[id]
	r.beginning = false
	if len(r.parts)+len(r.left) == 0 {
		delete(c.rollouts, id) // nothing was stored
		return
	}
	c.publishRollout(r, api.EventDeploymentInfo)
	c.endRollout(r)
}

// leaveRollout takes v out of its deployment, which ends with its last app.
func (c *core) leaveRollout(v *service, reached bool) {
	r := c.rollouts[v.deployment.ID]
	v.deployment, v.finishing = nil, false
	delete(r.parts, v)
	r.left = append(r.left, v)
	if !reached {
		r.failed[v.app.ID] = true
	}
	c.wakeDependents(r, v.app.ID)
	c.publishStep(r, v, reached)
	c.endRollout(r)
}

func (c *core) endRollout(r *rollout) {
	if len(r.parts) > 0 || r.beginning {
		return
	}
	delete(c.rollouts, r.id)
	kind := api.EventDeploymentSuccess
	if len(r.failed) > 0 {
		kind = api.EventDeploymentFailed
	}
	c.publishRollout(r, kind)
}

// finishDeployment stores that a deployment of an app has reached its end.
func (c *core) finishDeployment(v *service) {
	c.whenStill(v, func(d *state.Deployment) {
		c.storeWithoutDeployment([]*service{v}, true, func(err error) {
			if err != nil {
				c.log.Warn().Str(keyApp, v.app.ID).AnErr(keyError, err).Msg("end of deployment not stored; trying again")
				c.retryDeployment(v)
				return
			}
			c.log.Info().Str(keyApp, v.app.ID).Str(keyDeployment, d.ID).Dur("took", c.now.Sub(d.Started)).Msg("deployment finished")
		})
	})
}

// whenStill does something about the deployment of v in its turn, if it is
// still the same then. What it does ends with releasing the app.
func (c *core) whenStill(v *service, do func(*state.Deployment)) {
	v.finishing = true
	d, id := v.deployment, v.app.ID
	c.exclusive(id, func() {
		if v.deployment == nil || v.deployment.ID != d.ID || v.deleted {
			v.finishing = false
			c.touch(v)
			c.release(id)
			return
		}
		do(v.deployment)
	})
}

// retryDeployment looks at a deployment again whose end could not be stored.
func (c *core) retryDeployment(v *service) {
	c.after(c.config.Times.StoreRetry, func() {
		v.finishing = false
		c.touch(v)
	})
}

// storeWithoutDeployment ends the deployments of apps where they are, and
// releases the apps.
func (c *core) storeWithoutDeployment(services []*service, reached bool, done func(error)) {
	var change state.Change
	var failed error
	for _, v := range services {
		a, err := v.record(nil)
		if err != nil {
			failed = err
			continue
		}
		change.PutApp(a)
	}
	finish := func(err error) {
		for _, v := range services {
			if err == nil && v.deployment != nil {
				c.leaveRollout(v, reached)
				c.touch(v)
			}
		}
		done(err)
		for _, v := range services {
			c.release(v.app.ID)
		}
	}
	if failed != nil {
		finish(failed)
		return
	}
	c.submit(&change, finish)
}

// record is what is stored of v with a deployment.
func (s *service) record(d *state.Deployment) (state.App, error) {
	body, err := app.Encode(s.app)
	return state.App{
		Path: s.app.ID, Definition: state.Definition{Version: s.app.Version.String(), Body: body}, Deployment: d,
		Backoff: s.backoff.stored(),
	}, err
}

// cancel ends the parts of a deployment that change services, whose apps are
// held by exclusive: where they are, or by going back.
func (c *core) cancel(services []*service, id string, force bool, to chan<- result) {
	var chosen []*service
	var deleted bool
	for _, v := range services {
		switch {
		case v.deployment == nil || v.deployment.ID != id:
			c.release(v.app.ID)
		case v.deleted:
			deleted = true
			c.release(v.app.ID)
		default:
			chosen = append(chosen, v)
		}
	}
	switch {
	case len(chosen) == 0 && deleted:
		c.reply(to, result{err: &api.LockedError{App: services[0].app.ID, Deployments: []string{id}}})
	case len(chosen) == 0:
		c.reply(to, result{err: fmt.Errorf("deployment %s: %w", id, api.ErrNotFound)})
	case force:
		c.storeWithoutDeployment(chosen, false, func(err error) {
			c.reply(to, result{err: storeError(err, 0, len(chosen))})
		})
	default:
		c.rollBack(chosen, to)
	}
}

// rollBack deploys the former versions of services as one deployment; those
// that had none are deleted.
func (c *core) rollBack(services []*service, to chan<- result) {
	version := c.stamper.Next(c.now)
	edits := make([]api.Edit, 0, len(services))
	for _, v := range services {
		edits = append(edits, api.Edit{ID: v.app.ID})
	}
	release := func(err error) {
		for _, v := range services {
			c.release(v.app.ID)
		}
		if err != nil {
			c.reply(to, result{err: err})
		}
	}
	id := uuid.NewString()
	var parts []*part
	for _, v := range services {
		former, err := v.former()
		if err == nil && former != nil {
			former = app.Restore(v.app, former, version)
		}
		var p *part
		if err == nil {
			p, err = c.newPart(v, v.app.ID, former, version)
		}
		if err != nil {
			release(err)
			return
		}
		p.deployment.ID = id
		parts = append(parts, p)
	}
	c.store(parts, func(err error) {
		release(err)
		if err == nil {
			c.answers = append(c.answers, func() { to <- result{started: c.started(id, version, edits, parts)} })
		}
	})
}

// former is the definition that a deployment has left; nil if there was none.
func (s *service) former() (*app.App, error) {
	previous := s.deployment.PreviousVersion
	if previous == "" {
		return nil, nil
	}
	at := slices.IndexFunc(s.versions, func(old state.OldVersion) bool { return old.Definition.Version == previous })
	if at < 0 {
		return nil, fmt.Errorf("version %s of %s is no longer kept: %w", previous, s.app.ID, api.ErrNotFound)
	}
	former, err := app.Decode(s.versions[at].Definition.Body)
	if err != nil {
		return nil, fmt.Errorf("former version of %s: %w", s.app.ID, err)
	}
	return former, nil
}

// deploymentFailure says why the deployment of v has failed by the app's own policy, or
// is empty.
func (c *core) deploymentFailure(v *service) string {
	policy, d := v.app.Deployment, v.deployment
	switch {
	case !c.connection.reconciled:
		return "" // too little is known
	case policy.MaxFailures > 0 && d.Failed >= policy.MaxFailures:
		return fmt.Sprintf("%d new instances have failed, maxFailures is %d", d.Failed, policy.MaxFailures)
	case policy.Deadline > 0 && !c.now.Before(d.Started.Add(policy.Deadline)):
		return fmt.Sprintf("it has not ended within deadlineSeconds, %g", policy.Deadline.Seconds())
	}
	return ""
}

// failDeployment gives a deployment up: it stops where it is, or goes back,
// once, when the app wants that.
func (c *core) failDeployment(v *service, reason string) {
	c.whenStill(v, func(d *state.Deployment) {
		back := v.app.Deployment.Rollback && d.PreviousVersion != "" && !d.Rollback
		outcome := "; it was stopped where it was"
		if back {
			outcome = "; going back to version " + d.PreviousVersion
		}
		version, _ := app.ParseVersion(d.TargetVersion)
		failure := &api.DeploymentFailure{DeploymentID: d.ID, Version: version, Message: reason + outcome, Timestamp: c.now}
		done := func(err error) {
			if err != nil {
				c.log.Warn().Str(keyApp, v.app.ID).AnErr(keyError, err).Msg("failure of deployment not stored; trying again")
				c.retryDeployment(v)
				return
			}
			v.lastDeploymentFailure = failure
			c.touch(v)
			c.log.Warn().Str(keyApp, v.app.ID).Str(keyDeployment, d.ID).Str(keyReason, failure.Message).Msg("deployment failed")
		}
		if !back {
			c.storeWithoutDeployment([]*service{v}, false, done)
			return
		}
		former, err := v.former()
		var p *part
		if err == nil {
			version := c.stamper.Next(c.now)
			p, err = c.newPart(v, v.app.ID, app.Restore(v.app, former, version), version)
		}
		if err != nil {
			// What there was is lost; then stopping is all that is left.
			failure.Message = reason + "; it was stopped where it was: " + err.Error()
			c.storeWithoutDeployment([]*service{v}, false, done)
			return
		}
		p.deployment.ID, p.deployment.Rollback = uuid.NewString(), true
		c.store([]*part{p}, func(err error) {
			done(err)
			c.release(v.app.ID)
		})
	})
}

// countFailure notes that an instance of the version being deployed has ended
// by itself. The count is stored where it decides something.
func (c *core) countFailure(i *instance) {
	v := i.service
	if v.deployment == nil || v.deleted || !i.current() {
		return
	}
	next := *v.deployment
	next.Failed++
	v.deployment = &next
	if v.app.Deployment.MaxFailures == 0 {
		return
	}
	id := v.app.ID
	c.exclusive(id, func() {
		d := v.deployment
		if d == nil || d.ID != next.ID || v.deleted {
			c.release(id)
			return
		}
		a, err := v.record(d)
		if err != nil {
			c.release(id)
			return
		}
		var change state.Change
		change.PutApp(a)
		c.submit(&change, func(err error) {
			if err != nil && !errors.Is(err, state.ErrClosed) {
				c.log.Warn().Str(keyApp, id).AnErr(keyError, err).Msg("failed instance not counted in the store")
			}
			c.release(id)
		})
	})
}

// stall says why a deployment cannot go on although nothing has failed, and
// what would help; empty while it can.
func (c *core) stall(v *service) string {
	d, w := v.decision, v.waiting
	if v.deployment == nil || v.deleted || d.Launch == 0 || d.Old == 0 || d.Starting > 0 || d.Dying > 0 || len(d.Kill) > 0 ||
		w == nil || w.Offers == 0 || c.now.Sub(v.waitingSince) < stallAfter {
		return ""
	}
	why := w.Text
	if worst := w.Crowded(); worst != "" {
		why = worst + " allows no further instance on any agent that offers resources"
	}
	return fmt.Sprintf("%s, and minimumHealthCapacity %g allows none of the former instances to end first: lower minimumHealthCapacity, or add an agent",
		why, v.app.UpgradeStrategy.MinimumHealthCapacity)
}

// noteStall keeps and tells what stall says.
func (c *core) noteStall(v *service) {
	stalled := c.stall(v)
	if stalled == v.stalled {
		return
	}
	v.stalled = stalled
	if stalled == "" {
		return
	}
	c.log.Warn().Str(keyApp, v.app.ID).Str(keyDeployment, v.deployment.ID).Str(keyReason, stalled).Msg("deployment stalls")
	c.publishRollout(c.rollouts[v.deployment.ID], api.EventDeploymentInfo)
}

// stallAfter is for how long instances have to wait before a deployment is
// called stalled: until then not every agent may have made an offer.
const stallAfter = 10 * time.Second
