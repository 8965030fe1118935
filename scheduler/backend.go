package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
)

var _ api.Backend = (*Scheduler)(nil)

// Apps implements [api.Backend].
func (s *Scheduler) Apps(ctx context.Context, embed api.Embed, yield func(api.AppStatus) bool) error {
	services, _ := s.shown.lists()
	for _, v := range services {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(v.view.Load().appStatus(embed)) {
			return nil
		}
	}
	return nil
}

// App implements [api.Backend].
func (s *Scheduler) App(_ context.Context, id string, embed api.Embed) (api.AppStatus, error) {
	v := s.view(id)
	if v == nil {
		return api.AppStatus{}, fmt.Errorf("app %s: %w", id, api.ErrNotFound)
	}
	return v.appStatus(embed), nil
}

// view is what is shown of an app, or nil.
func (s *Scheduler) view(id string) *view {
	services, _ := s.shown.lists()
	at, found := slices.BinarySearchFunc(services, id, func(v *service, id string) int {
		return strings.Compare(v.view.Load().status.App.ID, id)
	})
	if !found {
		return nil
	}
	return services[at].view.Load()
}

func (v *view) appStatus(embed api.Embed) api.AppStatus {
	status := v.status
	if embed.Tasks {
		status.Tasks = v.tasks
	}
	return status
}

// Versions implements [api.Backend].
func (s *Scheduler) Versions(_ context.Context, id string) ([]app.Version, error) {
	v := s.view(id)
	if v == nil {
		return nil, fmt.Errorf("app %s: %w", id, api.ErrNotFound)
	}
	versions := []app.Version{v.status.App.Version}
	for _, old := range slices.Backward(v.versions) {
		version, err := app.ParseVersion(old.Definition.Version)
		if err != nil {
			return nil, fmt.Errorf("stored version of %s: %w", id, err)
		}
		versions = append(versions, version)
	}
	return versions, nil
}

// AppVersion implements [api.Backend].
func (s *Scheduler) AppVersion(_ context.Context, id string, version app.Version) (*app.App, error) {
	v := s.view(id)
	if v == nil {
		return nil, fmt.Errorf("app %s: %w", id, api.ErrNotFound)
	}
	if v.status.App.Version == version {
		return v.status.App, nil
	}
	for _, old := range v.versions {
		if old.Definition.Version == version.String() {
			return app.Decode(old.Definition.Body)
		}
	}
	return nil, fmt.Errorf("version %s of app %s: %w", version, id, api.ErrNotFound)
}

// Change implements [api.Backend].
func (s *Scheduler) Change(ctx context.Context, edits []api.Edit, options api.ChangeOptions) (api.Started, error) {
	// The core holds apps in the order of their IDs.
	ordered := slices.SortedFunc(slices.Values(edits), func(a, b api.Edit) int { return strings.Compare(a.ID, b.ID) })
	ids := make([]string, 0, len(ordered))
	for i, e := range ordered {
		if i > 0 && ids[i-1] == e.ID {
			return api.Started{}, app.Refuse(e.At+"/id", fmt.Sprintf("is %s, which is changed twice at once", e.ID))
		}
		ids = append(ids, e.ID)
	}
	return s.write(ctx, ids, func(c *core, to chan<- result) { c.change(ordered, options, to) })
}

// Kill implements [api.Backend].
func (s *Scheduler) Kill(ctx context.Context, taskIDs []string, wipe bool) error {
	_, err := s.write(ctx, nil, func(c *core, to chan<- result) { c.killTasks(taskIDs, wipe, to) })
	return err
}

// ResetDelay implements [api.Backend].
func (s *Scheduler) ResetDelay(ctx context.Context, id string) error {
	_, err := s.write(ctx, nil, func(c *core, to chan<- result) { c.resetDelay(id, to) })
	return err
}

