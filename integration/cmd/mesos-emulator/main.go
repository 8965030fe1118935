// Command mesos-emulator runs an emulated Mesos cluster on this machine: one master
// and some agents that start executors as real processes. It prints the URLs and
// runs until it is interrupted. It is a test double, never a product.
package main

import (
	"context"
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
)

// flags are the command line; the names follow Mesos' own flags where there are
// such.
type flags struct {
	Agents     int    `default:"1" help:"Number of agents."`
	Port       int    `default:"5050" help:"Port of the master on loopback; 0 takes a free one."`
	WorkDir    string `type:"path" help:"Directory for sandboxes; kept afterwards. Default: a temporary one that is removed."`
	Resources  string `default:"cpus:4;mem:4096;disk:4096" help:"Resources of each agent. Agents get ports of their own unless these name some."`
	Attributes string `help:"Attributes of each agent, as in rack:r1;level:3."`

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
		Agents:     agents,
		Dir:        f.WorkDir,
		Resources:  f.Resources,
		Attributes: f.Attributes,
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
	fmt.Fprintf(stdout, "master   %s\n", cluster.MasterURL())
	for i, n := range cluster.Nodes() {
		fmt.Fprintf(stdout, "agent %d  %s  %s\n", i, n.URL(), n.WorkDir())
	}
	fmt.Fprintln(stdout, "interrupt to end")
	select {
	case <-ctx.Done():
		return nil
	case <-cluster.Master().Aborted():
		return fmt.Errorf("the master has aborted, as Mesos does after a call of type UNKNOWN")
	}
}
