package scheduler

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os/user"
	"slices"
	"strings"

	"github.com/google/uuid"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state"
)

// result answers a write of the API.
type result struct {
	started api.Started
	err     error
}

// reply answers once readers can see what was done.
func (c *core) reply(to chan<- result, r result) {
	c.answers = append(c.answers, func() { to <- r })
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
}

// put changes or creates an app.
func (c *core) put(next *app.App, options api.PutOptions, to chan<- result) {
	v := c.services[next.ID]
	if err := c.mayPut(v, next, options); err != nil {
		c.refuse(next.ID, to, err)
		return
	}
	if v == nil {
		c.store(nil, app.Stamp(nil, next, c.stamper.Next(c.now)), api.StartApplication, to)
		return
	}
	change := app.Compare(v.app, next)
	if change.Effect() == app.NoChange {
		c.release(next.ID)
		c.stale[v] = struct{}{}
		c.answers = append(c.answers, func() {
			status := v.view.Load().status
			to <- result{started: api.Started{DeploymentID: uuid.NewString(), Version: v.app.Version, App: &status}}
		})
		return
	}
	if err := locked(v, options.Force); err != nil {
		c.refuse(next.ID, to, err)
		return
	}
	kind := api.ScaleApplication
	if change.Effect() == app.Replace {
		kind = api.RestartApplication
	}
	c.store(v, app.Stamp(v.app, next, c.stamper.Next(c.now)), kind, to)
}

func (c *core) refuse(id string, to chan<- result, err error) {
	c.release(id)
	c.reply(to, result{err: err})
}

func (c *core) mayPut(v *service, next *app.App, options api.PutOptions) error {
	switch {
	case v == nil && options.Replaces != 0:
		return api.ErrNotFound
	case v != nil && options.Replaces == 0:
		return api.ErrExists
	case v != nil && v.app.Version != options.Replaces:
		return api.ErrChanged
	}
	if v == nil {
		if other, found := app.Conflict(next.ID, c.idsFrom()); found {
			return app.Refuse("/id", fmt.Sprintf("is above or below the app %s, which exists: choose another path", other))
		}
	}
	return c.mayRunAs(next.User)
}

// idsFrom yields the IDs of apps that exist or are being created.
func (c *core) idsFrom() func(string) iter.Seq[string] {
	ids := slices.Collect(maps.Keys(c.services))
	ids = slices.AppendSeq(ids, maps.Keys(c.creating))
	slices.Sort(ids)
	return app.SortedIDs(ids)
}

// allowedUsers is the executor's setting that lists who tasks may run as.
const allowedUsers = "PACER_ALLOWED_USERS"

// mayRunAs applies the executor's rule about users early, where whoever
// submits an app sees the answer.
func (c *core) mayRunAs(name string) error {
	framework := c.config.Framework.User
	var allowed []string
	for part := range strings.SplitSeq(c.config.Executor.Environment[allowedUsers], ",") {
		if part = strings.TrimSpace(part); part != "" {
			allowed = append(allowed, part)
		}
	}
	if len(allowed) == 0 && !isRoot(framework) {
		allowed = []string{framework}
	}
	asked := name
	if name == "" {
		name = framework
	}
	if slices.Contains(allowed, name) {
		return nil
	}
	remedy := fmt.Sprintf("choose one of %q, or have the operator add it to %s by --executor-env", allowed, allowedUsers)
	if asked == "" {
		return app.Refuse("/user", fmt.Sprintf("is not given, and tasks may not run as the framework's own user %q: %s", name, remedy))
	}
	return app.Refuse("/user", fmt.Sprintf("%q is not allowed: %s", name, remedy))
}

func isRoot(name string) bool {
	if name == "root" || name == "0" {
		return true
	}
	u, err := user.Lookup(name)
	return err == nil && u.Uid == "0"
}

// locked refuses a change while a deployment runs, unless it is forced.
func locked(v *service, force bool) error {
	if v.deployment == nil || force {
		return nil
	}
	return &api.LockedError{App: v.app.ID, Deployments: []string{v.deployment.ID}}
}

