package mesos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/election"
	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/simulated"
)

// Config says what a Cluster consists of. The zero value is one master with one
// agent of 4 cpus.
type Config struct {
	// Agents is how many agents there are, default 1; negative for none.
	Agents int
	// Dir is where the agents have their work directories agent-0, agent-1 and so
	// on. Default: a new temporary directory that Close removes.
	Dir string
	// Resources of each agent in the form of Mesos' flag. Default
	// "cpus:4;mem:4096;disk:4096". Without ports, each agent gets some of its own,
	// because all of them are on one machine.
	Resources string
	// Ports is how many ports each agent offers when Resources names none, default
	// 100, at most 100.
	Ports int
	// Attributes of each agent in the form of Mesos' flag, "rack:r1;level:3".
	Attributes string

	// Masters is how many masters there are at the start, default 1. Several need
	// ZooKeeper.
	Masters int
	// ZooKeeper is the URL zk://host:port[,host:port...]/path where masters are
	// elected and agents look for the leader. Default: none, and the only master
	// leads.
	ZooKeeper string
	// ZooKeeperSessionTimeout is after how much silence masters and agents are given
	// up, and give up. Default 10 s, as in Mesos.
	ZooKeeperSessionTimeout time.Duration
	// Quorum is how many masters have to be alive before an elected one can recover a
	// persisted registry. Default: more than half of Masters.
	Quorum int
	// Master is what all masters have in common. Trace, Registry and Standby are set
	// by the Cluster, which also makes InitializationTime 20 ms, as in Mesos, unless
	// it is given. With several masters and a fixed port, they listen on that port and
	// the next ones.
	Master master.Config
	// PersistRegistry is Mesos' --registry=replicated_log: a new master knows which
	// agents have to come back. Otherwise it has never heard of any.
	PersistRegistry bool
	// Agent is what all agents have in common; nil is agent.DefaultConfig(). Its
	// WorkDir, Addr, Resources and Attributes are set by the Cluster.
	Agent *agent.Config
	// Customize, when set, may change the configuration of agent i.
	Customize func(i int, config *agent.Config)

	// Simulated adds agents whose tasks exist in memory only. Nil: none.
	Simulated *simulated.Config

	// Record keeps all calls, events and messages for Log and Await. It costs
	// memory.
	Record bool
	// CloseGrace is how long Close gives executors to end by themselves, default
	// 1 s.
	CloseGrace time.Duration
	// Log gets what masters and agents log; the zero Logger writes nowhere.
	Log zerolog.Logger
}

// Cluster is a running master, or several, and their agents.
type Cluster struct {
	config  Config
	dir     string
	ownDir  bool
	ports   *portBlocks
	journal *journal

	registry *master.Registry
	// detector is how agents find the leader; nil without ZooKeeper.
	detector *election.Member
	fleet    *simulated.Fleet // nil without simulated agents

	mu      sync.Mutex    // guards what follows; not held while something starts or stops
	changed chan struct{} // closed when a master has started or ended
	closed  bool
	seats   []*Seat
	nodes   []*Node
}

