package scheduler

import (
	"context"
	"slices"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/placement"
)

// offersLane keeps REVIVE and SUPPRESS in order.
const offersLane = "offers"

// reviveInterval is the shortest time between two REVIVEs, each of which makes
// the master forget all filters.
const reviveInterval = time.Second

// executorLag is how long an executor that was just started may be missing in
// offers that were made before.
const executorLag = 5 * time.Second

// offerState is what the master has been told about our appetite.
type offerState struct {
	suppressed bool
	// declined means that some agents are filtered.
	declined bool
	// reviveWanted means that there is something new to place.
	reviveWanted bool
	revived      time.Time
	// waitingRevive means that a revive is on the agenda.
	waitingRevive bool
}

// agent is what is known of an agent of the cluster.
type agent struct {
	id     string
	offers []mesos.Offer
	// accepting means that an ACCEPT is under way: one at a time.
	accepting bool
	// avoid its offers until then: it dropped a launch.
	avoid time.Time
	// draining is set by a task that was killed for it, and taken back by time.
	draining bool
	// executors that are alive, by ID, and when we started them, if we did.
	executors map[string]time.Time
	// instances whose tasks are or will be on the agent.
	instances map[*instance]struct{}
	// closed executors were sent a SHUTDOWN, at that time.
	closed map[string]time.Time
}

// agent returns the agent of that ID.
func (c *core) agent(id string) *agent {
	a := c.agents[id]
	if a == nil {
		a = &agent{id: id, executors: make(map[string]time.Time), closed: make(map[string]time.Time)}
		c.agents[id] = a
	}
	return a
}

func (c *core) offered(offers []mesos.Offer) {
	for _, o := range offers {
		a := c.agent(o.AgentID.Value)
		a.offers = append(a.offers, o)
		c.offering[a] = struct{}{}
		c.observeExecutors(a, o.ExecutorIDs)
	}
}

func (c *core) rescinded(offerID string) {
	for a := range c.offering {
		a.offers = slices.DeleteFunc(a.offers, func(o mesos.Offer) bool { return o.ID.Value == offerID })
	}
}

// forgetOffers: the master has withdrawn all of them without a word.
func (c *core) forgetOffers() {
	for a := range c.offering {
		a.offers = nil
	}
	clear(c.offering)
}

// avoid leaves an agent alone for a while.
func (c *core) avoid(agentID string) {
	c.agent(agentID).avoid = c.now.Add(c.config.Times.AvoidAgent)
}

// failure: an agent or an executor has gone. It is only a hint.
func (c *core) failure(agentID, executorID string, status int32) {
	a := c.agents[agentID]
	if a == nil {
		return
	}
	if executorID == "" {
		c.log.Warn().Str(keyAgent, agentID).Msg("agent is gone")
		a.offers = nil
		clear(a.executors)
		return
	}
	c.log.Info().Str(keyAgent, agentID).Str(keyExecutor, executorID).Int32("status", status).Msg("executor ended")
	delete(a.executors, executorID)
	delete(a.closed, executorID)
}

// requests are what is to be placed now, those that wait longest first.
func (c *core) requests() []placement.Request {
	var waiting []*service
	for v := range c.hungry {
		if !v.backoff.waits(c.now) {
			waiting = append(waiting, v)
		}
	}
	slices.SortFunc(waiting, func(a, b *service) int {
		if order := a.waitingSince.Compare(b.waitingSince); order != 0 {
			return order
		}
		return byID(a, b)
	})
	list := make([]placement.Request, 0, len(waiting))
	for _, v := range waiting {
		list = append(list, placement.Request{
			App: v.app, Count: v.wanted, Placed: v.placed(), ExecutorKey: c.executors.key(v.app.ID),
		})
	}
	return list
}

// useOffers places what is wanted on what is offered and gives the rest back.
func (c *core) useOffers() {
	if c.suspended {
		for a := range c.offering {
			c.decline(a, c.config.Times.RefuseUnfit)
		}
		clear(c.offering)
		return
	}
	if c.blocked() != "" {
		return // offers are kept: they are wanted soon
	}
	wanting := false
	for v := range c.hungry {
		wanting = wanting || !v.backoff.waits(c.now)
	}
	if wanting {
		if free := c.freeAgents(); len(free) > 0 {
			wanting = c.place(c.requests(), free)
		}
	}
	refuse := c.config.Times.RefuseUnfit
	if len(c.hungry) == 0 {
		refuse = c.config.Times.RefuseIdle
	}
	for a := range c.offering {
		if len(a.offers) > 0 && !a.accepting {
			c.decline(a, refuse)
		}
		if len(a.offers) == 0 {
			delete(c.offering, a)
		}
	}
	c.adjustAppetite(wanting)
}

