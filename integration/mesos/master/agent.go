package master

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
)

// agent is one row of the table of registered agents, connected or not.
type agent struct {
	id       string
	info     mesos.AgentInfo // with id
	endpoint link.Endpoint
	total    resource.Set

	// end is the connection; nil while the agent is disconnected.
	end       *link.End
	connected bool
	// active is false while the agent gets no offers made: disconnected, draining
	// or deactivated.
	active bool

	// used is what tasks, executors and offers take, without allocation.
	used      resource.Set
	allocated resource.Set // tasks and executors, with allocation
	tasks     map[taskKey]*task
	executors map[executorKey]*executor
	offers    map[string]*offer
	// killed are the tasks whose KILL came while the agent was disconnected.
	killed map[taskKey]bool

	registered, reregistered time.Time
	drainStarted             time.Time

	pinged       bool // waiting for a Pong
	pingTimeouts int
	cancelPing   func()
}

// fromAgent handles one message.
func (c *core) fromAgent(end *link.End, message link.Message) {
	if c.recovering || !c.m.led {
		return // dropped: agents try again
	}
	switch message := message.(type) {
	case link.RegisterAgent:
		c.registerAgent(end, message)
		return
	case link.ReregisterAgent:
		c.reregisterAgent(end, message)
		return
	case link.UnregisterAgent:
		if a := c.agents[message.AgentID]; a != nil {
			c.trace(a.id, "master", message)
			c.removeAgent(a, "the agent unregistered")
		}
		return
	}
	a := c.agentOf(end)
	if a == nil {
		// From an agent that has been removed meanwhile.
		if _, isUpdate := message.(link.StatusUpdate); isUpdate {
			c.count("master/messages_status_update")
			c.count("master/invalid_status_updates")
		}
		return
	}
	if _, pong := message.(link.Pong); !pong {
		c.trace(a.id, "master", message)
	}
	switch message := message.(type) {
	case link.StatusUpdate:
		c.statusUpdate(a, message)
	case link.ExitedExecutor:
		c.exitedExecutor(a, message)
	case link.ExecutorMessage:
		c.count("master/messages_executor_to_framework")
		if f := c.frameworks[message.FrameworkID]; f != nil {
			c.emit(f, &scheduler.Event{Type: scheduler.Event_MESSAGE, Message: &scheduler.Event_Message{
				AgentID:    mesos.AgentID{Value: a.id},
				ExecutorID: mesos.ExecutorID{Value: message.ExecutorID},
				Data:       message.Data,
			}})
		}
	case link.Pong:
		a.pinged, a.pingTimeouts = false, 0
	default:
		c.log.Error().Str(keyAgent, a.id).Str("type", fmt.Sprintf("%T", message)).Msg("message not understood")
	}
}

// agentOf returns the agent whose connection this is.
func (c *core) agentOf(end *link.End) *agent { return c.byEnd[end] }

// bind makes end the agent's connection.
func (c *core) bind(a *agent, end *link.End) {
	if a.end != nil && a.end != end {
		delete(c.byEnd, a.end)
		a.end.Close()
	}
	a.end = end
	c.byEnd[end] = a
	a.connected = true
}

// unbind forgets the agent's connection without closing it.
func (c *core) unbind(a *agent) {
	delete(c.byEnd, a.end)
	a.end, a.connected = nil, false
}

func (c *core) totalPingTimeout() time.Duration {
	return c.config.AgentPingTimeout * time.Duration(c.config.MaxAgentPingTimeouts)
}

