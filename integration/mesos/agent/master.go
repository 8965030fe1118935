package agent

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// The pause between attempts to register doubles between these.
const (
	minRegisterInterval = time.Second
	maxRegisterInterval = time.Minute
)

// firstRandom is the fraction of RegistrationBackoff that an agent waits. Mesos means
// it to be random and never seeds the generator, whose first number is this.
const firstRandom = 0.84

// sendLocked sends to the master, if there is one.
func (a *Agent) sendLocked(m link.Message) {
	if a.master != nil {
		a.master.Send(m)
	}
}

// masterLoop keeps a connection to the leading master until this life ends.
func (a *Agent) masterLoop() {
	for {
		end, err := a.line.Dial(a.ctx)
		if err != nil {
			return
		}
		a.talk(end)
		end.Close()
		if a.ctx.Err() != nil {
			return
		}
	}
}

// talk registers on one connection and handles what the master says until the
// connection breaks.
func (a *Agent) talk(end *link.End) {
	a.mu.Lock()
	if a.phase == dead {
		a.mu.Unlock()
		return
	}
	a.master = end
	a.becomeDisconnectedLocked()
	pause := time.Duration(0)
	if a.cfg.RegistrationBackoff > 0 {
		pause = time.Duration(firstRandom * float64(a.cfg.RegistrationBackoff))
	}
	s := &session{agent: a, interval: max(a.cfg.RegistrationBackoff, minRegisterInterval)}
	s.register = a.after(pause, s.attempt)
	a.mu.Unlock()

	for {
		message, err := end.Next(a.ctx)
		a.awaitThaw()
		a.mu.Lock()
		if err != nil || a.phase == dead {
			s.stopLocked()
			if a.master == end {
				a.master = nil
				a.becomeDisconnectedLocked()
			}
			a.mu.Unlock()
			return
		}
		s.handle(message)
		a.mu.Unlock()
	}
}

func (a *Agent) becomeDisconnectedLocked() {
	if a.phase == running || a.phase == recovering {
		a.phase = disconnected
	}
	a.updates.pause()
}

// session is one connection to a master. Its methods are called with the lock held.
type session struct {
	agent    *Agent
	interval time.Duration
	register *time.Timer // pending attempt to register
	ping     *time.Timer // runs out when the master has forgotten the agent
	patience time.Duration
}

func (s *session) stopLocked() {
	s.agent.stopTimerLocked(s.register)
	s.agent.stopTimerLocked(s.ping)
}

// attempt sends a registration and sets the timer for the next one.
func (s *session) attempt() {
	a := s.agent
	if a.phase == running {
		return
	}
	if a.phase == terminating && !a.registered {
		return
	}
	endpoint := link.Endpoint{PID: a.PID(), Version: a.cfg.Version}
	if a.registered {
		a.sendLocked(a.reregistrationLocked(endpoint))
	} else {
		a.sendLocked(link.RegisterAgent{Agent: a.info, Endpoint: endpoint})
	}
	s.register = a.after(s.interval, s.attempt)
	s.interval = min(2*s.interval, maxRegisterInterval)
}

func (a *Agent) reregistrationLocked(endpoint link.Endpoint) link.ReregisterAgent {
	m := link.ReregisterAgent{Agent: a.info, Endpoint: endpoint, Drain: a.drain}
	for _, f := range a.frameworks {
		m.Frameworks = append(m.Frameworks, f.info)
		for _, e := range f.order {
			if e.state != executorTerminated {
				m.Executors = append(m.Executors, e.info)
			}
			for _, t := range e.order {
				m.Tasks = append(m.Tasks, t.state)
			}
		}
	}
	return m
}

// alive is called for each sign of life of the master.
func (s *session) alive() {
	a := s.agent
	a.stopTimerLocked(s.ping)
	s.ping = nil
	if s.patience > 0 {
		s.ping = a.after(s.patience, func() {
			a.log.Warn().Dur("timeout", s.patience).Msg("no ping from the master, registering again")
			s.again()
		})
	}
}

