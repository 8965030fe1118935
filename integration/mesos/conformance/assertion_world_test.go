package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// silence is how long a test waits for what should not happen, where there is no
// later event that would come after it.
const silence = 3 * time.Second

// soon is what should happen at once may take on a busy machine, and far less than
// the 10 s after which agents repeat what they sent.
const soon = 6 * time.Second

// world is the cluster that an assertion is tried on, and what the test brings along:
// a web server for fetchers and the place that executors report to.
type world struct {
	*testing.T
	kind    wire.ContentType
	master  string            // URL
	cluster *emulator.Cluster // nil when the cluster is a real one
	user    string
	dir     string // of this test

	control net.Listener     // executors connect to it
	web     *httptest.Server // serves files
	files   *http.ServeMux
	served  map[string]bool
	group   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	arrived []*puppet // not taken yet
	all     []*puppet
	agent   string // URL, once it is known
	agentID string

	servicePort uint32
	questions   map[string]*atomic.Int32 // to the service, by path

	unfit func(reason string) // counts the assertion as skipped
}

// newWorld makes the cluster that the assertion wants, or joins the real one.
func newWorld(t *testing.T, a *assertion, kind wire.ContentType) *world {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, kind: kind, user: me.Username, dir: t.TempDir(), changed: make(chan struct{}), files: http.NewServeMux(), served: make(map[string]bool),
		unfit: func(reason string) { a.unfit = reason },
	}
	host := "127.0.0.1"
	if w.master = strings.TrimRight(os.Getenv(masterVariable), "/"); w.master != "" {
		host = hostTowards(t, w.master)
		w.agent = strings.TrimRight(os.Getenv(agentVariable), "/")
	} else {
		w.emulate(a)
	}
	if w.control, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Executors have to be found under a name that tells what they are.
	if err := os.Symlink(program, w.program()); err != nil {
		t.Fatal(err)
	}
	w.serve(conformance.ProbeName, program)
	w.web = &httptest.Server{Listener: listener, Config: &http.Server{Handler: w.files}}
	w.web.Start()
	w.group.Go(w.accept)
	t.Cleanup(w.end)
	return w
}

// emulate starts the emulated cluster. Times are those that Mesos' own tests would
// use, see the flags in the contract, section 7.2.
func (w *world) emulate(a *assertion) {
	w.Helper()
	common := agent.DefaultConfig()
	common.ExecutorRegistrationTimeout = 20 * time.Second
	config := emulator.Config{Agent: &common}
	if a.emulate != nil {
		a.emulate(&config)
	}
	w.cluster = emulator.New(w.T, config)
	w.master = w.cluster.MasterURL()
	if nodes := w.cluster.Nodes(); len(nodes) > 0 {
		w.agent, w.agentID = nodes[0].URL(), nodes[0].ID()
	}
}

// serve lets fetchers get a file.
func (w *world) serve(name, path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.served[name] {
		w.served[name] = true
		w.files.HandleFunc("/"+name, func(answer http.ResponseWriter, r *http.Request) { http.ServeFile(answer, r, path) })
	}
}

// skip ends the test, because the cluster is not fit for it.
func (w *world) skip(reason string) {
	w.Helper()
	w.unfit(reason)
	w.Skip(reason)
}