// registerAgent admits an agent that has no id.
func (c *core) registerAgent(end *link.End, message link.RegisterAgent) {
	if a := c.agentOf(end); a != nil {
		// It has not heard our answer yet.
		c.toAgent(a, link.Registered{AgentID: a.id, TotalPingTimeout: c.totalPingTimeout()})
		return
	}
	for _, a := range c.agents {
		if a.endpoint.PID == message.PID {
			c.removeAgent(a, "a new agent registered at the same address")
		}
	}
	id := fmt.Sprintf("%s-S%d", c.config.ID, c.agentCount)
	c.agentCount++
	info := message.Agent
	info.ID = &mesos.AgentID{Value: id}
	c.trace(id, "master", message)
	a := c.newAgent(id, info, message.Endpoint)
	c.bind(a, end)
	a.active = true
	c.registry.admit(id, info)
	c.count("master/slave_registrations")
	c.toAgent(a, link.Registered{AgentID: id, TotalPingTimeout: c.totalPingTimeout()})
	c.observe(a)
	c.watch(&watched{agentAdded: a})
	c.log.Info().Str(keyAgent, id).Str("pid", a.endpoint.PID).Msg("agent registered")
	c.allocate([]*agent{a})
}

func (c *core) newAgent(id string, info mesos.AgentInfo, endpoint link.Endpoint) *agent {
	a := &agent{
		id:         id,
		info:       info,
		endpoint:   endpoint,
		total:      resource.MustFrom(info.Resources),
		tasks:      make(map[taskKey]*task),
		executors:  make(map[executorKey]*executor),
		offers:     make(map[string]*offer),
		killed:     make(map[taskKey]bool),
		registered: time.Now(),
		cancelPing: func() {},
	}
	c.agents[id] = a
	return a
}

// reregisterAgent takes back an agent that has an id.
func (c *core) reregisterAgent(end *link.End, message link.ReregisterAgent) {
	id := message.Agent.GetID().GetValue()
	c.trace(id, "master", message)
	if c.registry.isGone(id) {
		end.Send(link.Shutdown{Message: "Agent has been marked gone"})
		return
	}
	c.count("master/slave_reregistrations")
	if a := c.agents[id]; a != nil {
		c.reconnectAgent(a, end, message)
	} else {
		c.returnAgent(id, end, message)
	}
}

// reconnectAgent takes back an agent whose tasks the master holds.
func (c *core) reconnectAgent(a *agent, end *link.End, message link.ReregisterAgent) {
	a.info, a.endpoint = message.Agent, message.Endpoint
	a.total = resource.MustFrom(message.Agent.Resources)
	wasConnected := a.connected
	c.bind(a, end)
	// A restarted agent answers pings before it re-registers; here it gets them on
	// its new connection only.
	a.pinged, a.pingTimeouts = false, 0
	a.reregistered = time.Now()
	c.registry.admit(a.id, a.info)
	c.log.Info().Str(keyAgent, a.id).Msg("agent reconnected")

	listed := make(map[taskKey]bool)
	for i := range message.Tasks {
		t := &message.Tasks[i]
		listed[taskKey{t.FrameworkID.Value, t.TaskID.Value}] = true
	}
	missing := make(map[string]*link.Reconciliation)
	for key, t := range a.tasks {
		if listed[key] {
			continue
		}
		r := missing[key.framework]
		if r == nil {
			r = &link.Reconciliation{Framework: t.framework.info}
			missing[key.framework] = r
		}
		status := c.reconciled(t)
		message := "Reconciliation request"
		status.Message = &message
		r.Tasks = append(r.Tasks, status)
	}
	answer := link.Reregistered{AgentID: a.id, TotalPingTimeout: c.totalPingTimeout()}
	for _, r := range missing {
		answer.Reconciliations = append(answer.Reconciliations, *r)
	}
	c.toAgent(a, answer)

	alive := make(map[executorKey]bool)
	for i := range message.Executors {
		e := &message.Executors[i]
		alive[executorKey{e.FrameworkID.GetValue(), e.ExecutorID.Value}] = true
	}
	for key := range a.executors {
		if !alive[key] {
			c.removeExecutor(a, key)
		}
	}
	for i := range message.Tasks {
		t := &message.Tasks[i]
		if key := (taskKey{t.FrameworkID.Value, t.TaskID.Value}); a.killed[key] && !isTerminal(t.GetState()) {
			c.toAgent(a, link.KillTask{FrameworkID: key.framework, TaskID: key.task})
		}
	}
	clear(a.killed)
	if !wasConnected {
		a.active = !c.registry.isDeactivated(a.id)
	}
	c.afterReregistration(a, message)
}

