package master

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor/mesosapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeMaster serves the scheduler API as a test wants it, in memory. By default
// it accepts SUBSCRIBE with SUBSCRIBED and a HEARTBEAT each 15 s, and answers
// other calls by 202 if they carry the current stream's id, as Mesos does.
type fakeMaster struct {
	t       *testing.T
	address string
	network *apitest.Network

	mu      sync.Mutex
	server  *http.Server
	streams int
	stream  chan []byte
	calls   []*scheduler.Call
	at      []time.Time
	// answer, when it returns another status than 0, answers in place of the
	// default.
	answer func(*scheduler.Call) int
	// leader, when set, is where calls are redirected to.
	leader string
	// first are the events that answer a SUBSCRIBE instead of SUBSCRIBED.
	first []*scheduler.Event
	// silent stops the heartbeats.
	silent bool
}

func newFakeMaster(t *testing.T, network *apitest.Network, address string) *fakeMaster {
	m := &fakeMaster{t: t, address: address, network: network}
	m.run()
	t.Cleanup(m.kill)
	return m
}

func (m *fakeMaster) run() {
	server := &http.Server{Handler: m}
	listener := m.network.Listen(m.address)
	m.set(func(m *fakeMaster) { m.server = server })
	go server.Serve(listener)
}

func (m *fakeMaster) kill() {
	m.mu.Lock()
	server := m.server
	m.mu.Unlock()
	server.Close()
}

func (m *fakeMaster) set(change func(m *fakeMaster)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *fakeMaster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c := new(scheduler.Call)
	if err == nil {
		err = c.Unmarshal(body)
	}
	if err != nil || r.URL.Path != "/api/v1/scheduler" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		m.t.Errorf("bad call %v to %s: %v", c, r.URL.Path, err)
	}
	if c.Type == scheduler.Call_SUBSCRIBE && r.Header.Get("Mesos-Stream-Id") != "" {
		m.t.Error("SUBSCRIBE with a stream id")
	}
	m.mu.Lock()
	m.calls = append(m.calls, c)
	m.at = append(m.at, time.Now())
	code, leader := 0, m.leader
	if m.answer != nil {
		code = m.answer(c)
	}
	current := fmt.Sprint("stream-", m.streams)
	m.mu.Unlock()
	switch {
	case code != 0:
		http.Error(w, fmt.Sprint("answer ", code), code)
	case leader != "":
		w.Header().Set("Location", "//"+leader+"/master/api/v1/scheduler")
		w.WriteHeader(http.StatusTemporaryRedirect)
	case c.Type == scheduler.Call_SUBSCRIBE:
		m.serveStream(w, r)
	case r.Header.Get("Mesos-Stream-Id") != current:
		http.Error(w, "The stream ID is not the current one", http.StatusBadRequest)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (m *fakeMaster) serveStream(w http.ResponseWriter, r *http.Request) {
	stream := make(chan []byte, 1000) // more than any test sends
	m.mu.Lock()
	if m.stream != nil {
		m.stream <- apitest.Record(errorEvent("Framework failed over"))
		m.stream <- nil
	}
	m.stream = stream
	m.streams++
	w.Header().Set("Mesos-Stream-Id", fmt.Sprint("stream-", m.streams))
	first := m.first
	m.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
	if first == nil {
		first = []*scheduler.Event{m.subscribedEvent(), heartbeat}
	}
	for _, event := range first {
		w.Write(apitest.Record(event))
	}
	w.(http.Flusher).Flush()
	ticker := time.NewTicker(15 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case data := <-stream:
			if data == nil {
				return
			}
			w.Write(data)
		case <-ticker.C:
			m.mu.Lock()
			silent := m.silent
			m.mu.Unlock()
			if silent {
				continue
			}
			w.Write(apitest.Record(heartbeat))
		case <-r.Context().Done():
			return
		}
		w.(http.Flusher).Flush()
	}
}

