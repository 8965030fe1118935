package scheduler

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
)

func (c *cluster) Accept(_ context.Context, offerIDs []string, operations []mesos.Offer_Operation, refuse time.Duration) error {
	proceed, outcome := c.enter("ACCEPT " + strings.Join(offerIDs, ","))
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	valid := true
	var cpus app.Milli
	ports := make(map[uint32]bool)
	var a *fakeAgent
	for _, id := range offerIDs {
		o := c.offers[id]
		if o == nil {
			valid = false
			continue
		}
		if a != nil && a != o.agent {
			c.t.Error("ACCEPT of offers of two agents")
		}
		a = o.agent
		cpus += o.cpus
		for _, p := range o.ports {
			ports[p] = true
		}
		o.give()
		delete(c.offers, id)
	}
	for _, op := range operations {
		for _, info := range op.Launch.TaskInfos {
			if !valid {
				c.dropped++
				c.sendLocked(status(info.TaskID.Value, info.AgentID.Value, mesos.TASK_DROPPED, mesos.REASON_INVALID_OFFERS))
				continue
			}
			c.launchLocked(a, info, &cpus, ports)
		}
	}
	if a != nil {
		a.filtered = time.Now().Add(refuse)
	}
	return outcome
}

func status(task, agent string, st mesos.TaskState, reason mesos.TaskStatus_Reason) mesos.TaskStatus {
	return mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: task}, AgentID: &mesos.AgentID{Value: agent}, State: st.Enum(),
		Source: mesos.SOURCE_MASTER.Enum(), Reason: reason.Enum(),
	}
}

// launchLocked holds a task to what Mesos would refuse.
func (c *cluster) launchLocked(a *fakeAgent, info mesos.TaskInfo, cpus *app.Milli, ports map[uint32]bool) {
	id := info.TaskID.Value
	if c.tasks[id] != nil {
		c.t.Errorf("task %s is launched twice", id)
	}
	if info.AgentID.Value != a.id || info.Command != nil || info.Executor == nil || info.Executor.FrameworkID.Value != c.frameworkID {
		c.t.Errorf("task %s is not valid: %+v", id, info)
	}
	need := amount(info.Resources)
	executor := *info.Executor
	serialised, err := executor.Marshal()
	if err != nil {
		c.t.Error(err)
	}
	if have, alive := a.executors[executor.ExecutorID.Value]; !alive {
		need += amount(executor.Resources)
	} else if have != string(serialised) {
		c.t.Errorf("executor %s was started with another ExecutorInfo", executor.ExecutorID.Value)
	}
	if need > *cpus {
		c.t.Errorf("task %s and its executor need %s cpus of %s", id, need, *cpus)
	}
	*cpus -= need
	a.used += need
	for _, p := range portsOf(info) {
		if !ports[p] {
			c.t.Errorf("task %s takes port %d, which is not offered", id, p)
		}
		delete(ports, p)
		delete(a.ports, p)
	}
	a.executors[executor.ExecutorID.Value] = string(serialised)
	p, err := payload.Decode(info.Data)
	if err != nil {
		c.t.Errorf("payload of %s: %v", id, err)
	}
	t := &fakeTask{info: info, payload: p, agent: a, state: mesos.TASK_STAGING}
	c.tasks[id] = t
	b := c.behave(t)
	c.later(b.starts, func() { c.becomeLocked(t, mesos.TASK_RUNNING, nil) })
	if info.HealthCheck != nil && b.healthy >= 0 {
		yes := true
		c.later(b.starts+b.healthy, func() { c.becomeLocked(t, mesos.TASK_RUNNING, &yes) })
	}
	if b.fails > 0 {
		c.later(b.starts+b.fails, func() { c.becomeLocked(t, mesos.TASK_FAILED, nil) })
	}
}

