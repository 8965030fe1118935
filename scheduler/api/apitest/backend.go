package apitest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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
	revision    atomic.Uint64
	events      *api.Events
	killed      []string
}

type entry struct {
	versions []*app.App // oldest first
	tasks    []*api.Task
	counts   api.Counts
	failure  *api.TaskFailure
}

// New is an empty Backend.
func New() *Backend {
	return &Backend{now: Epoch, apps: map[string]*entry{}, events: api.NewEvents(), info: api.Info{
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
	b.revision.Add(1)
	if e := b.apps[id]; e != nil {
		e.tasks, e.counts = nil, counts
		for _, t := range tasks {
			e.tasks = append(e.tasks, &t)
		}
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
	b.revision.Add(1)
}

// Killed are the IDs of tasks that were killed, in order.
func (b *Backend) Killed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.killed)
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
	status := api.AppStatus{App: e.current(), JSON: e.current().JSON(), Counts: e.counts, Deployments: b.deploymentsOf(id), LastTaskFailure: e.failure, Revision: b.revision.Load()}
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

// Change implements api.Backend.
func (b *Backend) Change(ctx context.Context, edits []api.Edit, options api.ChangeOptions) (api.Started, error) {
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
	var actions []api.Action
	locked := &api.LockedError{}
	for _, e := range edits {
		kind, err := b.plan(e)
		if err != nil {
			return api.Started{}, err
		}
		if kind == "" {
			continue
		}
		actions = append(actions, api.Action{AppID: e.ID, Kind: kind, Progress: "0 of 1 instances"})
		if running := b.deploymentsOf(e.ID); len(running) > 0 && !options.Force {
			locked.App, locked.Deployments = e.ID, append(locked.Deployments, running...)
		}
	}
	switch {
	case len(locked.Deployments) > 0:
		return api.Started{}, locked
	case len(actions) == 0:
		b.started++
		started := api.Started{DeploymentID: b.deploymentID()}
		for _, e := range edits {
			status, _ := b.status(e.ID, api.Embed{})
			started.Version, started.Apps = status.App.Version, append(started.Apps, status)
		}
		return started, nil
	}
	b.begin(actions)
	d := b.deployments[len(b.deployments)-1]
	started := api.Started{DeploymentID: d.ID, Version: d.Version}
	for _, e := range edits {
		b.make(e, d.Version)
		if status, found := b.status(e.ID, api.Embed{}); found {
			started.Apps = append(started.Apps, status)
		}
	}
	return started, nil
}

// plan is what an edit does; empty if nothing.
func (b *Backend) plan(edit api.Edit) (api.ActionKind, error) {
	e := b.apps[edit.ID]
	switch {
	case e == nil && (edit.Next == nil || edit.Replaces != 0):
		return "", api.ErrNotFound
	case e == nil:
		if other, found := app.Conflict(edit.ID, app.SortedIDs(b.ids())); found {
			return "", app.Refuse("/id", "is above or below the app "+other)
		}
		return api.StartApplication, nil
	case edit.Next != nil && edit.Replaces == 0:
		return "", api.ErrExists
	case edit.Replaces != 0 && e.current().Version != edit.Replaces:
		return "", api.ErrChanged
	case edit.Delete:
		return api.StopApplication, nil
	case edit.Restart:
		return api.RestartApplication, nil
	}
	switch change := app.Compare(e.current(), edit.Next); {
	case change.Effect() == app.Replace:
		return api.RestartApplication, nil
	case change.Effect() == app.NoChange:
		return "", nil
	}
	return api.ScaleApplication, nil
}

// make does what was planned.
func (b *Backend) make(edit api.Edit, version app.Version) {
	e := b.apps[edit.ID]
	b.killed = append(b.killed, edit.Kill...)
	switch {
	case edit.Delete:
		delete(b.apps, edit.ID)
	case edit.Restart:
		again := e.current().Clone()
		again.Version, again.LastConfigChange = version, version
		e.versions = append(e.versions, again)
	case e == nil:
		b.apps[edit.ID] = &entry{versions: []*app.App{app.Stamp(nil, edit.Next, version)}}
	case app.Compare(e.current(), edit.Next).Effect() != app.NoChange:
		e.versions = append(e.versions, app.Stamp(e.current(), edit.Next, version))
	}
}

// Kill implements api.Backend.
func (b *Backend) Kill(ctx context.Context, taskIDs []string, _ bool) error {
	unlock, err := b.lock(ctx)
	defer unlock()
	if err == nil {
		b.killed = append(b.killed, taskIDs...)
	}
	return err
}

// ResetDelay implements api.Backend.
func (b *Backend) ResetDelay(ctx context.Context, id string) error {
	unlock, err := b.lock(ctx)
	defer unlock()
	if err == nil && !slices.ContainsFunc(b.queue, func(i api.QueueItem) bool { return i.App.ID == id }) {
		return orNotFound(nil)
	}
	return err
}

// Revision implements api.Backend.
func (b *Backend) Revision() uint64 { return b.revision.Load() }

// Events implements api.Backend.
func (b *Backend) Events() *api.Events { return b.events }

// begin starts a deployment in place of those that change the same apps.
func (b *Backend) begin(actions []api.Action) {
	b.revision.Add(1)
	for _, a := range actions {
		running := b.deploymentsOf(a.AppID)
		b.deployments = slices.DeleteFunc(b.deployments, func(d api.Deployment) bool { return slices.Contains(running, d.ID) })
	}
	b.now = b.now.Add(time.Second)
	b.started++
	b.deployments = append(b.deployments, api.Deployment{ID: b.deploymentID(), Version: b.stamper.Next(b.now), Started: b.now, Actions: actions})
}

func (b *Backend) deploymentID() string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", b.started)
}

// Tasks implements api.Backend.
func (b *Backend) Tasks(ctx context.Context, yield func(api.Task) bool) error {
	unlock, err := b.lock(ctx)
	var all []api.Task
	for _, id := range b.ids() {
		for _, t := range b.apps[id].tasks {
			all = append(all, *t)
		}
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
func (b *Backend) CancelDeployment(ctx context.Context, id string, _ []string, force bool) (api.Started, error) {
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
	b.begin([]api.Action{{AppID: target, Kind: api.RestartApplication, Progress: "0 of 1 instances"}})
	d := b.deployments[len(b.deployments)-1]
	return api.Started{DeploymentID: d.ID, Version: d.Version}, nil
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
