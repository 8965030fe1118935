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

// part is what a change does with one app.
type part struct {
	id         string
	service    *service // nil for a new app
	next       *app.App // nil when the app is deleted
	body       []byte   // of next, as stored
	kind       api.ActionKind
	kept       []state.OldVersion // former versions, when this is done
	dropped    []state.OldVersion
	deployment *state.Deployment
	kill       []*instance
}

// change makes edits, whose apps are held by exclusive, and releases them.
func (c *core) change(edits []api.Edit, options api.ChangeOptions, to chan<- result) {
	var (
		parts   []*part
		invalid app.Error
		locked  api.LockedError
		id      = uuid.NewString()
		version = c.stamper.Next(c.now)
	)
	release := func() {
		for _, e := range edits {
			c.release(e.ID)
		}
	}
	refuse := func(err error) {
		release()
		c.reply(to, result{err: err})
	}
	for _, e := range edits {
		p, err := c.plan(e, version, options, edits)
		var refused *app.Error
		var held *api.LockedError
		switch {
		case errors.As(err, &refused):
			for _, problem := range refused.Problems {
				problem.Path = strings.TrimSuffix(e.At+problem.Path, "/")
				invalid.Problems = append(invalid.Problems, problem)
			}
		case errors.As(err, &held):
			locked.App = held.App
			locked.Deployments = append(locked.Deployments, held.Deployments...)
		case err != nil:
			refuse(err)
			return
		case p != nil:
			p.deployment.ID = id
			parts = append(parts, p)
		}
	}
	invalid.Problems = append(invalid.Problems, c.circles(edits)...)
	switch {
	case len(invalid.Problems) > 0:
		refuse(&invalid)
		return
	case len(locked.Deployments) > 0:
		slices.Sort(locked.Deployments)
		locked.Deployments = slices.Compact(locked.Deployments)
		refuse(&locked)
		return
	}
	c.store(parts, func(err error) {
		release()
		if err != nil {
			c.reply(to, result{err: err})
			return
		}
		c.answers = append(c.answers, func() { to <- result{started: c.started(id, version, edits, parts)} })
	})
}

// started is the answer to a change that is stored and can be seen.
func (c *core) started(id string, version app.Version, edits []api.Edit, parts []*part) api.Started {
	started := api.Started{DeploymentID: id, Version: version}
	for _, e := range edits {
		if v := c.services[e.ID]; v != nil && !e.Delete {
			started.Apps = append(started.Apps, v.view.Load().status)
			if len(parts) == 0 && len(edits) == 1 {
				started.Version = v.app.Version // nothing has changed
			}
		}
	}
	return started
}

// plan says what an edit does, or why it cannot be; nil if it changes nothing.
func (c *core) plan(e api.Edit, version app.Version, options api.ChangeOptions, all []api.Edit) (*part, error) {
	v := c.services[e.ID]
	if what, bad := c.unreadable[nodeName(e.ID)]; bad && v == nil {
		return nil, app.Refuse("/id", fmt.Sprintf("is %s, of which %s cannot be read, so that its tasks are left alone: restore a backup, or delete that node while no scheduler runs", e.ID, what))
	}
	switch {
	case v == nil && (e.Next == nil || e.Replaces != 0):
		return nil, fmt.Errorf("app %s: %w", e.ID, api.ErrNotFound)
	case v != nil && e.Next != nil && e.Replaces == 0:
		return nil, fmt.Errorf("app %s: %w", e.ID, api.ErrExists)
	case v != nil && e.Replaces != 0 && v.app.Version != e.Replaces:
		return nil, fmt.Errorf("app %s: %w", e.ID, api.ErrChanged)
	}
	var next *app.App
	switch {
	case e.Delete:
	case e.Restart:
		next = v.app.Clone()
		next.Version, next.LastConfigChange = version, version
	default:
		if v == nil {
			if other, found := app.Conflict(e.ID, c.idsFrom(all)); found {
				return nil, app.Refuse("/id", fmt.Sprintf("is above or below the app %s, which exists: choose another path", other))
			}
		}
		if err := c.mayRunAs(e.Next.User); err != nil {
			return nil, err
		}
		if err := c.mayDrain(e.Next); err != nil {
			return nil, err
		}
		switch {
		case v == nil:
			next = app.Stamp(nil, e.Next, version)
		case app.Compare(v.app, e.Next).Effect() == app.NoChange && len(e.Kill) == 0:
			return nil, nil
		case e.Former:
			next = app.Restore(v.app, e.Next, version)
		default:
			next = app.Stamp(v.app, e.Next, version)
		}
	}
	if err := c.mayChange(v, next, options); err != nil {
		return nil, err
	}
	p, err := c.newPart(v, e.ID, next, version)
	if err != nil {
		return nil, err
	}
	for _, id := range e.Kill {
		if i := c.instances[id]; i != nil && i.service == v && !i.killing && !i.ended {
			p.kill = append(p.kill, i)
		}
	}
	return p, nil
}

