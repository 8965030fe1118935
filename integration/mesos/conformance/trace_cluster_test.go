package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/resource"
)

func startMaster(p *player, l *line, groups []string) error {
	p.pause(l)
	if number, err := strconv.Atoi(groups[1]); err == nil && number > 1 && p.zookeeper != nil {
		seat, err := p.cluster.AddMaster()
		if err != nil {
			return err
		}
		return p.bindPort("master-port-"+groups[1], seat.URL())
	}
	config := emulator.Config{
		Agents: -1,
		// What outlives the agent is the player's to end.
		CloseGrace: time.Millisecond,
	}
	config.Customize = func(_ int, c *agent.Config) { p.configureAgent(c) }
	if err := p.configureMaster(&config, splitFlags(groups[2])); err != nil {
		return err
	}
	return p.startLater(l, func() error {
		c, err := emulator.Start(config)
		if err != nil {
			return err
		}
		p.cluster = c
		p.all = append(p.all, c)
		p.begin(l)
		return p.bindPort("master-port-"+groups[1], c.Seats()[0].URL())
	})
}

func (p *player) configureMaster(config *emulator.Config, flags [][2]string) error {
	for _, flag := range flags {
		var err error
		switch name, value := flag[0], flag[1]; name {
		case "zk":
			config.ZooKeeper = p.zookeeperURL(value)
			err = p.electingConfig(config)
			p.masterListen = config.Master.Listen
		case "zk_session_timeout":
			config.ZooKeeperSessionTimeout, err = mesosDuration(value)
		case "quorum":
			config.Quorum, err = strconv.Atoi(value)
		case "log_auto_initialize":
		case "registry":
			config.PersistRegistry = value == "replicated_log"
		case "domain":
			err = json.Unmarshal([]byte(value), &config.Master.Domain)
		case "agent_ping_timeout":
			config.Master.AgentPingTimeout, err = mesosDuration(value)
		case "max_agent_ping_timeouts":
			config.Master.MaxAgentPingTimeouts, err = strconv.Atoi(value)
		case "offer_timeout":
			config.Master.OfferTimeout, err = mesosDuration(value)
		case "authenticate_http_frameworks":
			config.Master.Credentials = map[string]string{"p1": "s1", "p2": "s2"}
		case "http_framework_authenticators", "credentials":
		default:
			err = errors.New("the emulated master has no such flag")
		}
		if err != nil {
			return fmt.Errorf("flag %s: %w", flag[0], err)
		}
	}
	return nil
}

func startAgent(p *player, l *line, groups []string) error {
	p.pause(l)
	p.target = ""
	p.flags = []string{groups[2]}
	node, err := p.cluster.AddAgent()
	if err != nil {
		return err
	}
	name := groups[1]
	p.nodes[name] = node
	if name == "agent-2" && p.scenario.name == "18-operator-api" {
		p.target = name
	}
	if err := p.bindPort("agent-port-"+strings.TrimPrefix(name, "agent-"), node.URL()); err != nil {
		return err
	}
	// The recordings have one name for the directories of all agents.
	c := node.Agent().Config()
	for name, value := range map[string]string{
		"work_dir": c.WorkDir, "runtime_dir": c.RuntimeDir, "fetcher_cache_dir": c.FetcherCacheDir,
	} {
		if err := p.bound.bind(name, name, value); err != nil {
			return err
		}
	}
	p.bound.commit()
	return nil
}

