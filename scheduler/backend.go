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
		status.Tasks = make([]api.Task, 0, len(v.tasks))
		for _, t := range v.tasks {
			status.Tasks = append(status.Tasks, *t)
		}
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

// Put implements [api.Backend].
func (s *Scheduler) Put(ctx context.Context, next *app.App, options api.PutOptions) (api.Started, error) {
	return s.write(ctx, next.ID, func(c *core, to chan<- result) { c.put(next, options, to) })
}

// Restart implements [api.Backend].
func (s *Scheduler) Restart(ctx context.Context, id string, force bool) (api.Started, error) {
	return s.write(ctx, id, func(c *core, to chan<- result) { c.restart(id, force, to) })
}

// Delete implements [api.Backend].
func (s *Scheduler) Delete(ctx context.Context, id string, force bool) (api.Started, error) {
	return s.write(ctx, id, func(c *core, to chan<- result) { c.remove(id, force, to) })
}

// write does something with an app in its turn and waits for the answer.
func (s *Scheduler) write(ctx context.Context, id string, do func(*core, chan<- result)) (api.Started, error) {
	if err := s.journal.Trouble(); err != nil {
		return api.Started{}, unavailable(err)
	}
	answer := make(chan result, 1) // the core never waits for whoever asked
	posted := s.inbox.post(func(c *core) {
		c.exclusive(id, func() {
			if ctx.Err() != nil { // nobody waits any more: do not begin
				c.release(id)
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
	for _, v := range slices.Concat(services, ending) {
		if d := v.view.Load().deployment; d != nil {
			list = append(list, *d)
		}
	}
	slices.SortStableFunc(list, func(a, b api.Deployment) int { return a.Started.Compare(b.Started) })
	return list, nil
}

// CancelDeployment implements [api.Backend].
func (s *Scheduler) CancelDeployment(ctx context.Context, id string, force bool) (api.Started, error) {
	services, ending := s.shown.lists()
	for _, v := range slices.Concat(services, ending) {
		view := v.view.Load()
		if view.deployment != nil && view.deployment.ID == id {
			return s.write(ctx, view.status.App.ID, func(c *core, to chan<- result) { c.cancel(v, id, force, to) })
		}
	}
	return api.Started{}, fmt.Errorf("deployment %s: %w", id, api.ErrNotFound)
}

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
