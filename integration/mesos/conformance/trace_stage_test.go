package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
