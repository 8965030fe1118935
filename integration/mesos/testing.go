package mesos

import (
	"context"
	"time"

	"pacer/integration/mesos/agent"
)

// T is the part of testing.TB that New needs.
type T interface {
	Helper()
	Fatal(arguments ...any)
	Error(arguments ...any)
	Cleanup(func())
}

// New starts a cluster that records everything, waits for its agents and closes it
// when the test ends. Allocation cycles are short unless the configuration says how
// long they are, and agents register soon.
func New(t T, config Config) *Cluster {
	t.Helper()
	config.Record = true
	if config.Master.AllocationInterval == 0 {
		config.Master.AllocationInterval = 50 * time.Millisecond
	}
	common := agent.DefaultConfig()
	if config.Agent != nil {
		common = *config.Agent
	}
	common.RegistrationBackoff = min(common.RegistrationBackoff, 50*time.Millisecond)
	config.Agent = &common
	c, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	agents := len(c.Nodes())
	if c.fleet != nil {
		agents += c.fleet.Len()
	}
	if err := c.AwaitAgents(ctx, agents); err != nil {
		t.Fatal(err)
	}
	return c
}
