package executor

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/artifact"
	"pacer/executor/labels"
	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/executor/registry"
	"pacer/healthcheck"
	"pacer/secrets"
)

// plan is everything that a TaskInfo says about a task, understood and checked.
type plan struct {
	app         string // with its leading slash
	rules       rules
	argv        []string
	user        string
	listed      bool // an operator has listed the user as allowed
	environment environment
	limits      process.Limits
	sandbox     sandbox
	directory   string         // its own, where its output is
	workdir     string         // where it starts: directory, or the sandbox
	marathons   bool           // it is the only task of this executor
	uris        []artifact.URI // to be fetched into directory

	identity       secrets.Identity
	secrets        secrets.Declarations
	launchDeadline time.Duration

	health    []healthcheck.Check
	check     *check
	instances []registry.Instance
}

// site is what holds for all tasks of an executor: its settings, and what the
// agent said when it accepted the subscription.
type site struct {
	config    Config
	framework mesos.FrameworkInfo
	agent     mesos.AgentInfo
	// registries is what labels are judged by.
	registries labels.Limits
}

// newPlan reads a TaskInfo. Its error joins every mistake, so that a task has
// to be corrected only once; the plan is then good for nothing but its rules.
func newPlan(info mesos.TaskInfo, s site) (*plan, error) {
	p := &plan{launchDeadline: launchDeadline, sandbox: sandbox(s.config.Sandbox)}
	p.rules = rules{
		reportKilling: hasCapability(s.framework, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE),
		register:      s.config.RegisterTimeout,
		schedulerKill: s.config.SchedulerKillTimeout,
		times:         times{deregister: s.config.DeregisterTimeout, grace: killGrace(s.config.KillGrace, info.KillPolicy)},
	}
	if d := info.MaxCompletionTime; d != nil {
		p.rules.completion = time.Duration(d.Nanoseconds)
	}
	var problems []error
	note := func(err error) { problems = append(problems, err) }

	id := info.TaskID.Value
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\\\x00") {
		note(fmt.Errorf("task_id %q cannot be the name of a directory: leave out '/' and '\\'", id))
		id = "invalid"
	}
	p.directory = filepath.Join(s.config.Sandbox, tasksDir, id)
	p.workdir = p.directory

	read := readPayload
	if p.marathons = isMarathons(info, s.config.Argv); p.marathons {
		p.workdir = s.config.Sandbox
		read = func(info mesos.TaskInfo) (*payload.Task, error) { return readMarathon(info, s.config.Argv) }
	}
	task, err := read(info)
	if err != nil {
		// Without it nothing else can be judged, except the labels.
		note(err)
		task = new(payload.Task)
	}
	p.app = task.App
	p.rules.unhealthy = task.Unhealthy
	p.argv = task.GetCommand().GetArgv()
	if line := task.GetCommand().GetShell(); line != "" {
		p.argv = shell(line)
	}
	if c := info.Container; c.GetDocker() != nil || c.GetMesos().GetImage() != nil {
		note(errors.New("container: this executor runs plain processes, not images: remove the field"))
	}
	for _, u := range task.Uris {
		uri := artifact.URI{Value: u.Value, OutputFile: u.OutputFile, SHA256: u.Sha256, Executable: u.Executable, Extract: u.Extract, Cache: u.Cache}
		if err := uri.Validate(); err != nil {
			note(err)
		}
		p.uris = append(p.uris, uri)
	}
	if p.user, err = s.userOf(task.User, p.marathons); err != nil {
		note(err)
	}
	p.listed = slices.Contains(s.config.AllowedUsers, p.user)

	own := labelsOf(info.Labels)
	p.identity = secrets.Identity{App: strings.TrimPrefix(p.app, "/"), Task: id, Token: secrets.NewSecret([]byte(task.IdentityToken))}
	if p.secrets, err = secrets.ParseLabels(own); err != nil {
		note(err)
	}
	var health *healthcheck.Check
	if info.HealthCheck != nil {
		if health, err = healthCheck(info.HealthCheck, p.rules.unhealthy); err != nil {
			note(err)
		}
		p.rules.checked = true
	}
	if info.Check != nil {
		if p.check, err = newCheck(info.Check); err != nil {
			note(err)
		}
	}
	ports := portsOf(info)
	if err := p.readLabels(own, ports, health, task.Shard, id, s); err != nil {
		note(err)
	}

	p.limits = limitsOf(info)
	p.limits.Pids = s.config.TaskPids
	p.environment = marathonEnvironment(info, task, s.agent.Hostname, ports)
	if err := p.environment.add(task.Environment); err != nil {
		note(err)
	}
	if p.marathons {
		p.environment.inherit(s.config.Environment)
	}
	p.environment = p.environment.with("MESOS_TASK_ID", id).with("MESOS_SANDBOX", p.workdir)
	return p, errors.Join(problems...)
}

