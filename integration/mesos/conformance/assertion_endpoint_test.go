package conformance_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// executorEndpoint is about the HTTP side of the executor API.
var executorEndpoint = []assertion{
	{number: 1, title: "executor API: only POST", encodings: inBoth, test: func(w *world) {
		w.onlyPost(w.agentURL(), "/api/v1/executor")
	}},
	{number: 2, title: "executor API: only the two media types, byte by byte", encodings: inBoth, test: func(w *world) {
		w.mediaTypes(w.agentURL(), "/api/v1/executor")
	}},
	{number: 3, title: "executor API: garbage is refused", encodings: inBoth, test: func(w *world) {
		w.garbage(w.agentURL(), "/api/v1/executor")
	}},
	{number: 4, title: "executor SUBSCRIBE: JSON whenever it is acceptable", encodings: inBoth, test: func(w *world) {
		p, _ := w.framework().run("e1", "t1")
		body := w.body(subscribeCall(p))
		w.negotiation(func(accept string) conformance.Item {
			return *p.open(body, map[string]string{"Accept": accept}).answer
		})
		w.firstRecords(func(accept string) *feed { return p.open(body, map[string]string{"Accept": accept}) })
	}},
	{number: 5, title: "executor SUBSCRIBE: unknown framework or executor", encodings: inBoth, test: func(w *world) {
		p, _ := w.framework().start("e1", "t1")
		for _, ids := range [][2]string{{"no-framework", "e1"}, {p.text("framework_id"), "no-executor"}} {
			call := subscribeCall(p)
			call.FrameworkID.Value, call.ExecutorID.Value = ids[0], ids[1]
			if answer := p.send(call); answer.Status != http.StatusBadRequest {
				w.Errorf("framework %s, executor %s: %d", ids[0], ids[1], answer.Status)
			}
		}
	}},
	{number: 6, title: "UPDATE before the first SUBSCRIBE", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		p := f.puppet("e1")
		if answer := p.send(p.update(p.status("t1", mesos.TASK_RUNNING))); answer.Status != http.StatusForbidden {
			w.Errorf("%d %s", answer.Status, answer.Body)
		}
		// It has had no effect: the first thing that is known of the task is this.
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("t1")
		s.acknowledged(p.report("t1", mesos.TASK_STARTING))
		f.got("t1 TASK_STARTING SOURCE_EXECUTOR -")
	}},
	{number: 7, title: "HEARTBEAT call: nobody looks at the ids", encodings: inBoth, test: func(w *world) {
		body := w.body(&executor.Call{
			Type: executor.Call_HEARTBEAT, FrameworkID: mesos.FrameworkID{Value: "bogus"}, ExecutorID: mesos.ExecutorID{Value: "bogus"},
		})
		answer := w.request(w.agentURL(), http.MethodPost, "/api/v1/executor", map[string]string{"Content-Type": string(w.kind)}, body)
		if answer.Status != http.StatusAccepted || len(answer.Body) > 0 {
			w.Errorf("%d %s", answer.Status, answer.Body)
		}
	}},
	{number: 8, title: "UPDATE: what is refused never reaches the scheduler", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		version7 := uuid.Must(uuid.NewV7())
		master, foreign := mesos.SOURCE_MASTER, mesos.ExecutorID{Value: "e2"}
		for name, change := range map[string]func(*mesos.TaskStatus){
			"without uuid":      func(s *mesos.TaskStatus) { s.UUID = nil },
			"uuid of 15 bytes":  func(s *mesos.TaskStatus) { s.UUID = s.UUID[:15] },
			"uuid of version 7": func(s *mesos.TaskStatus) { s.UUID = version7[:] },
			"source master":     func(s *mesos.TaskStatus) { s.Source = &master },
			"without source":    func(s *mesos.TaskStatus) { s.Source = nil },
			"staging":           func(s *mesos.TaskStatus) { *s.State = mesos.TASK_STAGING },
			"foreign executor":  func(s *mesos.TaskStatus) { s.ExecutorID = &foreign },
		} {
			if answer := p.send(p.update(p.status("t1", mesos.TASK_FAILED, change))); answer.Status != http.StatusBadRequest {
				w.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
		}
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
		f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
	}},
	{number: 9, title: "UPDATE with another agent's id: 202 and nothing else", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.start("e1", "t1")
		p.report("t1", mesos.TASK_FAILED, func(s *mesos.TaskStatus) { s.AgentID = &mesos.AgentID{Value: "another"} })
		s.quiet(time.Second)
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
		f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
	}},
	{number: 10, title: "executor SUBSCRIBE: no Mesos-Stream-Id, the negotiated type", encodings: inBoth, test: func(w *world) {
		_, s := w.framework().start("e1", "t1")
		if id, ok := s.answer.Headers["Mesos-Stream-Id"]; ok {
			w.Errorf("Mesos-Stream-Id %q", id)
		}
		w.equal("Content-Type", s.answer.Headers["Content-Type"], w.kind)
		w.equal("Transfer-Encoding", s.answer.Headers["Transfer-Encoding"], "chunked")
	}},
	{number: 11, title: "executors prove with a token who they are", only: needsTokens, encodings: inBoth,
		emulate: func(c *emulator.Config) {
			c.Agent.JWTSecret = []byte("some secret of at least 32 bytes.")
			c.Agent.AuthenticateExecutors = true
		}, test: func(w *world) {
			f := w.framework()
			f.launch(f.task("t1", "e1"), f.task("t2", "e2"))
			p, other := f.puppet("e1"), f.puppet("e2")
			const token = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"
			bearer := func(p *puppet) map[string]string {
				return map[string]string{"Authorization": "Bearer " + p.environment()[token]}
			}
			body := w.body(subscribeCall(p))
			answer := p.open(body, nil).answer
			w.equal("without token", answer.Status, http.StatusUnauthorized)
			if got := answer.Headers["Www-Authenticate"]; !strings.HasPrefix(got, `Bearer realm="mesos-agent-executor"`) {
				w.Errorf("without token: WWW-Authenticate %s", got)
			}
			w.equal("with a bad token", p.open(body, map[string]string{"Authorization": "Bearer x.y.z"}).answer.Status, http.StatusUnauthorized)
			w.equal("with another's token", p.open(body, bearer(other)).answer.Status, http.StatusForbidden)
			s := p.open(body, bearer(p))
			w.equal("with its own token", s.answer.Status, http.StatusOK)
			s.next(executor.Event_SUBSCRIBED)
			heartbeat := w.body(p.new(executor.Call_HEARTBEAT))
			w.equal("HEARTBEAT without token", p.post(heartbeat, nil).Status, http.StatusUnauthorized)
		}},
	{number: 12, title: "RecordIO, whatever the size of TCP segments", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, _ := f.run("e1", "t1")
		w.rawRecord(p)
		// Our client, to which everything comes byte by byte.
		address := w.crumbler(p.text("endpoint"))
		h := w.executorClient(p, address)
		h.await("subscription", func() bool { return h.subscribed > 0 })
		f.Must(messageTo(p, []byte("in crumbs")))
		h.await("message", func() bool { return len(h.messages) > 0 && string(h.messages[0]) == "in crumbs" })
	}},
}