var heartbeat = &scheduler.Event{Type: scheduler.Event_HEARTBEAT}

func (m *fakeMaster) subscribedEvent() *scheduler.Event {
	interval, port := 15.0, uint32(5050)
	return &scheduler.Event{Type: scheduler.Event_SUBSCRIBED, Subscribed: &scheduler.Event_Subscribed{
		FrameworkID:              &mesos.FrameworkID{Value: "F"},
		HeartbeatIntervalSeconds: &interval,
		MasterInfo:               &mesos.MasterInfo{ID: m.address, Port: &port},
	}}
}

func errorEvent(message string) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: message}}
}

// send writes into the current stream.
func (m *fakeMaster) send(events ...*scheduler.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, event := range events {
		m.stream <- apitest.Record(event)
	}
}

func (m *fakeMaster) end() { m.set(func(m *fakeMaster) { m.stream <- nil; m.stream = nil }) }

func (m *fakeMaster) received(kind scheduler.Call_Type) []*scheduler.Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.calls), func(c *scheduler.Call) bool { return c.Type != kind })
}

// recorder is a handler that writes down what it hears.
type recorder struct {
	mu     sync.Mutex
	heard  []string
	reason error
}

func (r *recorder) hear(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, text)
}

func (r *recorder) Subscribed(s Subscription) { r.hear("subscribed " + s.FrameworkID + " " + s.URL) }
func (r *recorder) Disconnected(reason error) {
	r.hear("disconnected")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = reason
}
func (r *recorder) Offers(offers []mesos.Offer) { r.hear(fmt.Sprint("offers ", len(offers))) }
func (r *recorder) Rescind(id string)           { r.hear("rescind " + id) }
func (r *recorder) Update(s mesos.TaskStatus)   { r.hear("update " + s.TaskID.Value) }
func (r *recorder) Message(agent, executor string, data []byte) {
	r.hear(fmt.Sprintf("message %s %s %s", agent, executor, data))
}
func (r *recorder) Failure(agent, executor string, status int32) {
	r.hear(fmt.Sprintf("failure %s %s %d", agent, executor, status))
}

var _ Handler = (*recorder)(nil)

// rig is a client that runs against fake masters m1:5050 ... of one network.
type rig struct {
	*Client
	network *apitest.Network
	masters []*fakeMaster
	heard   *recorder
	// stop ends Run, result is what it returned once done is closed.
	stop   context.CancelFunc
	done   chan struct{}
	result error
}

const oneMaster, threeMasters = "http://m1:5050", "http://m1:5050,m2:5050,m3:5050"

// run is the body of a test in a bubble with a running client. before changes
// the masters before the client starts.
func run(t *testing.T, masters string, before func([]*fakeMaster), test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		network := new(apitest.Network)
		r := &rig{network: network, heard: &recorder{}, done: make(chan struct{})}
		for n := range 3 {
			r.masters = append(r.masters, newFakeMaster(t, network, fmt.Sprintf("m%d:5050", n+1)))
		}
		if before != nil {
			before(r.masters)
		}
		client, err := newClient(Config{Masters: masters}, zerolog.Nop(), network.Dial)
		if err != nil {
			t.Fatal(err)
		}
		r.Client = client
		ctx, cancel := context.WithCancel(context.Background())
		r.stop = cancel
		go func() {
			defer close(r.done)
			r.result = r.Run(ctx, func() Framework {
				return Framework{Info: mesos.FrameworkInfo{User: "u", Name: "n"}, SuppressedRoles: []string{"s"}}
			}, r.heard)
		}()
		defer func() { cancel(); <-r.done }()
		synctest.Wait()
		test(t, r)
	})
}

func (r *rig) expectHeard(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	r.heard.mu.Lock()
	defer r.heard.mu.Unlock()
	if !slices.Equal(r.heard.heard, want) {
		t.Errorf("handler heard %q, want %q; last disconnected for %v", r.heard.heard, want, r.heard.reason)
	}
}
