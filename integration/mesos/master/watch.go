package master

import (
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	pb "github.com/mesos/mesos-go/api/v1/lib/master"

	"pacer/integration/mesos/wire"
)

// watcher is a subscriber of the operator API's event stream.
type watcher struct{ stream *wire.Stream }

// watched is something that watchers hear of; one of its fields is set.
type watched struct {
	taskAdded                                          *task
	taskUpdated                                        *task
	status                                             *mesos.TaskStatus // with taskUpdated
	agentAdded                                         *agent
	agentRemoved                                       string
	frameworkAdded, frameworkUpdated, frameworkRemoved *framework
}

// watch tells all watchers.
func (c *core) watch(w *watched) {
	if len(c.watchers) == 0 {
		return
	}
	event := c.watchEvent(w)
	for _, to := range c.watchers {
		c.tell(to, event)
	}
}

func (c *core) tell(to *watcher, event *pb.Event) {
	if err := to.stream.Send(event); err != nil {
		c.log.Error().Err(err).Msg("operator event not sent")
	}
}

func (c *core) frameworkAdded(f *framework) { c.watch(&watched{frameworkAdded: f}) }

func (c *core) watchEvent(w *watched) *pb.Event {
	switch {
	case w.taskAdded != nil:
		return &pb.Event{Type: pb.Event_TASK_ADDED, TaskAdded: &pb.Event_TaskAdded{Task: w.taskAdded.proto}}
	case w.taskUpdated != nil:
		return &pb.Event{Type: pb.Event_TASK_UPDATED, TaskUpdated: &pb.Event_TaskUpdated{
			FrameworkID: w.taskUpdated.proto.FrameworkID,
			Status:      *w.status,
			State:       w.taskUpdated.proto.State,
		}}
	case w.agentAdded != nil:
		return &pb.Event{Type: pb.Event_AGENT_ADDED, AgentAdded: &pb.Event_AgentAdded{Agent: c.describeAgent(w.agentAdded)}}
	case w.agentRemoved != "":
		return &pb.Event{Type: pb.Event_AGENT_REMOVED, AgentRemoved: &pb.Event_AgentRemoved{AgentID: mesos.AgentID{Value: w.agentRemoved}}}
	case w.frameworkAdded != nil:
		return &pb.Event{Type: pb.Event_FRAMEWORK_ADDED, FrameworkAdded: &pb.Event_FrameworkAdded{Framework: c.describeFramework(w.frameworkAdded)}}
	case w.frameworkUpdated != nil:
		return &pb.Event{Type: pb.Event_FRAMEWORK_UPDATED, FrameworkUpdated: &pb.Event_FrameworkUpdated{Framework: c.describeFramework(w.frameworkUpdated)}}
	default:
		return &pb.Event{Type: pb.Event_FRAMEWORK_REMOVED, FrameworkRemoved: &pb.Event_FrameworkRemoved{FrameworkInfo: w.frameworkRemoved.info}}
	}
}

// subscribeOperator adds a watcher and sends it the state of this moment.
func (c *core) subscribeOperator(w *watcher) {
	c.watchers = append(c.watchers, w)
	heartbeat := c.config.HeartbeatInterval.Seconds()
	c.tell(w, &pb.Event{Type: pb.Event_SUBSCRIBED, Subscribed: &pb.Event_Subscribed{
		GetState:                 c.getState(),
		HeartbeatIntervalSeconds: &heartbeat,
	}})
	var beat func()
	beat = func() {
		if !slices.Contains(c.watchers, w) {
			return
		}
		c.tell(w, &pb.Event{Type: pb.Event_HEARTBEAT})
		c.m.after(c.config.HeartbeatInterval, beat)
	}
	beat()
}

func (c *core) unsubscribeOperator(w *watcher) {
	c.watchers = slices.DeleteFunc(c.watchers, func(x *watcher) bool { return x == w })
}