// returnAgent takes back an agent that this master does not hold: after a master
// failover, or from being unreachable.
func (c *core) returnAgent(id string, end *link.End, message link.ReregisterAgent) {
	_, expected := c.recovered[id]
	_, unreachable := c.registry.unreachableSince(id)
	delete(c.recovered, id)
	for _, key := range c.unreachable[id] {
		if f := c.frameworks[key.framework]; f != nil {
			delete(f.unreachable, key.task)
		}
	}
	delete(c.unreachable, id)

	a := c.newAgent(id, message.Agent, message.Endpoint)
	c.bind(a, end)
	a.active = !c.registry.isDeactivated(id)
	a.reregistered = time.Now()
	c.registry.admit(id, message.Agent)
	c.log.Info().Str(keyAgent, id).Bool("expected", expected).Bool("unreachable", unreachable).Msg("agent returned")

	for _, info := range message.Frameworks {
		frameworkID := info.GetID().GetValue()
		if frameworkID != "" && c.frameworks[frameworkID] == nil && !c.isCompleted(frameworkID) {
			f := c.newFramework(info)
			f.recovered = true
			c.frameworkAdded(f)
		}
	}
	for _, e := range message.Executors {
		if f := c.frameworks[e.FrameworkID.GetValue()]; f != nil {
			c.addExecutor(a, f, e, false)
		}
	}
	text := "Unknown agent reregistered"
	if unreachable {
		text = "Unreachable agent re-reregistered"
	}
	for _, proto := range message.Tasks {
		f := c.frameworks[proto.FrameworkID.Value]
		if f == nil {
			continue
		}
		taskID := proto.TaskID.Value
		f.completed = slices.DeleteFunc(f.completed, func(t mesos.Task) bool { return t.TaskID.Value == taskID })
		c.insertTask(&task{framework: f, agent: a, proto: proto, resources: resource.MustFrom(proto.Resources)})
		if !expected {
			c.forward(f, c.describe(proto, proto.GetState(), mesos.REASON_AGENT_REREGISTERED, text))
		}
	}
	c.toAgent(a, link.Reregistered{AgentID: id, TotalPingTimeout: c.totalPingTimeout()})
	c.observe(a)
	c.watch(&watched{agentAdded: a})
	c.afterReregistration(a, message)
	c.allocate([]*agent{a})
}

// afterReregistration is what both kinds of return have in common.
func (c *core) afterReregistration(a *agent, message link.ReregisterAgent) {
	if drain, draining := c.registry.drain(a.id); draining {
		c.toAgent(a, link.Drain{Config: drain.Config})
		c.checkDrained(a)
	}
	for _, info := range message.Frameworks {
		id := info.GetID().GetValue()
		if c.isCompleted(id) {
			c.toAgent(a, link.ShutdownFramework{FrameworkID: id})
		} else if f := c.frameworks[id]; f != nil && !f.recovered {
			c.toAgent(a, link.UpdateFramework{Framework: f.info})
		}
	}
}

// observe pings the agent for as long as it is registered.
func (c *core) observe(a *agent) {
	var ping func()
	ping = func() {
		if c.agents[a.id] != a {
			return
		}
		if a.pinged {
			a.pingTimeouts++
			if a.pingTimeouts >= c.config.MaxAgentPingTimeouts {
				c.markUnreachable(a, "health check timed out")
				return
			}
		}
		a.pinged = true
		if a.end != nil {
			a.end.Send(link.Ping{Connected: a.connected})
		}
		a.cancelPing = c.m.after(c.config.AgentPingTimeout, ping)
	}
	ping()
}

// url is where an agent's HTTP API is, from its PID "slave(1)@ip:port".
func (a *agent) url() *mesos.URL {
	process, address, _ := strings.Cut(a.endpoint.PID, "@")
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseInt(portText, 10, 32)
	if err != nil {
		return nil
	}
	path := "/" + process
	return &mesos.URL{
		Scheme:  "http",
		Address: mesos.Address{Hostname: &a.info.Hostname, IP: &host, Port: int32(port)},
		Path:    &path,
	}
}
