package apitest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
)

var _ api.Backend = (*Backend)(nil)

// Epoch is when a Backend's clock starts; each write takes a second.
var Epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Backend holds apps in memory. The zero value is not usable, see [New].
type Backend struct {
	mu          sync.Mutex
	now         time.Time
	stamper     app.Stamper
	apps        map[string]*entry
	deployments []api.Deployment
	started     int
	queue       []api.QueueItem
	orphans     []api.Task
	info        api.Info
	err         error
	beforePut   func()
}

type entry struct {
	versions []*app.App // oldest first
	tasks    []api.Task
	counts   api.Counts
	failure  *api.TaskFailure
}

// New is an empty Backend.
func New() *Backend {
	return &Backend{now: Epoch, apps: map[string]*entry{}, info: api.Info{
		Name: "pacer", FrameworkID: "f-0001", Version: "1.2.3", Leader: "127.0.0.1:8080", Master: "http://master:5050",
		Role: "web", User: "nobody", FailoverTimeout: 168 * time.Hour, Checkpoint: true,
	}}
}

// Fail makes every call but Ready and Info end with err, nil undoes it.
func (b *Backend) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// BeforePut is called once at the start of the next Put, without a lock, so
// that a test can be faster than the caller.
func (b *Backend) BeforePut(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beforePut = f
}

// SetInfo replaces what Info returns; a Leader of "" makes Ready fail.
func (b *Backend) SetInfo(info api.Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.info = info
}

// SetTasks replaces the tasks of an app, and its counters. Tasks of an app
// that does not exist are shown by Tasks alone.
func (b *Backend) SetTasks(id string, counts api.Counts, tasks ...api.Task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.apps[id]; e != nil {
		e.tasks, e.counts = tasks, counts
		return
	}
	b.orphans = tasks
}

// SetFailure says how a task of an app failed last.
func (b *Backend) SetFailure(failure api.TaskFailure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.apps[failure.AppID].failure = &failure
}

// SetQueue replaces what waits. App and JSON are filled in from AppID.
func (b *Backend) SetQueue(id string, items ...api.QueueItem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range items {
		current := b.apps[id].current()
		items[i].App, items[i].JSON = current, current.JSON()
	}
	b.queue = items
}

// Deploying are the IDs of the deployments that run, oldest first.
func (b *Backend) Deploying() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]string, 0, len(b.deployments))
	for _, d := range b.deployments {
		ids = append(ids, d.ID)
	}
	return ids
}

// Finish ends all deployments, well or not.
func (b *Backend) Finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deployments = nil
}

// Current is the app's definition, nil if there is none.
func (b *Backend) Current(id string) *app.App {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.apps[id]; e != nil {
		return e.current()
	}
	return nil
}

func (e *entry) current() *app.App { return e.versions[len(e.versions)-1] }

// lock locks and fails if the test wants it.
func (b *Backend) lock(ctx context.Context) (unlock func(), err error) {
	b.mu.Lock()
	if err = b.err; err == nil {
		err = ctx.Err()
	}
	return b.mu.Unlock, err
}

