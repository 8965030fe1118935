package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"pacer/scheduler/master"
	"pacer/scheduler/state"
)

// connection is the subscription and what the master has told us under it.
type connection struct {
	subscribed bool
	// generation counts subscriptions: calls made under an old one are void.
	generation int
	url        string
	since      time.Time
	region     string // of the master, or empty

	// barrier is a task that does not exist. The master answers questions in
	// order, so that its answer means that all others have been answered.
	barrier string
	// reconciled is set by the first answer to a barrier in this life.
	reconciled bool
	// returns is a task that does not exist, asked about without an agent: the
	// master answers that only when all agents that it has to wait for after a
	// failover have come back, or have been given up.
	returns string
	// waited is set once the master has not answered that at once.
	waited bool
}

// reconcileBatch is how many tasks one RECONCILE asks about.
const reconcileBatch = 1000

// barrierPrefix begins the IDs of tasks that do not exist. It is no app's.
const barrierPrefix = "pacer_barrier_."

func (c *core) subscribed(sub master.Subscription) {
	con := &c.connection
	con.subscribed = true
	c.s.metrics.subscribed.Inc()
	con.generation++
	con.returns = ""
	con.url, con.since = sub.URL, c.now
	con.region = sub.Master.GetDomain().GetFaultDomain().GetRegion().Name
	if sub.FrameworkID != c.frameworkID {
		c.frameworkID, c.frameworkStored = sub.FrameworkID, false
		c.storeFramework()
	}
	c.forgetOffers()
	// What was declined under the subscription before may still be withheld: the
	// master keeps filters when one subscription takes over from another, and a
	// REVIVE that was under way then has been lost.
	c.offerState = offerState{reviveWanted: true, declined: true}
	c.kills.resendAll()
	c.reconcileAll(con.generation)
}

func (c *core) disconnected(reason error) {
	c.connection.subscribed = false
	c.connection.url = ""
	c.forgetOffers()
	c.log.Warn().AnErr(keyError, reason).Msg("subscription ended; tasks go on")
}

// storeFramework stores the framework id; nothing is launched before that.
func (c *core) storeFramework() {
	id := c.frameworkID
	var change state.Change
	change.SetFramework(id)
	c.submit(&change, func(err error) {
		switch {
		case id != c.frameworkID:
		case err == nil:
			c.frameworkStored = true
		default:
			c.log.Warn().AnErr(keyError, err).Msg("framework id not stored; trying again")
			c.after(c.config.Times.StoreRetry, c.storeFramework)
		}
	})
}

// reconcileAll asks about all tasks, those that we know by name and with their
// agents, because only then an unreachable one is told from a dead one; then
// about all that the master knows; then about the barrier. It does so again
// after a while, soon if the barrier was not answered.
func (c *core) reconcileAll(generation int) {
	con := &c.connection
	if generation != con.generation || !con.subscribed {
		return
	}
	con.barrier = barrierPrefix + uuid.NewString()
	c.ask(c.askable(func(*instance) bool { return true }), con.barrier)
	barrier := con.barrier
	c.after(c.config.Times.ReconcileDoubtful, func() {
		if con.barrier == barrier {
			c.reconcileAll(generation)
		}
	})
	c.after(c.config.Times.ReconcileDoubtful, func() { c.reconcileDoubtful(generation) })
}

// barrierReached: everything asked before has been answered, as far as the
// master can.
func (c *core) barrierReached() {
	con := &c.connection
	con.barrier = ""
	generation := con.generation
	c.after(c.config.Times.Reconcile, func() { c.reconcileAll(generation) })
	if con.returns == "" {
		con.returns = barrierPrefix + uuid.NewString()
		con.waited = false
		c.askReturns(generation)
	}
	c.examineStrays(func() {
		if !con.reconciled {
			con.reconciled = true
			c.log.Info().Int(keyTasks, len(c.instances)).Int(keyCount, len(c.strays)).Msg("reconciled")
		}
		c.killStrays()
	})
}

// askReturns asks whether all agents are back, again and again until they are.
func (c *core) askReturns(generation int) {
	con := &c.connection
	returns := con.returns
	if generation != con.generation || !con.subscribed || returns == "" {
		return
	}
	c.ask([]master.Task{{ID: returns}}, "")
	c.after(c.config.Times.ReconcileDoubtful, func() {
		if con.returns == returns {
			con.waited = true
			c.askReturns(generation)
		}
	})
}

// allReturned: all agents are back, or lost. What they have was not in the
// answers before, and the master does not tell of it by itself.
func (c *core) allReturned() {
	con := &c.connection
	con.returns = ""
	if con.waited {
		con.waited = false
		c.log.Info().Msg("all agents are back at the master, or lost")
		c.reconcileAll(con.generation)
	}
}

// reconcileDoubtful asks about the tasks of which too little is known.
func (c *core) reconcileDoubtful(generation int) {
	if generation != c.connection.generation || !c.connection.subscribed {
		return
	}
	tasks := c.askable(func(i *instance) bool {
		switch {
		case i.stage == doubtful, i.restored && !i.heard:
			return true
		case i.killing:
			return !i.unreachable.IsZero() || i.killSent
		default:
			return !i.heard && c.now.Sub(i.record.Launched) > c.config.Times.LaunchTimeout || !i.unreachable.IsZero()
		}
	})
	if len(tasks) > 0 {
		c.ask(tasks, "")
	}
	c.after(c.config.Times.ReconcileDoubtful, func() { c.reconcileDoubtful(generation) })
}

// askable lists tasks that may be asked about. A task whose ACCEPT is under
// way would be answered as gone, and is launched a moment later.
func (c *core) askable(which func(*instance) bool) []master.Task {
	var tasks []master.Task
	for id, i := range c.instances {
		if i.settled() && !i.ended && which(i) {
			tasks = append(tasks, master.Task{ID: id, AgentID: i.record.AgentID})
		}
	}
	for _, s := range c.strays {
		if s.recorded {
			tasks = append(tasks, master.Task{ID: s.id, AgentID: s.agentID})
		}
	}
	return tasks
}

// ask sends the questions, in order.
func (c *core) ask(tasks []master.Task, barrier string) {
	c.call(func(ctx context.Context) error {
		for batch := range slices.Chunk(tasks, reconcileBatch) {
			if err := c.s.mesos.Reconcile(ctx, batch...); err != nil {
				return fmt.Errorf("reconcile %d tasks: %w", len(tasks), err)
			}
		}
		if barrier == "" {
			return nil
		}
		if err := c.s.mesos.Reconcile(ctx); err != nil {
			return fmt.Errorf("reconcile implicitly: %w", err)
		}
		return c.s.mesos.Reconcile(ctx, master.Task{ID: barrier, AgentID: barrier})
	}, func(err error) {
		if err != nil {
			c.log.Warn().AnErr(keyError, err).Msg("reconciliation not sent; trying again")
		}
	})
}

// logged is what to do after a call of which nothing but success is expected,
// and which is repeated in time anyway.
func (c *core) logged(what, id string) func(error) {
	return func(err error) {
		if err != nil {
			c.log.Warn().Str(keyReason, what).Str(keyTask, id).AnErr(keyError, err).Msg("call not sent; it is repeated later")
		}
	}
}
