package conformance_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	mesosmaster "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
)

const schedulerPath = "/api/v1/scheduler"

// schedulerEndpoint is about the HTTP side of the scheduler API.
var schedulerEndpoint = []assertion{
	{number: 48, title: "scheduler API: methods, media types, garbage, masters that do not lead", encodings: inBoth, test: func(w *world) {
		w.onlyPost(w.master, schedulerPath)
		w.mediaTypes(w.master, schedulerPath)
		w.garbage(w.master, schedulerPath)
		w.negotiation(func(accept string) conformance.Item {
			s := w.openHere(w.subscription(accept, w.subscribeFramework(failover(0))))
			s.close()
			return *s.answer
		})
		if w.real() {
			w.Log("no standby: " + stopsMasters)
			return
		}
		const leader = "192.0.2.1:5050"
		header := map[string]string{"Content-Type": "text/plain"}
		w.cluster.Master().SetLeader(leader)
		for path, location := range map[string]string{
			schedulerPath + "?a=b": "//" + leader + "/master/api/v1/scheduler?a=b",
			"/api/v1":              "//" + leader + "/master/api/v1",
			"/redirect":            "//" + leader,
		} {
			answer := w.request(w.master, http.MethodPost, path, header, nil)
			if answer.Status != http.StatusTemporaryRedirect || answer.Headers["Location"] != location {
				w.Errorf("standby, %s: %d, Location %q, want %q", path, answer.Status, answer.Headers["Location"], location)
			}
		}
		w.cluster.Master().SetLeader("")
		w.equal("nobody leads", w.request(w.master, http.MethodPost, schedulerPath, header, nil).Status, http.StatusServiceUnavailable)
	}},
	{number: 49, title: "SUBSCRIBED, HEARTBEAT at once and each 15 s", encodings: inBoth, slow: true, test: func(w *world) {
		s := w.openHere(w.subscription(string(w.kind), w.subscribeFramework(failover(0))))
		defer s.close()
		w.equal("status", s.answer.Status, http.StatusOK)
		w.equal("Content-Type", s.answer.Headers["Content-Type"], w.kind)
		if s.answer.Headers["Mesos-Stream-Id"] == "" {
			w.Error("no Mesos-Stream-Id")
		}
		beats := 0
		seen := 0
		// beat waits for the next HEARTBEAT.
		beat := func(limit time.Duration) {
			wanted := beats + 1
			s.wait("HEARTBEAT", limit, func() bool {
				for ; seen < len(s.records); seen++ {
					var event scheduler.Event
					if _, err := w.kind.Unmarshal(s.records[seen], &event); err != nil {
						w.Errorf("record %d: %v", seen, err)
					}
					switch {
					case (seen == 0) != (event.Type == scheduler.Event_SUBSCRIBED):
						w.Errorf("event %d is %s", seen, event.Type)
					case seen == 0:
						w.equal("heartbeat_interval_seconds", event.Subscribed.GetHeartbeatIntervalSeconds(), 15)
					case event.Type == scheduler.Event_HEARTBEAT:
						beats++
					}
				}
				return beats >= wanted
			})
		}
		beat(soon)
		before := time.Now()
		beat(20 * time.Second)
		w.between("the second HEARTBEAT", time.Since(before), 14*time.Second, 17*time.Second)
	}},
	{number: 50, title: "Mesos-Stream-Id: whose calls are heard", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		revive := &scheduler.Call{Type: scheduler.Call_REVIVE, FrameworkID: &mesos.FrameworkID{Value: f.ID}}
		stranger := &scheduler.Call{Type: scheduler.Call_REVIVE, FrameworkID: &mesos.FrameworkID{Value: "stranger"}}
		subscribe := w.subscribeFramework(failover(0))
		for _, c := range []struct {
			name   string
			call   *scheduler.Call
			stream string
			status int
		}{
			{"own stream", revive, f.StreamID, http.StatusAccepted},
			{"no stream", revive, "", http.StatusBadRequest},
			{"another stream", revive, "6d6f6c65-0000-4000-8000-000000000000", http.StatusBadRequest},
			{"unknown framework", stranger, f.StreamID, http.StatusBadRequest},
			{"SUBSCRIBE with a stream", subscribe, f.StreamID, http.StatusBadRequest},
		} {
			w.equal(c.name, w.call(c.call, c.stream), c.status)
		}
		f.Close()
		w.until("403 after the stream has been closed", func() bool {
			return w.call(revive, f.StreamID) == http.StatusForbidden
		})
		if w.real() {
			f.again().leave()
		}
	}},
	{number: 51, title: "SUBSCRIBE whose two framework ids differ", encodings: inBoth, test: func(w *world) {
		call := w.subscribeFramework(failover(0))
		call.FrameworkID = &mesos.FrameworkID{Value: "one"}
		w.equal("one id", w.call(call, ""), http.StatusBadRequest)
		call.Subscribe.FrameworkInfo.ID = &mesos.FrameworkID{Value: "another"}
		w.equal("two ids", w.call(call, ""), http.StatusBadRequest)
	}},
	{number: 52, title: "SUBSCRIBE refused for its content: 200, ERROR, end", encodings: inBoth, test: func(w *world) {
		w.refused(w.info(capabilities()), "roles without MULTI_ROLE")
		w.refused(w.info(func(info *mesos.FrameworkInfo) { info.Roles = []string{"a/../b"} }), "a role of dots")
	}},
}