// mayChange refuses what needs force.
func (c *core) mayChange(v *service, next *app.App, options api.ChangeOptions) error {
	switch {
	case v == nil || options.Force:
	case v.deployment != nil:
		return &api.LockedError{App: v.app.ID, Deployments: []string{v.deployment.ID}}
	case c.config.GuardScaleDown && next != nil && 2*next.Instances < v.app.Instances:
		return app.Refuse("/instances", fmt.Sprintf("is %d, less than half of the %d that there are: repeat it with force=true if that is meant, since this scheduler runs with --guard-scale-down", next.Instances, v.app.Instances))
	}
	return nil
}

// newPart is the change of an app to next, or its deletion if that is nil.
func (c *core) newPart(v *service, id string, next *app.App, version app.Version) (*part, error) {
	p := &part{
		id: id, service: v, next: next, kind: api.StopApplication,
		deployment: &state.Deployment{TargetVersion: version.String(), Started: c.now},
	}
	if v != nil {
		p.deployment.PreviousVersion = v.app.Version.String()
	}
	if next == nil {
		return p, nil
	}
	p.kind = actionKind(v, next)
	var err error
	if p.body, err = app.Encode(next); err != nil {
		return nil, err
	}
	if v != nil {
		p.kept, p.dropped, err = c.keep(v)
	}
	return p, err
}

func actionKind(v *service, next *app.App) api.ActionKind {
	switch {
	case v == nil:
		return api.StartApplication
	case v.app.LastConfigChange != next.LastConfigChange:
		return api.RestartApplication
	default:
		return api.ScaleApplication
	}
}

