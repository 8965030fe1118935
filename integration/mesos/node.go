package mesos

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/link"
)

// Node is the place of one agent: its work directory, its address and its line to
// the master, over the agent's lives.
type Node struct {
	line *link.Line

	mu     sync.Mutex // guards what follows; held while the agent starts or stops
	config agent.Config
	agent  *agent.Agent // nil while dead
}

// Agent is the current life, nil while the agent is dead.
func (n *Node) Agent() *agent.Agent {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.agent
}

// ID is the agent's id, "" before its registration and while it is dead.
func (n *Node) ID() string {
	if a := n.Agent(); a != nil {
		return a.ID()
	}
	return ""
}

// URL is the root of the agent's HTTP server. It is the same in all lives.
func (n *Node) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return "http://" + n.config.Addr
}

// Line is the agent's connection to masters, with its switches for faults.
func (n *Node) Line() *link.Line { return n.line }

// WorkDir is the agent's work directory.
func (n *Node) WorkDir() string { return n.config.WorkDir }

// Start starts a life of the agent. It recovers what an earlier one has
// checkpointed.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		return errors.New("agent is running already: call Kill first")
	}
	a, err := agent.New(n.config, n.line)
	if err != nil {
		return fmt.Errorf("agent %s: %w", n.config.WorkDir, err)
	}
	if err := a.Start(); err != nil {
		return fmt.Errorf("agent %s: %w", n.config.WorkDir, err)
	}
	n.config = a.Config()
	n.agent = a
	return nil
}

// Kill ends the agent as kill -9 does. Its executors live on.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		n.agent.Kill()
		n.agent = nil
	}
}

// Restart kills the agent and starts it again.
func (n *Node) Restart() error {
	n.Kill()
	return n.Start()
}

// end shuts the agent's executors down and ends the agent. Executors that are left,
// also those of earlier lives, are killed.
func (n *Node) end(grace time.Duration) {
	n.line.Thaw()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		n.agent.Thaw()
		n.agent.Shutdown()
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-n.agent.Done():
		case <-timer.C:
		}
		n.agent.Kill()
		n.agent = nil
	}
	agent.DestroyContainers(n.config)
}
