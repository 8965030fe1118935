package scheduler

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
)

// stray is a task of this framework without a service: of an app that was
// deleted, of an app whose definition cannot be read, or of a state that was
// lost or restored from an old backup.
type stray struct {
	id, agentID, executorID string
	state                   string
	// recorded ones have a record in the store.
	recorded bool
	// examined ones have been described by the master, and cannot be adopted.
	examined bool
	// killable ones belong to an app that was deleted after they were launched.
	killable bool
}

// shownStrays bounds how many of the quarantine are named.
const shownStrays = 100

// quarantine lists the strays that nobody kills, and counts them.
func (c *core) quarantine() (first []api.QuarantinedTask, count int) {
	for _, id := range slices.Sorted(maps.Keys(c.strays)) {
		s := c.strays[id]
		if s.killable {
			continue
		}
		if count++; count <= shownStrays {
			first = append(first, api.QuarantinedTask{ID: s.id, AgentID: s.agentID, State: s.state})
		}
	}
	return first, count
}

// killStrays kills those of deleted apps. All others are left alone: a store
// that lost its content must not cost a single task.
func (c *core) killStrays() {
	quarantined := 0
	for _, id := range slices.Sorted(maps.Keys(c.strays)) {
		s := c.strays[id]
		if !s.killable {
			quarantined++
			continue
		}
		if c.kills.inFlight >= c.config.KillBudget || !c.connection.subscribed || c.suspended {
			continue
		}
		c.log.Info().Str(keyTask, id).Str(keyAgent, s.agentID).Msg("task of a deleted app is killed")
		c.call(func(ctx context.Context) error { return c.s.mesos.Kill(ctx, s.id, s.agentID, nil) }, c.logged("kill", id))
	}
	if quarantined > 0 {
		c.log.Warn().Int(keyCount, quarantined).Msg("tasks that no app here knows are left alone; see the master's list of this framework's tasks")
	}
}

// examineStrays has the master describe tasks that nobody here has a record
// of, and decides about them; then it does what follows.
//
//   - An app that was deleted after the task was launched: it is killed.
//   - An app that lives and lacks instances: the task is adopted, instead of a
//     new one being launched. Its version may be one that nobody here knows.
//   - All others stay in quarantine. Above all, no task is adopted only to be
//     killed as one too many: that would be killing unknown tasks.
func (c *core) examineStrays(then func()) {
	unknown := make(map[string]bool)
	for id, s := range c.strays {
		if !s.examined && !s.recorded {
			unknown[id] = true
		}
	}
	if len(unknown) == 0 {
		then()
		return
	}
	generation := c.connection.generation
	var tasks []master.Described
	c.call(func(ctx context.Context) (err error) {
		tasks, err = c.s.mesos.Describe(ctx)
		return err
	}, func(err error) {
		if generation != c.connection.generation {
			return // asked again under the next subscription
		}
		if err != nil {
			c.log.Warn().AnErr(keyError, err).Int(keyCount, len(unknown)).Msg("unknown tasks cannot be looked up")
			if c.describeFailures++; c.describeFailures < maxDescribeFailures {
				c.after(c.config.Times.StoreRetry, func() { c.examineStrays(then) })
				return
			}
			// They stay in quarantine until the next reconciliation.
			c.describeFailures = 0
			then()
			return
		}
		c.describeFailures = 0
		// The oldest first, so that it does not depend on the order of maps.
		slices.SortFunc(tasks, func(a, b master.Described) int { return cmp.Compare(a.TaskID.Value, b.TaskID.Value) })
		var adopted []*instance
		for _, t := range tasks {
			if s := c.strays[t.TaskID.Value]; s != nil && unknown[s.id] {
				if i := c.judge(s, t); i != nil {
					adopted = append(adopted, i)
				}
			}
		}
		c.storeAdopted(adopted, then)
	})
}

// maxDescribeFailures in a row let launches go on beside unknown tasks.
const maxDescribeFailures = 5

// examineDelay gathers tasks that turn up together, with their agent.
const examineDelay = time.Second

// examineSoon examines what turns up after the reconciliation.
func (c *core) examineSoon() {
	if c.examining || !c.connection.reconciled {
		return
	}
	c.examining = true
	c.after(examineDelay, func() {
		c.examining = false
		c.examineStrays(c.killStrays)
	})
}

// judge decides about a stray; it returns the instance that it becomes, or nil.
func (c *core) judge(s *stray, t master.Described) *instance {
	s.examined = true
	c.straysChanged = true
	path, _ := app.IDOfTask(s.id)
	launched, err := app.ParseVersion(taskLabel(t.Task, payload.LabelVersion))
	if err != nil {
		return nil // not one that we have launched
	}
	v := c.services[path]
	if v == nil {
		tomb, deleted := c.tombstones[path]
		s.killable = deleted && launched.String() <= tomb.Version
		return nil
	}
	if known := v.knows(launched); !known && v.deployment != nil || !c.lacks(v) {
		// A deployment would replace what is of an unknown version.
		return nil
	}
	record := &state.Task{
		ID: s.id, App: path, Version: launched.String(), AgentID: t.AgentID.Value, Hostname: t.Hostname,
		ExecutorID: t.GetExecutorID().GetValue(), Ports: describedPorts(t.Task), Launched: c.now, Shard: newShards(v).take(),
	}
	i := &instance{record: record, service: v, restored: true}
	delete(c.strays, s.id)
	c.adopt(i)
	return i
}

// knows tells whether a version is the app's or one of those that are kept.
func (s *service) knows(version app.Version) bool {
	if version == s.app.LastConfigChange {
		return true
	}
	return slices.ContainsFunc(s.versions, func(old state.OldVersion) bool { return old.Definition.Version == version.String() })
}

// lacks tells whether an app has fewer instances than it should.
func (c *core) lacks(v *service) bool {
	n := 0
	for _, i := range v.instances {
		if !i.ended && !i.killing && !i.inactive {
			n++
		}
	}
	return n < v.app.Instances
}

// storeAdopted stores the records of tasks that were adopted, asks for their
// state, and goes on.
func (c *core) storeAdopted(adopted []*instance, then func()) {
	if len(adopted) == 0 {
		then()
		return
	}
	var change state.Change
	tasks := make([]master.Task, 0, len(adopted))
	for _, i := range adopted {
		c.log.Info().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyHost, i.record.Hostname).
			Str(keyVersion, i.record.Version).Msg("unknown task is adopted")
		change.PutTask(i.record)
		tasks = append(tasks, master.Task{ID: i.record.ID, AgentID: i.record.AgentID})
	}
	c.submit(&change, func(err error) {
		if err != nil {
			c.log.Warn().AnErr(keyError, err).Msg("adopted tasks not stored; trying again")
			c.after(c.config.Times.StoreRetry, func() { c.storeAdopted(adopted, then) })
			return
		}
		c.ask(tasks, "")
		then()
	})
}

func taskLabel(t mesos.Task, key string) string {
	for _, l := range t.GetLabels().GetLabels() {
		if l.Key == key {
			return l.GetValue()
		}
	}
	return ""
}

// describedPorts are a task's ports in the order of its definition.
func describedPorts(t mesos.Task) []uint32 {
	var ports []uint32
	for _, p := range t.GetDiscovery().GetPorts().GetPorts() {
		ports = append(ports, p.Number)
	}
	return ports
}