// store writes a new version of an app with its deployment, and makes it the
// current one once it is stored. v is nil for a new app.
func (c *core) store(v *service, next *app.App, kind api.ActionKind, to chan<- result) {
	body, err := app.Encode(next)
	if err != nil {
		c.refuse(next.ID, to, err)
		return
	}
	deployment := &state.Deployment{ID: uuid.NewString(), TargetVersion: next.Version.String(), Started: c.now}
	var versions []state.OldVersion
	var change state.Change
	if v != nil {
		deployment.PreviousVersion = v.app.Version.String()
		var dropped []state.OldVersion
		versions, dropped, err = c.keep(v)
		if err != nil {
			c.refuse(next.ID, to, err)
			return
		}
		change.PutVersion(versions[len(versions)-1])
		for _, old := range dropped {
			change.DropVersion(old.Path, old.Definition.Version)
		}
	} else {
		c.creating[next.ID] = true
	}
	change.PutApp(state.App{
		Path: next.ID, Definition: state.Definition{Version: next.Version.String(), Body: body}, Deployment: deployment,
	})
	c.submit(&change, func(err error) {
		delete(c.creating, next.ID)
		if err != nil {
			c.refuse(next.ID, to, storeError(err))
			return
		}
		c.become(v, next, versions, deployment, kind)
		c.log.Info().Str(keyApp, next.ID).Str(keyVersion, next.Version.String()).Str(keyDeployment, deployment.ID).
			Str(keyReason, string(kind)).Msg("deployment started")
		c.release(next.ID)
		current := c.services[next.ID]
		c.answers = append(c.answers, func() {
			status := current.view.Load().status
			to <- result{started: api.Started{DeploymentID: deployment.ID, Version: next.Version, App: &status}}
		})
	})
}

func storeError(err error) error {
	if errors.Is(err, state.ErrTooLarge) {
		return app.Refuse("/", err.Error())
	}
	return unavailable(err)
}

// keep returns the versions that are kept when another one follows, the
// present one last, and those that are dropped for it.
func (c *core) keep(v *service) (kept, dropped []state.OldVersion, err error) {
	body, err := app.Encode(v.app)
	if err != nil {
		return nil, nil, err
	}
	kept = append(slices.Clone(v.versions), state.OldVersion{
		Path: v.app.ID, Definition: state.Definition{Version: v.app.Version.String(), Body: body},
	})
	if surplus := len(kept) - c.config.KeepVersions; surplus > 0 && c.config.KeepVersions > 0 {
		return kept[surplus:], kept[:surplus], nil
	}
	return kept, nil, nil
}

// become makes a stored version the current one.
func (c *core) become(v *service, next *app.App, versions []state.OldVersion, d *state.Deployment, kind api.ActionKind) {
	if v == nil {
		v = &service{}
		c.services[next.ID] = v
		c.relist = true
	}
	if v.app == nil || v.app.LastConfigChange != next.LastConfigChange {
		v.backoff.reset()
	}
	v.app, v.json, v.versions = next, next.JSON(), versions
	v.deployment, v.kind, v.finishing = d, kind, false
	c.touch(v)
}

// restart replaces all instances by new ones of the same definition.
func (c *core) restart(id string, force bool, to chan<- result) {
	v := c.services[id]
	if v == nil {
		c.refuse(id, to, api.ErrNotFound)
		return
	}
	if err := locked(v, force); err != nil {
		c.refuse(id, to, err)
		return
	}
	next := v.app.Clone()
	next.Version = c.stamper.Next(c.now)
	next.LastConfigChange = next.Version
	c.store(v, next, api.RestartApplication, to)
}

