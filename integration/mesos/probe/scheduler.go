package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/wire"
)

// Patience is the deadline of everything that is expected to happen.
const Patience = 20 * time.Second

// Scheduler is a raw scheduler: one stream and calls on connections of their
// own.
type Scheduler struct {
	t           testing.TB
	URL         string // of the master
	contentType wire.ContentType
	ID          string // framework id
	StreamID    string
	cancel      context.CancelFunc
	done        chan struct{}

	mu     sync.Mutex
	events []*scheduler.Event // not taken yet
	err    error              // why the stream ended
	more   chan struct{}
}

// Post sends any body to the scheduler API.
func Post(t testing.TB, url string, header http.Header, body []byte) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
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

// Subscribe opens a stream; the events come to Next.
func Subscribe(t testing.TB, url string, contentType wire.ContentType, info mesos.FrameworkInfo, suppressed ...string) *Scheduler {
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
	s := &Scheduler{
		t: t, URL: url, contentType: contentType, cancel: cancel,
		StreamID: response.Header.Get("Mesos-Stream-Id"),
		done:     make(chan struct{}),
		more:     make(chan struct{}, 1),
	}
	go s.read(response.Body)
	t.Cleanup(s.Close)
	return s
}

// Connect subscribes and waits for SUBSCRIBED.
func Connect(t testing.TB, url string, contentType wire.ContentType, info mesos.FrameworkInfo) *Scheduler {
	t.Helper()
	s := Subscribe(t, url, contentType, info)
	s.ID = s.Next(scheduler.Event_SUBSCRIBED).Subscribed.FrameworkID.Value
	return s
}

func (s *Scheduler) read(body io.ReadCloser) {
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

// Close drops the connection, as a scheduler that dies does.
func (s *Scheduler) Close() {
	s.cancel()
	<-s.done
}

// Poll takes the next event that is not a HEARTBEAT. It fails after d, or when the
// stream has ended.
func (s *Scheduler) Poll(d time.Duration) (*scheduler.Event, error) {
	return s.take(d, func(e *scheduler.Event) bool { return e.Type != scheduler.Event_HEARTBEAT })
}

// take removes the first event that is wanted and leaves the others.
func (s *Scheduler) take(d time.Duration, wanted func(*scheduler.Event) bool) (*scheduler.Event, error) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		if i := slices.IndexFunc(s.events, wanted); i >= 0 {
			event := s.events[i]
			s.events = slices.Delete(s.events, i, i+1)
			s.mu.Unlock()
			return event, nil
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

// Heartbeats waits until n HEARTBEATs have come in all.
func (s *Scheduler) Heartbeats(n int) {
	s.t.Helper()
	deadline := time.After(Patience)
	for {
		s.mu.Lock()
		beats := 0
		for _, e := range s.events {
			if e.Type == scheduler.Event_HEARTBEAT {
				beats++
			}
		}
		s.mu.Unlock()
		if beats >= n {
			return
		}
		select {
		case <-s.more:
		case <-s.done:
			s.t.Fatalf("stream ended after %d heartbeats", beats)
		case <-deadline:
			s.t.Fatalf("%d heartbeats, want %d", beats, n)
		}
	}
}

// Await takes the oldest event of a type; others stay where they are. It fails after d,
// or when the stream has ended.
func (s *Scheduler) Await(kind scheduler.Event_Type, d time.Duration) (*scheduler.Event, error) {
	return s.take(d, func(e *scheduler.Event) bool { return e.Type == kind })
}

// Next takes the oldest event of a type; others stay where they are.
func (s *Scheduler) Next(kind scheduler.Event_Type) *scheduler.Event {
	s.t.Helper()
	return s.NextWithin(Patience, kind)
}

// NextWithin is Next with another deadline.
func (s *Scheduler) NextWithin(d time.Duration, kind scheduler.Event_Type) *scheduler.Event {
	s.t.Helper()
	event, err := s.take(d, func(e *scheduler.Event) bool { return e.Type == kind })
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.t.Fatalf("no %s: %v; came instead: %v", kind, err, s.events)
	}
	return event
}

// None checks that no event of a type has come or comes for d.
func (s *Scheduler) None(kind scheduler.Event_Type, d time.Duration) {
	s.t.Helper()
	if event, err := s.take(d, func(e *scheduler.Event) bool { return e.Type == kind }); err == nil {
		s.t.Fatalf("unexpected %v", event)
	}
}

// Drop forgets the events of a type that have come so far.
func (s *Scheduler) Drop(kind scheduler.Event_Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = slices.DeleteFunc(s.events, func(e *scheduler.Event) bool { return e.Type == kind })
}

// Status returns the next UPDATE.
func (s *Scheduler) Status() mesos.TaskStatus {
	s.t.Helper()
	return s.Next(scheduler.Event_UPDATE).Update.Status
}

// StatusMessage returns the next UPDATE's message.
func (s *Scheduler) StatusMessage() string {
	s.t.Helper()
	status := s.Status()
	return status.GetMessage()
}

// Offers returns the next offers.
func (s *Scheduler) Offers() []mesos.Offer {
	s.t.Helper()
	return s.Next(scheduler.Event_OFFERS).Offers.Offers
}

// Ended waits for the end of the stream and returns its reason: io.EOF after a
// terminating chunk.
func (s *Scheduler) Ended() error {
	s.t.Helper()
	select {
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.err
	case <-time.After(Patience):
		s.t.Fatal("the stream does not end")
		return nil
	}
}

// Refused checks that a subscription is refused: an ERROR with this text, and the
// proper end of the stream.
func (s *Scheduler) Refused(text string) {
	s.t.Helper()
	if got := s.Next(scheduler.Event_ERROR).Error.Message; got != text {
		s.t.Errorf("ERROR %q, want %q", got, text)
	}
	if err := s.Ended(); err != io.EOF {
		s.t.Errorf("the stream ended with %v, want a terminating chunk", err)
	}
}

// Broken checks that the stream ends as when the master dies: in the middle.
func (s *Scheduler) Broken() {
	s.t.Helper()
	if err := s.Ended(); err == io.EOF {
		s.t.Error("the stream ended properly")
	}
}

// Silent checks that no UPDATE has come or comes before the answer to a question
// asked now.
func (s *Scheduler) Silent() {
	s.t.Helper()
	s.Must(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{
		Tasks: []scheduler.Call_Reconcile_Task{{TaskID: mesos.TaskID{Value: "barrier"}, AgentID: &mesos.AgentID{Value: "barrier"}}},
	}})
	if status := s.Status(); status.TaskID.Value != "barrier" {
		s.t.Fatalf("unexpected %s", Describe(status))
	}
}

