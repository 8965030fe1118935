package master_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

func TestBrokenStream(t *testing.T) {
	m, l := start(t, quick)
	s, _ := running(t, m, l, probe.FrameworkInfo())
	m.BreakStream(s.ID)
	s.Broken()
	awaitFramework(t, m, s.ID, func(f framework) bool { return !f.Connected })
}

func TestFrozenStreamSwallowsEverything(t *testing.T) {
	config := quick
	config.HeartbeatInterval = config.AllocationInterval
	m, l := start(t, config)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	m.FreezeStream(s.ID)
	s.Drop(scheduler.Event_OFFERS)
	agent.update(s.ID, "t1", mesos.TASK_RUNNING)
	if event, err := s.Poll(10 * config.HeartbeatInterval); err == nil && event.Type == scheduler.Event_UPDATE {
		t.Errorf("got %v", event)
	}
	again := probe.Connect(t, m.URL(), wire.Protobuf, named(s.ID))
	expect[link.UpdateFramework](agent)
	agent.update(s.ID, "t1", mesos.TASK_RUNNING)
	again.Status()
}

func TestRecords(t *testing.T) {
	m, _ := start(t, quick)
	s := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo())
	big := strings.Repeat("x", 5<<20)
	if !m.SendRecord(s.ID, []byte(`{"type":"ERROR","error":{"message":"`+big+`"}}`)) {
		t.Fatal("no stream")
	}
	if got := s.Next(scheduler.Event_ERROR).Error.Message; got != big {
		t.Errorf("a record of 5 MiB arrived with %d bytes", len(got))
	}
	m.SendRecord(s.ID, []byte(`{"type":"OF_THE_FUTURE"}`))
	s.Next(scheduler.Event_UNKNOWN)
	if m.SendRecord("nobody", nil) {
		t.Error("sent to nobody")
	}
}

func TestRescindInFlightWithAccept(t *testing.T) {
	m, l := start(t, quick)
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	offers := s.Offers()
	if !m.Rescind(offers[0].ID.Value) || m.Rescind(offers[0].ID.Value) {
		t.Error("an offer can be rescinded once")
	}
	s.Accept(0, offers, probe.Launch(probe.Task(agent.id, "t1", "e1")))
	statuses{"t1 TASK_DROPPED SOURCE_MASTER REASON_INVALID_OFFERS Task launched with invalid offers: Offer " +
		offers[0].ID.Value + " is no longer valid"}.want(t, s)
	s.Next(scheduler.Event_RESCIND)
}

func TestOperatorEventStream(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	ctx, cancel := context.WithTimeout(t.Context(), probe.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL()+"/api/v1", strings.NewReader(`{"type":"SUBSCRIBE"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	records := wire.NewRecordReader(response.Body, 0)
	next := func(kind string) string {
		t.Helper()
		for {
			record, err := records.Next()
			if err != nil {
				t.Fatalf("no %s: %v", kind, err)
			}
			var event struct{ Type string }
			if err := json.Unmarshal(record, &event); err != nil {
				t.Fatal(err)
			}
			if event.Type == kind {
				return string(record)
			}
		}
	}
	if got := next("SUBSCRIBED"); !strings.Contains(got, `"t1"`) {
		t.Errorf("the first event lacks the task: %s", got)
	}
	next("HEARTBEAT")
	s.Accept(0, s.Offers(), probe.Launch(probe.Task(agent.id, "t2", "e1")))
	if got := next("TASK_ADDED"); !strings.Contains(got, `"t2"`) {
		t.Error(got)
	}
	// A repeated state is not told, a health check's result is.
	agent.update(s.ID, "t1", mesos.TASK_RUNNING)
	finished := mesos.TASK_FINISHED
	agent.update(s.ID, "t1", mesos.TASK_RUNNING, func(u *link.StatusUpdate) {
		u.LatestState, u.Status.Reason = &finished, ptr(mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED)
	})
	got := next("TASK_UPDATED")
	if !strings.Contains(got, `"REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"`) || !strings.Contains(got, `"state":"TASK_FINISHED"`) ||
		!bytes.Contains([]byte(got), []byte(`"state":"TASK_RUNNING"`)) {
		t.Error(got)
	}
	s.Must(teardown())
	next("FRAMEWORK_REMOVED")
	agent.end.Send(link.UnregisterAgent{AgentID: agent.id})
	next("AGENT_REMOVED")
}