func amount(resources []mesos.Resource) app.Milli {
	var sum app.Milli
	for _, r := range resources {
		if r.Name == "cpus" {
			sum += app.Milli(r.GetScalar().GetValue()*1000 + 0.5)
		}
	}
	return sum
}

func portsOf(info mesos.TaskInfo) (ports []uint32) {
	for _, r := range info.Resources {
		for _, span := range r.GetRanges().GetRange() {
			for p := span.Begin; p <= span.End; p++ {
				ports = append(ports, uint32(p))
			}
		}
	}
	return ports
}

func (c *cluster) later(d time.Duration, do func()) {
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		do()
	})
}

// becomeLocked is what an executor reports.
func (c *cluster) becomeLocked(t *fakeTask, st mesos.TaskState, healthy *bool, labels ...mesos.Label) {
	if isTerminal(t.state) || t.killed && st == mesos.TASK_RUNNING {
		return
	}
	t.state = st
	if healthy != nil {
		t.healthy = healthy
	}
	if isTerminal(st) {
		t.agent.used -= amount(t.info.Resources)
		for _, p := range portsOf(t.info) {
			t.agent.ports[p] = true
		}
	}
	id := uuid.New()
	s := mesos.TaskStatus{
		TaskID: t.info.TaskID, AgentID: &mesos.AgentID{Value: t.agent.id}, ExecutorID: &t.info.Executor.ExecutorID,
		State: st.Enum(), Source: mesos.SOURCE_EXECUTOR.Enum(), UUID: id[:], Healthy: t.healthy,
	}
	if len(labels) > 0 {
		s.Labels = &mesos.Labels{Labels: labels}
	}
	t.updates = append(t.updates, s)
	c.flushLocked(t)
}

// flushLocked sends the oldest update until it is acknowledged.
func (c *cluster) flushLocked(t *fakeTask) {
	if t.pending != nil || len(t.updates) == 0 {
		return
	}
	s := t.updates[0]
	t.updates = t.updates[1:]
	t.pending = &s
	c.resendLocked(t, s)
}

func (c *cluster) resendLocked(t *fakeTask, s mesos.TaskStatus) {
	if t.pending == nil || string(t.pending.UUID) != string(s.UUID) {
		return
	}
	if !t.agent.unreachable && !t.agent.recovering {
		c.sendLocked(s)
	}
	c.later(10*time.Second, func() { c.resendLocked(t, s) })
}

func (c *cluster) Acknowledge(_ context.Context, s mesos.TaskStatus) error {
	if len(s.UUID) == 0 {
		c.t.Errorf("acknowledged a status of %s without uuid", s.TaskID.Value)
	}
	proceed, outcome := c.enter("ACKNOWLEDGE " + s.TaskID.Value + " " + s.State.String())
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tasks[s.TaskID.Value]
	if t == nil || t.pending == nil || string(t.pending.UUID) != string(s.UUID) || t.agent.unreachable {
		return outcome
	}
	t.pending = nil
	t.gone = isTerminal(*s.State)
	c.flushLocked(t)
	return outcome
}

func (c *cluster) Decline(_ context.Context, offerIDs []string, refuse time.Duration) error {
	proceed, outcome := c.enter("DECLINE")
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range offerIDs {
		if o := c.offers[id]; o != nil {
			o.give()
			o.agent.filtered = time.Now().Add(refuse)
			delete(c.offers, id)
		}
	}
	return outcome
}

func (c *cluster) Revive(context.Context, ...string) error {
	proceed, outcome := c.enter("REVIVE")
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suppressed = false
	for _, a := range c.agents {
		a.filtered = time.Time{}
	}
	return outcome
}

func (c *cluster) Suppress(context.Context, ...string) error {
	proceed, outcome := c.enter("SUPPRESS")
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suppressed = true
	return outcome
}

