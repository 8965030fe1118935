package mesos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/agent"
)

// What can go wrong, and where to order it. An agent's faults end with its life.
//
//	an executor's stream breaks without a terminating chunk  Node.BreakStreams
//	... or becomes silent while its connection stays open    Node.SilenceStreams
//	LAUNCH, KILL, ACKNOWLEDGED is lost on its way            Node.LoseLaunches, LoseKills, LoseAcknowledgements
//	UPDATE is answered late or with 503                      Node.DelayUpdates, RefuseUpdates
//	updates reach the scheduler twice                        Node.DuplicateUpdates
//	an event of the future, a record of any size             Node.SendRecord, master.Master.SendRecord
//	agent dies, and comes back with what it has checkpointed Node.Kill, Start, Restart
//	... or as a new agent with a new id                      Node.Forget, Reboot
//	... or its executors die while it is away                Node.DestroyContainers
//	agent is stopped, unreachable, and goes on               Node.Freeze, Thaw
//	... or cut off from the master only                      Node.Pause, Resume, and Line().Cut, SetDelay
//	master dies, another one takes over                      Cluster.KillMaster, StartMaster, Failover; Seat.Kill, Start
//	... while agents have not registered again yet           Node.Pause or Line().Cut before it
//	master is stopped, connections stay open                 Seat.Freeze, Thaw
//	a scheduler's stream breaks or becomes silent            master.Master.BreakStream, FreezeStream
//	RESCIND crosses ACCEPT                                   master.Master.RescindAccepted, Rescind
//	a call or its answer is lost                             master.Master.LoseCalls, LoseAnswers

// BreakStreams ends the event streams of all executors without a terminating chunk.
// The agent does not notice: what it sends until an executor's next SUBSCRIBE is lost.
func (n *Node) BreakStreams() { n.live((*agent.Agent).BreakStreams) }

// SilenceStreams makes the event streams of all executors swallow everything, while
// their connections stay open: no FIN ever comes. An executor's next SUBSCRIBE gets a
// stream that works.
func (n *Node) SilenceStreams() { n.live((*agent.Agent).FreezeStreams) }

// LoseLaunches makes the next count LAUNCH events vanish.
func (n *Node) LoseLaunches(count int) { n.lose(execv1.Event_LAUNCH, count) }

// LoseKills makes the next count KILL events vanish.
func (n *Node) LoseKills(count int) { n.lose(execv1.Event_KILL, count) }

// LoseAcknowledgements makes the next count ACKNOWLEDGED events vanish.
func (n *Node) LoseAcknowledgements(count int) { n.lose(execv1.Event_ACKNOWLEDGED, count) }

func (n *Node) lose(kind execv1.Event_Type, count int) {
	n.live(func(a *agent.Agent) { a.LoseEvents(kind, count) })
}

// RefuseUpdates answers the next count UPDATE calls of executors with 503.
func (n *Node) RefuseUpdates(count int) { n.live(func(a *agent.Agent) { a.RefuseUpdates(count) }) }

// DelayUpdates holds every UPDATE call of executors back for d from now on.
func (n *Node) DelayUpdates(d time.Duration) { n.live(func(a *agent.Agent) { a.DelayUpdates(d) }) }

// DuplicateUpdates makes the next count status updates reach the master, and thus the
// scheduler, twice.
func (n *Node) DuplicateUpdates(count int) {
	n.live(func(a *agent.Agent) { a.DuplicateUpdates(count) })
}

// SendRecord puts any bytes as one record into the event streams of all executors. It
// returns how many streams there were.
func (n *Node) SendRecord(record []byte) (streams int) {
	n.live(func(a *agent.Agent) { streams = a.SendRecord(record) })
	return streams
}

// Freeze stops the agent as SIGSTOP does: the master hears nothing from it, and its
// executors' calls are taken and not answered.
func (n *Node) Freeze() {
	n.line.Freeze()
	n.live((*agent.Agent).Freeze)
}

// Thaw ends a Freeze; what was sent meanwhile is handled.
func (n *Node) Thaw() {
	n.live((*agent.Agent).Thaw)
	n.line.Thaw()
}

// live calls f with the current life, if there is one.
func (n *Node) live(f func(*agent.Agent)) {
	if a := n.Agent(); a != nil {
		f(a)
	}
}

// Pause cuts the agent off from the master without an error on either side, as a
// network that swallows packets does. The executor API goes on.
func (n *Node) Pause() { n.line.Freeze() }

// Resume ends Pause; what was sent meanwhile arrives.
func (n *Node) Resume() { n.line.Thaw() }

var errAgentRuns = errors.New("agent is running: call Kill first")

// Forget makes the next life of a dead agent a new one, with a new id: its
// checkpoints are removed. Its executors live on as orphans.
func (n *Node) Forget() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		return errAgentRuns
	}
	return os.RemoveAll(filepath.Join(n.config.WorkDir, "meta"))
}

// DestroyContainers kills the executors of a dead agent.
func (n *Node) DestroyContainers() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		return errAgentRuns
	}
	agent.DestroyContainers(n.config)
	return nil
}

// Reboot does what a restart of the machine does: the agent and its executors die,
// and an agent with a new id comes back on the same address.
func (n *Node) Reboot() error {
	n.Kill()
	if err := n.DestroyContainers(); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	if err := n.Forget(); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return n.Start()
}

// Freeze stops the master as SIGSTOP does: its connections stay open, nothing is
// answered or sent, and ZooKeeper does not hear of it either.
func (s *Seat) Freeze() {
	if l := s.current(); l != nil {
		l.master.Freeze()
		if l.member != nil {
			l.member.Freeze()
		}
	}
}

// Thaw ends a Freeze. A leader that ZooKeeper has given up meanwhile ends itself.
func (s *Seat) Thaw() {
	if l := s.current(); l != nil {
		if l.member != nil {
			l.member.Thaw()
		}
		l.master.Thaw()
	}
}

// KillMaster ends the leading master as kill -9 does. Agents look for another one.
func (c *Cluster) KillMaster() {
	if seat, _ := c.leading(); seat != nil {
		seat.Kill()
	}
}

// StartMaster starts a dead master again, on the same address.
func (c *Cluster) StartMaster() error {
	for _, s := range c.Seats() {
		if s.Master() == nil {
			return s.Start()
		}
	}
	return errors.New("cluster: a master is running already: call KillMaster first")
}

// Failover kills the leading master and starts another one on the same address. With
// ZooKeeper that one comes back as a follower.
func (c *Cluster) Failover() error {
	c.KillMaster()
	return c.StartMaster()
}
