package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/goleak"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/wire"
)

func TestMain(m *testing.M) {
	if os.Getenv("AGENT_TEST_EXECUTOR") != "" {
		os.Exit(testExecutor())
	}
	code := m.Run()
	WaitContainers(true)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// harness is an agent, the scripted master that it talks to, and a client of its
// executor API.
type harness struct {
	t        testing.TB
	agent    *Agent
	line     *link.Line
	master   *testMaster
	client   *http.Client
	kind     wire.ContentType
	fw       mesos.FrameworkInfo
	messages chan link.Message

	authorization string // header of calls
}

// testMaster leads for ever and hands out its ends of connections.
type testMaster struct{ ends chan *link.End }

func (m *testMaster) Attach(end *link.End) error             { m.ends <- end; return nil }
func (m *testMaster) Leader() (link.Master, <-chan struct{}) { return m, nil }

func newHarness(t testing.TB, change func(*Config)) *harness {
	t.Helper()
	h := &harness{t: t, master: &testMaster{ends: make(chan *link.End, 10)}, kind: wire.JSON}
	h.line = link.NewLine(h.master)
	transport := &http.Transport{MaxIdleConnsPerHost: 10}
	h.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	checkpoint := true
	h.fw = mesos.FrameworkInfo{
		ID: &mesos.FrameworkID{Value: "F1"}, Name: "test", User: "root", Checkpoint: &checkpoint,
		Capabilities: []mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE}, {Type: mesos.FrameworkInfo_Capability_MULTI_ROLE},
		},
	}
	cfg := DefaultConfig()
	cfg.WorkDir = t.TempDir()
	cfg.RegistrationBackoff = 0
	cfg.ExecutorReregistrationTimeout = 300 * time.Millisecond
	if change != nil {
		change(&cfg)
	}
	h.start(cfg)
	return h
}

// start begins a life of the agent. The end of the test ends it, and every
// container with it.
func (h *harness) start(cfg Config) {
	h.t.Helper()
	a, err := New(cfg, h.line)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.agent = a
	h.client.CloseIdleConnections() // to an earlier life
	h.t.Cleanup(func() {
		a.Kill()
		WaitContainers(true)
	})
}

// end is the master's end of the agent's next connection, with what it receives.
func (h *harness) end() *link.End {
	h.t.Helper()
	select {
	case end := <-h.master.ends:
		h.messages = make(chan link.Message, 1000)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func(messages chan<- link.Message) {
			defer close(done)
			for {
				m, err := end.Next(ctx)
				if err != nil {
					return
				}
				messages <- m
			}
		}(h.messages)
		h.t.Cleanup(func() { cancel(); <-done })
		return end
	case <-time.After(patience):
		h.t.Fatal("the agent has not connected to the master")
		return nil
	}
}

// register answers a new agent's registration.
func (h *harness) register() *link.End {
	h.t.Helper()
	end := h.end()
	receive[link.RegisterAgent](h)
	end.Send(link.Registered{AgentID: "A-S0"})
	h.until("registration", func() bool { return h.agent.phaseIs(running) })
	return end
}

// receive waits for the next message of a type; others of the types in Mesos'
// conversation that come before are an error.
func receive[M link.Message](h *harness) M {
	h.t.Helper()
	select {
	case m := <-h.messages:
		wanted, ok := m.(M)
		if !ok {
			h.t.Fatalf("the master got %T %+v, want %T", m, m, wanted)
		}
		return wanted
	case <-time.After(patience):
		var wanted M
		h.t.Fatalf("the master has not got %T", wanted)
		return wanted
	}
}

// silent checks that everything sent so far has been received: a KILL of a task
// that does not exist is answered after whatever came before it.
func (h *harness) silent(end *link.End) {
	h.t.Helper()
	end.Send(link.Ping{Connected: true})
	receive[link.Pong](h)
}

func (h *harness) until(what string, condition func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s has not happened within %v", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sleeper is an executor that does nothing; the test makes its calls.
func sleeper(id string) mesos.ExecutorInfo {
	return shellExecutor(id, "exec sleep 1000")
}

func shellExecutor(id, command string) mesos.ExecutorInfo {
	return mesos.ExecutorInfo{
		Type:        mesos.ExecutorInfo_CUSTOM,
		ExecutorID:  mesos.ExecutorID{Value: id},
		FrameworkID: &mesos.FrameworkID{Value: "F1"},
		Command:     &mesos.CommandInfo{Value: &command},
	}
}

func (h *harness) task(id string, e mesos.ExecutorInfo) mesos.TaskInfo {
	return mesos.TaskInfo{
		Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: mesos.AgentID{Value: h.agent.ID()}, Executor: &e,
	}
}

// launch runs tasks on an executor; the first starts it if new.
func (h *harness) launch(end *link.End, isNew bool, e mesos.ExecutorInfo, tasks ...string) {
	for i, id := range tasks {
		end.Send(link.RunTask{Framework: h.fw, Task: h.task(id, e), LaunchExecutor: isNew && i == 0})
	}
}

func (h *harness) known(executorID string) bool {
	h.agent.mu.Lock()
	defer h.agent.mu.Unlock()
	f := h.agent.frameworks["F1"]
	return f != nil && f.executors[executorID] != nil
}

func (h *harness) newCall(kind execv1.Call_Type, executorID string) *execv1.Call {
	return &execv1.Call{
		Type: kind, FrameworkID: mesos.FrameworkID{Value: "F1"}, ExecutorID: mesos.ExecutorID{Value: executorID},
	}
}

// post sends a call and returns the response, whose body the caller closes.
func (h *harness) post(call *execv1.Call) *http.Response {
	h.t.Helper()
	body, err := h.kind.Marshal(call)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+h.agent.Addr()+"/api/v1/executor", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Content-Type", string(h.kind))
	request.Header.Set("Accept", string(h.kind))
	if h.authorization != "" {
		request.Header.Set("Authorization", h.authorization)
	}
	response, err := h.client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { response.Body.Close() })
	return response
}

