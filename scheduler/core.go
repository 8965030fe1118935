package scheduler

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/deploy"
	"pacer/scheduler/identity"
	"pacer/scheduler/state"
)

// core owns everything that changes. All its methods run on one goroutine,
// that of run; others send it events through the inbox. It never waits: writes
// and calls report back through the inbox, too.
type core struct {
	s      *Scheduler
	config Config
	log    zerolog.Logger
	random *rand.Rand
	signer *identity.Signer
	agenda agenda
	now    time.Time // of the events being handled

	frameworkID string
	// frameworkStored is false while a new id is not stored yet.
	frameworkStored bool

	services  map[string]*service // live ones, by app ID
	ending    map[*service]struct{}
	instances map[string]*instance // of live and ending services, by task ID
	strays    map[string]*stray    // tasks without a service, by task ID
	examining bool                 // strays are to be examined soon
	// describeFailures in a row of the master to tell about strays.
	describeFailures int
	// straysChanged means that the quarantine has to be shown anew.
	straysChanged bool
	tombstones    map[string]state.Tombstone
	executors     *executors
	agents        map[string]*agent
	offering      map[*agent]struct{} // those with offers
	stamper       app.Stamper
	rollouts      map[string]*rollout // by the deployment's ID

	connection connection
	// suspended while the store cannot be reached: another scheduler may lead.
	suspended bool
	// watching for the end of that.
	watching   bool
	offerState offerState
	kills      kills
	brake      brake
	ends       ends

	// dirty services have to be looked at again, stale ones shown anew.
	dirty, stale map[*service]struct{}
	// hungry services want instances placed.
	hungry map[*service]struct{}
	// relist means that services were added or removed.
	relist bool
	// wasBlocked is what blocked was when it was last shown.
	wasBlocked string
	// answers to API calls, given once readers can see what was done.
	answers []func()
	// busy apps have a write under way; what else is to be done with them
	// waits in order.
	busy map[string][]func()
	// creating are the IDs of apps whose first version is being written.
	creating map[string]bool
	// unreadable apps, by the name of their node: what of them cannot be read.
	// They must not be created anew, because their tasks live.
	unreadable map[string]string
}

func newCore(s *Scheduler, snapshot *state.Snapshot, signer *identity.Signer) (*core, error) {
	c := &core{
		s: s, config: s.config, log: s.log, signer: signer, now: time.Now(),
		random:          rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		frameworkID:     snapshot.FrameworkID,
		frameworkStored: true,
		services:        make(map[string]*service),
		ending:          make(map[*service]struct{}),
		instances:       make(map[string]*instance),
		strays:          make(map[string]*stray),
		tombstones:      snapshot.Tombstones,
		agents:          make(map[string]*agent),
		offering:        make(map[*agent]struct{}),
		dirty:           make(map[*service]struct{}),
		stale:           make(map[*service]struct{}),
		hungry:          make(map[*service]struct{}),
		busy:            make(map[string][]func()),
		creating:        make(map[string]bool),
		unreadable:      make(map[string]string),
		rollouts:        make(map[string]*rollout),
		relist:          true,
	}
	var err error
	if c.executors, err = newExecutors(s.config, snapshot.Executors); err != nil {
		return nil, err
	}
	for _, bad := range snapshot.Corrupt {
		if kind, rest, _ := strings.Cut(bad.Key, "/"); kind == "apps" {
			c.unreadable[rest[strings.LastIndexByte(rest, '/')+1:]] = "node " + bad.Key
		}
	}
	for path, stored := range snapshot.Apps {
		a, err := app.Decode(stored.Definition.Body)
		if err != nil {
			// Without its definition an app's tasks are strays, which nobody kills.
			c.unreadable[nodeName(path)] = "the definition of " + path
			c.log.Error().Str(keyApp, path).AnErr(keyError, err).Msg("definition cannot be read; the app is left alone")
			continue
		}
		v := &service{app: a, json: a.JSON(), versions: snapshot.Versions[path]}
		v.kind = kindOf(v, stored.Deployment)
		c.services[path] = v
		if stored.Deployment != nil {
			c.setDeployment(v, stored.Deployment)
		}
		c.restoreBackoff(v, stored.Backoff)
		c.stamper.Observe(a.Version)
		c.touch(v)
	}
	for _, t := range snapshot.Tombstones {
		if version, err := app.ParseVersion(t.Version); err == nil {
			c.stamper.Observe(version)
		}
	}
	for _, record := range snapshot.Tasks {
		c.restore(record)
	}
	c.buryOld()
	return c, nil
}

// nodeName is an app's path as the name of its node.
func nodeName(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_")
}

