package agent

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor/mesosapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent serves the executor API as a test wants it, in memory. By default
// it accepts SUBSCRIBE with a SUBSCRIBED event, answers everything else by 202
// and acknowledges each update.
type fakeAgent struct {
	t       *testing.T
	network apitest.Network
	start   time.Time

	mu           sync.Mutex
	server       *http.Server
	stream       chan []byte
	calls        []call
	flying, most int
	// answer, when it returns another status than 0, answers a call in place of
	// the default.
	answer func(*executor.Call) int
	// mute keeps acknowledgements back.
	mute bool
	// hold, when set, delays answers to UPDATE until it is closed.
	hold chan struct{}
	// first are the events that answer a SUBSCRIBE instead of SUBSCRIBED.
	first []*executor.Event
	// endStream ends a stream after its first events.
	endStream bool
}

// call is what the agent has received; at counts from the test's start.
type call struct {
	at time.Duration
	*executor.Call
}

const agentAddress = "10.0.0.1:5051"

func newFakeAgent(t *testing.T) *fakeAgent {
	a := &fakeAgent{t: t, start: time.Now()}
	a.run()
	t.Cleanup(a.kill)
	return a
}

// run starts the agent's process.
func (a *fakeAgent) run() {
	server := &http.Server{Handler: a}
	listener := a.network.Listen(agentAddress)
	a.mu.Lock()
	a.server = server
	a.mu.Unlock()
	go server.Serve(listener)
}

// kill ends it: connections break, new ones are refused.
func (a *fakeAgent) kill() {
	a.mu.Lock()
	server := a.server
	a.mu.Unlock()
	server.Close()
}

