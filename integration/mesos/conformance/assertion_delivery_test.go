package conformance_test

import (
	"bytes"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/conformance"
)

// delivery is about what reaches executors, and in which order.
var delivery = []assertion{
	{number: 18, title: "SUBSCRIBED comes first, then tasks in the order of ACCEPT", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t3", "e1"), f.task("t1", "e1"), f.task("t2", "e1"))
		p := f.puppet("e1")
		s := p.subscribe()
		got := s.next(executor.Event_SUBSCRIBED).Subscribed
		w.equal("executor_info", got.ExecutorInfo.ExecutorID.Value, "e1")
		w.equal("executor_info.command", got.ExecutorInfo.GetCommand().GetArguments(), f.task("", "").Executor.Command.Arguments)
		w.equal("framework_info.id", got.FrameworkInfo.GetID().GetValue(), f.ID)
		w.equal("agent_info.id", got.AgentInfo.GetID().GetValue(), w.agentID)
		for _, id := range []string{"t3", "t1", "t2"} {
			task := s.next(executor.Event_LAUNCH).Launch.Task
			w.equal("task", task.TaskID.Value, id)
			w.equal("framework of the task's executor", task.Executor.GetFrameworkID().GetValue(), f.ID)
			for _, r := range task.Resources {
				w.equal("role of the task's "+r.Name, r.GetAllocationInfo().GetRole(), "r1")
			}
		}
	}},
	{number: 19, title: "a LAUNCH_GROUP is one event", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launchGroup(f.task("g1", "e1"), f.task("g2", "e1"))
		s := f.puppet("e1").subscribe()
		s.next(executor.Event_SUBSCRIBED)
		tasks := s.next(executor.Event_LAUNCH_GROUP).LaunchGroup.TaskGroup.Tasks
		if len(tasks) != 2 || tasks[0].TaskID.Value != "g1" || tasks[1].TaskID.Value != "g2" {
			w.Errorf("group of %v", tasks)
		}
		for _, t := range tasks {
			w.equal("executor of the member", t.GetExecutor().GetExecutorID().Value, "e1")
		}
		s.quiet(500 * time.Millisecond)
	}},
	{number: 20, title: "one process for each ExecutorID", test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		f.launch(f.task("t2", "e1"), f.task("t3", "e2"))
		s.launched("t2")
		other := f.puppet("e2")
		if p.pid() == other.pid() {
			w.Errorf("both are process %v", p.pid())
		}
		other.subscribe().next(executor.Event_SUBSCRIBED)
		f.launch(f.task("t4", "e1"))
		s.launched("t4")
		w.mu.Lock()
		defer w.mu.Unlock()
		w.equal("processes without a purpose", len(w.arrived), 0)
	}},
	{number: 34, title: "MESSAGE: every byte, both ways", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		data := make([]byte, 256)
		for i := range data {
			data[i] = byte(i)
		}
		f.Must(messageTo(p, data))
		if got := s.next(executor.Event_MESSAGE).Message.Data; !bytes.Equal(got, data) {
			w.Errorf("to the executor: %x", got)
		}
		call := p.new(executor.Call_MESSAGE)
		call.Message = &executor.Call_Message{Data: data}
		p.accepted(call)
		got := f.Next(scheduler.Event_MESSAGE).Message
		if !bytes.Equal(got.Data, data) {
			w.Errorf("to the scheduler: %x", got.Data)
		}
		w.equal("agent", got.AgentID.Value, w.agentID)
		w.equal("executor", got.ExecutorID.Value, "e1")
	}},
}

// messageTo is a scheduler's MESSAGE.
func messageTo(p *puppet, data []byte) *scheduler.Call {
	return &scheduler.Call{Type: scheduler.Call_MESSAGE, Message: &scheduler.Call_Message{
		AgentID: mesos.AgentID{Value: p.text("agent_id")}, ExecutorID: mesos.ExecutorID{Value: p.text("executor_id")}, Data: data,
	}}
}

// group makes a group of tasks, whose executor is the first one's, as it has to be.
func (f *framework) group(tasks ...mesos.TaskInfo) mesos.Offer_Operation {
	info := *tasks[0].Executor
	info.FrameworkID = &mesos.FrameworkID{Value: f.ID}
	group := mesos.TaskGroupInfo{}
	for _, t := range tasks {
		t.Executor = nil
		group.Tasks = append(group.Tasks, t)
	}
	return mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH_GROUP, LaunchGroup: &mesos.Offer_Operation_LaunchGroup{
		Executor: info, TaskGroup: group,
	}}
}

