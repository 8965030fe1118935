package simulated

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// registerInterval is the pause between attempts to register.
const registerInterval = time.Second

// version is what the agents claim to be.
const version = "1.12.0"

// Agent is one simulated agent.
type Agent struct {
	fleet *Fleet
	line  *link.Line
	host  string // numeric address

	mu         sync.Mutex
	random     *rand.Rand
	info       mesos.AgentInfo // with id once registered
	end        *link.End       // nil while there is no master
	registered bool            // on this connection
	patience   time.Duration   // how long the master may be silent
	heard      time.Time       // its last sign of life
	drain      *mesos.DrainConfig
	gone       bool // told to end
	frameworks map[string]*framework
	unsent     []link.ExitedExecutor // ends that no master has been told
}

// ID is the agent's id, "" before its registration.
func (a *Agent) ID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.idLocked()
}

func (a *Agent) idLocked() string { return a.info.GetID().GetValue() }

// Line is the agent's connection to masters, with its switches for faults.
func (a *Agent) Line() *link.Line { return a.line }

// run keeps a connection to the leading master.
func (a *Agent) run(ctx context.Context) {
	for {
		end, err := a.line.Dial(ctx)
		if err != nil {
			return
		}
		ended := a.talk(ctx, end)
		end.Close()
		if ended || ctx.Err() != nil {
			return
		}
	}
}

// talk handles one connection. It reports whether the agent has ended for good.
func (a *Agent) talk(ctx context.Context, end *link.End) bool {
	a.mu.Lock()
	a.end, a.registered = end, false
	a.registerLocked(end)
	a.mu.Unlock()
	for {
		message, err := end.Next(ctx)
		a.mu.Lock()
		if err == nil {
			a.handleLocked(message)
		}
		if err != nil || a.gone {
			a.end, a.registered = nil, false
			gone := a.gone
			a.mu.Unlock()
			return gone
		}
		a.mu.Unlock()
	}
}

// registerLocked tries to register on a connection until that works.
func (a *Agent) registerLocked(end *link.End) {
	if a.end != end || a.registered {
		return
	}
	endpoint := link.Endpoint{PID: "slave(1)@" + a.host + ":5051", Version: version}
	if a.info.ID == nil {
		end.Send(link.RegisterAgent{Agent: a.info, Endpoint: endpoint})
	} else {
		end.Send(a.reregistrationLocked(endpoint))
	}
	a.fleet.clock.after(registerInterval, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.registerLocked(end)
	})
}

// reregistrationLocked tells everything that a master has to know.
func (a *Agent) reregistrationLocked(endpoint link.Endpoint) link.ReregisterAgent {
	m := link.ReregisterAgent{Agent: a.info, Endpoint: endpoint, Drain: a.drain}
	for _, f := range a.frameworks {
		m.Frameworks = append(m.Frameworks, f.info)
		for _, e := range f.executors {
			if e.stage != executorEnded {
				m.Executors = append(m.Executors, e.info)
			}
		}
		for _, t := range f.tasks {
			if t.executor != nil {
				m.Tasks = append(m.Tasks, a.protoLocked(t))
			}
		}
	}
	return m
}

// registeredLocked goes on after the master's answer: what is not acknowledged is
// sent again.
func (a *Agent) registeredLocked(patience time.Duration) {
	if !a.registered {
		a.registered, a.patience, a.heard = true, patience, time.Now()
		a.watchLocked(a.end)
	}
	for _, exited := range a.unsent {
		a.end.Send(exited)
	}
	a.unsent = nil
	a.resumeLocked()
}

// watchLocked registers again when the master has been silent for too long: it does
// not know the agent any more.
func (a *Agent) watchLocked(end *link.End) {
	if a.patience <= 0 {
		return
	}
	a.fleet.clock.after(a.patience, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.end != end || !a.registered {
			return
		}
		if time.Since(a.heard) >= a.patience {
			a.registered = false
			a.registerLocked(end)
			return
		}
		a.watchLocked(end)
	})
}

func (a *Agent) handleLocked(message link.Message) {
	a.heard = time.Now()
	switch m := message.(type) {
	case link.Registered:
		if a.info.ID == nil {
			a.info.ID = &mesos.AgentID{Value: m.AgentID}
			a.fleet.config.Log.Debug().Str("agent_id", m.AgentID).Msg("simulated agent registered")
		}
		a.registeredLocked(m.TotalPingTimeout)
	case link.Reregistered:
		a.registeredLocked(m.TotalPingTimeout)
		for _, r := range m.Reconciliations {
			f := a.frameworkLocked(r.Framework)
			for _, status := range r.Tasks {
				if f.tasks[status.TaskID.Value] == nil {
					a.refuseLocked(f, status.TaskID.Value, status.GetExecutorID().GetValue(), mesos.REASON_RECONCILIATION,
						"Reconciliation: task unknown to the agent")
				}
			}
		}
	case link.Ping:
		a.end.Send(link.Pong{})
		if !m.Connected && a.registered {
			a.registered = false
			a.registerLocked(a.end)
		}
	case link.RunTask:
		if m.Task.Executor != nil {
			a.launchLocked(m.Framework, m.Task.Executor, []mesos.TaskInfo{m.Task}, m.LaunchExecutor)
		}
	case link.RunTaskGroup:
		a.launchLocked(m.Framework, &m.Executor, m.Group.Tasks, m.LaunchExecutor)
	case link.KillTask:
		a.killLocked(m.FrameworkID, m.TaskID)
	case link.Acknowledge:
		a.acknowledgeLocked(m)
	case link.ShutdownExecutor:
		if f := a.frameworks[m.FrameworkID]; f != nil && f.executors[m.ExecutorID] != nil {
			a.exitLocked(f.executors[m.ExecutorID], 0)
		}
	case link.ShutdownFramework:
		a.forgetLocked(m.FrameworkID)
	case link.UpdateFramework:
		if f := a.frameworks[m.Framework.GetID().GetValue()]; f != nil {
			f.setInfo(m.Framework)
			if a.registered {
				a.resumeLocked()
			}
		}
	case link.Drain:
		config := m.Config
		a.drain = &config
		for _, f := range a.frameworks {
			for id := range f.tasks {
				a.killLocked(f.id, id)
			}
		}
		a.undrainLocked()
	case link.Shutdown:
		for id := range a.frameworks {
			a.forgetLocked(id)
		}
		a.gone = true
	}
}

// undrainLocked ends draining: only when no executor is left, as in Mesos.
func (a *Agent) undrainLocked() {
	if len(a.frameworks) == 0 {
		a.drain = nil
	}
}

// forgetLocked drops a framework that has been removed.
func (a *Agent) forgetLocked(id string) {
	f := a.frameworks[id]
	if f == nil {
		return
	}
	for _, t := range f.tasks {
		t.over, t.pending = true, nil
	}
	for _, e := range f.executors {
		e.stage = executorEnded
	}
	a.fleet.stats.tasks.Add(-int64(len(f.tasks)))
	delete(a.frameworks, id)
	a.undrainLocked()
}
