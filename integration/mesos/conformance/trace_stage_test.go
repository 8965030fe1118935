package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// stage is what surrounds the cluster in one scenario: the directory with the
// executor's program, the web server that fetchers ask, and the place that executors
// report to.
type stage struct {
	player    *player
	directory string // <tmp>
	programs  string // <probe_dir>
	control   net.Listener
	web       net.Listener
	server    *http.Server
	closing   chan struct{}
	group     sync.WaitGroup

	// Guarded by player.mu.
	probes  map[string]*probe // by executor id, the latest that a line has claimed
	new     []*probe          // that no line has claimed
	fetches []fetch           // likewise
	ended   bool
}

// probe is an executor's process as the player sees it.
type probe struct {
	stage      *stage
	connection net.Conn
	hello      map[string]any
	gone       bool
	last       int
	reports    map[int]func(exchangeItem)
	outputs    map[int]string
}

// fetch is a request that the web server has got.
type fetch struct{ method, path, accept string }

// newStage puts everything in place and binds the placeholders for it.
func newStage(t *testing.T, p *player) *stage {
	t.Helper()
	// Short, because a unix socket is in it, and open to all, because executors may
	// run as others.
	directory, err := os.MkdirTemp("", "trace-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	s := &stage{
		player: p, directory: directory, programs: filepath.Join(directory, "bin"),
		closing: make(chan struct{}), probes: make(map[string]*probe),
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(directory, 0o755))
	must(os.Mkdir(s.programs, 0o755))
	program, err := os.Executable()
	must(err)
	must(os.Symlink(program, filepath.Join(s.programs, probeName)))
	must(os.WriteFile(filepath.Join(s.programs, "bad.tar.gz"), []byte("this is no archive"), 0o644))
	s.control, err = net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s.web, err = net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve)}
	s.group.Go(s.accept)
	s.group.Go(func() { _ = s.server.Serve(s.web) })
	for name, value := range map[string]string{
		"tmp":          directory,
		"probe_dir":    s.programs,
		"control-port": portOf(s.control.Addr().String()),
		"web-port":     portOf(s.web.Addr().String()),
	} {
		must(p.bound.bind(name, name, value))
	}
	p.bound.commit()
	return s
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// socket is where the agent serves the executor API besides TCP.
func (s *stage) socket() string { return filepath.Join(s.directory, "a19.sock") }

// close ends executors and servers.
func (s *stage) close() {
	s.player.mu.Lock()
	s.ended = true
	all := slices.Clone(s.new)
	for _, probe := range s.probes {
		all = append(all, probe)
	}
	s.player.mu.Unlock()
	close(s.closing)
	s.control.Close()
	for _, probe := range all {
		probe.connection.Close()
	}
	s.server.Close()
	s.group.Wait()
}

// serve answers fetchers.
func (s *stage) serve(w http.ResponseWriter, r *http.Request) {
	s.player.mu.Lock()
	s.fetches = append(s.fetches, fetch{method: r.Method, path: r.URL.RequestURI(), accept: r.Header.Get("Accept")})
	s.player.notifyLocked()
	s.player.mu.Unlock()
	switch r.URL.Path {
	case "/dir/probe":
		http.ServeFile(w, r, filepath.Join(s.programs, probeName))
	case "/dir/second":
		fmt.Fprintln(w, "second")
	case "/slow":
		timer := time.NewTimer(s.player.scenario.slow)
		defer timer.Stop()
		select {
		case <-timer.C:
			fmt.Fprintln(w, "slow")
		case <-r.Context().Done():
		case <-s.closing:
		}
	default:
		http.NotFound(w, r)
	}
}

// awaitFetch waits for a recorded request of a fetcher.
func (s *stage) awaitFetch(l *line) error {
	return s.player.await(l, func() (bool, error) {
		for i, f := range s.fetches {
			if f.method == l.Method && f.path == l.Path {
				if f.accept != l.Headers["Accept"] {
					return false, fmt.Errorf("recorded Accept %q, got %q", l.Headers["Accept"], f.accept)
				}
				s.fetches = slices.Delete(s.fetches, i, i+1)
				return true, nil
			}
		}
		return false, nil
	})
}

// accept takes in executors until the stage closes.
func (s *stage) accept() {
	for {
		connection, err := s.control.Accept()
		if err != nil {
			return
		}
		s.group.Go(func() { s.listen(connection) })
	}
}

