package master_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/wire"
)

// patience is the deadline of everything that is expected to happen.
const patience = 20 * time.Second

// subscription is a raw scheduler: one stream and calls on connections of their
// own.
type subscription struct {
	t           *testing.T
	url         string
	contentType wire.ContentType
	id          string // framework id
	streamID    string
	cancel      context.CancelFunc
	done        chan struct{}

	mu     sync.Mutex
	events []*scheduler.Event
	err    error // why the stream ended
	more   chan struct{}
	seen   int
}

// post sends any body to the scheduler API.
func post(t *testing.T, url string, header http.Header, body []byte) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	request.Close = true
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// client keeps no connections, so that nothing outlives a test.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// subscribe opens a stream; the events come to next.
func subscribe(t *testing.T, url string, contentType wire.ContentType, info mesos.FrameworkInfo, suppressed ...string) *subscription {
	t.Helper()
	call := &scheduler.Call{Type: scheduler.Call_SUBSCRIBE, FrameworkID: info.ID, Subscribe: &scheduler.Call_Subscribe{
		FrameworkInfo: &info, SuppressedRoles: suppressed,
	}}
	body, err := contentType.Marshal(call)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/scheduler", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", string(contentType))
	request.Header.Set("Accept", string(contentType))
	response, err := client.Do(request)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != string(contentType) {
		cancel()
		t.Fatalf("SUBSCRIBE: %d %v", response.StatusCode, response.Header)
	}
	s := &subscription{
		t: t, url: url, contentType: contentType, cancel: cancel,
		streamID: response.Header.Get("Mesos-Stream-Id"),
		done:     make(chan struct{}),
		more:     make(chan struct{}, 1),
	}
	go s.read(response.Body)
	t.Cleanup(s.close)
	return s
}

// connected subscribes and waits for SUBSCRIBED.
func connected(t *testing.T, url string, contentType wire.ContentType, info mesos.FrameworkInfo) *subscription {
	t.Helper()
	s := subscribe(t, url, contentType, info)
	s.id = s.next(scheduler.Event_SUBSCRIBED).Subscribed.FrameworkID.Value
	return s
}

func (s *subscription) read(body io.ReadCloser) {
	defer close(s.done)
	defer body.Close()
	records := wire.NewRecordReader(body, 0)
	for {
		record, err := records.Next()
		event := new(scheduler.Event)
		if err == nil {
			_, err = s.contentType.Unmarshal(record, event)
		}
		s.mu.Lock()
		if err != nil {
			s.err = err
		} else {
			s.events = append(s.events, event)
		}
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// close drops the connection, as a scheduler that dies does.
func (s *subscription) close() {
	s.cancel()
	<-s.done
}

// poll returns the next event that is not a HEARTBEAT, nil after d or at the end of
// the stream.
func (s *subscription) poll(d time.Duration) (*scheduler.Event, error) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		for s.seen < len(s.events) {
			event := s.events[s.seen]
			s.seen++
			if event.Type != scheduler.Event_HEARTBEAT {
				s.mu.Unlock()
				return event, nil
			}
		}
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-s.more:
		case <-deadline.C:
			return nil, errors.New("deadline")
		}
	}
}

// next returns the next event of a type, skipping others.
func (s *subscription) next(kind scheduler.Event_Type) *scheduler.Event {
	s.t.Helper()
	var skipped []string
	end := time.Now().Add(patience)
	for {
		event, err := s.poll(time.Until(end))
		if err != nil {
			s.t.Fatalf("no %s: %v; came instead: %v", kind, err, skipped)
		}
		if event.Type == kind {
			return event
		}
		skipped = append(skipped, event.String())
	}
}

// status returns the next UPDATE.
func (s *subscription) status() mesos.TaskStatus {
	s.t.Helper()
	return s.next(scheduler.Event_UPDATE).Update.Status
}

// offers returns the next offers.
func (s *subscription) offers() []mesos.Offer {
	s.t.Helper()
	return s.next(scheduler.Event_OFFERS).Offers.Offers
}

// ended waits for the end of the stream and returns its reason: io.EOF after a
// terminating chunk.
func (s *subscription) ended() error {
	s.t.Helper()
	select {
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.err
	case <-time.After(patience):
		s.t.Fatal("the stream does not end")
		return nil
	}
}

// silent checks that nothing but heartbeats comes until the answer to a question
// asked now.
func (s *subscription) silent() {
	s.t.Helper()
	s.must(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{
		Tasks: []scheduler.Call_Reconcile_Task{{TaskID: mesos.TaskID{Value: "barrier"}, AgentID: &mesos.AgentID{Value: "barrier"}}},
	}})
	event, err := s.poll(patience)
	if err != nil {
		s.t.Fatal(err)
	}
	if event.Type != scheduler.Event_UPDATE || event.Update.Status.TaskID.Value != "barrier" {
		s.t.Fatalf("unexpected %v", event)
	}
}

