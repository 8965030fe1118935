package master_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
)

// leader is a detector of whichever master a test starts.
type leader struct {
	mu      sync.Mutex
	master  link.Master
	changed chan struct{}
}

func newLeader() *leader { return &leader{changed: make(chan struct{})} }

func (l *leader) Leader() (link.Master, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.master, l.changed
}

func (l *leader) set(m link.Master) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.master = m
	close(l.changed)
	l.changed = make(chan struct{})
}

// start starts a master that leads until the test ends.
func start(t *testing.T, config master.Config) (*master.Master, *leader) {
	t.Helper()
	m, err := master.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	l := newLeader()
	l.set(m)
	return m, l
}

// puppet is an agent whose every move a test makes.
type puppet struct {
	t    *testing.T
	line *link.Line
	end  *link.End
	id   string
	info mesos.AgentInfo
}

// newPuppet registers an agent with 4 cpus.
func newPuppet(t *testing.T, l *leader, changes ...func(*mesos.AgentInfo)) *puppet {
	t.Helper()
	kind := mesos.RANGES
	p := &puppet{t: t, line: link.NewLine(l), info: mesos.AgentInfo{
		Hostname: "127.0.0.1",
		Resources: append(probe.Scalars(4, 4096, 4096), mesos.Resource{
			Name: "ports", Type: &kind,
			Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 31000, End: 32000}}},
		}),
	}}
	for _, change := range changes {
		change(&p.info)
	}
	p.dial()
	p.end.Send(link.RegisterAgent{Agent: p.info, Endpoint: p.endpoint()})
	p.id = expect[link.Registered](p).AgentID
	p.info.ID = &mesos.AgentID{Value: p.id}
	return p
}

func (p *puppet) endpoint() link.Endpoint {
	return link.Endpoint{PID: "slave(1)@127.0.0.1:5051-" + p.info.Hostname, Version: "1.12.0"}
}

func (p *puppet) dial() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), probe.Patience)
	defer cancel()
	var err error
	if p.end, err = p.line.Dial(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// reregister comes back with tasks.
func (p *puppet) reregister(frameworks []mesos.FrameworkInfo, executors []mesos.ExecutorInfo, tasks ...mesos.Task) {
	p.t.Helper()
	p.dial()
	p.end.Send(link.ReregisterAgent{Agent: p.info, Endpoint: p.endpoint(), Frameworks: frameworks, Executors: executors, Tasks: tasks})
}

// expect returns the next message of a type, answering pings and skipping others.
func expect[M link.Message](p *puppet) M {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), probe.Patience)
	defer cancel()
	for {
		message, err := p.end.Next(ctx)
		if err != nil {
			var want M
			p.t.Fatalf("no %T: %v", want, err)
		}
		switch message := message.(type) {
		case M:
			return message
		case link.Ping:
			p.end.Send(link.Pong{})
		}
	}
}

// update sends a status of an executor.
func (p *puppet) update(framework string, taskID string, state mesos.TaskState, changes ...func(*link.StatusUpdate)) mesos.TaskStatus {
	id := uuid.New()
	source, at := mesos.SOURCE_EXECUTOR, 1.5
	u := link.StatusUpdate{FrameworkID: framework, LatestState: &state, Status: mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: taskID}, State: &state, Source: &source, UUID: id[:], Timestamp: &at,
		AgentID: &mesos.AgentID{Value: p.id}, ExecutorID: &mesos.ExecutorID{Value: "e1"},
	}}
	for _, change := range changes {
		change(&u)
	}
	p.end.Send(u)
	return u.Status
}
