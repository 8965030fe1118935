package conformance_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// puppet is an executor's process that does what the test tells it.
type puppet struct {
	world      *world
	connection net.Conn
	hello      map[string]any
	gone       chan struct{} // closed when the process has ended

	mu      sync.Mutex // guards what follows
	last    int
	reports map[int]func(conformance.Item)
	outputs map[int]chan string
}

// hear handles what the process says.
func (p *puppet) hear(m conformance.Message) {
	p.mu.Lock()
	report, output := p.reports[m.ID], p.outputs[m.ID]
	p.mu.Unlock()
	switch {
	case m.Item != nil && report != nil:
		report(*m.Item)
	case m.Output != nil && output != nil:
		output <- *m.Output
	}
}

// tell gives an order and returns its number. The process may be gone.
func (p *puppet) tell(o conformance.Order, expect func(id int)) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.ID == 0 {
		p.last++
		o.ID = p.last
	}
	if expect != nil {
		expect(o.ID)
	}
	text, err := json.Marshal(o)
	if err == nil {
		_, _ = p.connection.Write(append(text, '\n'))
	}
	return o.ID
}

// sh runs a shell command as a child of the executor and returns what it printed.
func (p *puppet) sh(command string) string {
	p.world.Helper()
	output := make(chan string, 1)
	p.tell(conformance.Order{Command: command}, func(id int) { p.outputs[id] = output })
	select {
	case text := <-output:
		return strings.TrimSpace(text)
	case <-p.gone:
		p.world.Fatalf("the executor ended during %q", command)
	case <-time.After(probe.Patience):
		p.world.Fatalf("%q: no end within %v", command, probe.Patience)
	}
	return ""
}

// exit makes the process exit and waits for that.
func (p *puppet) exit(code int) {
	p.world.Helper()
	p.tell(conformance.Order{Exit: &code}, nil)
	p.ended()
}

// die makes the process kill itself and waits for that.
func (p *puppet) die() {
	p.world.Helper()
	p.tell(conformance.Order{Die: true}, nil)
	p.ended()
}

// ended waits for the end of the process.
func (p *puppet) ended() {
	p.world.Helper()
	select {
	case <-p.gone:
	case <-time.After(probe.Patience):
		p.world.Fatalf("the executor has not ended within %v", probe.Patience)
	}
}

// alive tells whether the process has not ended.
func (p *puppet) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// text is what the process told of itself.
func (p *puppet) text(key string) string {
	text, _ := p.hello[key].(string)
	return text
}

// list is the same for what has several values.
func (p *puppet) list(key string) []string {
	var texts []string
	values, _ := p.hello[key].([]any)
	for _, value := range values {
		text, _ := value.(string)
		texts = append(texts, text)
	}
	return texts
}

// environment is the environment with which the process was started.
func (p *puppet) environment() map[string]string {
	set := make(map[string]string)
	for _, entry := range p.list("env") {
		name, value, _ := strings.Cut(entry, "=")
		set[name] = value
	}
	return set
}

// pid tells processes apart.
func (p *puppet) pid() any { return p.hello["pid"] }

// new makes a call of this executor.
func (p *puppet) new(kind executor.Call_Type) *executor.Call {
	return &executor.Call{
		Type:        kind,
		FrameworkID: mesos.FrameworkID{Value: p.text("framework_id")},
		ExecutorID:  mesos.ExecutorID{Value: p.text("executor_id")},
	}
}

// send sends a call and returns the answer.
func (p *puppet) send(call *executor.Call) conformance.Item {
	p.world.Helper()
	body, err := p.world.kind.Marshal(call)
	p.world.must(err)
	return p.post(body, nil)
}