// freeAgents are those with offers that may be used now.
func (c *core) freeAgents() []*agent {
	var free []*agent
	for a := range c.offering {
		if len(a.offers) > 0 && !a.accepting && !c.now.Before(a.avoid) {
			free = append(free, a)
		}
	}
	slices.SortFunc(free, func(a, b *agent) int { return strings.Compare(a.id, b.id) })
	return free
}

// place decides and launches. It is true if something still waits.
func (c *core) place(requests []placement.Request, free []*agent) bool {
	agents := make([]placement.Agent, len(free))
	for n, a := range free {
		agents[n] = placement.Agent{Offers: a.offers, Executors: c.usableExecutors(a)}
	}
	result := placement.Place(placement.Config{
		ExecutorCPUs: c.config.Executor.CPUs, ExecutorMem: c.config.Executor.Mem,
		Strategy: c.config.Strategy, Now: c.now, Random: c.random, MaxPerAgent: maxPerAccept,
		HomeRegion: c.connection.region,
	}, agents, requests)
	launches := make([][]placement.Launch, len(free))
	used := make(map[string]int)
	for _, l := range result.Launches {
		launches[l.Agent] = append(launches[l.Agent], l)
		used[l.App.ID]++
	}
	numbers := make(map[*service]*shards)
	for n, list := range launches {
		if len(list) > 0 {
			c.launch(free[n], list, result.Executors, numbers)
		}
	}
	for _, r := range requests {
		v := c.services[r.App.ID]
		v.waiting = result.Waiting[r.App.ID]
		v.offers.processed += len(agents)
		if n := used[r.App.ID]; n > 0 {
			v.offers.lastUsed = c.now
		}
		if w := v.waiting; w != nil {
			v.offers.unused += w.Offers
			v.offers.lastUnused = c.now
		}
		c.stale[v] = struct{}{}
	}
	return len(result.Waiting) > 0
}

// decline gives all offers of an agent back.
func (c *core) decline(a *agent, refuse time.Duration) {
	ids := make([]string, 0, len(a.offers))
	for _, o := range a.offers {
		ids = append(ids, o.ID.Value)
	}
	a.offers = nil
	c.offerState.declined = true
	c.s.metrics.declined.Add(float64(len(ids)))
	c.s.calls.addTo(offersLane, func(ctx context.Context) {
		if err := c.s.mesos.Decline(ctx, ids, refuse); err != nil {
			c.log.Debug().AnErr(keyError, err).Msg("offers not declined; the master withdraws them")
		}
	})
}

// adjustAppetite asks for offers when there is something to place that those
// of before did not serve, and for none when nothing at all is wanted.
func (c *core) adjustAppetite(wanting bool) {
	o := &c.offerState
	switch {
	case len(c.hungry) == 0:
		o.reviveWanted = false
		if !o.suppressed {
			o.suppressed = true
			c.appetite(func(ctx context.Context) error { return c.s.mesos.Suppress(ctx) }, func() { o.suppressed = false })
		}
	case !wanting || !o.reviveWanted || !o.suppressed && !o.declined:
	case c.now.Sub(o.revived) < reviveInterval:
		if !o.waitingRevive {
			o.waitingRevive = true
			c.after(reviveInterval, func() { o.waitingRevive = false })
		}
	default:
		o.reviveWanted, o.suppressed, o.declined, o.revived = false, false, false, c.now
		c.appetite(func(ctx context.Context) error { return c.s.mesos.Revive(ctx) }, func() { o.reviveWanted, o.declined = true, true })
	}
}

// appetite makes a call in order with the other ones about offers; undo is
// done when it fails, so that it is tried again.
func (c *core) appetite(do func(context.Context) error, undo func()) {
	generation := c.connection.generation
	c.s.calls.addTo(offersLane, func(ctx context.Context) {
		err := do(ctx)
		if err == nil {
			return
		}
		c.s.inbox.post(func(*core) {
			c.log.Warn().AnErr(keyError, err).Msg("offers not asked for or suppressed; trying again")
			if generation == c.connection.generation {
				c.after(reviveInterval, undo)
			}
		})
	})
}