func (c *cluster) Kill(_ context.Context, taskID, agentID string, _ *mesos.KillPolicy) error {
	proceed, outcome := c.enter("KILL " + taskID)
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tasks[taskID]
	if t == nil || t.agent.unreachable || t.agent.recovering || t.gone {
		c.answerLocked(master.Task{ID: taskID, AgentID: agentID})
		return outcome
	}
	if !t.killed {
		t.killed = true
		b := c.behave(t)
		c.becomeLocked(t, mesos.TASK_KILLING, nil)
		c.later(b.dies, func() { c.becomeLocked(t, mesos.TASK_KILLED, nil) })
	}
	return outcome
}

func (c *cluster) Shutdown(_ context.Context, executorID, agentID string) error {
	proceed, outcome := c.enter("SHUTDOWN " + executorID)
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.agents[agentID]
	if a == nil || a.executors[executorID] == "" {
		return outcome
	}
	for id, t := range c.tasks {
		if t.info.Executor.ExecutorID.Value == executorID && !isTerminal(t.state) {
			c.t.Errorf("executor %s is shut down with task %s", executorID, id)
		}
	}
	delete(a.executors, executorID)
	a.used -= 100
	c.postLocked(func(h master.Handler) { h.Failure(agentID, executorID, 0) })
	return outcome
}

func (c *cluster) Message(_ context.Context, executorID, agentID string, data []byte) error {
	proceed, outcome := c.enter("MESSAGE " + agentID)
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages = append(c.messages, message{executorID, agentID, data})
	return outcome
}

// ask delivers a message of an executor.
func (c *cluster) ask(executorID, agentID string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.postLocked(func(h master.Handler) { h.Message(agentID, executorID, data) })
}

func (c *cluster) Describe(context.Context) ([]master.Described, error) {
	proceed, outcome := c.enter("DESCRIBE")
	if !proceed {
		return nil, outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []master.Described
	for _, t := range c.tasks {
		if t.gone || t.agent.recovering {
			continue
		}
		list = append(list, master.Described{Hostname: t.agent.host, Task: mesos.Task{
			TaskID: t.info.TaskID, AgentID: t.info.AgentID, State: t.state.Enum(), ExecutorID: &t.info.Executor.ExecutorID,
			FrameworkID: mesos.FrameworkID{Value: c.frameworkID}, Labels: t.info.Labels, Discovery: t.info.Discovery,
		}})
	}
	return list, outcome
}

func (c *cluster) Reconcile(_ context.Context, tasks ...master.Task) error {
	proceed, outcome := c.enter(fmt.Sprint("RECONCILE ", len(tasks)))
	if !proceed {
		return outcome
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(tasks) == 0 {
		for id, t := range c.tasks {
			if !t.gone && !t.agent.unreachable && !t.agent.recovering {
				c.answerLocked(master.Task{ID: id, AgentID: t.agent.id})
			}
		}
	}
	for _, t := range tasks {
		c.answerLocked(t)
	}
	return outcome
}

// recoveringLocked tells whether any agent is still to come back.
func (c *cluster) recoveringLocked() bool {
	for _, a := range c.agents {
		if a.recovering {
			return true
		}
	}
	return false
}

// answerLocked is the table of explicit reconciliation.
func (c *cluster) answerLocked(asked master.Task) {
	t, a := c.tasks[asked.ID], c.agents[asked.AgentID]
	s := status(asked.ID, asked.AgentID, mesos.TASK_UNKNOWN, mesos.REASON_RECONCILIATION)
	switch {
	case a != nil && a.recovering, t == nil && asked.AgentID == "" && c.recoveringLocked():
		return
	case t != nil && !t.gone && !t.agent.unreachable:
		s.State, s.Healthy = t.state.Enum(), t.healthy
		s.ExecutorID = &t.info.Executor.ExecutorID
	case a == nil || c.amnesia:
	case a.unreachable:
		s.State = mesos.TASK_UNREACHABLE.Enum()
	default:
		s.State = mesos.TASK_GONE.Enum()
	}
	c.sendLocked(s)
}