// set changes the agent's behaviour.
func (a *fakeAgent) set(change func(a *fakeAgent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c := new(executor.Call)
	if err == nil {
		err = c.Unmarshal(body)
	}
	if err != nil || r.URL.Path != "/api/v1/executor" || c.FrameworkID.Value != "F" || c.ExecutorID.Value != "E" {
		a.t.Errorf("bad call %v to %s: %v", c, r.URL.Path, err)
	}
	a.mu.Lock()
	a.calls = append(a.calls, call{time.Since(a.start), c})
	a.flying++
	a.most = max(a.most, a.flying)
	code, hold := 0, a.hold
	if a.answer != nil {
		code = a.answer(c)
	}
	a.mu.Unlock()
	defer a.set(func(a *fakeAgent) { a.flying-- })
	switch {
	case code != 0:
		http.Error(w, fmt.Sprint("answer ", code), code)
	case c.Type == executor.Call_SUBSCRIBE:
		a.set(func(a *fakeAgent) { a.flying-- }) // a stream is no call in flight
		defer a.set(func(a *fakeAgent) { a.flying++ })
		a.serveStream(w, r, c.Subscribe)
	default:
		if c.Type == executor.Call_UPDATE {
			if hold != nil {
				select {
				case <-hold:
				case <-r.Context().Done():
					return
				}
			}
			a.acknowledge(c.Update.Status)
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

func (a *fakeAgent) serveStream(w http.ResponseWriter, r *http.Request, subscribe *executor.Call_Subscribe) {
	stream := make(chan []byte, 100000) // more than any test sends
	a.mu.Lock()
	a.stream = stream
	first, end := a.first, a.endStream
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
	if first == nil {
		first = []*executor.Event{subscribedEvent()}
	}
	for _, event := range first {
		w.Write(apitest.Record(event))
	}
	w.(http.Flusher).Flush()
	for _, u := range subscribe.UnacknowledgedUpdates {
		a.acknowledge(u.Status)
	}
	if end {
		return
	}
	for {
		select {
		case data := <-stream:
			if data == nil {
				return
			}
			w.Write(data)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func subscribedEvent() *executor.Event {
	event := &executor.Event{Type: executor.Event_SUBSCRIBED, Subscribed: &executor.Event_Subscribed{}}
	event.Subscribed.ContainerID = &mesos.ContainerID{Value: "C"}
	event.Subscribed.ExecutorInfo.ExecutorID = mesos.ExecutorID{Value: "E"}
	return event
}

func (a *fakeAgent) acknowledge(status mesos.TaskStatus) {
	a.mu.Lock()
	mute := a.mute
	a.mu.Unlock()
	if !mute {
		a.send(ackEvent(status.TaskID.Value, status.UUID))
	}
}

func ackEvent(task string, id []byte) *executor.Event {
	return &executor.Event{Type: executor.Event_ACKNOWLEDGED, Acknowledged: &executor.Event_Acknowledged{TaskID: mesos.TaskID{Value: task}, UUID: id}}
}

func launchEvent(task string) *executor.Event {
	return &executor.Event{Type: executor.Event_LAUNCH, Launch: &executor.Event_Launch{Task: mesos.TaskInfo{TaskID: mesos.TaskID{Value: task}}}}
}

// send writes events into the stored stream, whether or not somebody reads it.
func (a *fakeAgent) send(events ...*executor.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, event := range events {
		a.stream <- apitest.Record(event)
	}
}

// end closes the stream in an orderly way.
func (a *fakeAgent) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stream <- nil
}

// received are the calls of a type so far.
func (a *fakeAgent) received(kind executor.Call_Type) []call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.calls), func(c call) bool { return c.Type != kind })
}

// updates are the statuses received, as "task STATE", in order.
func (a *fakeAgent) updates() (texts []string) {
	for _, c := range a.received(executor.Call_UPDATE) {
		texts = append(texts, describe(c.Update.Status))
	}
	return texts
}

func describe(status mesos.TaskStatus) string {
	return fmt.Sprint(status.TaskID.Value, " ", status.GetState())
}

// pemOf is the certificate of a TLS server.
func pemOf(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// recorder is a handler that writes down what it hears.
type recorder struct {
	mu    sync.Mutex
	heard []string
	lost  error
	since time.Time
	// launched, when set, is called for each launch.
	launched func(task string)
}

func (r *recorder) hear(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, text)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

func (r *recorder) Subscribed(s Subscription) {
	r.hear(map[bool]string{false: "subscribed", true: "subscribed again"}[s.Again])
}
func (r *recorder) Launch(task mesos.TaskInfo) {
	r.hear("launch " + task.TaskID.Value)
	if r.launched != nil {
		r.launched(task.TaskID.Value)
	}
}
func (r *recorder) LaunchGroup(tasks []mesos.TaskInfo) { r.hear(fmt.Sprint("group of ", len(tasks))) }
func (r *recorder) Kill(task string, policy *mesos.KillPolicy) {
	r.hear(fmt.Sprint("kill ", task, " ", policy.GetGracePeriod().GetNanoseconds()))
}
func (r *recorder) Message(data []byte) { r.hear("message " + string(data)) }
func (r *recorder) Shutdown()           { r.hear("shutdown") }
func (r *recorder) Disconnected(since time.Time) {
	r.hear("disconnected")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = since
}
func (r *recorder) Lost(reason error) {
	r.hear("lost")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = reason
}

var _ Handler = (*recorder)(nil)

// lines collects log lines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte(text))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// rig is a client that runs against a fake agent.
type rig struct {
	*Client
	agent *fakeAgent
	heard *recorder
	log   *lines
	stop  func() error
}

func testConfig() Config {
	return Config{
		FrameworkID: "F", ExecutorID: "E", AgentID: "A", Endpoint: agentAddress, Checkpoint: true,
	}
}

// run is the body of a test in a bubble with a running client. before changes
// the agent before the client starts.
func run(t *testing.T, config Config, before func(*fakeAgent), test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		agent := newFakeAgent(t)
		if before != nil {
			before(agent)
		}
		r := newRig(t, config, agent)
		defer r.stop()
		test(t, r)
		if t.Failed() {
			t.Logf("log:\n%.3000s", r.log)
		}
	})
}

func newRig(t *testing.T, config Config, agent *fakeAgent) *rig {
	heard, log := &recorder{}, &lines{}
	client, err := newClient(config, zerolog.New(log), agent.network.Dial)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Client: client, agent: agent, heard: heard, log: log}
	r.start()
	synctest.Wait()
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = r.Run(ctx, r.heard)
	}()
	r.stop = func() error {
		cancel()
		<-done
		return err
	}
}

func (r *rig) report(t *testing.T, task string, states ...mesos.TaskState) {
	t.Helper()
	for _, state := range states {
		if err := r.Update(mesos.TaskStatus{TaskID: mesos.TaskID{Value: task}, State: &state}); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rig) expectHeard(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := r.heard.all(); !slices.Equal(got, want) {
		t.Errorf("handler heard %q, want %q", got, want)
	}
}