// idsFrom yields the IDs of apps that exist, are being created, or would be by
// edits.
func (c *core) idsFrom(edits []api.Edit) func(string) iter.Seq[string] {
	ids := slices.Collect(maps.Keys(c.services))
	ids = slices.AppendSeq(ids, maps.Keys(c.creating))
	for _, e := range edits {
		if e.Next != nil {
			ids = append(ids, e.ID)
		}
	}
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

// killedAndScaled is why tasks end that are killed with scale=true.
const killedAndScaled = "killed through the API, and not replaced"

// maxParts bytes of parts are written in one go. Most changes are smaller, and
// hence stored as a whole or not at all.
const maxParts = state.MaxBatch / 2

// store writes parts and makes each the present state of its app once it is
// stored. done is called when all have been.
func (c *core) store(parts []*part, done func(error)) {
	for _, p := range parts {
		if p.service == nil {
			c.creating[p.id] = true
		}
	}
	if len(parts) == 0 {
		done(nil)
		return
	}
	c.rollout(parts[0].deployment).beginning = true
	groups := groupParts(parts)
	waiting, stored := len(groups), 0
	var failed error
	for _, group := range groups {
		var change state.Change
		for _, p := range group {
			c.write(&change, p)
		}
		c.submit(&change, func(err error) {
			for _, p := range group {
				delete(c.creating, p.id)
				if err == nil {
					c.become(p)
				}
			}
			if err != nil {
				failed = err
			} else {
				stored += len(group)
			}
			if waiting--; waiting > 0 {
				return
			}
			c.begun(parts[0].deployment.ID)
			done(storeError(failed, stored, len(parts)))
		})
	}
}

// groupParts puts together what is written in one go.
func groupParts(parts []*part) [][]*part {
	var groups [][]*part
	size := 0
	for _, p := range parts {
		// Keys are about as long as paths and versions; the old definition is
		// as large as the new one.
		mine := 2*len(p.body) + 4*len(p.id) + 200 + state.MaxChunk*min(len(p.kill), maxKillsStored/2)
		if n := len(p.dropped); p.next == nil {
			n += len(p.service.versions)
			mine += n * (len(p.id) + 50)
		}
		if len(groups) == 0 || size+mine > maxParts {
			groups = append(groups, nil)
			size = 0
		}
		size += mine
		groups[len(groups)-1] = append(groups[len(groups)-1], p)
	}
	return groups
}

func (c *core) write(change *state.Change, p *part) {
	if p.next == nil {
		change.DropApp(p.id)
		for _, old := range p.service.versions {
			change.DropVersion(p.id, old.Definition.Version)
		}
		change.PutTombstone(p.tombstone())
		return
	}
	if p.service != nil {
		change.PutVersion(p.kept[len(p.kept)-1])
		for _, old := range p.dropped {
			change.DropVersion(p.id, old.Definition.Version)
		}
	}
	change.PutApp(state.App{
		Path: p.id, Definition: state.Definition{Version: p.next.Version.String(), Body: p.body}, Deployment: p.deployment,
	})
	for _, i := range p.kill[:min(len(p.kill), maxKillsStored/2)] {
		i.writeKill(change, killedAndScaled)
	}
}

// tombstone is what tells, also after a restart and of tasks that turn up much
// later, that the tasks of a deleted app are to be killed.
func (p *part) tombstone() state.Tombstone {
	return state.Tombstone{Path: p.id, Deleted: p.deployment.Started, Version: p.deployment.TargetVersion, Deployment: p.deployment.ID}
}

func storeError(err error, stored, all int) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrTooLarge):
		return app.Refuse("/", err.Error())
	case stored > 0:
		return unavailable(fmt.Errorf("%d of %d apps were changed: %w", stored, all, err))
	default:
		return unavailable(err)
	}
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

// become makes a stored part the present state of its app.
func (c *core) become(p *part) {
	v := p.service
	c.log.Info().Str(keyApp, p.id).Str(keyVersion, p.deployment.TargetVersion).Str(keyDeployment, p.deployment.ID).
		Str(keyReason, string(p.kind)).Msg("deployment started")
	if p.next == nil {
		c.tombstones[p.id] = p.tombstone()
		delete(c.services, p.id)
		delete(c.hungry, v)
		v.deleted, v.wanted = true, 0
		c.ending[v] = struct{}{}
		c.relist = true
	} else {
		if v == nil {
			v = &service{}
			c.services[p.id] = v
			c.relist = true
		}
		if v.app == nil || v.app.LastConfigChange != p.next.LastConfigChange {
			v.backoff.reset()
		}
		v.app, v.json, v.versions = p.next, p.next.JSON(), p.kept
	}
	v.lastDeploymentFailure = nil
	v.kind, v.finishing = p.kind, false
	c.setDeployment(v, p.deployment)
	for n, i := range p.kill {
		if n < maxKillsStored/2 {
			c.killWritten(i, killedAndScaled)
		} else {
			// Stored in writes of their own. After a crash before that, others
			// may be chosen: no more and no fewer.
			c.kill(i, killedAndScaled)
		}
	}
	c.touch(v)
}
