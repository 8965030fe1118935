package master

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
)

// executor is an executor that the master counts as existing on an agent.
type executor struct {
	info mesos.ExecutorInfo
	// untyped says that ExecutorInfo.type was not set.
	untyped   bool
	resources resource.Set
	framework *framework
}

// exitedExecutor handles the end of an executor's container.
func (c *core) exitedExecutor(a *agent, message link.ExitedExecutor) {
	c.count("master/messages_exited_executor")
	key := executorKey{message.FrameworkID, message.ExecutorID}
	e := a.executors[key]
	if e == nil {
		return
	}
	c.removeExecutor(a, key)
	status := message.Status
	c.emit(e.framework, &scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{
		AgentID:    &mesos.AgentID{Value: a.id},
		ExecutorID: &mesos.ExecutorID{Value: message.ExecutorID},
		Status:     &status,
	}})
}

func (c *core) addExecutor(a *agent, f *framework, info mesos.ExecutorInfo, untyped bool) {
	e := &executor{info: info, untyped: untyped, framework: f, resources: resource.MustFrom(info.Resources)}
	a.executors[executorKey{f.id, info.ExecutorID.Value}] = e
	c.charge(f, a, e.resources)
}

func (c *core) removeExecutor(a *agent, key executorKey) {
	if e := a.executors[key]; e != nil {
		delete(a.executors, key)
		c.discharge(e.framework, a, e.resources)
	}
}

// charge counts resources as used by tasks or executors.
func (c *core) charge(f *framework, a *agent, s resource.Set) {
	a.allocated = a.allocated.Plus(s)
	c.use(f, a, s)
}

func (c *core) discharge(f *framework, a *agent, s resource.Set) {
	a.allocated = a.allocated.Minus(s)
	c.unuse(f, a, s)
}

// use counts resources as taken, by whatever.
func (c *core) use(f *framework, a *agent, s resource.Set) {
	a.used = a.used.Plus(s.Unallocated())
	for _, role := range s.Roles() {
		f.usedBy(role).add(s, 1)
	}
}

func (c *core) unuse(f *framework, a *agent, s resource.Set) {
	a.used = a.used.Minus(s.Unallocated())
	for _, role := range s.Roles() {
		f.usedBy(role).add(s, -1)
	}
}

func (f *framework) usedBy(role string) quantities {
	q := f.used[role]
	if q == nil {
		q = make(quantities)
		f.used[role] = q
	}
	return q
}