// restore puts a stored task back in its place.
func (c *core) restore(record *state.Task) {
	v := c.services[record.App]
	if tomb, deleted := c.tombstones[record.App]; deleted && record.Version <= tomb.Version {
		v = c.endingService(tomb)
	}
	if v == nil {
		c.strays[record.ID] = &stray{id: record.ID, agentID: record.AgentID, executorID: record.ExecutorID, recorded: true}
		c.straysChanged = true
		return
	}
	i := &instance{record: record, service: v, restored: true}
	if record.Intent == state.IntentKill || v.deleted {
		i.killing, i.killStored = true, true
		c.kills.add(i)
	}
	c.adopt(i)
}

// endingService is the deleted app that a tombstone stands for.
func (c *core) endingService(t state.Tombstone) *service {
	for v := range c.ending {
		if v.app.ID == t.Path && v.deployment.ID == t.Deployment {
			return v
		}
	}
	a := app.Default(t.Path)
	a.Instances = 0
	v := &service{app: a, json: a.JSON(), deleted: true, kind: api.StopApplication}
	c.setDeployment(v, &state.Deployment{ID: t.Deployment, TargetVersion: t.Version, Started: t.Deleted})
	c.ending[v] = struct{}{}
	c.relist = true
	return v
}

// kindOf says what a loaded deployment does.
func kindOf(v *service, d *state.Deployment) api.ActionKind {
	switch {
	case d == nil || d.PreviousVersion == "":
		return api.StartApplication
	case v.app.LastConfigChange == v.app.Version || d.Rollback:
		return api.RestartApplication
	default:
		return api.ScaleApplication
	}
}

// startWith stores what has to be there before anything else.
func (c *core) startWith(change *state.Change) {
	c.submit(change, func(err error) {
		if err != nil {
			c.log.Warn().AnErr(keyError, err).Msg("first write failed and is tried again")
			c.after(c.config.Times.StoreRetry, func() { c.startWith(change) })
		}
	})
}

// run handles events until ctx ends.
func (c *core) run(ctx context.Context) {
	defer c.s.inbox.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.s.inbox.wake:
		case <-timer.C:
		}
		c.now = time.Now()
		for _, event := range c.s.inbox.take() {
			event(c)
		}
		c.agenda.due(c.now)
		c.work()
		c.publish()
		if at, ok := c.agenda.next(); ok {
			timer.Reset(time.Until(at))
		}
	}
}

// work does what the events have made necessary.
func (c *core) work() {
	c.suspend()
	c.considerDirty()
	c.sendKills()
	c.useOffers()
	c.considerDirty()
}

// suspend stops what ends tasks or executors, or starts them, while the store
// cannot be reached. Acknowledgements and questions go on.
func (c *core) suspend() {
	trouble := c.s.journal.Trouble()
	switch was := c.suspended; {
	case trouble != nil && !was:
		c.log.Warn().AnErr(keyError, trouble).Msg("store cannot be reached; nothing is changed until it can; tasks go on")
	case trouble == nil && was:
		c.log.Info().Msg("store can be reached again")
	}
	c.suspended = trouble != nil
	if c.suspended && !c.watching {
		c.watching = true
		c.after(c.config.Times.StoreRetry, func() { c.watching = false })
	}
}

func (c *core) considerDirty() {
	for len(c.dirty) > 0 {
		dirty := c.dirty
		c.dirty = make(map[*service]struct{})
		for v := range dirty {
			c.consider(v)
		}
	}
}

// touch marks a service to be looked at and shown anew.
func (c *core) touch(v *service) {
	c.dirty[v] = struct{}{}
	c.stale[v] = struct{}{}
}

// after does something later, on the core's goroutine.
func (c *core) after(d time.Duration, do func()) { c.agenda.add(c.now.Add(d), do) }

// submit writes a change; done is called on the core's goroutine.
func (c *core) submit(change *state.Change, done func(error)) {
	begin := time.Now()
	c.s.journal.Submit(change, func(err error) {
		c.s.metrics.written(time.Since(begin), err)
		c.s.inbox.post(func(*core) { done(err) })
	})
}

// call makes a call to the master; done is called on the core's goroutine.
func (c *core) call(do func(context.Context) error, done func(error)) {
	c.s.calls.add(func(ctx context.Context) {
		err := do(ctx)
		c.s.metrics.called(err)
		c.s.inbox.post(func(*core) { done(err) })
	})
}

// exclusive does something with an app when no write for it is under way. The
// function must call release(id) when its own write has ended.
func (c *core) exclusive(id string, do func()) {
	if waiting, busy := c.busy[id]; busy {
		c.busy[id] = append(waiting, do)
		return
	}
	c.busy[id] = nil
	do()
}

func (c *core) release(id string) {
	waiting := c.busy[id]
	if len(waiting) == 0 {
		delete(c.busy, id)
		return
	}
	c.busy[id] = waiting[1:]
	waiting[0]()
}