// Start starts a cluster. It returns when the master and all agents serve HTTP;
// AwaitAgents waits for the agents' registration.
func Start(config Config) (*Cluster, error) {
	if config.Agents == 0 {
		config.Agents = 1
	}
	if config.CloseGrace == 0 {
		config.CloseGrace = time.Second
	}
	if config.Masters == 0 {
		config.Masters = 1
	}
	if config.Quorum == 0 {
		config.Quorum = config.Masters/2 + 1
	}
	if config.Master.InitializationTime == 0 {
		config.Master.InitializationTime = 20 * time.Millisecond
	}
	if config.Masters < 0 || config.Quorum < 0 {
		return nil, fmt.Errorf("cluster: Masters %d, Quorum %d: must not be negative", config.Masters, config.Quorum)
	}
	if config.Masters > 1 && config.ZooKeeper == "" {
		return nil, fmt.Errorf("cluster: Masters %d: give ZooKeeper, where they can elect one", config.Masters)
	}
	c := &Cluster{
		config:   config,
		dir:      config.Dir,
		changed:  make(chan struct{}),
		registry: master.NewRegistry(),
		journal:  newJournal(),
		ports:    &portBlocks{},
	}
	if err := c.start(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start() error {
	var err error
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "mesos-"); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		c.ownDir = true
		// Executors may run as other users and have to reach their sandboxes.
		if err := os.Chmod(c.dir, 0o755); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if c.config.ZooKeeper != "" {
		if c.detector, err = c.join(nil, c.config.Log); err != nil {
			return err
		}
	}
	for range c.config.Masters {
		if _, err := c.AddMaster(); err != nil {
			return err
		}
	}
	for i := range max(c.config.Agents, 0) {
		if err := c.addNode(i); err != nil {
			return err
		}
	}
	if c.config.Simulated != nil {
		if c.fleet, err = simulated.Start(*c.config.Simulated, c); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}

// addNode starts agent i.
func (c *Cluster) addNode(i int) error {
	config := agent.DefaultConfig()
	if c.config.Agent != nil {
		config = *c.config.Agent
	}
	config.WorkDir = filepath.Join(c.dir, fmt.Sprintf("agent-%d", i))
	config.Log = c.config.Log.With().Int("agent", i).Logger()
	text := c.config.Resources
	if text == "" {
		text = "cpus:4;mem:4096;disk:4096"
	}
	resources, err := resource.Parse(text)
	if err != nil {
		return fmt.Errorf("cluster: Resources: %w", err)
	}
	address, ports, err := c.ports.next(c.config.Ports)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	config.Addr = address
	if !resources.Has("ports") {
		resources = resources.Plus(ports)
	}
	config.Resources = resources.Proto(resource.Internal)
	if config.Attributes, err = resource.ParseAttributes(c.config.Attributes); err != nil {
		return fmt.Errorf("cluster: Attributes: %w", err)
	}
	if c.config.Customize != nil {
		c.config.Customize(i, &config)
	}
	if err := os.MkdirAll(config.WorkDir, 0o755); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	n := &Node{config: config, line: link.NewLine(c)}
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	return n.Start()
}

// AddAgent starts one more agent like the others and returns it.
func (c *Cluster) AddAgent() (*Node, error) {
	c.mu.Lock()
	i := len(c.nodes)
	c.mu.Unlock()
	if err := c.addNode(i); err != nil {
		return nil, err
	}
	return c.Node(i), nil
}

// Nodes returns all agents, dead or alive.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Node returns agent i, counted from 0.
func (c *Cluster) Node(i int) *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i]
}

// Fleet is the simulated agents, nil when there are none.
func (c *Cluster) Fleet() *simulated.Fleet { return c.fleet }

// Dir is where the agents' work directories are.
func (c *Cluster) Dir() string { return c.dir }

// Close ends everything: executors are asked to end, killed after CloseGrace, and
// nothing of the cluster runs any more when it returns, also no executor whose agent
// was killed and did not come back.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	nodes, seats := c.nodes, c.seats
	c.mu.Unlock()
	if c.fleet != nil {
		c.fleet.Close()
	}

	var group sync.WaitGroup
	for _, n := range nodes {
		group.Go(func() { n.end(c.config.CloseGrace) })
	}
	group.Wait()
	for _, s := range seats {
		group.Go(s.end)
	}
	if c.detector != nil {
		group.Go(c.detector.Close)
	}
	group.Wait()
	c.ports.free()
	if c.ownDir && c.dir != "" {
		if err := os.RemoveAll(c.dir); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}

// AwaitAgents waits until n agents are registered, connected and offered.
func (c *Cluster) AwaitAgents(ctx context.Context, n int) error {
	const pause = 5 * time.Millisecond
	for {
		active := 0
		if m := c.Master(); m != nil {
			active = m.ActiveAgents()
		}
		if active >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d agents are active: %w", active, n, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// Log returns what has been recorded so far; empty without Config.Record.
func (c *Cluster) Log() []master.Entry { return c.journal.snapshot() }

// Await waits until the recorded log satisfies found, which is called with all
// entries whenever there are new ones. what names the thing for the error.
func (c *Cluster) Await(ctx context.Context, what string, found func([]master.Entry) bool) error {
	if !c.config.Record {
		return errors.New("cluster: Await needs Config.Record")
	}
	return c.journal.await(ctx, what, found)
}