// call sends a call and checks the answer's status.
func (h *harness) call(call *execv1.Call, status int) string {
	h.t.Helper()
	response := h.post(call)
	body, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if response.StatusCode != status {
		h.t.Fatalf("%s: %d %s, want %d", call.Type, response.StatusCode, body, status)
	}
	return string(body)
}

func newStatus(task string, state mesos.TaskState) mesos.TaskStatus {
	source := mesos.SOURCE_EXECUTOR
	id := uuid.New()
	return mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: task}, State: &state, Source: &source, UUID: id[:], Timestamp: now(),
	}
}

// update sends an update and returns its status as it was sent.
func (h *harness) update(executorID, task string, state mesos.TaskState) mesos.TaskStatus {
	h.t.Helper()
	status := newStatus(task, state)
	status.ExecutorID = &mesos.ExecutorID{Value: executorID}
	h.sendStatus(executorID, status)
	return status
}

func (h *harness) sendStatus(executorID string, status mesos.TaskStatus) {
	h.t.Helper()
	call := h.newCall(execv1.Call_UPDATE, executorID)
	call.Update = &execv1.Call_Update{Status: status}
	h.call(call, http.StatusAccepted)
}

// stream is an executor's event stream.
type stream struct {
	h       *harness
	records chan streamRecord
}

type streamRecord struct {
	event *execv1.Event
	err   error
}

func (h *harness) subscribe(executorID string, change func(*execv1.Call_Subscribe)) *stream {
	h.t.Helper()
	call := h.newCall(execv1.Call_SUBSCRIBE, executorID)
	call.Subscribe = &execv1.Call_Subscribe{}
	if change != nil {
		change(call.Subscribe)
	}
	response := h.post(call)
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		h.t.Fatalf("SUBSCRIBE: %d %s", response.StatusCode, body)
	}
	if got := response.Header.Get("Content-Type"); got != string(h.kind) {
		h.t.Fatalf("SUBSCRIBE: Content-Type %q, want %q", got, h.kind)
	}
	s := &stream{h: h, records: make(chan streamRecord, 1000)}
	reader := wire.NewRecordReader(response.Body, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			record, err := reader.Next()
			if err != nil {
				s.records <- streamRecord{err: err}
				return
			}
			event := new(execv1.Event)
			if _, err := h.kind.Unmarshal(record, event); err != nil {
				s.records <- streamRecord{err: err}
				return
			}
			s.records <- streamRecord{event: event}
		}
	}()
	h.t.Cleanup(func() { response.Body.Close(); <-done })
	return s
}

func (s *stream) next(kind execv1.Event_Type) *execv1.Event {
	s.h.t.Helper()
	select {
	case r := <-s.records:
		if r.err != nil {
			s.h.t.Fatalf("stream ended (%v) instead of %s", r.err, kind)
		}
		if r.event.Type != kind {
			s.h.t.Fatalf("event %s %+v, want %s", r.event.Type, r.event, kind)
		}
		return r.event
	case <-time.After(patience):
		s.h.t.Fatalf("no event %s", kind)
		return nil
	}
}

func (s *stream) ends(want error) {
	s.h.t.Helper()
	select {
	case r := <-s.records:
		if r.err != want {
			s.h.t.Fatalf("event %+v, end %v; want end %v", r.event, r.err, want)
		}
	case <-time.After(patience):
		s.h.t.Fatal("the stream has not ended")
	}
}

func (h *harness) acknowledge(end *link.End, u link.StatusUpdate) {
	end.Send(link.Acknowledge{FrameworkID: u.FrameworkID, TaskID: u.Status.TaskID.Value, UUID: u.Status.UUID})
}

// expectUpdate checks the next message's state and reason ("" for none).
func (h *harness) expectUpdate(task string, state mesos.TaskState, reason string) link.StatusUpdate {
	h.t.Helper()
	u := receive[link.StatusUpdate](h)
	got := ""
	if u.Status.Reason != nil {
		got = u.Status.Reason.String()
	}
	if u.Status.TaskID.Value != task || u.Status.GetState() != state || got != reason {
		h.t.Fatalf("update %s %s %s (%s), want %s %s %s", u.Status.TaskID.Value, u.Status.GetState(), got,
			u.Status.GetMessage(), task, state, reason)
	}
	return u
}

func sandboxOf(h *harness, executorID string) string {
	return filepath.Join(h.agent.cfg.WorkDir, "slaves", h.agent.ID(), "frameworks", "F1", "executors", executorID, "runs", "latest")
}

func readSandbox(h *harness, executorID, name string) string {
	h.t.Helper()
	content, err := os.ReadFile(filepath.Join(sandboxOf(h, executorID), name))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}
