package master

import (
	"maps"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/rs/zerolog"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
)

// Keys of log fields.
const (
	keyFramework = "framework_id"
	keyAgent     = "agent_id"
	keyTask      = "task_id"
	keyExecutor  = "executor_id"
	keyOffer     = "offer_id"
	keyReason    = "reason"
	keyError     = "error"
)

// core is a master's state. Its methods are called with Master.mu held.
type core struct {
	m      *Master
	config Config
	log    zerolog.Logger

	registry   *Registry
	frameworks map[string]*framework
	completed  []*framework // the oldest first, bounded
	agents     map[string]*agent
	byEnd      map[*link.End]*agent // connected agents
	// recovered are agents that the registry knows and that have not come back
	// to this master yet.
	recovered map[string]mesos.AgentInfo
	offers    map[string]*offer
	// unreachable names, per agent, the tasks that became unreachable with it.
	unreachable map[string][]taskKey

	frameworkCount, agentCount, offerCount int
	counters                               map[string]float64
	watchers                               []*watcher
	// recovering is true from the election until the registry has been read.
	recovering bool
	faults     faults
}

// taskKey names a task in the cluster.
type taskKey struct{ framework, task string }

// executorKey names an executor on an agent.
type executorKey struct{ framework, executor string }

func newCore(m *Master) *core {
	return &core{
		m:           m,
		config:      m.config,
		log:         m.config.Log,
		registry:    m.config.Registry,
		frameworks:  make(map[string]*framework),
		agents:      make(map[string]*agent),
		byEnd:       make(map[*link.End]*agent),
		recovered:   make(map[string]mesos.AgentInfo),
		offers:      make(map[string]*offer),
		unreachable: make(map[string][]taskKey),
		counters:    make(map[string]float64),
	}
}

// recover reads the registry and then begins to work.
func (c *core) recover() {
	if c.config.RecoveryTime > 0 {
		c.m.after(c.config.RecoveryTime, c.start)
		return
	}
	c.start()
}

// start sets the timers that run as long as the master does.
func (c *core) start() {
	c.recovering = false
	c.recovered = c.registry.agents()
	c.every(c.config.AllocationInterval, func() { c.allocate(slices.Collect(maps.Values(c.agents))) })
	if len(c.recovered) > 0 {
		c.m.after(c.config.AgentReregisterTimeout, c.giveUpRecovered)
	}
}

// every repeats action; the next period begins when the action does.
func (c *core) every(d time.Duration, action func()) {
	next := time.Now().Add(d)
	var tick func()
	tick = func() {
		next = next.Add(d)
		if now := time.Now(); next.Before(now) {
			next = now
		}
		c.m.after(time.Until(next), tick)
		action()
	}
	c.m.after(d, tick)
}

func (c *core) trace(from, to string, message any) {
	if c.config.Trace != nil {
		c.config.Trace(Entry{Time: time.Now(), From: from, To: to, Message: message})
	}
}

// toAgent sends a message; it is lost when the agent is not connected.
func (c *core) toAgent(a *agent, message link.Message) {
	c.trace("master", a.id, message)
	if a.end != nil {
		a.end.Send(message)
	}
}

// emit sends an event; it is lost when the framework is not connected.
func (c *core) emit(f *framework, event *scheduler.Event) {
	if f.stream == nil {
		return
	}
	c.trace("master", f.id, event)
	if err := f.stream.Send(event); err != nil {
		c.log.Error().Err(err).Str(keyFramework, f.id).Msg("event not sent")
	}
}

func (c *core) abortStreams() {
	for _, f := range c.frameworks {
		if f.stream != nil {
			f.stream.Abort()
		}
	}
	for _, w := range c.watchers {
		w.stream.Abort()
	}
}

func (c *core) count(name string) { c.counters[name]++ }

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

func now() *float64 {
	t := seconds(time.Now())
	return &t
}

func timeInfo(t time.Time) *mesos.TimeInfo { return &mesos.TimeInfo{Nanoseconds: t.UnixNano()} }

// quantities sums scalars by name, whatever their reservations.
type quantities map[string]int64

func (q quantities) add(s resource.Set, sign int64) {
	for _, name := range s.Scalars() {
		q[name] += sign * s.Scalar(name)
	}
}