// launchGroup launches tasks as a group.
func (f *framework) launchGroup(tasks ...mesos.TaskInfo) {
	f.world.Helper()
	offer := f.offer()
	for i := range tasks {
		tasks[i].AgentID = offer.AgentID
	}
	f.Accept(0, []mesos.Offer{offer}, f.group(tasks...))
}

// updates is about how statuses travel from executors to the scheduler.
var updates = []assertion{
	{number: 21, title: "the agent acknowledges, not the scheduler", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		began := time.Now()
		status := p.report("t1", mesos.TASK_RUNNING)
		s.acknowledged(status)
		w.between("ACKNOWLEDGED", time.Since(began), 0, soon)
		f.update("t1 TASK_RUNNING SOURCE_EXECUTOR -")
	}},
	{number: 22, title: "one update of a task is on its way; it is repeated until acknowledged", slow: true, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		running := p.report("t1", mesos.TASK_RUNNING)
		s.acknowledged(running)
		first := f.update("t1 TASK_RUNNING SOURCE_EXECUTOR -")
		before := time.Now()
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		for _, pause := range []time.Duration{10 * time.Second, 20 * time.Second} {
			again := f.within(pause+5*time.Second, "t1 TASK_RUNNING SOURCE_EXECUTOR -")
			now := time.Now()
			w.between("the repetition", now.Sub(before), pause-time.Second, pause+4*time.Second)
			before = now
			if !bytes.Equal(again.UUID, first.UUID) || again.GetTimestamp() != first.GetTimestamp() {
				w.Error("the repetition has another uuid or timestamp")
			}
		}
		f.Acknowledge(first)
		f.got("t1 TASK_FINISHED SOURCE_EXECUTOR -")
	}},
	{number: 23, title: "the same uuid twice: two acknowledgements, one update", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1", "t2")
		status := p.report("t1", mesos.TASK_RUNNING)
		s.acknowledged(status)
		p.accepted(p.update(status))
		s.acknowledged(status)
		f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
		p.accepted(p.update(status)) // also when the scheduler has acknowledged
		s.acknowledged(status)
		s.acknowledged(p.report("t2", mesos.TASK_RUNNING))
		f.got("t2 TASK_RUNNING SOURCE_EXECUTOR -")
		f.Silent()
	}},
	{number: 24, title: "the first terminal update wins, both are acknowledged", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1", "t2")
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		s.acknowledged(p.report("t1", mesos.TASK_FAILED))
		f.got("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		s.acknowledged(p.report("t2", mesos.TASK_RUNNING))
		f.got("t2 TASK_RUNNING SOURCE_EXECUTOR -")
		f.Silent()
	}},
	{number: 25, title: "an update of a task that was never launched: forwarded, never acknowledged", test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		p.report("stranger", mesos.TASK_RUNNING)
		f.got("stranger TASK_RUNNING SOURCE_EXECUTOR -")
		s.quiet(silence)
	}},
	{number: 26, title: "what the agent fills in: agent and time, not the executor", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		before := float64(time.Now().Unix()) - 60 // clocks differ
		status := p.report("t1", mesos.TASK_RUNNING, func(s *mesos.TaskStatus) {
			s.ExecutorID, s.AgentID, s.Timestamp = nil, nil, nil
		})
		s.acknowledged(status)
		got := f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
		if got.ExecutorID != nil {
			w.Errorf("executor_id %v", got.ExecutorID)
		}
		w.equal("agent_id", got.AgentID.GetValue(), w.agentID)
		if got.Timestamp == nil || *got.Timestamp < before {
			w.Errorf("timestamp %v, want one after %v", got.Timestamp, before)
		}
	}},
	{number: 27, title: "the agent adds where the container is", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		p := f.puppet("e1")
		s := p.subscribe()
		container := s.next(executor.Event_SUBSCRIBED).Subscribed.ContainerID.GetValue()
		s.launched("t1")
		p.report("t1", mesos.TASK_RUNNING)
		status := f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
		got := status.GetContainerStatus()
		w.equal("container_id", got.GetContainerID().GetValue(), container)
		if networks := got.GetNetworkInfos(); len(networks) != 1 || len(networks[0].IPAddresses) == 0 || networks[0].IPAddresses[0].GetIPAddress() == "" {
			w.Errorf("network_infos %v", networks)
		}
	}},
}