// listen handles what one executor says.
func (s *stage) listen(connection net.Conn) {
	defer connection.Close()
	probe := &probe{
		stage: s, connection: connection,
		reports: make(map[int]func(exchangeItem)), outputs: make(map[int]string),
	}
	in := json.NewDecoder(connection)
	in.UseNumber()
	for {
		var m message
		err := in.Decode(&m)
		var report func(exchangeItem)
		s.player.mu.Lock()
		switch {
		case err != nil:
			probe.gone = true
		case m.Hello != nil:
			probe.hello = m.Hello
			s.new = append(s.new, probe)
			if s.ended {
				connection.Close()
			}
		case m.Output != nil:
			probe.outputs[m.ID] = *m.Output
		case m.Item != nil:
			report = probe.reports[m.ID]
		}
		s.player.notifyLocked()
		s.player.mu.Unlock()
		if report != nil {
			report(*m.Item)
		}
		if err != nil {
			return
		}
	}
}

// claim waits for a new process of an executor.
func (s *stage) claim(l *line) (*probe, error) {
	var found *probe
	err := s.player.await(l, func() (bool, error) {
		for i, candidate := range s.new {
			if candidate.hello["executor_id"] == l.ID {
				found = candidate
				s.new = slices.Delete(s.new, i, i+1)
				s.probes[l.ID] = candidate
				return true, nil
			}
		}
		return false, nil
	})
	return found, err
}

// probe is the current process of an executor, nil when there has been none.
func (s *stage) probe(id string) *probe {
	s.player.mu.Lock()
	defer s.player.mu.Unlock()
	return s.probes[id]
}

// endpoint is the agent's address as an executor was told it.
func (s *stage) endpoint(id string) string {
	if probe := s.probe(id); probe != nil {
		address, _ := probe.hello["endpoint"].(string)
		return address
	}
	return ""
}

// tell gives an order; the process may be gone.
func (probe *probe) tell(o order) {
	text, err := json.Marshal(o)
	if err == nil {
		_, _ = probe.connection.Write(append(text, '\n'))
	}
}

// exchange makes the executor do a request. It returns how to break it off.
func (probe *probe) exchange(r exchangeRequest, report func(exchangeItem)) (cancel func()) {
	mu := &probe.stage.player.mu
	mu.Lock()
	probe.last++
	id := probe.last
	probe.reports[id] = report
	mu.Unlock()
	probe.tell(order{ID: id, Request: &r})
	return func() { probe.tell(order{ID: id, Close: true}) }
}

// run makes the executor run a shell command and returns what it printed.
func (probe *probe) run(l *line, command string) (string, error) {
	p := probe.stage.player
	p.mu.Lock()
	probe.last++
	id := probe.last
	p.mu.Unlock()
	probe.tell(order{ID: id, Command: command})
	var output string
	err := p.await(l, func() (bool, error) {
		var ok bool
		output, ok = probe.outputs[id]
		if !ok && probe.gone {
			return false, errors.New("the executor has ended")
		}
		return ok, nil
	})
	return output, err
}

// leftOver reports executors and fetches that are not in the recording. The caller
// holds the lock.
func (s *stage) leftOver() []error {
	var problems []error
	for _, probe := range s.new {
		problems = append(problems, fmt.Errorf("executor %v was started, which is not in the recording", probe.hello["executor_id"]))
	}
	for _, f := range s.fetches {
		problems = append(problems, fmt.Errorf("a fetcher asked %s %s, which is not in the recording", f.method, f.path))
	}
	return problems
}

// playEnv waits for an executor's process, and compares it.
func (p *player) playEnv(l *line) error {
	probe := p.stage.probe(l.ID)
	if l.Note == "executor process started" {
		var err error
		if probe, err = p.stage.claim(l); err != nil {
			return err
		}
	}
	if l.Body == nil {
		return nil
	}
	got := probe.hello
	if l.Note != "executor process started" {
		got = map[string]any{"env": probe.hello["env"]}
	}
	if d := p.bound.match(l.Body, got, p.accept(l)); d != nil {
		return d
	}
	return nil
}

// awaitExit waits for the end of an executor's process.
func (p *player) awaitExit(l *line) error {
	probe := p.stage.probe(l.ID)
	if probe == nil {
		return fmt.Errorf("executor %s has not been running", l.ID)
	}
	return p.await(l, func() (bool, error) { return probe.gone, nil })
}

// poll is a SUBSCRIBE that is repeated until it succeeds or is refused for good.
type poll struct {
	outcomes []*exchangeItem // that differ from the one before
	streams  []*stream       // of the outcomes
	over     bool            // no more of them
}

// startPoll repeats a SUBSCRIBE until an answer is neither missing nor 503.
func (p *player) startPoll(l *line, body any, address string) error {
	return p.startPollWith(l, body, address, "application/json")
}