// post sends anything to the executor API and returns the answer.
func (p *puppet) post(body []byte, header map[string]string) conformance.Item {
	p.world.Helper()
	answers := make(chan conformance.Item, 1)
	p.exchange(p.request(body, header, false), func(item conformance.Item) { answers <- item })
	select {
	case answer := <-answers:
		if answer.Failure != "" {
			p.world.Fatalf("request of the executor: %s", answer.Failure)
		}
		return answer
	case <-p.gone:
		p.world.Fatal("the executor ended during a request")
	case <-time.After(probe.Patience):
		p.world.Fatalf("no answer to the executor within %v", probe.Patience)
	}
	return conformance.Item{}
}

func (p *puppet) request(body []byte, header map[string]string, stream bool) conformance.Request {
	r := conformance.Request{
		Network: "tcp", Address: p.text("endpoint"), Method: http.MethodPost, Path: "/api/v1/executor",
		Headers: map[string]string{"Content-Type": string(p.world.kind), "Accept": string(p.world.kind)},
		Body:    body, Stream: stream,
	}
	for name, value := range header {
		if value == "" {
			delete(r.Headers, name)
		} else {
			r.Headers[name] = value
		}
	}
	return r
}

// exchange makes the process do a request. It returns how to break it off.
func (p *puppet) exchange(r conformance.Request, report func(conformance.Item)) (cancel func()) {
	id := p.tell(conformance.Order{Request: &r}, func(id int) { p.reports[id] = report })
	return func() { p.tell(conformance.Order{ID: id, Close: true}, nil) }
}

// accepted sends a call that has to be answered 202.
func (p *puppet) accepted(call *executor.Call) {
	p.world.Helper()
	if answer := p.send(call); answer.Status != http.StatusAccepted {
		p.world.Fatalf("%s: %d %s", call.Type, answer.Status, answer.Body)
	}
}

// status is a complete one.
func (p *puppet) status(task string, state mesos.TaskState, changes ...func(*mesos.TaskStatus)) mesos.TaskStatus {
	id, source, now := uuid.New(), mesos.SOURCE_EXECUTOR, float64(time.Now().UnixMicro())/1e6
	s := mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: task}, State: &state, Source: &source, UUID: id[:], Timestamp: &now,
		ExecutorID: &mesos.ExecutorID{Value: p.text("executor_id")}, AgentID: &mesos.AgentID{Value: p.text("agent_id")},
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

// update makes the call that reports a status.
func (p *puppet) update(s mesos.TaskStatus) *executor.Call {
	call := p.new(executor.Call_UPDATE)
	call.Update = &executor.Call_Update{Status: s}
	return call
}

// report reports a status, which has to be answered 202, and returns it.
func (p *puppet) report(task string, state mesos.TaskState, changes ...func(*mesos.TaskStatus)) mesos.TaskStatus {
	p.world.Helper()
	s := p.status(task, state, changes...)
	p.accepted(p.update(s))
	return s
}

// subscribe opens the event stream.
func (p *puppet) subscribe(changes ...func(*executor.Call_Subscribe)) *feed {
	p.world.Helper()
	call := p.new(executor.Call_SUBSCRIBE)
	call.Subscribe = &executor.Call_Subscribe{}
	for _, change := range changes {
		change(call.Subscribe)
	}
	body, err := p.world.kind.Marshal(call)
	p.world.must(err)
	f := p.open(body, nil)
	if f.answer.Status != http.StatusOK {
		p.world.Fatalf("SUBSCRIBE: %d %s %s", f.answer.Status, f.answer.Body, f.answer.Failure)
	}
	return f
}

// open sends a SUBSCRIBE and waits for the answer, whatever it is.
func (p *puppet) open(body []byte, header map[string]string) *feed {
	p.world.Helper()
	return p.world.open(p.request(body, header, true), false, p.exchange)
}

// openHere does the same in the test's process, for a scheduler.
func (w *world) openHere(r conformance.Request) *feed {
	w.Helper()
	return w.open(r, true, func(r conformance.Request, report func(conformance.Item)) func() {
		ctx, cancel := context.WithCancel(context.Background())
		w.group.Go(func() { conformance.Exchange(ctx, r, report) })
		w.Cleanup(cancel)
		return cancel
	})
}