// resubscription is about executors that come back, or are not wanted any more.
var resubscription = []assertion{
	{number: 28, title: "a second SUBSCRIBE takes over and nothing else happens", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, first := f.run("e1", "t1")
		second := p.subscribe()
		second.next(executor.Event_SUBSCRIBED)
		first.ends(conformance.EndProper)
		f.kill("t1", nil)
		second.next(executor.Event_KILL)
		f.Silent()
	}},
	{number: 29, title: "re-SUBSCRIBE without a task that was only delivered: it is dropped", test: func(w *world) {
		for _, c := range []struct {
			state  string
			change func(*mesos.FrameworkInfo)
		}{{"TASK_DROPPED", func(*mesos.FrameworkInfo) {}}, {"TASK_LOST", ignorant}} {
			f := w.framework(c.change)
			f.launch(f.task("t1", "e1"), f.task("t2", "e1"))
			p := f.puppet("e1")
			s := p.subscribe()
			s.next(executor.Event_SUBSCRIBED)
			s.launched("t1", "t2")
			s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
			f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
			p.subscribe().next(executor.Event_SUBSCRIBED)
			if dropped := f.got("t2 " + c.state + " SOURCE_AGENT REASON_AGENT_RESTARTED"); len(dropped.UUID) == 0 {
				w.Error("without uuid")
			}
			f.leave()
		}
	}},
	{number: 30, title: "re-SUBSCRIBE with it: nothing happens", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		p := f.puppet("e1")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		task := s.next(executor.Event_LAUNCH).Launch.Task
		s = p.subscribe(func(call *executor.Call_Subscribe) { call.UnacknowledgedTasks = []mesos.TaskInfo{task} })
		s.next(executor.Event_SUBSCRIBED)
		s.acknowledged(p.report("t1", mesos.TASK_STARTING))
		f.got("t1 TASK_STARTING SOURCE_EXECUTOR -")
	}},
	{number: 31, title: "re-SUBSCRIBE with updates: SUBSCRIBED, then each is acknowledged", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1", "t2")
		known := p.report("t1", mesos.TASK_RUNNING)
		s.acknowledged(known)
		f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
		fresh := p.status("t2", mesos.TASK_RUNNING)
		s = p.subscribe(func(call *executor.Call_Subscribe) {
			call.UnacknowledgedTasks = []mesos.TaskInfo{f.task("t2", "e1")}
			call.UnacknowledgedUpdates = []executor.Call_Update{{Status: known}, {Status: fresh}}
		})
		s.next(executor.Event_SUBSCRIBED)
		// Updates of different tasks go ways of their own.
		seen := map[string]bool{}
		for range 2 {
			seen[string(s.next(executor.Event_ACKNOWLEDGED).Acknowledged.UUID)] = true
		}
		if !seen[string(known.UUID)] || !seen[string(fresh.UUID)] {
			w.Error("the acknowledgements are not those of the updates")
		}
		f.got("t2 TASK_RUNNING SOURCE_EXECUTOR -")
		f.Silent()
	}},
	{number: 47, title: "SUBSCRIBE after SHUTDOWN: SHUTDOWN again, and that is all", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", grace(10*time.Second)))
		p := f.puppet("e1")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("t1")
		f.shutdown("e1")
		s.next(executor.Event_SHUTDOWN)
		s = p.subscribe()
		s.next(executor.Event_SHUTDOWN)
		s.ends(conformance.EndProper)
	}},
}

// grace sets the executor's shutdown grace period.
func grace(d time.Duration) func(*mesos.TaskInfo) {
	return func(t *mesos.TaskInfo) {
		t.Executor.ShutdownGracePeriod = &mesos.DurationInfo{Nanoseconds: int64(d)}
	}
}

// quick makes an executor die soon after SHUTDOWN.
var quick = grace(time.Second)

// policy is a kill policy.
func policy(grace time.Duration) *mesos.KillPolicy {
	return &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(grace)}}
}
