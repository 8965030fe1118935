package placement

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
)

// Agent is what one agent offers.
type Agent struct {
	// Offers are all outstanding ones of the agent, at least one.
	Offers []mesos.Offer
	// Executors that are alive on the agent and as they should be, by the key
	// of the requests that may use them. They are not charged again.
	Executors map[string]string
}

// ID of the agent.
func (a *Agent) ID() string { return a.Offers[0].AgentID.Value }

// Hostname of the agent.
func (a *Agent) Hostname() string { return a.Offers[0].Hostname }

// Request asks for instances of one app.
type Request struct {
	App *app.App
	// Count of instances wanted now.
	Count int
	// Placed are the app's instances that constraints have to look at.
	Placed []Placed
	// ExecutorKey names the executor that instances need: requests with the
	// same key share one on each agent. Empty means that every instance gets
	// an executor of its own.
	ExecutorKey string
}

// Placed is an instance that exists.
type Placed struct {
	AgentID  string
	Hostname string
	// Attributes of its agent, at least those that the app's constraints mention.
	Attributes map[string]string
}

// Config of a placement.
type Config struct {
	// ExecutorCPUs in cores and ExecutorMem in MiB of a new executor.
	ExecutorCPUs, ExecutorMem app.Milli
	// Strategy decides among agents that fit.
	Strategy Strategy
	// Now is compared with announced maintenance.
	Now time.Time
	// Random decides between equals, ports among them, so that a port is not
	// taken again as soon as it is free. Required.
	Random *rand.Rand
	// HomeRegion is the master's, or empty if it has none. Apps without a
	// constraint on @region stay there, on agents of that region or of none:
	// the framework is offered remote ones, too, since it is region-aware.
	HomeRegion string
	// MaxPerAgent bounds the launches on one agent in one go; 0 means no bound.
	MaxPerAgent int
}

// Strategy is how to choose among agents that fit.
type Strategy string

// Strategies.
const (
	// Spread puts instances of an app on as many agents as there are.
	Spread Strategy = "spread"
	// Pack fills one agent before it takes the next.
	Pack Strategy = "pack"
)

// Launch is one instance to launch.
type Launch struct {
	App *app.App
	// Agent is the index into the agents given to Place.
	Agent int
	// Resources of the task.
	Resources []mesos.Resource
	// Ports in the order of the app's.
	Ports []uint32
	// Executor is an index into Result.Executors, or -1 if ExecutorID names a
	// live one.
	Executor   int
	ExecutorID string
	// Attributes of the agent that the app's constraints mention.
	Attributes map[string]string
}

// Executor is one that has to be started.
type Executor struct {
	Agent     int
	Key       string
	Resources []mesos.Resource
}

// Result of [Place].
type Result struct {
	Launches  []Launch
	Executors []Executor
	// Waiting says why instances could not be placed, by app ID.
	Waiting map[string]*Waiting
}

// Place decides which of the requested instances are launched where.
func Place(config Config, agents []Agent, requests []Request) Result {
	result := Result{Waiting: make(map[string]*Waiting)}
	hosts := make([]*host, len(agents))
	for i := range agents {
		hosts[i] = newHost(i, &agents[i])
	}
	turns := make([]*turn, 0, len(requests))
	for _, r := range requests {
		if r.Count > 0 {
			turns = append(turns, newTurn(config, r, hosts))
		}
	}
	for active := slices.Clone(turns); len(active) > 0; {
		active = slices.DeleteFunc(active, func(t *turn) bool {
			return !t.placeOne(config, &result) || t.wanted == 0
		})
	}
	for _, t := range turns {
		if t.wanted > 0 {
			result.Waiting[t.App.ID] = t.explain(config)
		}
	}
	return result
}

// host is an agent while its offers are being used up.
type host struct {
	index     int
	agent     *Agent
	pool      pool
	launches  int
	executors map[string]int // key to index in Result.Executors
}

func newHost(index int, agent *Agent) *host {
	return &host{index: index, agent: agent, pool: newPool(agent.Offers), executors: make(map[string]int)}
}

func (h *host) inMaintenance(now time.Time) bool {
	for i := range h.agent.Offers {
		u := h.agent.Offers[i].Unavailability
		if u == nil {
			continue
		}
		start := time.Unix(0, u.Start.Nanoseconds)
		if now.Before(start) {
			continue
		}
		if u.Duration == nil || now.Before(start.Add(time.Duration(u.Duration.Nanoseconds))) {
			return true
		}
	}
	return false
}

// turn is a request while it is being served.
type turn struct {
	Request
	wanted      int
	all         []*host
	hosts       []*host        // those that may still fit, best first
	at          int            // where to look next
	here        map[string]int // the app's instances on each agent
	constraints []constraint
	sticky      bool // whether a host that does not fit now never will
}