func (w *world) open(r conformance.Request, raw bool, exchange func(conformance.Request, func(conformance.Item)) func()) *feed {
	w.Helper()
	f := &feed{world: w, raw: raw, changed: make(chan struct{})}
	f.close = exchange(r, f.hear)
	f.wait("answer", probe.Patience, func() bool { return f.answer != nil })
	return f
}

// feed is the event stream of an executor, or of a scheduler when raw.
type feed struct {
	world *world
	close func() // on the executor's side
	raw   bool   // records are not decoded

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	answer  *conformance.Item
	records [][]byte
	events  []*executor.Event
	end     string
}

func (f *feed) hear(item conformance.Item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.answer == nil:
		f.answer = &item
	case item.Record != nil && f.raw:
		f.records = append(f.records, item.Record)
	case item.Record != nil:
		event := new(executor.Event)
		if _, err := wire.ContentType(f.answer.Headers["Content-Type"]).Unmarshal(item.Record, event); err != nil {
			f.end = err.Error()
			break
		}
		f.records = append(f.records, item.Record)
		f.events = append(f.events, event)
	default:
		f.end = item.End
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait waits until found, which is called with the lock held, is true.
func (f *feed) wait(what string, limit time.Duration, found func() bool) {
	f.world.Helper()
	if !f.comes(limit, found) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.world.Fatalf("executor's stream: no %s within %v; has %v, end %q", what, limit, f.events, f.end)
	}
}

// comes tells whether found becomes true in time.
func (f *feed) comes(limit time.Duration, found func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		f.mu.Lock()
		ok, changed := found(), f.changed
		f.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// next takes the next event, which has to be of this type.
func (f *feed) next(kind executor.Event_Type) *executor.Event {
	f.world.Helper()
	var event *executor.Event
	f.wait(kind.String(), probe.Patience, func() bool {
		if len(f.events) == 0 {
			return f.end != ""
		}
		event, f.events = f.events[0], f.events[1:]
		return true
	})
	if event == nil {
		f.world.Fatalf("executor's stream: %q instead of %s", f.end, kind)
	}
	if event.Type != kind {
		f.world.Fatalf("executor's stream: %v, want %s", event, kind)
	}
	return event
}

// acknowledged takes the next event, which has to acknowledge a status.
func (f *feed) acknowledged(s mesos.TaskStatus) {
	f.world.Helper()
	got := f.next(executor.Event_ACKNOWLEDGED).Acknowledged
	if got.TaskID != s.TaskID || string(got.UUID) != string(s.UUID) {
		f.world.Fatalf("ACKNOWLEDGED %s %x, want %s %x", got.TaskID.Value, got.UUID, s.TaskID.Value, s.UUID)
	}
}

// launched takes the next events, which have to launch these tasks.
func (f *feed) launched(ids ...string) {
	f.world.Helper()
	for _, id := range ids {
		if got := f.next(executor.Event_LAUNCH).Launch.Task.TaskID.Value; got != id {
			f.world.Fatalf("LAUNCH of %s, want %s", got, id)
		}
	}
}

// quiet checks that nothing comes for a while.
func (f *feed) quiet(d time.Duration) {
	f.world.Helper()
	if f.comes(d, func() bool { return len(f.events) > 0 || f.end != "" }) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.world.Fatalf("executor's stream: %v, end %q; want nothing", f.events, f.end)
	}
}

// ends waits for the end of the stream, before which there is nothing more.
func (f *feed) ends(want string) {
	f.world.Helper()
	f.wait("end", probe.Patience, func() bool { return f.end != "" })
	if len(f.events) > 0 || f.end != want {
		f.world.Fatalf("executor's stream: %v, end %q, want %q", f.events, f.end, want)
	}
}