// identity is about framework ids over several subscriptions.
var identity = []assertion{
	{number: 53, title: "SUBSCRIBE with an id takes over: streams, stream ids and offers", encodings: inBoth, test: func(w *world) {
		old := w.framework()
		offer := old.offer()
		f := old.again()
		w.equal("framework id", f.ID, old.ID)
		w.ended(old.Scheduler)
		w.equal("call with the old stream id", w.call(&scheduler.Call{Type: scheduler.Call_REVIVE, FrameworkID: f.info.ID}, old.StreamID), http.StatusBadRequest)
		f.Accept(0, []mesos.Offer{offer}, probe.Launch(f.task("t1", "e1")))
		f.update("t1 TASK_DROPPED SOURCE_MASTER REASON_INVALID_OFFERS")
		f.None(scheduler.Event_RESCIND, 500*time.Millisecond)
		if again := f.offer(); again.ID == offer.ID {
			w.Error("the same offer again")
		}
	}},
	{number: 54, title: "failover_timeout: how long a framework may be away", encodings: inBoth, test: func(w *world) {
		f := w.framework(failover(0))
		_, s := f.run("e1", "t1")
		f.Close()
		s.next(executor.Event_SHUTDOWN)
		w.refused(f.info, "a framework that was away for too long")

		f = w.framework(failover(60))
		_, s = f.run("e1", "t1")
		f.Close()
		f = f.again()
		f.Reconcile("t1", w.agentID)
		f.update("t1 TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION")
		s.quiet(200 * time.Millisecond)
	}},
	{number: 55, title: "TEARDOWN: no updates, SHUTDOWN for executors, and for good", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		_, s := f.run("e1", "t1")
		f.leave()
		s.next(executor.Event_SHUTDOWN)
		if err := f.Ended(); err != io.EOF {
			w.Errorf("end of the stream: %v", err)
		}
		for event, err := f.Poll(0); err == nil; event, err = f.Poll(0) {
			if event.Type == scheduler.Event_UPDATE || event.Type == scheduler.Event_ERROR {
				w.Errorf("%v", event)
			}
		}
		task := find(w.getTasks().CompletedTasks, f.ID, "t1")
		if task == nil || task.GetState() != mesos.TASK_KILLED {
			w.Errorf("completed task: %v", task)
		}
		var frameworks mesosmaster.Response
		w.operate(w.master, &mesosmaster.Call{Type: mesosmaster.Call_GET_FRAMEWORKS}, &frameworks)
		if !slices.ContainsFunc(frameworks.GetFrameworks.CompletedFrameworks, func(c mesosmaster.Response_GetFrameworks_Framework) bool {
			return c.FrameworkInfo.GetID().GetValue() == f.ID
		}) {
			w.Error("the framework is not among the completed ones")
		}
		w.refused(f.info, "a framework that was torn down")
	}},
	{number: 75, title: "UPDATE_FRAMEWORK: what may change", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		w.equal("role of the offer", f.offer().AllocationInfo.GetRole(), "r1")
		update := func(changes ...func(*mesos.FrameworkInfo)) int {
			info := f.info
			for _, change := range changes {
				change(&info)
			}
			status, text := f.Call(&scheduler.Call{Type: scheduler.Call_UPDATE_FRAMEWORK, UpdateFramework: &scheduler.Call_UpdateFramework{FrameworkInfo: info}})
			if status == http.StatusOK && text != "" {
				w.Errorf("200 with %q", text)
			}
			return status
		}
		w.equal("failover_timeout", update(failover(70)), http.StatusOK)
		w.equal("user", update(func(info *mesos.FrameworkInfo) { info.User = "somebody" }), http.StatusBadRequest)
		w.equal("checkpoint", update(checkpoint(false)), http.StatusBadRequest)
		w.equal("failover_timeout as the operator sees it", w.frameworkInfo(f.ID).GetFailoverTimeout(), 70)
		w.equal("roles", update(func(info *mesos.FrameworkInfo) { info.Roles = []string{"r2"} }), http.StatusOK)
		w.equal("role of the offer after it", f.offer().AllocationInfo.GetRole(), "r2")
	}},
	{number: 76, title: "SUBSCRIBE with another user or checkpoint: the old values stay", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f = f.again(checkpoint(false), func(info *mesos.FrameworkInfo) { info.User, info.Name = "somebody", "renamed" })
		info := w.frameworkInfo(f.ID)
		w.equal("user", info.User, w.user)
		w.equal("checkpoint", info.GetCheckpoint(), true)
		w.equal("name", info.Name, "renamed")
	}},
}