// subscribeCall is a SUBSCRIBE that lists nothing.
func subscribeCall(p *puppet) *executor.Call {
	call := p.new(executor.Call_SUBSCRIBE)
	call.Subscribe = &executor.Call_Subscribe{}
	return call
}

// body renders a call in the encoding that is tried.
func (w *world) body(call wire.Message) []byte {
	w.Helper()
	body, err := w.kind.Marshal(call)
	w.must(err)
	return body
}

// onlyPost checks what other methods are answered.
func (w *world) onlyPost(server, path string) {
	w.Helper()
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		answer := w.request(server, method, path, map[string]string{"Content-Type": string(w.kind)}, nil)
		if answer.Status != http.StatusMethodNotAllowed || answer.Headers["Allow"] != http.MethodPost {
			w.Errorf("%s: %d, Allow %q", method, answer.Status, answer.Headers["Allow"])
		}
	}
}

// mediaTypes checks which types of bodies are refused before they are looked at.
func (w *world) mediaTypes(server, path string) {
	w.Helper()
	for contentType, status := range map[string]int{
		"":                                 http.StatusBadRequest,
		"text/plain":                       http.StatusUnsupportedMediaType,
		string(w.kind) + "; charset=utf-8": http.StatusUnsupportedMediaType,
		strings.ToUpper(string(w.kind)):    http.StatusUnsupportedMediaType,
	} {
		header := map[string]string{}
		if contentType != "" {
			header["Content-Type"] = contentType
		}
		if answer := w.request(server, http.MethodPost, path, header, []byte("{}")); answer.Status != status {
			w.Errorf("Content-Type %q: %d, want %d", contentType, answer.Status, status)
		}
	}
}

