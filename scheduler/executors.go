package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
	"pacer/scheduler/state"
)

// executorPrefix begins the IDs of our executors: pacer-<12 hex>-<8 hex>, a
// part of the hash of what it is, and a random suffix for each life.
const executorPrefix = "pacer-"

// closeRepeat is after how long an executor that was shut down and is still
// there is shut down again.
const closeRepeat = 5 * time.Minute

// oneTask is the executor's setting for ScopeTask.
const oneTask = "PACER_ONE_TASK"

// executors knows every ExecutorInfo that was ever sent. Mesos refuses a task
// whose ExecutorInfo differs in anything from that of the live executor of the
// same ID, environment and resources with their reservations included.
type executors struct {
	config Config
	known  map[string]*executorKind // by the 12 hex digits in IDs
	wanted string                   // see executorKind.same
}

// executorKind is what executors of one hash have in common.
type executorKind struct {
	info mesos.ExecutorInfo // without IDs
	same string             // equal for infos that differ only in where their resources come from
	// stored is false while the record is being written.
	stored bool
	record state.Executor
}

func newExecutors(config Config, stored map[string]state.Executor) (*executors, error) {
	e := &executors{config: config, known: make(map[string]*executorKind)}
	wanted, err := describeExecutor(e.info(nil), config.Executor.CPUs, config.Executor.Mem)
	if err != nil {
		return nil, err
	}
	e.wanted = wanted
	for hash, record := range stored {
		kind, err := newExecutorKind(record)
		if err != nil || len(hash) < hashInID {
			continue // its executors are taken for superseded
		}
		kind.stored = true
		e.known[hash[:hashInID]] = kind
	}
	return e, nil
}

// hashInID is how many digits of the hash are in an executor's ID.
const hashInID = 12

func newExecutorKind(record state.Executor) (*executorKind, error) {
	kind := &executorKind{record: record}
	if err := kind.info.Unmarshal(record.Info); err != nil {
		return nil, fmt.Errorf("decode ExecutorInfo %s: %w", record.Hash, err)
	}
	var cpus, mem app.Milli
	for _, r := range kind.info.Resources {
		amount := app.Milli(r.GetScalar().GetValue()*1000 + 0.5)
		switch r.Name {
		case "cpus":
			cpus += amount
		case "mem":
			mem += amount
		}
	}
	var err error
	kind.same, err = describeExecutor(kind.info, cpus, mem)
	return kind, err
}

// describeExecutor is an info with plain amounts instead of resources.
func describeExecutor(info mesos.ExecutorInfo, cpus, mem app.Milli) (string, error) {
	info.Resources = nil
	data, err := info.Marshal()
	if err != nil {
		return "", fmt.Errorf("encode ExecutorInfo: %w", err)
	}
	return fmt.Sprintf("%s %s %x", cpus, mem, data), nil
}

// info is the executor that is wanted now, without IDs.
func (e *executors) info(resources []mesos.Resource) mesos.ExecutorInfo {
	c := e.config.Executor
	command := fmt.Sprintf("echo '%s  pacer-executor' | sha256sum -c --quiet && exec ./pacer-executor", c.SHA256)
	yes, no, file, name := true, false, "pacer-executor", "Pacer executor"
	environment := maps.Clone(c.Environment)
	if c.Scope == ScopeTask {
		if environment == nil {
			environment = make(map[string]string)
		}
		environment[oneTask] = "1"
	}
	var variables []mesos.Environment_Variable
	for _, key := range slices.Sorted(maps.Keys(environment)) {
		value := environment[key]
		variables = append(variables, mesos.Environment_Variable{Name: key, Type: mesos.Environment_Variable_VALUE.Enum(), Value: &value})
	}
	info := mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM,
		Name: &name,
		Command: &mesos.CommandInfo{
			Shell: &yes, Value: &command,
			URIs: []mesos.CommandInfo_URI{{Value: c.URI, Executable: &yes, Extract: &no, Cache: &no, OutputFile: &file}},
		},
		Resources:           resources,
		ShutdownGracePeriod: &mesos.DurationInfo{Nanoseconds: c.ShutdownGrace.Nanoseconds()},
	}
	if len(variables) > 0 {
		info.Command.Environment = &mesos.Environment{Variables: variables}
	}
	return info
}