// hostTowards is this machine's address on the way to a server.
func hostTowards(t *testing.T, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		t.Fatalf("%s=%q: want http://host:port", masterVariable, server)
	}
	connection, err := net.Dial("udp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	host, _, err := net.SplitHostPort(connection.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// node is the emulated agent.
func (w *world) node() *emulator.Node { return w.cluster.Node(0) }

// real tells whether the cluster is a real one.
func (w *world) real() bool { return w.cluster == nil }

// program is the executor's program on this machine.
func (w *world) program() string { return filepath.Join(w.dir, conformance.ProbeName) }

// end lets executors end and waits for everything that the world has started. The
// emulated cluster ends after it.
func (w *world) end() {
	w.control.Close()
	w.mu.Lock()
	all := w.all
	w.mu.Unlock()
	for _, p := range all {
		p.connection.Close()
	}
	w.group.Wait()
	w.web.Close()
}

// accept takes in executors.
func (w *world) accept() {
	for {
		connection, err := w.control.Accept()
		if err != nil {
			return
		}
		w.group.Go(func() { w.listen(connection) })
	}
}

// listen handles what one executor says.
func (w *world) listen(connection net.Conn) {
	defer connection.Close()
	in := json.NewDecoder(connection)
	var first conformance.Message
	if in.Decode(&first) != nil || first.Hello == nil {
		return
	}
	p := &puppet{
		world: w, connection: connection, hello: first.Hello, gone: make(chan struct{}),
		reports: make(map[int]func(conformance.Item)), outputs: make(map[int]chan string),
	}
	defer close(p.gone)
	w.mu.Lock()
	w.arrived = append(w.arrived, p)
	w.all = append(w.all, p)
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	for {
		var m conformance.Message
		if in.Decode(&m) != nil {
			return
		}
		p.hear(m)
	}
}

// await waits until found, which is called with the lock held, is true.
func (w *world) await(what string, limit time.Duration, found func() bool) {
	w.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		w.mu.Lock()
		ok, changed := found(), w.changed
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			w.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// until asks again and again whether something has come true.
func (w *world) until(what string, condition func() bool) {
	w.Helper()
	for end := time.Now().Add(probe.Patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s: not within %v", what, probe.Patience)
		}
	}
}

// between checks that something took as long as it should.
func (w *world) between(what string, took, least, most time.Duration) {
	w.Helper()
	if took < least || took > most {
		w.Errorf("%s took %v, want %v to %v", what, took.Round(time.Millisecond), least, most)
	}
}

// agentURL is the agent that the assertion is tried on.
func (w *world) agentURL() string {
	w.Helper()
	if w.agent == "" {
		w.framework().offer()
	}
	return w.agent
}

// request makes a request and returns the answer.
func (w *world) request(server, method, path string, header map[string]string, body []byte) conformance.Item {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), probe.Patience)
	defer cancel()
	var answer conformance.Item
	conformance.Exchange(ctx, conformance.Request{
		Network: "tcp", Address: strings.TrimPrefix(server, "http://"), Method: method, Path: path, Headers: header, Body: body,
	}, func(item conformance.Item) { answer = item })
	if answer.Failure != "" {
		w.Fatalf("%s %s%s: %s", method, server, path, answer.Failure)
	}
	return answer
}

// get fetches JSON from a plain endpoint into v; a nil v ignores the body.
func (w *world) get(server, path string, v any) conformance.Item {
	w.Helper()
	answer := w.request(server, http.MethodGet, path, nil, nil)
	if v != nil {
		if answer.Status != http.StatusOK {
			w.Fatalf("GET %s: %d %s", path, answer.Status, answer.Body)
		}
		if err := json.Unmarshal(answer.Body, v); err != nil {
			w.Fatalf("GET %s: %v", path, err)
		}
	}
	return answer
}

// operate makes a call of the operator API of master or agent. A nil answer wants an
// empty 200.
func (w *world) operate(server string, call, answer wire.Message) {
	w.Helper()
	body, err := w.kind.Marshal(call)
	if err != nil {
		w.Fatal(err)
	}
	got := w.request(server, http.MethodPost, "/api/v1", map[string]string{
		"Content-Type": string(w.kind), "Accept": string(w.kind),
	}, body)
	if got.Status != http.StatusOK {
		w.Fatalf("%v: %d %s", call, got.Status, got.Body)
	}
	if answer == nil {
		return
	}
	if _, err := w.kind.Unmarshal(got.Body, answer); err != nil {
		w.Fatalf("%v: %v", call, err)
	}
}

// must ends the test when something that belongs to the test itself fails.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// equal compares texts.
func (w *world) equal(what string, got, want any) {
	w.Helper()
	if g, e := fmt.Sprint(got), fmt.Sprint(want); g != e {
		w.Errorf("%s: got %s, want %s", what, g, e)
	}
}

// resources gives emulated agents other resources.
func resources(text string) func(*emulator.Config) {
	return func(c *emulator.Config) { c.Resources = text }
}