func (w *world) garbage(server, path string) {
	w.Helper()
	for _, body := range []string{"", "garbage", "{", "\x0a\xff"} {
		answer := w.request(server, http.MethodPost, path, map[string]string{"Content-Type": string(w.kind)}, []byte(body))
		if answer.Status != http.StatusBadRequest {
			w.Errorf("body %q: %d, want 400", body, answer.Status)
		}
	}
}

// negotiation checks the type of the answer to a SUBSCRIBE, which subscribe sends
// with this Accept header, or none when it is "".
func (w *world) negotiation(subscribe func(accept string) conformance.Item) {
	w.Helper()
	w.equal("Accept: text/html", subscribe("text/html").Status, http.StatusNotAcceptable)
	for accept, want := range map[string]wire.ContentType{
		"":                    wire.JSON,
		"*/*":                 wire.JSON,
		string(wire.JSON):     wire.JSON,
		string(wire.Protobuf): wire.Protobuf,
		string(wire.Protobuf) + ", " + string(wire.JSON): wire.JSON,
	} {
		answer := subscribe(accept)
		if answer.Status != http.StatusOK || answer.Headers["Content-Type"] != string(want) {
			w.Errorf("Accept %q: %d, Content-Type %q, want %s", accept, answer.Status, answer.Headers["Content-Type"], want)
		}
	}
}

// firstRecords checks that records are what the header says. A feed decodes them by
// it.
func (w *world) firstRecords(open func(accept string) *feed) {
	w.Helper()
	for _, accept := range inBoth {
		s := open(string(accept))
		s.next(executor.Event_SUBSCRIBED)
		s.mu.Lock()
		isJSON := strings.HasPrefix(string(s.records[0]), "{")
		s.mu.Unlock()
		w.equal("record is JSON for "+string(accept), isJSON, accept == wire.JSON)
	}
}

// rawRecord reads the first record of a stream without any HTTP library but for the
// header.
func (w *world) rawRecord(p *puppet) {
	w.Helper()
	connection, err := net.DialTimeout("tcp", p.text("endpoint"), probe.Patience)
	w.must(err)
	defer connection.Close()
	w.must(connection.SetDeadline(time.Now().Add(probe.Patience)))
	request, err := http.NewRequest(http.MethodPost, "http://"+p.text("endpoint")+"/api/v1/executor", strings.NewReader(string(w.body(subscribeCall(p)))))
	w.must(err)
	request.Header.Set("Content-Type", string(w.kind))
	request.Header.Set("Accept", string(w.kind))
	w.must(request.Write(connection))
	response, err := http.ReadResponse(bufio.NewReader(connection), request)
	w.must(err)
	in := bufio.NewReader(response.Body)
	digits, err := in.ReadString('\n')
	w.must(err)
	length := 0
	for _, digit := range strings.TrimSuffix(digits, "\n") {
		if digit < '0' || digit > '9' {
			w.Fatalf("length %q", digits)
		}
		length = 10*length + int(digit-'0')
	}
	payload := make([]byte, length)
	_, err = io.ReadFull(in, payload)
	w.must(err)
	var event executor.Event
	if _, err := w.kind.Unmarshal(payload, &event); err != nil || event.Type != executor.Event_SUBSCRIBED {
		w.Errorf("first record of %d bytes: %v, %v", length, event.Type, err)
	}
}