// start returns the ID of a new executor with these resources, and its kind.
func (e *executors) start(resources []mesos.Resource) (string, *executorKind, error) {
	info := e.info(resources)
	data, err := info.Marshal()
	if err != nil {
		return "", nil, fmt.Errorf("encode ExecutorInfo: %w", err)
	}
	sum := sha256.Sum256(data)
	hash := hex.EncodeToString(sum[:])
	kind := e.known[hash[:hashInID]]
	if kind == nil {
		kind = &executorKind{info: info, same: e.wanted, record: state.Executor{Hash: hash, Info: data}}
		e.known[hash[:hashInID]] = kind
	}
	suffix := uuid.New()
	return executorPrefix + hash[:hashInID] + "-" + hex.EncodeToString(suffix[:4]), kind, nil
}

// kind of the executor of that ID, or nil if it is unknown.
func (e *executors) kind(id string) *executorKind {
	rest, ours := strings.CutPrefix(id, executorPrefix)
	hash, _, _ := strings.Cut(rest, "-")
	if !ours {
		return nil
	}
	return e.known[hash]
}

// current tells whether an executor is as it would be started now.
func (e *executors) current(id string) bool {
	kind := e.kind(id)
	return kind != nil && kind.same == e.wanted
}

// key names the executor that tasks of an app may share.
func (e *executors) key(appID string) string {
	switch e.config.Executor.Scope {
	case ScopeApp:
		return appID
	case ScopeTask:
		return ""
	default:
		return string(ScopeAgent)
	}
}

// identified is the info with its IDs, as Mesos takes it.
func (k *executorKind) identified(id, frameworkID string) *mesos.ExecutorInfo {
	info := k.info
	info.ExecutorID = mesos.ExecutorID{Value: id}
	info.FrameworkID = &mesos.FrameworkID{Value: frameworkID}
	return &info
}

// observeExecutors takes the master's list of our live executors on an agent.
func (c *core) observeExecutors(a *agent, ids []mesos.ExecutorID) {
	alive := make(map[string]time.Time, len(ids))
	for _, id := range ids {
		alive[id.Value] = a.executors[id.Value]
	}
	for id, started := range a.executors {
		if c.now.Sub(started) < executorLag {
			alive[id] = started
		}
	}
	a.executors = alive
	maps.DeleteFunc(a.closed, func(id string, _ time.Time) bool {
		_, is := alive[id]
		return !is
	})
	c.closeIdle(a)
}

// usableExecutors are the live ones that new tasks may use, by key.
func (c *core) usableExecutors(a *agent) map[string]string {
	usable := make(map[string]string)
	if c.config.Executor.Scope == ScopeTask {
		return usable
	}
	apps := c.executorApps(a)
	for _, id := range slices.Sorted(maps.Keys(a.executors)) {
		if _, closed := a.closed[id]; closed || !c.executors.current(id) {
			continue
		}
		key := string(ScopeAgent)
		if c.config.Executor.Scope == ScopeApp {
			key = apps[id]
		}
		if _, have := usable[key]; key != "" && !have {
			usable[key] = id
		}
	}
	return usable
}

// executorApps says which app's tasks each executor of an agent has; "" for
// one whose task nobody knows.
func (c *core) executorApps(a *agent) map[string]string {
	apps := make(map[string]string)
	for i := range a.instances {
		if !i.ended {
			apps[i.record.ExecutorID] = i.record.App
		}
	}
	for _, s := range c.strays {
		if s.agentID == a.id {
			if _, known := apps[s.executorID]; !known {
				apps[s.executorID] = ""
			}
		}
	}
	return apps
}

// closeIdle shuts down executors without tasks that no task will use again:
// superseded ones, those of one app or task, and all on a draining agent,
// which Mesos keeps draining for as long as an executor lives.
func (c *core) closeIdle(a *agent) {
	if !c.connection.reconciled || !c.connection.subscribed || c.suspended || a.accepting {
		return
	}
	apps := c.executorApps(a)
	for id := range a.executors {
		if _, busy := apps[id]; busy || !strings.HasPrefix(id, executorPrefix) {
			continue
		}
		if c.config.Executor.Scope == ScopeAgent && c.executors.current(id) && !a.draining {
			continue
		}
		if at, closed := a.closed[id]; closed && c.now.Sub(at) < closeRepeat {
			continue
		}
		a.closed[id] = c.now
		c.log.Info().Str(keyAgent, a.id).Str(keyExecutor, id).Bool("draining", a.draining).Msg("idle executor is shut down")
		agentID := a.id
		c.call(func(ctx context.Context) error { return c.s.mesos.Shutdown(ctx, id, agentID) }, c.logged("shutdown", id))
	}
}