// call sends a call and returns status and body.
func (s *subscription) call(call *scheduler.Call) (int, string) {
	s.t.Helper()
	if call.FrameworkID == nil {
		call.FrameworkID = &mesos.FrameworkID{Value: s.id}
	}
	body, err := s.contentType.Marshal(call)
	if err != nil {
		s.t.Fatal(err)
	}
	response, text := post(s.t, s.url+"/api/v1/scheduler", http.Header{
		"Content-Type":    {string(s.contentType)},
		"Mesos-Stream-Id": {s.streamID},
	}, body)
	return response.StatusCode, text
}

// must sends a call that has to be accepted.
func (s *subscription) must(call *scheduler.Call) {
	s.t.Helper()
	if code, text := s.call(call); code != http.StatusAccepted {
		s.t.Fatalf("%s: %d %s", call.Type, code, text)
	}
}

// accept launches tasks on an offer and declines the rest for refuse seconds.
func (s *subscription) accept(refuse float64, offers []mesos.Offer, operations ...mesos.Offer_Operation) {
	s.t.Helper()
	call := &scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{
		Operations: operations,
		Filters:    &mesos.Filters{RefuseSeconds: &refuse},
	}}
	for _, o := range offers {
		call.Accept.OfferIDs = append(call.Accept.OfferIDs, o.ID)
	}
	s.must(call)
}

func launch(tasks ...mesos.TaskInfo) mesos.Offer_Operation {
	return mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks}}
}

func (s *subscription) acknowledge(status mesos.TaskStatus) {
	s.t.Helper()
	s.must(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{
		AgentID: *status.AgentID, TaskID: status.TaskID, UUID: status.UUID,
	}})
}

func (s *subscription) reconcile(taskID, agentID string) {
	s.t.Helper()
	task := scheduler.Call_Reconcile_Task{TaskID: mesos.TaskID{Value: taskID}}
	if agentID != "" {
		task.AgentID = &mesos.AgentID{Value: agentID}
	}
	s.must(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{Tasks: []scheduler.Call_Reconcile_Task{task}}})
}

// frameworkInfo is the framework of most recordings.
func frameworkInfo(changes ...func(*mesos.FrameworkInfo)) mesos.FrameworkInfo {
	checkpoint, timeout := true, 60.0
	info := mesos.FrameworkInfo{
		User: "root", Name: "s1", Checkpoint: &checkpoint, FailoverTimeout: &timeout, Roles: []string{"r1"},
		Capabilities: []mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE},
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE},
			{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE},
			{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
			{Type: mesos.FrameworkInfo_Capability_REGION_AWARE},
		},
	}
	for _, change := range changes {
		change(&info)
	}
	return info
}

func scalars(cpus, mem, disk float64) []mesos.Resource {
	kind := mesos.SCALAR
	var out []mesos.Resource
	for _, r := range []struct {
		name string
		v    float64
	}{{"cpus", cpus}, {"mem", mem}, {"disk", disk}} {
		if r.v != 0 {
			out = append(out, mesos.Resource{Name: r.name, Type: &kind, Scalar: &mesos.Value_Scalar{Value: r.v}})
		}
	}
	return out
}

// taskFor is a small task on a custom executor.
func taskFor(agentID, id, executorID string, changes ...func(*mesos.TaskInfo)) mesos.TaskInfo {
	shell, value := false, "./probe"
	t := mesos.TaskInfo{
		Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: mesos.AgentID{Value: agentID},
		Resources: scalars(0.1, 32, 1),
		Executor: &mesos.ExecutorInfo{
			Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: executorID},
			Resources: scalars(0.1, 32, 1),
			Command:   &mesos.CommandInfo{Shell: &shell, Value: &value, Arguments: []string{"probe"}},
		},
	}
	for _, change := range changes {
		change(&t)
	}
	return t
}

func describe(s mesos.TaskStatus) string {
	reason := "-"
	if s.Reason != nil {
		reason = s.Reason.String()
	}
	return fmt.Sprintf("%s %s %s %s", s.TaskID.Value, s.GetState(), s.GetSource(), reason)
}

// both runs a test in both content types.
func both(t *testing.T, run func(t *testing.T, contentType wire.ContentType)) {
	for _, contentType := range []wire.ContentType{wire.JSON, wire.Protobuf} {
		t.Run(string(contentType), func(t *testing.T) { run(t, contentType) })
	}
}