func newTurn(config Config, r Request, hosts []*host) *turn {
	t := &turn{Request: r, wanted: r.Count, all: hosts, hosts: slices.Clone(hosts), here: make(map[string]int), sticky: true}
	config.Random.Shuffle(len(t.hosts), func(i, j int) { t.hosts[i], t.hosts[j] = t.hosts[j], t.hosts[i] })
	for _, p := range r.Placed {
		t.here[p.AgentID]++
	}
	if config.Strategy == Pack {
		// The fullest first.
		slices.SortStableFunc(t.hosts, func(a, b *host) int { return cmp.Compare(a.pool.total("cpus", nil), b.pool.total("cpus", nil)) })
	} else {
		slices.SortStableFunc(t.hosts, func(a, b *host) int { return t.here[a.agent.ID()] - t.here[b.agent.ID()] })
	}
	if c := (app.Constraint{Field: fieldRegion, Operator: app.Is, Value: config.HomeRegion}); config.HomeRegion != "" && !mentions(r.App, fieldRegion) {
		home := newConstraint(c, nil)
		home.optional = true
		t.constraints = append(t.constraints, home)
	}
	for _, c := range r.App.Constraints {
		t.constraints = append(t.constraints, newConstraint(c, r.Placed))
		t.sticky = t.sticky && !t.constraints[len(t.constraints)-1].mayOpen()
	}
	return t
}

// placeOne launches one instance, if any host fits.
func (t *turn) placeOne(config Config, result *Result) bool {
	if config.Strategy != Pack && t.at < len(t.hosts) && t.here[t.hosts[t.at].agent.ID()] > t.here[t.hosts[0].agent.ID()] {
		t.at = 0 // hosts are in order of what they have: begin another round
	}
	for tried := 0; tried < len(t.hosts); {
		if t.at >= len(t.hosts) {
			t.at = 0
		}
		h := t.hosts[t.at]
		launch, reason := t.try(config, h, result)
		if reason == "" {
			result.Launches = append(result.Launches, launch)
			t.wanted--
			h.launches++
			t.here[h.agent.ID()]++
			if config.Strategy != Pack {
				t.at++
			}
			return true
		}
		if t.sticky || reason != UnfulfilledConstraint {
			t.hosts = slices.Delete(t.hosts, t.at, t.at+1)
			continue
		}
		t.at++
		tried++
	}
	return false
}

// fits tells why an instance does not fit on h, without taking anything.
func (t *turn) fits(config Config, h *host) Reason {
	if h.inMaintenance(config.Now) {
		return AgentMaintenance
	}
	if len(t.App.AcceptedResourceRoles) > 0 && !h.pool.hasRole(t.App.AcceptedResourceRoles) {
		return UnfulfilledRole
	}
	for i := range t.constraints {
		if !t.constraints[i].allows(h) {
			return UnfulfilledConstraint
		}
	}
	if config.MaxPerAgent > 0 && h.launches >= config.MaxPerAgent {
		return busy
	}
	return ""
}

func (t *turn) try(config Config, h *host, result *Result) (Launch, Reason) {
	if reason := t.fits(config, h); reason != "" {
		return Launch{}, reason
	}
	launch := Launch{App: t.App, Agent: h.index, Executor: -1}
	before := h.pool.mark()
	var executor *Executor
	if id, live := h.agent.Executors[t.ExecutorKey]; live && t.ExecutorKey != "" {
		launch.ExecutorID = id
	} else if index, started := h.executors[t.ExecutorKey]; started && t.ExecutorKey != "" {
		launch.Executor = index
	} else {
		executor = &Executor{Agent: h.index, Key: t.ExecutorKey}
		var reason Reason
		executor.Resources, reason = h.pool.take(amounts{CPUs: config.ExecutorCPUs, Mem: config.ExecutorMem}, nil)
		if reason != "" {
			h.pool.reset(before)
			return Launch{}, reason
		}
	}
	var reason Reason
	launch.Resources, reason = h.pool.take(wanted(t.App), t.App.AcceptedResourceRoles)
	if reason == "" {
		var ports []mesos.Resource
		launch.Ports, ports, reason = h.pool.takePorts(t.App, config.Random)
		launch.Resources = append(launch.Resources, ports...)
	}
	if reason != "" {
		h.pool.reset(before)
		return Launch{}, reason
	}
	if executor != nil {
		launch.Executor = len(result.Executors)
		result.Executors = append(result.Executors, *executor)
		if t.ExecutorKey != "" {
			h.executors[t.ExecutorKey] = launch.Executor
		}
	}
	for i := range t.constraints {
		t.constraints[i].place(h)
	}
	launch.Attributes = attributes(t.App, h.agent)
	return launch, ""
}
