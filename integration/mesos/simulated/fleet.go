package simulated

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
)

// maxAgents is how many have addresses of their own in 127.1.0.0 and above.
const maxAgents = 254 << 16

const defaultResources = "cpus:32;mem:131072;disk:1048576;ports:[31000-32000]"

// Fleet is a number of simulated agents.
type Fleet struct {
	config Config
	clock  *clock
	agents []*Agent
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	stats  counters
}

// counters are shared by all agents.
type counters struct {
	launches, kills, updates, repeats, acknowledgements, tasks atomic.Int64
}

// Stats are sums over all agents since the start.
type Stats struct {
	// Launches and Kills are what masters have sent.
	Launches, Kills int64
	// Updates are first sendings of status updates, Repeats further ones, and
	// Acknowledgements those of schedulers.
	Updates, Repeats, Acknowledgements int64
	// Tasks is how many there are: not ended, or ended and not acknowledged.
	Tasks int64
}

// Start starts agents that register with whomever the detector names.
func Start(config Config, detector link.Detector) (*Fleet, error) {
	if config.Resources == "" {
		config.Resources = defaultResources
	}
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("simulated agents: %w", err)
	}
	total, err := resource.Parse(config.Resources)
	if err != nil {
		return nil, fmt.Errorf("simulated agents: Resources: %w", err)
	}
	f := &Fleet{config: config, clock: newClock()}
	for i := range config.Agents {
		a := &Agent{
			fleet:      f,
			line:       link.NewLine(detector),
			frameworks: make(map[string]*framework),
			random:     rand.New(rand.NewPCG(config.Seed, uint64(i))),
		}
		number := i + 1<<16
		a.host = fmt.Sprintf("127.%d.%d.%d", number>>16&0xff, number>>8&0xff, number&0xff)
		port := int32(5051)
		// The resources are shared: nobody changes what has been sent.
		a.info = mesos.AgentInfo{Hostname: fmt.Sprintf("agent-%05d", i), Port: &port, Resources: total.Proto(resource.Internal)}
		if i > 0 {
			a.info.Resources = f.agents[0].info.Resources
		}
		if config.Attributes != nil {
			if a.info.Attributes, err = resource.ParseAttributes(config.Attributes(i)); err != nil {
				return nil, fmt.Errorf("simulated agents: Attributes of agent %d: %w", i, err)
			}
		}
		f.agents = append(f.agents, a)
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	f.tasks.Go(func() { f.clock.run(ctx) })
	for _, a := range f.agents {
		f.tasks.Go(func() { a.run(ctx) })
	}
	return f, nil
}

// Close ends all agents as kill -9 would.
func (f *Fleet) Close() {
	f.cancel()
	f.tasks.Wait()
}

// Len is the number of agents.
func (f *Fleet) Len() int { return len(f.agents) }

// Agent returns agent i, counted from 0.
func (f *Fleet) Agent(i int) *Agent { return f.agents[i] }

// Stats returns the sums of this moment.
func (f *Fleet) Stats() Stats {
	return Stats{
		Launches:         f.stats.launches.Load(),
		Kills:            f.stats.kills.Load(),
		Updates:          f.stats.updates.Load(),
		Repeats:          f.stats.repeats.Load(),
		Acknowledgements: f.stats.acknowledgements.Load(),
		Tasks:            f.stats.tasks.Load(),
	}
}