// configureAgent applies the flags of the agent that is being started.
func (p *player) configureAgent(c *agent.Config) {
	set := func(text string) {
		r, err := resource.Parse(text)
		if err != nil {
			p.t.Fatal(err)
		}
		c.Resources = r.Proto(resource.Internal)
	}
	set("cpus:4;mem:4096;disk:4096;ports:[31000-32000]")
	c.RegistrationBackoff += masterBoot
	for _, flag := range splitFlags(p.flags[0]) {
		var err error
		switch name, value := flag[0], flag[1]; name {
		case "resources":
			set(value)
		case "attributes":
			c.Attributes, err = resource.ParseAttributes(value)
		case "domain":
			c.Domain = &mesos.DomainInfo{}
			err = json.Unmarshal([]byte(value), c.Domain)
		case "executor_registration_timeout":
			c.ExecutorRegistrationTimeout, err = mesosDuration(value)
		case "executor_reregistration_timeout":
			c.ExecutorReregistrationTimeout, err = mesosDuration(value)
		case "executor_shutdown_grace_period":
			c.ExecutorShutdownGracePeriod, err = mesosDuration(value)
		case "recovery_timeout":
			c.RecoveryTimeout, err = mesosDuration(value)
		case "domain_socket_location":
			c.DomainSocket = p.stage.socket()
		case "cgroups_root":
			c.CgroupRoot = value
		case "http_credentials":
			c.Credentials = map[string]string{"op": "pw"}
		case "authenticate_http_readonly", "authenticate_http_readwrite":
		case "http_executor_domain_sockets", "launcher", "isolation":
		default:
			err = errors.New("the emulated agent has no such flag")
		}
		if err != nil {
			p.t.Fatalf("agent flag %s: %v", flag[0], err)
		}
	}
}

// splitFlags splits --name=value and --name. Values contain no blanks.
func splitFlags(text string) [][2]string {
	var flags [][2]string
	for _, flag := range strings.Fields(text) {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		flags = append(flags, [2]string{name, value})
	}
	return flags
}

func mesosDuration(text string) (time.Duration, error) {
	return time.ParseDuration(strings.NewReplacer("secs", "s", "mins", "m").Replace(text))
}

func (p *player) bindPort(name, url string) error {
	if _, ok := p.bound.values[name]; ok {
		return nil
	}
	defer p.bound.commit()
	return p.bound.bind(name, name[:strings.LastIndex(name, "-")], portOf(strings.TrimPrefix(url, "http://")))
}

func (p *player) node(name string) *emulator.Node {
	if name == "agent" {
		name = "agent-1"
	}
	return p.nodes[name]
}

func killMaster(p *player, l *line, _ []string) error {
	p.pause(l)
	p.seat("master-1").Kill()
	return nil
}

func restartMaster(p *player, l *line, _ []string) error {
	p.pause(l)
	return p.startLater(l, p.seat("master-1").Start)
}

func killAgent(p *player, l *line, groups []string) error {
	p.pause(l)
	p.node(groups[1]).Kill()
	return nil
}

func restartAgent(p *player, l *line, groups []string) error {
	p.pause(l)
	return p.startLater(l, p.node(groups[1]).Start)
}

// startLater starts something, but when the next line shows clients that try
// meanwhile, these get the chance to be refused before.
func (p *player) startLater(l *line, start func() error) error {
	next := p.lines[l.Number]
	returns := p.scenario.returns[l.Number]
	trying := strings.Contains(next.Note, "tries to SUBSCRIBE")
	polled := strings.HasSuffix(next.Note, "connection refused") && next.Who == scheduler
	if returns == "" && !trying && !polled {
		return start()
	}
	p.postponed = start
	switch {
	case returns != "":
		body := p.subscription(returns)
		poll := *l
		poll.Who, poll.ID = scheduler, fmt.Sprint(member(body, "subscribe", "framework_info", "name"))
		if err := p.startPoll(&poll, body, p.cluster.MasterAddress()); err != nil {
			return err
		}
		return p.startNow()
	case polled:
		return p.pollMaster(next)
	}
	return nil
}

func (p *player) startNow() error {
	start := p.postponed
	p.postponed = nil
	return start()
}

func shutdownAgent(p *player, l *line, _ []string) error {
	p.pause(l)
	p.node("agent-1").Agent().Shutdown()
	return nil
}

func awaitAgentEnd(p *player, _ *line, _ []string) error {
	select {
	case <-p.node("agent-1").Agent().Done():
		return nil
	case <-time.After(within):
		return errTooLate
	}
}

func pauseAgent(p *player, l *line, _ []string) error {
	p.pause(l)
	p.node("agent-1").Pause()
	return nil
}

func resumeAgent(p *player, l *line, _ []string) error {
	p.pause(l)
	p.node("agent-1").Resume()
	return nil
}