// readLabels reads what is to be registered, and where, and what is to be
// checked.
func (p *plan) readLabels(own map[string]string, ports []port, health *healthcheck.Check, shard int32, id string, s site) error {
	named := make([]labels.Port, len(ports))
	numbers := make([]int, len(ports))
	for i, port := range ports {
		named[i] = labels.Port{Name: port.name, Labels: port.labels}
		numbers[i] = port.number
	}
	declared, err := labels.Parse(labels.App{Path: p.app, Labels: own, Ports: named, Check: health}, s.registries)
	if err != nil {
		return err
	}
	for _, check := range declared.Checks {
		p.health = append(p.health, check.At(numbers))
	}
	p.rules.times.drain = declared.Drain
	p.rules.required = declared.Required
	if len(declared.Services) == 0 {
		return nil
	}
	host, err := registry.AdvertisedHost(s.config.AdvertiseHost, s.agent.Hostname)
	if err != nil {
		return err
	}
	p.instances, err = registry.Instances(declared, registry.Task{ID: id, App: p.app, Host: host, Ports: numbers, Shard: int(shard)})
	p.rules.registers = len(p.instances) > 0
	return err
}

// readPayload finds the command: in TaskInfo.command (task groups of any
// framework), else in the payload of Pacer's scheduler.
func readPayload(info mesos.TaskInfo) (*payload.Task, error) {
	if info.Command == nil {
		return payload.Decode(info.Data)
	}
	c := info.Command
	task := &payload.Task{App: "/" + info.Name, User: c.GetUser(), Command: new(payload.Command), Shard: -1}
	if c.GetShell() {
		task.Command.Shell = c.GetValue()
	} else {
		task.Command.Argv = c.Arguments
		// Mesos takes argv[0] from the arguments; the program is in value.
		if len(c.Arguments) == 0 {
			task.Command.Argv = []string{c.GetValue()}
		} else if c.GetValue() != "" {
			task.Command.Argv = append([]string{c.GetValue()}, c.Arguments[1:]...)
		}
	}
	if c.GetValue() == "" {
		return nil, errors.New("command.value is empty: set it to a command line, or to a program with shell=false")
	}
	for _, v := range c.GetEnvironment().GetVariables() {
		if v.GetType() != mesos.Environment_Variable_VALUE {
			return nil, fmt.Errorf("command.environment: variable %s is a Mesos secret: declare it by the label %s%s", v.Name, secrets.LabelEnvPrefix, v.Name)
		}
		task.Environment = append(task.Environment, &payload.Variable{Name: v.Name, Value: v.GetValue()})
	}
	for _, u := range c.URIs {
		task.Uris = append(task.Uris, &payload.URI{Value: u.Value, Executable: u.GetExecutable(), Extract: u.GetExtract(), Cache: u.GetCache(), OutputFile: u.GetOutputFile()})
	}
	return task, nil
}

// killGrace is the time between SIGTERM and SIGKILL: the policy's, else the
// default. A negative one, which Mesos lets through, counts as none given.
func killGrace(byDefault time.Duration, policy *mesos.KillPolicy) time.Duration {
	if policy == nil || policy.GracePeriod == nil || policy.GracePeriod.Nanoseconds < 0 {
		return byDefault
	}
	return time.Duration(policy.GracePeriod.Nanoseconds)
}

func shell(line string) []string { return []string{"/bin/sh", "-c", line} }

func hasCapability(f mesos.FrameworkInfo, want mesos.FrameworkInfo_Capability_Type) bool {
	for _, c := range f.Capabilities {
		if c.Type == want {
			return true
		}
	}
	return false
}

func labelsOf(l *mesos.Labels) map[string]string {
	m := map[string]string{}
	for _, label := range l.GetLabels() {
		m[label.Key] = label.GetValue()
	}
	return m
}

// port is one port of a task.
type port struct {
	name   string
	number int
	labels map[string]string
}

// portsOf lists a task's ports in the order of its definition, which only
// discovery tells; without it, in the order of the resources.
func portsOf(info mesos.TaskInfo) []port {
	var list []port
	for _, p := range info.GetDiscovery().GetPorts().GetPorts() {
		list = append(list, port{name: p.GetName(), number: int(p.Number), labels: labelsOf(p.Labels)})
	}
	if len(list) > 0 {
		return list
	}
	for _, r := range info.Resources {
		if r.Name != "ports" {
			continue
		}
		for _, span := range r.GetRanges().GetRange() {
			for n := span.Begin; n <= span.End && len(list) < maxPorts; n++ {
				list = append(list, port{number: int(n)})
			}
		}
	}
	return list
}

// maxPorts bounds what a nonsensical range can make of the environment.
const maxPorts = 1000

// limitsOf is what the kernel is to enforce: what was allocated, and what
// TaskInfo sets above it as limits (infinity is none): memory's in place of
// what was allocated, that of cpus beside the weight.
func limitsOf(info mesos.TaskInfo) process.Limits {
	mem := scalar(info.Resources, "mem")
	if limit, ok := info.Limits["mem"]; ok {
		mem = limit.Value
	}
	limits := process.Limits{CPU: scalar(info.Resources, "cpus")}
	if quota := info.Limits["cpus"].Value; quota > 0 && quota < maxCPUs {
		limits.CPUQuota = quota
	}
	if mem > 0 && mem < maxMemory {
		limits.Memory = uint64(mem * (1 << 20))
	}
	return limits
}

// maxMemory in MiB and maxCPUs are more than any machine has, and far from
// overflowing.
const (
	maxMemory = 1 << 40
	maxCPUs   = 1 << 20
)

func scalar(resources []mesos.Resource, name string) float64 {
	var sum float64
	for _, r := range resources {
		if r.Name == name {
			sum += r.GetScalar().GetValue()
		}
	}
	return max(sum, 0)
}

// snoozeFile is the file by which people suspend the counting of failures.
func (p *plan) snoozeFile() string { return filepath.Join(p.workdir, healthcheck.SnoozeFile) }