func (b *Backend) ids() []string {
	ids := make([]string, 0, len(b.apps))
	for id := range b.apps {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (b *Backend) status(id string, embed api.Embed) (api.AppStatus, bool) {
	e := b.apps[id]
	if e == nil {
		return api.AppStatus{}, false
	}
	status := api.AppStatus{App: e.current(), JSON: e.current().JSON(), Counts: e.counts, Deployments: b.deploymentsOf(id), LastTaskFailure: e.failure}
	if embed.Tasks {
		status.Tasks = e.tasks
	}
	return status, true
}

func (b *Backend) deploymentsOf(id string) (ids []string) {
	for _, d := range b.deployments {
		if slices.ContainsFunc(d.Actions, func(a api.Action) bool { return a.AppID == id }) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// Apps implements api.Backend.
func (b *Backend) Apps(ctx context.Context, embed api.Embed, yield func(api.AppStatus) bool) error {
	unlock, err := b.lock(ctx)
	var all []api.AppStatus
	for _, id := range b.ids() {
		status, _ := b.status(id, embed)
		all = append(all, status)
	}
	unlock()
	for _, status := range all {
		if err != nil || !yield(status) {
			break
		}
	}
	return err
}

// App implements api.Backend.
func (b *Backend) App(ctx context.Context, id string, embed api.Embed) (api.AppStatus, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	if err != nil {
		return api.AppStatus{}, err
	}
	status, found := b.status(id, embed)
	if !found {
		return status, api.ErrNotFound
	}
	return status, nil
}

// Versions implements api.Backend.
func (b *Backend) Versions(ctx context.Context, id string) ([]app.Version, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	e := b.apps[id]
	if err != nil || e == nil {
		return nil, orNotFound(err)
	}
	versions := make([]app.Version, 0, len(e.versions))
	for _, a := range slices.Backward(e.versions) {
		versions = append(versions, a.Version)
	}
	return versions, nil
}

// AppVersion implements api.Backend.
func (b *Backend) AppVersion(ctx context.Context, id string, version app.Version) (*app.App, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	if e := b.apps[id]; err == nil && e != nil {
		for _, a := range e.versions {
			if a.Version == version {
				return a, nil
			}
		}
	}
	return nil, orNotFound(err)
}

func orNotFound(err error) error {
	if err == nil {
		return fmt.Errorf("in memory: %w", api.ErrNotFound)
	}
	return err
}

// Put implements api.Backend.
func (b *Backend) Put(ctx context.Context, next *app.App, options api.PutOptions) (api.Started, error) {
	b.mu.Lock()
	before := b.beforePut
	b.beforePut = nil
	b.mu.Unlock()
	if before != nil {
		before()
	}
	unlock, err := b.lock(ctx)
	defer unlock()
	if err != nil {
		return api.Started{}, err
	}
	var current *app.App
	e := b.apps[next.ID]
	switch {
	case e == nil && options.Replaces != 0:
		return api.Started{}, api.ErrNotFound
	case e == nil:
		if other, found := app.Conflict(next.ID, app.SortedIDs(b.ids())); found {
			return api.Started{}, app.Refuse("/id", "is above or below the app "+other)
		}
		e = &entry{}
	case options.Replaces == 0:
		return api.Started{}, api.ErrExists
	case e.current().Version != options.Replaces:
		return api.Started{}, api.ErrChanged
	default:
		current = e.current()
	}
	kind := api.StartApplication
	if current != nil {
		change := app.Compare(current, next)
		if change.Effect() == app.NoChange {
			b.started++
			status, _ := b.status(next.ID, api.Embed{})
			return api.Started{DeploymentID: b.deploymentID(), Version: current.Version, App: &status}, nil
		}
		kind = api.ScaleApplication
		if change.Effect() == app.Replace {
			kind = api.RestartApplication
		}
	}
	if err := b.begin(next.ID, kind, options.Force); err != nil {
		return api.Started{}, err
	}
	stamped := app.Stamp(current, next, b.deployments[len(b.deployments)-1].Version)
	e.versions = append(e.versions, stamped)
	b.apps[next.ID] = e
	return b.answer(next.ID), nil
}

// begin starts a deployment unless one runs, which force ends.
func (b *Backend) begin(id string, kind api.ActionKind, force bool) error {
	if running := b.deploymentsOf(id); len(running) > 0 {
		if !force {
			return &api.LockedError{App: id, Deployments: running}
		}
		b.deployments = slices.DeleteFunc(b.deployments, func(d api.Deployment) bool { return slices.Contains(running, d.ID) })
	}
	b.now = b.now.Add(time.Second)
	b.started++
	b.deployments = append(b.deployments, api.Deployment{
		ID: b.deploymentID(), Version: b.stamper.Next(b.now), Started: b.now,
		Actions: []api.Action{{AppID: id, Kind: kind, Progress: "0 of 1 instances"}},
	})
	return nil
}

func (b *Backend) deploymentID() string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", b.started)
}

// answer is about the deployment begun last.
func (b *Backend) answer(id string) api.Started {
	d := b.deployments[len(b.deployments)-1]
	started := api.Started{DeploymentID: d.ID, Version: d.Version}
	if status, found := b.status(id, api.Embed{}); found {
		started.App = &status
	}
	return started
}

// Restart implements api.Backend.
func (b *Backend) Restart(ctx context.Context, id string, force bool) (api.Started, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	e := b.apps[id]
	if err != nil || e == nil {
		return api.Started{}, orNotFound(err)
	}
	if err := b.begin(id, api.RestartApplication, force); err != nil {
		return api.Started{}, err
	}
	again := e.current().Clone()
	again.Version = b.deployments[len(b.deployments)-1].Version
	again.LastConfigChange = again.Version
	e.versions = append(e.versions, again)
	return b.answer(id), nil
}

// Delete implements api.Backend.
func (b *Backend) Delete(ctx context.Context, id string, force bool) (api.Started, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	if err != nil || b.apps[id] == nil {
		return api.Started{}, orNotFound(err)
	}
	if err := b.begin(id, api.StopApplication, force); err != nil {
		return api.Started{}, err
	}
	delete(b.apps, id)
	return b.answer(id), nil
}

// Tasks implements api.Backend.
func (b *Backend) Tasks(ctx context.Context, yield func(api.Task) bool) error {
	unlock, err := b.lock(ctx)
	var all []api.Task
	for _, id := range b.ids() {
		all = append(all, b.apps[id].tasks...)
	}
	all = append(all, b.orphans...)
	unlock()
	for _, t := range all {
		if err != nil || !yield(t) {
			break
		}
	}
	return err
}

// Deployments implements api.Backend.
func (b *Backend) Deployments(ctx context.Context) ([]api.Deployment, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	return slices.Clone(b.deployments), err
}

// CancelDeployment implements api.Backend; it rolls nothing back.
func (b *Backend) CancelDeployment(ctx context.Context, id string, force bool) (api.Started, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	i := slices.IndexFunc(b.deployments, func(d api.Deployment) bool { return d.ID == id })
	if err != nil || i < 0 {
		return api.Started{}, orNotFound(err)
	}
	target := b.deployments[i].Actions[0].AppID
	b.deployments = slices.Delete(b.deployments, i, i+1)
	if force {
		return api.Started{}, nil
	}
	if err := b.begin(target, api.RestartApplication, true); err != nil {
		return api.Started{}, err
	}
	return b.answer(target), nil
}

// Queue implements api.Backend.
func (b *Backend) Queue(ctx context.Context) ([]api.QueueItem, error) {
	unlock, err := b.lock(ctx)
	defer unlock()
	return b.queue, err
}

// Info implements api.Backend.
func (b *Backend) Info(context.Context) (api.Info, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.info, nil
}

// Ready implements api.Backend.
func (b *Backend) Ready(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.info.Leader == "" {
		return fmt.Errorf("no master found: %w", api.ErrUnavailable)
	}
	return nil
}