func (p *player) startPollWith(l *line, body any, address, accept string) error {
	request := exchangeRequest{
		Network: "tcp", Address: address, Method: "POST", Path: "/api/v1/" + l.Who, Stream: true,
		Headers: map[string]string{"Accept": accept, "Content-Type": "application/json"},
	}
	made, err := p.bound.instantiate(body)
	if err != nil {
		return err
	}
	if request.Body, err = json.Marshal(made); err != nil {
		return err
	}
	po := &poll{}
	p.mu.Lock()
	p.polls[l.actor()] = po
	p.mu.Unlock()
	p.group.Go(func() {
		p.pollLoop(p.ctx, l, po, request)
		p.mu.Lock()
		defer p.mu.Unlock()
		po.over = true
	})
	return nil
}

func (p *player) pollLoop(ctx context.Context, l *line, po *poll, request exchangeRequest) {
	for previous := ""; ctx.Err() == nil; {
		s := &stream{who: l.Who, actor: l.actor(), label: "(repeated SUBSCRIBE)"}
		answered := make(chan exchangeItem, 1)
		cancel, err := p.start(l, request, func(item exchangeItem) {
			if item.Status != 0 || item.Failure != "" {
				answered <- item
			}
			p.streamItem(s, item)
		})
		if err != nil {
			return
		}
		s.close = cancel
		var item exchangeItem
		select {
		case item = <-answered:
		case <-ctx.Done():
			cancel()
			return
		}
		if outcome := summary(&item); outcome != previous {
			previous = outcome
			p.mu.Lock()
			po.outcomes = append(po.outcomes, &item)
			po.streams = append(po.streams, s)
			p.notifyLocked()
			p.mu.Unlock()
		}
		if item.Failure == "" && !p.tryAgain(&item) {
			return
		}
		timer := time.NewTimer(2 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// tryAgain tells whether an answer is one of a server that is not ready.
func (p *player) tryAgain(answer *exchangeItem) bool {
	return answer.Status == http.StatusServiceUnavailable || answer.Status == http.StatusNotFound ||
		answer.Status == http.StatusTemporaryRedirect
}

// awaitPoll waits for the next outcome of a repeated SUBSCRIBE.
func (p *player) awaitPoll(l *line) error {
	p.mu.Lock()
	po := p.polls[l.actor()]
	over := po == nil || po.over && len(po.outcomes) == 0
	p.mu.Unlock()
	if over && p.zookeeper != nil && l.Who == scheduler {
		if err := p.pollMaster(l); err != nil {
			return err
		}
		p.mu.Lock()
		po = p.polls[l.actor()]
		p.mu.Unlock()
	}
	if po == nil {
		return fmt.Errorf("nothing has opened %s of %s", l.Conn, l.actor())
	}
	if p.postponed != nil && !strings.HasSuffix(l.Note, "connection refused") {
		if err := p.startNow(); err != nil {
			return err
		}
	}
	err := p.await(l, func() (bool, error) {
		for len(po.outcomes) > 0 {
			done, err := p.takeOutcome(l, po)
			if done || err != nil {
				return done, err
			}
		}
		return false, nil
	})
	p.follow(l)
	return err
}

// takeOutcome compares the next outcome. States that pass may be there or not.
func (p *player) takeOutcome(l *line, po *poll) (bool, error) {
	answer := po.outcomes[0]
	d := p.comparePoll(l, answer)
	if d != nil && p.passes(l) {
		p.note(passingTolerance)
		return true, nil
	}
	if d != nil && (answer.Failure != "" || p.tryAgain(answer)) {
		p.note(passingTolerance)
		po.outcomes, po.streams = po.outcomes[1:], po.streams[1:]
		return false, nil
	}
	if d != nil {
		return false, d
	}
	p.streams[l.actor()+" "+l.Conn] = po.streams[0]
	po.outcomes, po.streams = po.outcomes[1:], po.streams[1:]
	return true, nil
}

func (p *player) comparePoll(l *line, answer *exchangeItem) *difference {
	if strings.HasSuffix(l.Note, "connection refused") {
		if answer.Failure != "connection refused" {
			return &difference{path: "failure", want: "connection refused", got: summary(answer)}
		}
		return nil
	}
	return p.compareAnswer(l, answer)
}

// passes tells whether the line shows a state that lasts some milliseconds.
func (p *player) passes(l *line) bool {
	return strings.HasSuffix(l.Note, "connection refused") || l.Status == http.StatusServiceUnavailable || l.Status == http.StatusNotFound
}