// remove deletes an app. Its tombstone is what tells, also after a restart and
// of tasks that turn up much later, that its tasks are to be killed.
func (c *core) remove(id string, force bool, to chan<- result) {
	v := c.services[id]
	if v == nil {
		c.refuse(id, to, api.ErrNotFound)
		return
	}
	if err := locked(v, force); err != nil {
		c.refuse(id, to, err)
		return
	}
	version := c.stamper.Next(c.now)
	tomb := state.Tombstone{Path: id, Deleted: c.now, Version: version.String(), Deployment: uuid.NewString()}
	var change state.Change
	change.DropApp(id)
	for _, old := range v.versions {
		change.DropVersion(id, old.Definition.Version)
	}
	change.PutTombstone(tomb)
	c.submit(&change, func(err error) {
		if err != nil {
			c.refuse(id, to, storeError(err))
			return
		}
		c.tombstones[id] = tomb
		delete(c.services, id)
		delete(c.hungry, v)
		v.deleted, v.wanted, v.kind = true, 0, api.StopApplication
		v.deployment = &state.Deployment{ID: tomb.Deployment, TargetVersion: tomb.Version, Started: tomb.Deleted}
		c.ending[v] = struct{}{}
		c.relist = true
		c.touch(v)
		c.log.Info().Str(keyApp, id).Str(keyDeployment, tomb.Deployment).Msg("app deleted")
		c.release(id)
		c.reply(to, result{started: api.Started{DeploymentID: tomb.Deployment, Version: version}})
	})
}

// finishDeployment stores that a deployment has reached its end.
func (c *core) finishDeployment(v *service) {
	v.finishing = true
	d := v.deployment
	c.exclusive(v.app.ID, func() {
		if v.deployment == nil || v.deployment.ID != d.ID || v.deleted {
			v.finishing = false
			c.touch(v)
			c.release(v.app.ID)
			return
		}
		c.storeWithoutDeployment(v, func(err error) {
			if err != nil {
				c.log.Warn().Str(keyApp, v.app.ID).AnErr(keyError, err).Msg("end of deployment not stored; trying again")
				c.after(c.config.Times.StoreRetry, func() {
					v.finishing = false
					c.touch(v)
				})
				return
			}
			c.log.Info().Str(keyApp, v.app.ID).Str(keyDeployment, d.ID).Dur("took", c.now.Sub(d.Started)).Msg("deployment finished")
		})
	})
}

// storeWithoutDeployment ends the deployment of an app where it is, and
// releases the app.
func (c *core) storeWithoutDeployment(v *service, done func(error)) {
	body, err := app.Encode(v.app)
	if err != nil {
		c.release(v.app.ID)
		done(err)
		return
	}
	var change state.Change
	change.PutApp(state.App{Path: v.app.ID, Definition: state.Definition{Version: v.app.Version.String(), Body: body}})
	c.submit(&change, func(err error) {
		if err == nil {
			v.deployment, v.finishing = nil, false
			c.touch(v)
		}
		done(err)
		c.release(v.app.ID)
	})
}

// cancel ends a deployment where it is, or goes back to the former version.
func (c *core) cancel(v *service, deploymentID string, force bool, to chan<- result) {
	id := v.app.ID
	switch {
	case v.deployment == nil || v.deployment.ID != deploymentID:
		c.refuse(id, to, api.ErrNotFound)
	case v.deleted:
		c.refuse(id, to, &api.LockedError{App: id, Deployments: []string{deploymentID}})
	case force:
		c.storeWithoutDeployment(v, func(err error) {
			if err != nil {
				err = unavailable(err)
			}
			c.reply(to, result{err: err})
		})
	case v.deployment.PreviousVersion == "":
		c.remove(id, true, to)
	default:
		at := slices.IndexFunc(v.versions, func(old state.OldVersion) bool {
			return old.Definition.Version == v.deployment.PreviousVersion
		})
		if at < 0 {
			c.refuse(id, to, fmt.Errorf("version %s of %s is no longer kept: %w", v.deployment.PreviousVersion, id, api.ErrNotFound))
			return
		}
		former, err := app.Decode(v.versions[at].Definition.Body)
		if err != nil {
			c.refuse(id, to, fmt.Errorf("former version of %s: %w", id, err))
			return
		}
		c.store(v, app.Stamp(v.app, former, c.stamper.Next(c.now)), api.RestartApplication, to)
	}
}

// countFailure notes that an instance of the version being deployed has ended
// by itself.
func (c *core) countFailure(i *instance) {
	if d := i.service.deployment; d != nil && i.current() {
		next := *d
		next.Failed++
		// Stored with the next write of the app: it is only a count.
		i.service.deployment = &next
	}
}