// write does something with apps in its turn and waits for the answer. What it
// does releases the apps.
func (s *Scheduler) write(ctx context.Context, ids []string, do func(*core, chan<- result)) (api.Started, error) {
	if err := s.journal.Trouble(); err != nil {
		return api.Started{}, unavailable(err)
	}
	answer := make(chan result, 1) // the core never waits for whoever asked
	posted := s.inbox.post(func(c *core) {
		c.exclusiveAll(ids, func() {
			if ctx.Err() != nil { // nobody waits any more: do not begin
				for _, id := range ids {
					c.release(id)
				}
				return
			}
			do(c, answer)
		})
	})
	if !posted {
		return api.Started{}, unavailable(errors.New("the scheduler is stopping"))
	}
	select {
	case r := <-answer:
		return r.started, r.err
	case <-ctx.Done():
		return api.Started{}, unavailable(fmt.Errorf("no answer of the store in time: %w", ctx.Err()))
	}
}

// Tasks implements [api.Backend].
func (s *Scheduler) Tasks(ctx context.Context, yield func(api.Task) bool) error {
	services, ending := s.shown.lists()
	for _, v := range slices.Concat(services, ending) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, t := range v.view.Load().tasks {
			if !yield(*t) {
				return nil
			}
		}
	}
	return nil
}

// Deployments implements [api.Backend].
func (s *Scheduler) Deployments(context.Context) ([]api.Deployment, error) {
	services, ending := s.shown.lists()
	var list []api.Deployment
	at := make(map[string]int)
	for _, v := range slices.Concat(services, ending) {
		d := v.view.Load().deployment
		if d == nil {
			continue
		}
		if i, known := at[d.ID]; known {
			list[i].Actions = append(list[i].Actions, d.Actions...)
			continue
		}
		at[d.ID] = len(list)
		part := *d
		part.Actions = slices.Clone(d.Actions)
		list = append(list, part)
	}
	slices.SortStableFunc(list, func(a, b api.Deployment) int { return a.Started.Compare(b.Started) })
	return list, nil
}

// CancelDeployment implements [api.Backend].
func (s *Scheduler) CancelDeployment(ctx context.Context, id string, apps []string, force bool) (api.Started, error) {
	services, ending := s.shown.lists()
	var parts []*service
	var ids []string
	for _, v := range slices.Concat(services, ending) {
		view := v.view.Load()
		path := view.status.App.ID
		if view.deployment == nil || view.deployment.ID != id || len(apps) > 0 && !slices.Contains(apps, path) {
			continue
		}
		parts, ids = append(parts, v), append(ids, path)
	}
	if len(parts) == 0 {
		return api.Started{}, fmt.Errorf("deployment %s: %w", id, api.ErrNotFound)
	}
	// An app that was deleted and made again can have two services.
	slices.Sort(ids)
	return s.write(ctx, slices.Compact(ids), func(c *core, to chan<- result) { c.cancel(parts, id, force, to) })
}

// Revision implements [api.Backend].
func (s *Scheduler) Revision() uint64 { return s.shown.revision.Load() }

// Events implements [api.Backend].
func (s *Scheduler) Events() *api.Events { return s.events }

// Queue implements [api.Backend].
func (s *Scheduler) Queue(context.Context) ([]api.QueueItem, error) {
	services, _ := s.shown.lists()
	var list []api.QueueItem
	for _, v := range services {
		if item := v.view.Load().queue; item != nil {
			list = append(list, *item)
		}
	}
	return list, nil
}

// Info implements [api.Backend].
func (s *Scheduler) Info(context.Context) (api.Info, error) {
	s.shown.mu.RLock()
	defer s.shown.mu.RUnlock()
	return s.shown.info, nil
}

// Ready implements [api.Backend].
func (s *Scheduler) Ready(context.Context) error {
	s.shown.mu.RLock()
	defer s.shown.mu.RUnlock()
	if s.shown.ready != "" {
		return errors.New(s.shown.ready)
	}
	return nil
}
