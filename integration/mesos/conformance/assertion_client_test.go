package conformance_test

import (
	"bytes"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/wire"
)

// large is more than what mesos-go's reader takes.
var large = bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)

// clients is about what Pacer's own clients have to cope with.
var clients = []assertion{
	{number: 77, title: "records of 5 MiB reach both clients", test: func(w *world) {
		c := w.schedulerClient(w.master)
		p := c.launch()
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("t1")
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING)) // else SHUTDOWN for who does not list it
		call := p.new(executor.Call_MESSAGE)
		call.Message = &executor.Call_Message{Data: large}
		p.accepted(call)
		c.await("message", func() bool { return len(c.messages) > 0 && bytes.Equal(c.messages[0], large) })

		h := w.executorClient(p, p.text("endpoint"))
		h.await("subscription", func() bool { return h.subscribed > 0 })
		w.must(c.client.Message(c.ctx, "e1", w.agentID, large))
		h.await("message", func() bool { return len(h.messages) > 0 && bytes.Equal(h.messages[0], large) })
		c.steady()
		h.steady()
	}},
	{number: 78, title: "events and enum numbers of the future do no harm", test: func(w *world) {
		strange := []byte{8, 99} // type = 99
		c := w.schedulerClient(w.injector(w.master, strange, w.futureUpdate()))
		c.await("status of the future", func() bool { return len(c.updates) > 0 })
		p := c.launch()
		h := w.executorClient(p, strings.TrimPrefix(w.injector("http://"+p.text("endpoint"), strange), "http://"))
		h.await("task", func() bool { return len(h.launched) > 0 })
		w.must(c.client.Message(c.ctx, "e1", w.agentID, []byte("after")))
		h.await("message", func() bool { return len(h.messages) > 0 })
		c.steady()
		h.steady()
	}},
	{number: 79, title: "five missed HEARTBEATs: the scheduler subscribes again", emulate: func(c *emulator.Config) {
		c.Master.HeartbeatInterval = 400 * time.Millisecond
	}, test: func(w *world) {
		address, freeze := w.freezer(strings.TrimPrefix(w.master, "http://"))
		c := w.schedulerClient("http://" + address)
		c.await("subscription", func() bool { return len(c.subscriptions) == 1 })
		c.mu.Lock()
		interval := c.subscriptions[0].HeartbeatInterval
		c.mu.Unlock()
		w.equal("interval is the master's", interval > 0 && (w.real() || interval <= time.Second), true)
		began := time.Now()
		freeze()
		c.awaitFor(8*interval+soon, "second subscription", func() bool { return len(c.subscriptions) == 2 })
		w.between("the second subscription", time.Since(began), 4*interval, 8*interval+soon)
		c.mu.Lock()
		defer c.mu.Unlock()
		w.equal("framework id", c.subscriptions[1].FrameworkID, c.subscriptions[0].FrameworkID)
		w.equal("disconnections", c.disconnected, 1)
	}},
}

// futureUpdate is an UPDATE with a state and a reason that nobody knows.
func (w *world) futureUpdate() []byte {
	w.Helper()
	state, reason, source := mesos.TaskState(99), mesos.TaskStatus_Reason(9999), mesos.TaskStatus_Source(77)
	record, err := wire.Protobuf.Marshal(&scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{
		Status: mesos.TaskStatus{TaskID: mesos.TaskID{Value: "t-future"}, State: &state, Reason: &reason, Source: &source},
	}})
	w.must(err)
	return record
}
