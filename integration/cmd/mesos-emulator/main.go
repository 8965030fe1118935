// Command mesos-emulator runs an emulated Mesos cluster on this machine: a master, or
// several that elect their leader in ZooKeeper, agents that start executors as real
// processes, and agents that only simulate theirs. It prints the URLs and runs until it
// is interrupted. It is a test double, never a product.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/simulated"
)

// flags are the command line; the names follow Mesos' own flags where there are
// such.
type flags struct {
	Agents     int    `default:"1" help:"Number of agents."`
	Port       int    `default:"5050" help:"Port of the master on loopback; 0 takes a free one. Further masters take the next ones."`
	WorkDir    string `type:"path" help:"Directory for sandboxes; kept afterwards. Default: a temporary one that is removed."`
	Resources  string `default:"cpus:4;mem:4096;disk:4096" help:"Resources of each agent. Agents get ports of their own unless these name some."`
	Attributes string `help:"Attributes of each agent, as in rack:r1;level:3."`

	Masters          int           `default:"1" help:"Number of masters; several need --zk."`
	Zk               string        `placeholder:"zk://HOST:PORT/PATH" help:"Where masters are elected and announced."`
	ZkSessionTimeout time.Duration `default:"10s" help:"After this much silence ZooKeeper gives a master up."`
	Quorum           int           `help:"Masters that have to be alive before one can recover. Default: more than half."`
	Registry         string        `default:"replicated_log" enum:"replicated_log,in_memory" help:"Whether a new leader knows the agents (replicated_log, in_memory)."`

	Simulated            int           `help:"Number of agents without processes, for many tasks."`
	SimulatedResources   string        `default:"cpus:32;mem:131072;disk:1048576;ports:[31000-32000]" help:"Resources of each of them."`
	SimulatedStaging     time.Duration `default:"100ms" help:"Time from LAUNCH to RUNNING there."`
	SimulatedRun         time.Duration `help:"Time from RUNNING to FINISHED there; 0: until killed."`
	SimulatedFailureRate float64       `help:"Share of tasks, 0 to 1, that fail instead of running."`
	SimulatedFlap        time.Duration `help:"Time between changes of health of tasks with a health check; 0: none."`

	AllocationInterval time.Duration `default:"1s" help:"Time between allocation cycles."`
	OfferTimeout       time.Duration `default:"0s" help:"Offers are rescinded after this; 0 never."`
	AgentPingTimeout   time.Duration `default:"15s" help:"Time between pings of agents."`
	MaxPingTimeouts    int           `default:"5" help:"Unanswered pings that make an agent unreachable."`

	ExecutorRegistrationTimeout   time.Duration `default:"1m" help:"Time for an executor to subscribe, fetching included."`
	ExecutorReregistrationTimeout time.Duration `default:"2s" help:"Time for executors to come back to a restarted agent."`
	ExecutorShutdownGracePeriod   time.Duration `default:"5s" help:"Time between SHUTDOWN and the kill of an executor."`

	LogLevel string `default:"info" enum:"debug,info,warn,error" help:"Least level of log lines on stderr (debug, info, warn, error)."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("mesos-emulator"), kong.Description("An emulated Mesos cluster for trying schedulers and executors."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "mesos-emulator:", err)
		os.Exit(1)
	}
}

// run starts the cluster, says where it is and waits for ctx.
func run(ctx context.Context, f flags, stdout, stderr io.Writer) (err error) {
	level, err := zerolog.ParseLevel(f.LogLevel)
	if err != nil {
		return fmt.Errorf("--log-level %q: %w", f.LogLevel, err)
	}
	if f.Agents < 0 {
		return fmt.Errorf("--agents %d: must not be negative", f.Agents)
	}
	if f.Masters < 1 {
		return fmt.Errorf("--masters %d: want at least one", f.Masters)
	}
	if f.Simulated < 0 {
		return fmt.Errorf("--simulated %d: must not be negative", f.Simulated)
	}
	if f.Port < 0 || f.Port > 65535 {
		return fmt.Errorf("--port %d: want 0 to 65535", f.Port)
	}
	if f.WorkDir != "" {
		if f.WorkDir, err = filepath.Abs(f.WorkDir); err != nil {
			return fmt.Errorf("--work-dir: %w", err)
		}
	}
	agents := f.Agents
	if agents == 0 {
		agents = -1 // none, where 0 would be the default
	}
	common := agent.DefaultConfig()
	common.ExecutorRegistrationTimeout = f.ExecutorRegistrationTimeout
	common.ExecutorReregistrationTimeout = f.ExecutorReregistrationTimeout
	common.ExecutorShutdownGracePeriod = f.ExecutorShutdownGracePeriod
	cluster, err := emulator.Start(emulator.Config{
		Agents:                  agents,
		Dir:                     f.WorkDir,
		Resources:               f.Resources,
		Attributes:              f.Attributes,
		Masters:                 f.Masters,
		ZooKeeper:               f.Zk,
		ZooKeeperSessionTimeout: f.ZkSessionTimeout,
		Quorum:                  f.Quorum,
		PersistRegistry:         f.Registry == "replicated_log",
		Simulated:               f.simulated(),
		Master: master.Config{
			Listen:               fmt.Sprintf("127.0.0.1:%d", f.Port),
			AllocationInterval:   f.AllocationInterval,
			OfferTimeout:         f.OfferTimeout,
			AgentPingTimeout:     f.AgentPingTimeout,
			MaxAgentPingTimeouts: f.MaxPingTimeouts,
		},
		Agent:      &common,
		CloseGrace: f.ExecutorShutdownGracePeriod,
		Log:        zerolog.New(stderr).Level(level).With().Timestamp().Logger(),
	})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := cluster.Close(); err == nil {
			err = closeErr
		}
	}()
	for _, s := range cluster.Seats() {
		fmt.Fprintf(stdout, "master   %s\n", s.URL())
	}
	if f.Zk != "" {
		fmt.Fprintf(stdout, "leader   %s\n", f.Zk)
	}
	for i, n := range cluster.Nodes() {
		fmt.Fprintf(stdout, "agent %d  %s  %s\n", i, n.URL(), n.WorkDir())
	}
	if fleet := cluster.Fleet(); fleet != nil {
		fmt.Fprintf(stdout, "and %d simulated agents\n", fleet.Len())
	}
	fmt.Fprintln(stdout, "interrupt to end")
	return awaitEnd(ctx, cluster)
}

// simulated is the configuration of the agents without processes, nil for none.
func (f flags) simulated() *simulated.Config {
	if f.Simulated == 0 {
		return nil
	}
	return &simulated.Config{
		Agents:    f.Simulated,
		Resources: f.SimulatedResources,
		Life: simulated.Life{
			Starting: true, Killing: true,
			Staging:     simulated.Always(f.SimulatedStaging),
			Run:         simulated.Always(f.SimulatedRun),
			FailureRate: f.SimulatedFailureRate,
			Flap:        simulated.Always(f.SimulatedFlap),
		},
	}
}

// awaitEnd waits for ctx, or for the end of the last master: nobody starts one again.
func awaitEnd(ctx context.Context, cluster *emulator.Cluster) error {
	for _, s := range cluster.Seats() {
		m := s.Master()
		if m == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.Done():
		}
	}
	return errors.New("no master is left: they abort after a call of type UNKNOWN, and end without ZooKeeper, as in Mesos")
}