// again registers anew on the same connection.
func (s *session) again() {
	a := s.agent
	a.becomeDisconnectedLocked()
	a.stopTimerLocked(s.register)
	s.interval = max(a.cfg.RegistrationBackoff, minRegisterInterval)
	s.attempt()
}

// connected ends the attempts to register.
func (s *session) connected(total time.Duration) {
	a := s.agent
	a.stopTimerLocked(s.register)
	s.register = nil
	s.patience = total
	s.alive()
	if a.phase != terminating {
		a.phase = running
	}
	for _, exited := range a.unsent {
		a.sendLocked(exited)
	}
	a.unsent = nil
	// Real agents send what is in front two or three times here, because the
	// manager is resumed by more than one of the steps.
	a.updates.resume()
}

func (s *session) handle(message link.Message) {
	a := s.agent
	switch m := message.(type) {
	case link.Registered:
		if a.registered && a.info.GetID().GetValue() != m.AgentID {
			a.log.Error().Str(keyAgent, m.AgentID).Msg("master gave another id; ignored")
			return
		}
		if !a.registered {
			a.info.ID = &mesos.AgentID{Value: m.AgentID}
			a.registered = true
			if err := a.saveAgentLocked(); err != nil {
				a.log.Error().Err(err).Msg("agent cannot be checkpointed")
			}
			a.log.Info().Str(keyAgent, m.AgentID).Msg("registered")
		}
		s.connected(m.TotalPingTimeout)
	case link.Reregistered:
		s.connected(m.TotalPingTimeout)
		a.log.Info().Str(keyAgent, m.AgentID).Msg("registered again")
		for _, r := range m.Reconciliations {
			a.reconcileLocked(r)
		}
	case link.Ping:
		a.sendLocked(link.Pong{})
		s.alive()
		if !m.Connected && a.phase == running {
			s.again()
		}
	case link.RunTask:
		a.runTaskLocked(m)
	case link.RunTaskGroup:
		a.runGroupLocked(m)
	case link.KillTask:
		a.killTaskLocked(m)
	case link.Acknowledge:
		a.acknowledgedLocked(m)
	case link.ShutdownExecutor:
		a.shutdownExecutorLocked(m)
	case link.ShutdownFramework:
		a.shutdownFrameworkLocked(m.FrameworkID)
	case link.FrameworkMessage:
		a.messageLocked(m)
	case link.UpdateFramework:
		a.updateFrameworkLocked(m.Framework)
	case link.Drain:
		config := m.Config
		a.drain = &config
		a.saveDrainLocked()
		a.drainTasksLocked()
		a.undrainLocked()
	case link.Shutdown:
		a.shutdownLocked(m.Message, false)
	default:
		a.log.Error().Type("message", message).Msg("unknown message from the master")
	}
}

// reconcileLocked answers for tasks that the master believes to be here.
func (a *Agent) reconcileLocked(r link.Reconciliation) {
	f := a.frameworks[r.Framework.GetID().GetValue()]
	if f == nil {
		f = &framework{id: r.Framework.GetID().GetValue(), info: r.Framework}
	}
	for _, status := range r.Tasks {
		id := status.TaskID.Value
		if _, t := f.executorOf(id); t != nil {
			continue
		}
		if a.updates.streams[updateKey{f.id, id}] != nil {
			continue
		}
		dropped := a.statusLocked(id, status.GetExecutorID().GetValue(), f.either(mesos.TASK_DROPPED),
			mesos.REASON_RECONCILIATION, "Reconciliation: task unknown to the agent")
		a.updateLocked(f, dropped)
	}
}

// updateFrameworkLocked takes a new FrameworkInfo. Every front update is sent
// again, those of other frameworks too.
func (a *Agent) updateFrameworkLocked(info mesos.FrameworkInfo) {
	f := a.frameworks[info.GetID().GetValue()]
	if f == nil {
		return
	}
	f.info = info
	if f.checkpoints() {
		a.saveFramework(f)
	}
	if !a.updates.paused {
		a.updates.resume()
	}
}
