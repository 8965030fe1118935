package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/resource"
)

// action is what a note says was done or observed. It gets the groups of its
// pattern.
type action struct {
	pattern *regexp.Regexp
	do      func(p *player, l *line, groups []string) error
}

// actions are tried in this order. Notes that none of them knows are comments, unless
// they look like something that happens.
var actions = []action{
	{regexp.MustCompile(`^master-(\d) started, (?:no extra flags|extra flags (.*))$`), startMaster},
	{regexp.MustCompile(`^(agent-\d) started, (?:no extra flags|extra flags (.*))$`), startAgent},
	{regexp.MustCompile(`^master-1 is killed with SIGKILL$`), killMaster},
	{regexp.MustCompile(`^master-1 is started again with the same flags and work_dir$`), restartMaster},
	{regexp.MustCompile(`^(agent-\d) is killed with SIGKILL$`), killAgent},
	{regexp.MustCompile(`^(agent) gets SIGTERM$`), killAgent},
	{regexp.MustCompile(`^(agent-\d) is started again with the same flags and work_dir$`), restartAgent},
	{regexp.MustCompile(`^agent gets SIGUSR1$`), shutdownAgent},
	{regexp.MustCompile(`^agent process ended$`), awaitAgentEnd},
	{regexp.MustCompile(`^the agent that came back after being marked gone has exited by itself$`), awaitAgentEnd},
	{regexp.MustCompile(`the agent is stopped (?:with SIGSTOP|\(SIGSTOP\))`), pauseAgent},
	{regexp.MustCompile(`SIGCONT: the agent `), resumeAgent},
	{regexp.MustCompile(`^executor (\S+) tries to SUBSCRIBE every 20ms`), pollExecutor},
	{regexp.MustCompile(`^executor (\S+) exits with code (\d+)$`), exitExecutor},
	{regexp.MustCompile(`^executor (\S+) kills itself with SIGKILL$`), dieExecutor},
	{regexp.MustCompile(`^the helper process \(parent of the executor\) is killed`), killHelper},
	{regexp.MustCompile(`^executor (\S+) (?:dead=(true|false)|is alive|that did not re-subscribe is dead)$`), checkExecutor},
	{regexp.MustCompile(`^no (\S+) event for scheduler (\S+) within (\S+)$`), checkSilence},
	{regexp.MustCompile(`^next offer after (\S+) s, role (\S+)$`), checkOffer},
	{regexp.MustCompile(`^(agent|master) alive: (true|false)$`), checkAlive},
	{regexp.MustCompile(`^before: (\d+) \(setsid\): alive, (\d+): alive$`), leaveProcesses},
	{regexp.MustCompile(`^left of the children: (\d+) \(setsid\): (alive|dead), (\d+): (alive|dead)$`), checkProcesses},
	{regexp.MustCompile(`^the repeated UPDATE got 202$`), repeatUpdate},
	{regexp.MustCompile(`^length of data in the answer: (\d+)$`), checkLength},
	{regexp.MustCompile(`^(?s:sh: (.*))$`), runCommand},
	{regexp.MustCompile(`^---- agent$`), func(p *player, _ *line, _ []string) error { p.target = "agent-1"; return nil }},
	{regexp.MustCompile(`^operator view of the agent$`), func(p *player, _ *line, _ []string) error { p.target = "agent-1"; return nil }},
	{regexp.MustCompile(`^part B: executor re-subscribes after its window`), func(p *player, _ *line, _ []string) error { p.target = ""; return nil }},
}

// deeds are words of things that happen. A note with one of them that is a comment
// all the same is listed in comments.
var (
	deeds    = regexp.MustCompile(`SIG[A-Z]|\bstarted\b|\bZooKeeper\b|\bprocess ended\b|\bwithin \d|dead=|alive\b`)
	comments = regexp.MustCompile(`^(part [A-F]|e[0-9]|now the|duplicate SUBSCRIBE|t1 RUNNING|the same barrier|framework without)`)
)

func (p *player) playNote(l *line) error {
	for _, a := range slices.Concat(zookeeperActions, actions) {
		if m := a.pattern.FindStringSubmatch(l.Note); m != nil {
			return a.do(p, l, m)
		}
	}
	if deeds.MatchString(l.Note) && !comments.MatchString(l.Note) {
		return errors.New("the player does not know what this note wants: add it to actions")
	}
	return nil
}

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