// info is a FrameworkInfo of this user.
func (w *world) info(changes ...func(*mesos.FrameworkInfo)) mesos.FrameworkInfo {
	return probe.FrameworkInfo(append([]func(*mesos.FrameworkInfo){func(info *mesos.FrameworkInfo) { info.User = w.user }}, changes...)...)
}

// subscribeFramework is a SUBSCRIBE.
func (w *world) subscribeFramework(changes ...func(*mesos.FrameworkInfo)) *scheduler.Call {
	info := w.info(changes...)
	return &scheduler.Call{Type: scheduler.Call_SUBSCRIBE, FrameworkID: info.ID, Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: &info}}
}

// subscription is the request of a SUBSCRIBE with an Accept header, or with none.
func (w *world) subscription(accept string, call *scheduler.Call) conformance.Request {
	header := map[string]string{"Content-Type": string(w.kind)}
	if accept != "" {
		header["Accept"] = accept
	}
	return conformance.Request{
		Network: "tcp", Address: strings.TrimPrefix(w.master, "http://"), Method: http.MethodPost, Path: schedulerPath,
		Headers: header, Body: w.body(call), Stream: true,
	}
}

// call sends a call under any stream id, or under none, and returns the status.
func (w *world) call(call *scheduler.Call, stream string) int {
	w.Helper()
	header := map[string]string{"Content-Type": string(w.kind)}
	if stream != "" {
		header["Mesos-Stream-Id"] = stream
	}
	return w.request(w.master, http.MethodPost, schedulerPath, header, w.body(call)).Status
}

// refused checks that a subscription is answered with an ERROR and ended.
func (w *world) refused(info mesos.FrameworkInfo, what string) {
	w.Helper()
	w.Log("refused:", what)
	w.ended(probe.Subscribe(w.T, w.master, w.kind, info))
}

// ended checks that a subscription ends with an ERROR and properly.
func (w *world) ended(s *probe.Scheduler) {
	w.Helper()
	if s.Next(scheduler.Event_ERROR).Error.Message == "" {
		w.Error("ERROR without a message")
	}
	if err := s.Ended(); err != io.EOF {
		w.Errorf("end of the stream: %v", err)
	}
}

// getTasks is what the master tells operators of tasks.
func (w *world) getTasks() *mesosmaster.Response_GetTasks {
	w.Helper()
	var answer mesosmaster.Response
	w.operate(w.master, &mesosmaster.Call{Type: mesosmaster.Call_GET_TASKS}, &answer)
	return answer.GetTasks
}

func find(tasks []mesos.Task, frameworkID, id string) *mesos.Task {
	for i, t := range tasks {
		if t.FrameworkID.Value == frameworkID && t.TaskID.Value == id {
			return &tasks[i]
		}
	}
	return nil
}

// frameworkInfo is what the master tells operators of a framework.
func (w *world) frameworkInfo(id string) *mesos.FrameworkInfo {
	w.Helper()
	var answer mesosmaster.Response
	w.operate(w.master, &mesosmaster.Call{Type: mesosmaster.Call_GET_FRAMEWORKS}, &answer)
	for _, f := range answer.GetFrameworks.Frameworks {
		if f.FrameworkInfo.GetID().GetValue() == id {
			return &f.FrameworkInfo
		}
	}
	w.Fatalf("GET_FRAMEWORKS does not know %s", id)
	return nil
}