// Call sends a call and returns status and body.
func (s *Scheduler) Call(call *scheduler.Call) (int, string) {
	s.t.Helper()
	if call.FrameworkID == nil {
		call.FrameworkID = &mesos.FrameworkID{Value: s.ID}
	}
	body, err := s.contentType.Marshal(call)
	if err != nil {
		s.t.Fatal(err)
	}
	response, text := Post(s.t, s.URL+"/api/v1/scheduler", http.Header{
		"Content-Type":    {string(s.contentType)},
		"Mesos-Stream-Id": {s.StreamID},
	}, body)
	return response.StatusCode, text
}

// Try sends a call and returns the status; it fails without an answer within d.
func (s *Scheduler) Try(call *scheduler.Call, d time.Duration) (int, error) {
	s.t.Helper()
	call.FrameworkID = &mesos.FrameworkID{Value: s.ID}
	body, err := s.contentType.Marshal(call)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/v1/scheduler", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header = http.Header{"Content-Type": {string(s.contentType)}, "Mesos-Stream-Id": {s.StreamID}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// Must sends a call that has to be accepted.
func (s *Scheduler) Must(call *scheduler.Call) {
	s.t.Helper()
	if code, text := s.Call(call); code != http.StatusAccepted {
		s.t.Fatalf("%s: %d %s", call.Type, code, text)
	}
}

// Accept launches tasks on an offer and declines the rest for refuse seconds.
func (s *Scheduler) Accept(refuse float64, offers []mesos.Offer, operations ...mesos.Offer_Operation) {
	s.t.Helper()
	call := &scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{
		Operations: operations,
		Filters:    &mesos.Filters{RefuseSeconds: &refuse},
	}}
	for _, o := range offers {
		call.Accept.OfferIDs = append(call.Accept.OfferIDs, o.ID)
	}
	s.Must(call)
}

// Launch is the operation of launching tasks.
func Launch(tasks ...mesos.TaskInfo) mesos.Offer_Operation {
	return mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks}}
}

func (s *Scheduler) Acknowledge(status mesos.TaskStatus) {
	s.t.Helper()
	s.Must(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{
		AgentID: *status.AgentID, TaskID: status.TaskID, UUID: status.UUID,
	}})
}

func (s *Scheduler) Reconcile(taskID, agentID string) {
	s.t.Helper()
	task := scheduler.Call_Reconcile_Task{TaskID: mesos.TaskID{Value: taskID}}
	if agentID != "" {
		task.AgentID = &mesos.AgentID{Value: agentID}
	}
	s.Must(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{Tasks: []scheduler.Call_Reconcile_Task{task}}})
}

// FrameworkInfo is the framework of most recordings.
func FrameworkInfo(changes ...func(*mesos.FrameworkInfo)) mesos.FrameworkInfo {
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

func Scalars(cpus, mem, disk float64) []mesos.Resource {
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

// Task is a small task on a custom executor.
func Task(agentID, id, executorID string, changes ...func(*mesos.TaskInfo)) mesos.TaskInfo {
	shell, value := false, "./probe"
	t := mesos.TaskInfo{
		Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: mesos.AgentID{Value: agentID},
		Resources: Scalars(0.1, 32, 1),
		Executor: &mesos.ExecutorInfo{
			Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: executorID},
			Resources: Scalars(0.1, 32, 1),
			Command:   &mesos.CommandInfo{Shell: &shell, Value: &value, Arguments: []string{"probe"}},
		},
	}
	for _, change := range changes {
		change(&t)
	}
	return t
}

// Describe is a status in short: task, state, source, reason.
func Describe(s mesos.TaskStatus) string {
	reason := "-"
	if s.Reason != nil {
		reason = s.Reason.String()
	}
	return fmt.Sprintf("%s %s %s %s", s.TaskID.Value, s.GetState(), s.GetSource(), reason)
}