// exclusiveAll is exclusive for several apps, in the order of their IDs, so
// that two who want the same ones never wait for each other.
func (c *core) exclusiveAll(ids []string, do func()) {
	if len(ids) == 0 {
		do()
		return
	}
	c.exclusive(ids[0], func() { c.exclusiveAll(ids[1:], do) })
}

// consider decides what a service needs next.
func (c *core) consider(v *service) {
	if c.services[v.app.ID] != v {
		if _, ending := c.ending[v]; !ending {
			return
		}
	}
	v.decision = v.decide()
	if c.holds(v) {
		return
	}
	for _, kill := range v.decision.Kill {
		reason := string(kill.Reason)
		if v.deleted {
			reason = "app deleted"
		}
		if kill.Reason == deploy.Unhealthy && !v.deleted && !c.brake.pass(c.now, len(c.instances)) {
			c.hold(v)
			continue
		}
		c.kill(c.instances[kill.ID], reason)
	}
	if v.deleted {
		if len(v.instances) == 0 {
			delete(c.ending, v)
			c.relist = true
			c.s.events.AppTerminated(v.app.ID)
			defer c.leaveRollout(v, true)
			c.log.Info().Str(keyApp, v.app.ID).Str(keyDeployment, v.deployment.ID).Msg("app is gone")
		}
		return
	}
	c.want(v, v.decision.Launch)
	if v.deployment == nil || v.finishing {
		return
	}
	if v.decision.Done {
		c.finishDeployment(v)
		return
	}
	if reason := c.deploymentFailure(v); reason != "" {
		c.failDeployment(v, reason)
	}
}

// want notes how many instances of a service have to be placed.
func (c *core) want(v *service, n int) {
	if n > v.wanted {
		c.offerState.reviveWanted = true
	}
	if n > 0 && v.wanted == 0 {
		v.waitingSince, v.waiting, v.offers = c.now, nil, offerCounts{}
	}
	v.wanted = n
	if n > 0 {
		c.hungry[v] = struct{}{}
	} else {
		delete(c.hungry, v)
	}
}

// blocked is why nothing at all can be launched, or empty.
func (c *core) blocked() string {
	switch {
	case !c.connection.subscribed:
		return "waiting for a Mesos master"
	case c.suspended:
		return "waiting for the store, which cannot be reached"
	case !c.frameworkStored:
		return "waiting for the framework id to be stored"
	case !c.connection.reconciled:
		return "waiting for reconciliation"
	default:
		return ""
	}
}

// publish shows readers what has changed and answers those who made it so.
func (c *core) publish() {
	blocked := c.blocked()
	if blocked != c.wasBlocked {
		c.wasBlocked = blocked
		maps.Copy(c.stale, c.hungry)
	}
	if len(c.stale) > 0 || c.relist {
		revision := c.s.shown.revision.Load() + 1
		for v := range c.stale {
			c.noteStall(v)
			v.render(c.now, blocked, revision)
		}
		clear(c.stale)
		// Last, so that whoever sees it sees what it counts.
		defer c.s.shown.revision.Store(revision)
	}
	c.s.shown.change(func(s *shown) {
		if c.relist {
			s.services = slices.SortedFunc(maps.Values(c.services), byID)
			s.ending = slices.SortedFunc(maps.Keys(c.ending), byID)
		}
		s.info.FrameworkID, s.tasks = c.frameworkID, len(c.instances)
		if c.straysChanged {
			s.info.Quarantine, s.info.QuarantineCount = c.quarantine()
		}
		s.info.Stale, s.info.Master, s.ready = !c.connection.reconciled, c.connection.url, blocked
	})
	c.relist, c.straysChanged = false, false
	for _, answer := range c.answers {
		answer()
	}
	c.answers = nil
}

func byID(a, b *service) int { return strings.Compare(a.app.ID, b.app.ID) }

// buryOld forgets apps that were deleted long ago, and looks again tomorrow.
func (c *core) buryOld() {
	var change state.Change
	var old []string
	for path, t := range c.tombstones {
		if c.now.Sub(t.Deleted) > c.config.Times.TombstoneAge {
			change.DropTombstone(path)
			old = append(old, path)
		}
	}
	if len(old) > 0 {
		c.submit(&change, func(err error) {
			for _, path := range old {
				if t := c.tombstones[path]; err == nil && c.now.Sub(t.Deleted) > c.config.Times.TombstoneAge {
					delete(c.tombstones, path)
				}
			}
		})
	}
	c.after(24*time.Hour, c.buryOld)
}

// describe is a status's text, shortened.
func describe(text string) string {
	const most = 1000
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + fmt.Sprintf("... (%d bytes)", len(text))
	}
	return text
}
