package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/goleak"

	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
	"pacer/integration/zookeeper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, arguments ...string) flags {
	t.Helper()
	var f flags
	parser, err := kong.New(&f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	return f
}

// program is a run of the command in this process.
type program struct {
	t         *testing.T
	urls      []string
	interrupt context.CancelFunc
	end       func() []string // what it prints after the last line of its start
}

func start(t *testing.T, arguments ...string) *program {
	t.Helper()
	f := parse(t, append([]string{"--port=0", "--log-level=error"}, arguments...)...)
	ctx, interrupt := context.WithTimeout(t.Context(), time.Minute)
	p := &program{t: t, interrupt: interrupt}
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, f, write, io.Discard)
		write.Close()
		done <- err
	}()
	lines := bufio.NewScanner(read)
	for lines.Scan() && lines.Text() != "interrupt to end" {
		for _, word := range strings.Fields(lines.Text()) {
			if strings.HasPrefix(word, "http://") {
				p.urls = append(p.urls, word)
			}
		}
	}
	p.end = sync.OnceValue(func() (rest []string) {
		interrupt()
		for lines.Scan() {
			rest = append(rest, lines.Text())
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		return rest
	})
	t.Cleanup(func() { p.end() })
	return p
}

// get asks with a plain GET, as curl does, and returns status and body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestRunServesUntilItIsInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "work")
	p := start(t, "--agents=2", "--work-dir="+dir, "--attributes=rack:r1")
	if len(p.urls) != 3 {
		t.Fatalf("printed %v, want the master and two agents", p.urls)
	}
	for _, url := range p.urls {
		for path, want := range map[string]string{
			"/health": "", "/version": `"version":"1.12.0"`, "/metrics/snapshot": `uptime_secs"`, "/state": `"id":`,
		} {
			if path == "/state" && url != p.urls[0] {
				continue
			}
			if code, text := get(t, url+path); code != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("%s%s: %d %s", url, path, code, text)
			}
		}
	}
	for _, line := range p.end() {
		t.Errorf("printed %q after the end", line)
	}
	if _, err := os.Stat(filepath.Join(dir, "agent-1")); err != nil {
		t.Errorf("a work directory that was asked for is kept: %v", err)
	}
}

// TestSandboxCanBeRead goes from /state to a task's output, as a person with curl does.
func TestSandboxCanBeRead(t *testing.T) {
	p := start(t, "--agents=1", "--allocation-interval=50ms", "--executor-shutdown-grace-period=100ms")
	s := probe.Connect(t, p.urls[0], wire.JSON, probe.FrameworkInfo())
	offers := s.Offers()
	s.Accept(0, offers, probe.Launch(probe.Task(offers[0].AgentID.Value, "t1", "e1", func(info *mesos.TaskInfo) {
		value, shell := "echo hello; exec sleep 600", true
		info.Executor.Command = &mesos.CommandInfo{Shell: &shell, Value: &value}
	})))
	_, state := get(t, p.urls[0]+"/state")
	var master struct {
		Frameworks []struct {
			ID    string
			Tasks []struct{ ID, State string }
		}
		Slaves []struct{ ID, Hostname string }
	}
	if err := json.Unmarshal([]byte(state), &master); err != nil {
		t.Fatalf("%v in %s", err, state)
	}
	if len(master.Frameworks) != 1 || len(master.Frameworks[0].Tasks) != 1 || master.Frameworks[0].Tasks[0].ID != "t1" || len(master.Slaves) != 1 {
		t.Fatalf("/state: %s", state)
	}
	run := fmt.Sprintf("/frameworks/%s/executors/e1/runs/latest", master.Frameworks[0].ID)
	for _, c := range []struct{ what, query, want string }{
		{"browse", "/files/browse?path=" + run, run + "/stdout"},
		{"read", "/files/read?offset=0&path=" + run + "/stdout", "hello"},
		{"download", "/files/download?path=" + run + "/stdout", "hello\n"},
	} {
		code, text := 0, ""
		for end := time.Now().Add(probe.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if code, text = get(t, p.urls[1]+c.query); code == http.StatusOK && strings.Contains(text, c.want) {
				break
			}
		}
		if code != http.StatusOK || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s, want %s", c.what, code, text, c.want)
		}
	}
}

func TestSimulatedAgentsAndElectedMasters(t *testing.T) {
	server := zookeeper.Start(t, zookeeper.Options{})
	p := start(t, "--agents=0", "--masters=2", "--zk="+server.URL("/mesos"), "--simulated=20", "--simulated-staging=1ms",
		"--allocation-interval=50ms")
	if len(p.urls) != 2 {
		t.Fatalf("printed %v, want two masters", p.urls)
	}
	leader := ""
	for end := time.Now().Add(probe.Patience); leader == "" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, url := range p.urls {
			_, text := get(t, url+"/metrics/snapshot")
			var metrics map[string]float64
			if err := json.Unmarshal([]byte(text), &metrics); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if metrics["master/elected"] == 1 && metrics["master/slaves_active"] == 20 {
				leader = url
			}
		}
	}
	if leader == "" {
		t.Fatal("nobody leads 20 agents")
	}
	s := probe.Connect(t, leader, wire.Protobuf, probe.FrameworkInfo())
	offers := s.Offers()
	s.Accept(0, offers[:1], probe.Launch(probe.Task(offers[0].AgentID.Value, "t1", "e1")))
	for _, want := range []mesos.TaskState{mesos.TASK_STARTING, mesos.TASK_RUNNING} {
		status := s.Status()
		if status.GetState() != want {
			t.Fatalf("%s, want %s", probe.Describe(status), want)
		}
		s.Acknowledge(status)
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, want string
		arguments  []string
	}{
		{"agents", "--agents -1", []string{"--agents=-1"}},
		{"masters", "--masters 0", []string{"--masters=0"}},
		{"no zookeeper", "give ZooKeeper", []string{"--port=0", "--masters=2"}},
		{"zookeeper", "ZooKeeper URL", []string{"--port=0", "--zk=zk://localhost"}},
		{"simulated", "--simulated -1", []string{"--simulated=-1"}},
		{"simulated resources", "Resources", []string{"--port=0", "--simulated=1", "--simulated-resources=cpus"}},
		{"failure rate", "FailureRate", []string{"--port=0", "--simulated=1", "--simulated-failure-rate=2"}},
		{"port", "--port 70000", []string{"--port=70000"}},
		{"resources", `"cpus"`, []string{"--port=0", "--resources=cpus"}},
		{"attributes", `"rack"`, []string{"--port=0", "--attributes=rack"}},
		{"interval", "AllocationInterval", []string{"--port=0", "--allocation-interval=-1s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := run(t.Context(), parse(t, c.arguments...), io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to name %s", err, c.want)
			}
		})
	}
}