func (p *player) bindPort(name, url string) error {
	if _, ok := p.bound.values[name]; ok {
		return nil
	}
	defer p.bound.commit()
	return p.bound.bind(name, name[:strings.LastIndex(name, "-")], portOf(strings.TrimPrefix(url, "http://")))
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

func mesosDuration(text string) (time.Duration, error) {
	return time.ParseDuration(strings.NewReplacer("secs", "s", "mins", "m").Replace(text))
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

// subscription is the first scheduler's SUBSCRIBE with an id, "" for none. Where
// schedulers repeat it the recording shows only the answers.
func (p *player) subscription(id string) any {
	for _, other := range p.lines {
		if other.Sent && other.callType() == "SUBSCRIBE" && other.Who == scheduler {
			body, _ := clone(other.Body).(map[string]any)
			if id != "" {
				body["framework_id"] = map[string]any{"value": id}
				info, _ := member(body, "subscribe", "framework_info").(map[string]any)
				info["id"] = map[string]any{"value": id}
			}
			return body
		}
	}
	return nil
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

func (p *player) node(name string) *emulator.Node {
	if name == "agent" {
		name = "agent-1"
	}
	return p.nodes[name]
}

// pollExecutor makes an executor come back to a restarted agent. What it lists is in
// the table of the scenario, because the recording does not show it.
func pollExecutor(p *player, l *line, groups []string) error {
	id := groups[1]
	known := p.scenario.unacknowledged[l.Number]
	subscribe := map[string]any{}
	var framework any
	var tasks, updates []any
	for _, other := range p.lines[:l.Number] {
		if !other.Sent || other.Body == nil {
			continue
		}
		if other.Who == executor && other.ID == id && other.callType() == "SUBSCRIBE" {
			framework = member(other.Body, "framework_id")
		}
		for _, task := range taskInfos(other.Body) {
			if contains(known.tasks, member(task, "task_id", "value")) {
				tasks = append(tasks, task)
			}
		}
		if other.callType() == "UPDATE" && contains(known.updates, member(other.Body, "update", "status", "uuid")) {
			updates = append(updates, member(other.Body, "update"))
		}
	}
	if len(tasks) != len(known.tasks) || len(updates) != len(known.updates) {
		return fmt.Errorf("the recording has %d of %d tasks and %d of %d updates of the table",
			len(tasks), len(known.tasks), len(updates), len(known.updates))
	}
	if len(tasks) > 0 {
		subscribe["unacknowledged_tasks"] = tasks
	}
	if len(updates) > 0 {
		subscribe["unacknowledged_updates"] = updates
	}
	body, err := p.complete(l, map[string]any{
		"type": "SUBSCRIBE", "subscribe": subscribe, "framework_id": framework,
		"executor_id": map[string]any{"value": id},
	})
	if err != nil {
		return err
	}
	poll := *l
	poll.Who, poll.ID = executor, id
	return p.startPoll(&poll, body, p.stage.endpoint(id))
}

// taskInfos are the tasks that a call launches.
func taskInfos(body any) []any {
	var tasks []any
	operations, _ := member(body, "accept", "operations").([]any)
	for _, operation := range operations {
		infos, _ := member(operation, "launch", "task_infos").([]any)
		group, _ := member(operation, "launch_group", "task_group", "tasks").([]any)
		tasks = append(append(tasks, infos...), group...)
	}
	return tasks
}

func contains(list []string, value any) bool {
	for _, one := range list {
		if one == value {
			return true
		}
	}
	return false
}

func exitExecutor(p *player, l *line, groups []string) error {
	p.pause(l)
	code, err := strconv.Atoi(groups[2])
	if err != nil {
		return err
	}
	p.stage.probe(groups[1]).tell(order{Exit: &code})
	return nil
}

func dieExecutor(p *player, l *line, groups []string) error {
	p.pause(l)
	p.stage.probe(groups[1]).tell(order{Die: true})
	return nil
}

// killHelper kills the parent of the executor that was started last.
func killHelper(p *player, l *line, _ []string) error {
	p.pause(l)
	for i := l.Number - 1; i >= 0; i-- {
		if p.lines[i].What == whatEnv {
			parent, err := strconv.Atoi(fmt.Sprint(p.stage.probe(p.lines[i].ID).hello["ppid"]))
			if err != nil {
				return err
			}
			return syscall.Kill(parent, syscall.SIGKILL)
		}
	}
	return errors.New("no executor has been started")
}

func checkExecutor(p *player, l *line, groups []string) error {
	dead := groups[2] == "true" || strings.HasSuffix(l.Note, " is dead")
	probe := p.stage.probe(groups[1])
	p.mu.Lock()
	defer p.mu.Unlock()
	if probe.gone != dead {
		return fmt.Errorf("recorded dead=%v, got dead=%v", dead, probe.gone)
	}
	return nil
}

// checkSilence waits as long as the recorded script did, and finds nothing.
func checkSilence(p *player, l *line, groups []string) error {
	p.settle(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.streams {
		if !strings.HasPrefix(key, "scheduler "+groups[2]+" ") {
			continue
		}
		for _, a := range s.arrived {
			if a.kind == groups[1] && !s.repeated(a) {
				return fmt.Errorf("recorded silence, got %s\n    %s", a.kind, show(a.value))
			}
		}
	}
	return nil
}

// checkOffer compares how long a filter lasted, to the length of an allocation cycle.
func checkOffer(p *player, l *line, groups []string) error {
	recorded, err := time.ParseDuration(groups[1] + "s")
	if err != nil {
		return err
	}
	const cycle = 1100 * time.Millisecond
	if got := p.done.Sub(p.actedAt); (got - recorded).Abs() > cycle {
		return fmt.Errorf("got it after %v", got.Round(10*time.Millisecond))
	}
	return nil
}

func checkAlive(p *player, l *line, groups []string) error {
	url := p.cluster.MasterURL()
	if groups[1] == "agent" {
		url = p.node("agent").URL()
	}
	response, err := http.Get(url + "/health")
	if err == nil {
		response.Body.Close()
	}
	if alive := err == nil; strconv.FormatBool(alive) != groups[2] {
		return fmt.Errorf("got alive=%v", alive)
	}
	return nil
}

// leaveProcesses makes the executor of the last line start two processes that outlive
// their parent, the first in a session of its own.
func leaveProcesses(p *player, l *line, groups []string) error {
	probe := p.lastProbe(l)
	output, err := probe.run(l, "setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $!; sleep 60 >/dev/null 2>&1 </dev/null & echo $!")
	if err != nil {
		return err
	}
	p.spare = strings.Fields(output)
	if len(p.spare) != 2 {
		return fmt.Errorf("the shell said %q", output)
	}
	return nil
}

func (p *player) lastProbe(l *line) *probe {
	for i := l.Number - 1; i >= 0; i-- {
		if p.lines[i].Who == executor {
			return p.stage.probe(p.lines[i].ID)
		}
	}
	return nil
}

func checkProcesses(p *player, l *line, groups []string) error {
	var problems []error
	for i, pid := range p.spare {
		want := groups[2*i+2]
		number, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		err = p.awaitFor(time.Second, func() (bool, error) { return alive(number) == (want == "alive"), nil })
		if err != nil {
			problems = append(problems, fmt.Errorf("process %s is not %s", groups[2*i+1], want))
		}
		_ = syscall.Kill(number, syscall.SIGKILL)
	}
	return errors.Join(problems...)
}

// alive tells whether a process runs; one that nobody has reaped does not.
func alive(pid int) bool {
	for _, text := range textLines(fmt.Sprintf("/proc/%d/status", pid)) {
		if state, ok := strings.CutPrefix(text, "State:\t"); ok {
			return !strings.HasPrefix(state, "Z")
		}
	}
	return false
}

// repeatUpdate sends the last UPDATE of the recording again until it is accepted.
func repeatUpdate(p *player, l *line, _ []string) error {
	for i := l.Number - 2; i >= 0; i-- {
		update := p.lines[i]
		if update.Who != executor || update.callType() != "UPDATE" {
			continue
		}
		request, err := p.request(update)
		if err != nil {
			return err
		}
		for end := time.Now().Add(within); time.Now().Before(end); {
			answered := make(chan exchangeItem, 1)
			p.stage.probe(update.ID).exchange(request, func(item exchangeItem) { answered <- item })
			select {
			case item := <-answered:
				if item.Status == http.StatusAccepted {
					return nil
				}
			case <-time.After(within):
				return errTooLate
			}
			time.Sleep(20 * time.Millisecond) // as the recorded executor did
		}
		return errTooLate
	}
	return errors.New("no UPDATE before")
}

func checkLength(p *player, _ *line, groups []string) error {
	if got := strconv.Itoa(p.lastLength); got != groups[1] {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

func runCommand(p *player, l *line, groups []string) error {
	if l.Who != executor {
		return errors.New("only executors run commands")
	}
	output, err := p.stage.probe(l.ID).run(l, p.bound.fill(groups[1]))
	if err != nil {
		return err
	}
	if d := p.bound.match(l.Text, strings.TrimSuffix(output, "\n"), p.accept(l)); d != nil {
		return d
	}
	return nil
}
