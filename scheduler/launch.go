package scheduler

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/placement"
	"pacer/scheduler/state"
)

// maxPerAccept bounds the tasks of one ACCEPT, so that its records fit into
// one transaction of the store.
const maxPerAccept = 500

// launching is one ACCEPT from the decision to its answer.
type launching struct {
	agent     *agent
	offers    []string
	instances []*instance
	tasks     []mesos.TaskInfo
	executors []string // that are started
	// generation of the subscription that the offers belong to.
	generation int
}

// launch stores what is going to be launched on an agent, and launches it once
// that is stored. Without the record a crash would lose the task. numbers are
// those of the apps' instances, for all launches of one go.
func (c *core) launch(a *agent, launches []placement.Launch, starting []placement.Executor, numbers map[*service]*shards) {
	l := &launching{agent: a, generation: c.connection.generation}
	for _, o := range a.offers {
		l.offers = append(l.offers, o.ID.Value)
	}
	hostname := a.offers[0].Hostname
	a.offers = nil
	var change state.Change
	ids := make(map[int]string) // of executors that are started
	for _, p := range launches {
		v := c.services[p.App.ID]
		executorID := p.ExecutorID
		if p.Executor >= 0 {
			executorID = ids[p.Executor]
		}
		if executorID == "" {
			id, kind, err := c.executors.start(starting[p.Executor].Resources)
			if err != nil {
				c.log.Error().AnErr(keyError, err).Msg("executor cannot be described")
				continue
			}
			if !kind.stored {
				change.PutExecutor(kind.record)
			}
			ids[p.Executor], executorID = id, id
			l.executors = append(l.executors, id)
		}
		if numbers[v] == nil {
			numbers[v] = newShards(v)
		}
		record := &state.Task{
			ID:         v.app.TaskPrefix() + "." + uuid.NewString(),
			App:        v.app.ID,
			Version:    v.app.LastConfigChange.String(),
			AgentID:    a.id,
			Hostname:   hostname,
			ExecutorID: executorID,
			Ports:      p.Ports,
			Launched:   c.now,
			Shard:      numbers[v].take(),
			Attributes: p.Attributes,
		}
		task, err := c.taskInfo(v.app, record, p.Resources)
		if err != nil {
			c.log.Error().Str(keyApp, v.app.ID).AnErr(keyError, err).Msg("task cannot be described")
			continue
		}
		i := &instance{record: record, service: v, stage: storing}
		l.instances = append(l.instances, i)
		l.tasks = append(l.tasks, task)
		change.PutTask(record)
		c.adopt(i)
	}
	a.accepting = true
	ended := c.ends.take(&change)
	c.submit(&change, func(err error) {
		c.endsStored(ended, err)
		c.launchStored(l, err)
	})
}

// adopt makes an instance part of its service.
func (c *core) adopt(i *instance) {
	i.service.instances = append(i.service.instances, i)
	c.instances[i.record.ID] = i
	a := c.agent(i.record.AgentID)
	if a.instances == nil {
		a.instances = make(map[*instance]struct{})
	}
	a.instances[i] = struct{}{}
	c.touch(i.service)
}

// launchStored sends the ACCEPT, if all is still as it was.
func (c *core) launchStored(l *launching, err error) {
	a := l.agent
	if err != nil {
		c.log.Warn().Str(keyAgent, a.id).Int(keyCount, len(l.tasks)).AnErr(keyError, err).Msg("launch not stored; nothing is launched")
		a.accepting = false
		for _, i := range l.instances {
			c.forget(i)
		}
		c.giveBack(l)
		return
	}
	for _, i := range l.instances {
		if kind := c.executors.kind(i.record.ExecutorID); kind != nil {
			kind.stored = true
		}
	}
	var tasks []mesos.TaskInfo
	for n, i := range l.instances {
		if i.killing || l.generation != c.connection.generation {
			c.abandon(i)
			continue
		}
		i.stage = accepting
		tasks = append(tasks, l.tasks[n])
	}
	l.instances = slices.DeleteFunc(l.instances, func(i *instance) bool { return i.ended })
	if len(tasks) == 0 {
		a.accepting = false
		c.giveBack(l)
		return
	}
	// What is left of the offers comes back at once while something waits.
	refuse := c.config.Times.RefuseIdle
	if len(c.hungry) > 0 {
		refuse = 0
	} else {
		c.offerState.declined = true
	}
	operation := mesos.Offer_Operation{
		Type:   mesos.Offer_Operation_LAUNCH,
		Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
	}
	c.call(func(ctx context.Context) error {
		return c.s.mesos.Accept(ctx, l.offers, []mesos.Offer_Operation{operation}, refuse)
	}, func(err error) { c.launchAnswered(l, err) })
}

// launchAnswered: the master has the tasks, or not, or nobody knows.
func (c *core) launchAnswered(l *launching, err error) {
	l.agent.accepting = false
	switch {
	case err == nil:
		for _, id := range l.executors {
			l.agent.executors[id] = c.now
		}
		for _, i := range l.instances {
			if i.stage == accepting {
				i.stage = launched
			}
			c.log.Info().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyHost, i.record.Hostname).
				Str(keyVersion, i.record.Version).Msg("task launched")
			c.s.metrics.launched.Inc()
		}
	case errors.Is(err, master.ErrOutcomeUnknown):
		c.log.Warn().Str(keyAgent, l.agent.id).Int(keyCount, len(l.instances)).AnErr(keyError, err).Msg("nobody knows whether tasks were launched; asking")
		for _, i := range l.instances {
			if i.stage == accepting {
				i.stage = doubtful
			}
		}
	default:
		c.log.Warn().Str(keyAgent, l.agent.id).Int(keyCount, len(l.instances)).AnErr(keyError, err).Msg("launch not sent")
		for _, i := range l.instances {
			if i.stage == accepting && !i.ended {
				c.abandon(i)
			}
		}
	}
	if err != nil {
		c.giveBack(l) // without effect if they have been used
	}
}

// giveBack declines the offers of a launch that did not happen.
func (c *core) giveBack(l *launching) {
	if l.generation != c.connection.generation {
		return
	}
	c.offerState.declined, c.offerState.reviveWanted = true, true
	c.s.calls.addTo(offersLane, func(ctx context.Context) {
		if err := c.s.mesos.Decline(ctx, l.offers, 0); err != nil {
			c.log.Debug().AnErr(keyError, err).Msg("offers not declined; the master withdraws them")
		}
	})
}

// abandon takes back a launch that is stored and was never sent.
func (c *core) abandon(i *instance) { c.end(i, mesos.TaskStatus{}) }

// forget takes back a launch that was never stored.
func (c *core) forget(i *instance) {
	i.ended = true
	i.service.remove(i)
	delete(c.instances, i.record.ID)
	c.leave(i)
	c.touch(i.service)
}

// leave takes an instance off its agent.
func (c *core) leave(i *instance) {
	a := c.agents[i.record.AgentID]
	if a == nil {
		return
	}
	delete(a.instances, i)
	c.closeIdle(a)
}

// taskInfo describes a task to Mesos and to its executor.
func (c *core) taskInfo(a *app.App, record *state.Task, resources []mesos.Resource) (mesos.TaskInfo, error) {
	token, err := c.token(record)
	if err != nil {
		return mesos.TaskInfo{}, err
	}
	info, err := describeTask(a, record, token)
	if err != nil {
		return mesos.TaskInfo{}, err
	}
	info.Resources = resources
	info.Executor = c.executors.kind(record.ExecutorID).identified(record.ExecutorID, c.frameworkID)
	return info, nil
}
