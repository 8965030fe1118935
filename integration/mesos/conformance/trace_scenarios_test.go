package conformance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// scenario is what the player has to know of a recording besides its lines.
type scenario struct {
	name string
	// skip says why the scenario cannot run here, pending what is missing in the
	// emulator. "" runs it.
	skip    func() string
	pending string

	// given are values of placeholders that were sent without being received.
	given map[string]string
	// executors change the shortened ExecutorInfo of an executor, requests that of
	// one line, to what the notes say that it was.
	executors map[string]func(info map[string]any)
	requests  map[int]func(info map[string]any)
	// unacknowledged is what executors list when they come back, by the line of the
	// note that says that they try.
	unacknowledged map[int]unacknowledged
	// returns names the framework that subscribes again when a master starts.
	returns map[int]string
	// targets are agents ("" the master) that operator requests go to, where no
	// note says so.
	targets map[int]string
	// before are commands that an executor ran before a line.
	before map[int]hidden
	// heartbeats compares the times of heartbeats.
	heartbeats bool
	// slow is how long the web server takes for /slow.
	slow time.Duration
}

// hidden is a shell command of an executor that the recording does not show.
type hidden struct{ executor, command string }

// unacknowledged names tasks and placeholders of status uuids.
type unacknowledged struct{ tasks, updates []string }

// set changes one value of an ExecutorInfo.
func set(value any, keys ...string) func(map[string]any) {
	return func(info map[string]any) {
		for _, key := range keys[:len(keys)-1] {
			if info[key] == nil {
				info[key] = map[string]any{}
			}
			info, _ = info[key].(map[string]any)
		}
		last := keys[len(keys)-1]
		if value == nil {
			delete(info, last)
		} else {
			info[last] = value
		}
	}
}

// all does several changes.
func all(changes ...func(map[string]any)) func(map[string]any) {
	return func(info map[string]any) {
		for _, change := range changes {
			change(info)
		}
	}
}

// fetching adds a URI, given as JSON.
func fetching(uri string) func(map[string]any) {
	return func(info map[string]any) {
		value, err := decodeJSON([]byte(uri))
		if err != nil {
			panic(err) // of the table below
		}
		command, _ := info["command"].(map[string]any)
		uris, _ := command["uris"].([]any)
		command["uris"] = append(uris, value)
	}
}

// fetchingOnly replaces the URIs by one, given as JSON.
func fetchingOnly(uri string) func(map[string]any) {
	return all(set(nil, "command", "uris"), fetching(uri))
}

// command replaces the command, given as JSON.
func command(text string) func(map[string]any) {
	value, err := decodeJSON([]byte(text))
	if err != nil {
		panic(err) // of the table below
	}
	return set(value, "command")
}

var slowFetch = fetching(`{"value": "http://127.0.0.1:<web-port>/slow"}`)

var scenarios = []*scenario{
	{name: "01-scheduler-subscribe", heartbeats: true},
	{name: "02-custom-executor", skip: needsRoot},
	{
		name: "03-shared-executor",
		requests: map[int]func(map[string]any){
			53: set(map[string]any{"value": "<framework-1>"}, "framework_id"),
			70: set(map[string]any{"value": "<framework-1>"}, "framework_id"),
			96: all(set(map[string]any{"value": "<framework-1>"}, "framework_id"), set("cpus:0.1; mem:32", "resources")),
		},
	},
	{
		name: "04-kill", slow: 6 * time.Second,
		executors: map[string]func(map[string]any){
			"e2": slowFetch, "e3": slowFetch,
			"e4": all(slowFetch, set(map[string]any{"value": "<framework-1>"}, "framework_id")),
		},
	},
	{
		name: "05-executor-exit",
		executors: map[string]func(map[string]any){
			"e5": command(`{"shell": true, "value": "no-such-program"}`),
			"e6": command(`{"shell": false, "value": "/no/such/program", "arguments": ["x"]}`),
		},
	},
	{name: "06-executor-resubscribe"},
	{
		name: "07-agent-restart",
		unacknowledged: map[int]unacknowledged{
			51:  {tasks: []string{"t3"}, updates: []string{"<uuid-4>"}},
			141: {}, 171: {},
		},
	},
	{
		name:           "08-unreachable",
		unacknowledged: map[int]unacknowledged{130: {}, 131: {}},
	},
	{
		name:    "09-reconcile",
		given:   map[string]string{"agent-2": "<master-1>-S99"},
		returns: map[int]string{144: "<framework-1>"},
	},
	{
		name: "10-bad-requests",
		given: map[string]string{
			"uuid-2":   "AAAAAAAAAAAAAAAAAAAAAA==",
			"uuid-3":   "AZL0vKxVfRKIE8yPvTRaZw==", // version 7
			"uuid-4":   "MpPYGrHQVvYI0k1m0jwO5Q==", // version 5, variant 0
			"uuid-5":   "6b1f5ba4-5c0d-4a44-9b6e-0a1de1a5fc70",
			"stream-2": "7a0cbb1e-4b88-4c1f-9a1a-0d8d8a6f3b51",
		},
	},
	{
		name: "11-accept-problems", skip: needsRoot,
		given: map[string]string{"time-45": "-1"},
		requests: map[int]func(map[string]any){
			63:  set([]any{"probe", "exec", "127.0.0.1:<control-port>", "more"}, "command", "arguments"),
			67:  set("cpus:0.2; mem:32; disk:1", "resources"),
			71:  all(set(map[string]any{"labels": []any{map[string]any{"key": "a", "value": "b"}}}, "labels"), set(json.Number("1000000000"), "shutdown_grace_period", "nanoseconds")),
			77:  set("other", "name"),
			81:  set(nil, "type"),
			93:  set(nil, "command"),
			97:  all(set("DEFAULT", "type"), set(nil, "command")),
			102: set("UNKNOWN", "type"),
			106: set("NO_SUCH_TYPE", "type"),
			112: set(map[string]any{"value": "other"}, "framework_id"),
			116: set(nil, "resources"),
			122: set(json.Number("-1"), "shutdown_grace_period", "nanoseconds"),
			272: set([]any{map[string]any{"name": "A", "type": "SECRET"}}, "command", "environment", "variables"),
			282: set("no-such-user", "command", "user"),
		},
	},
	{name: "12-framework-failover"},
	{
		name: "13-registration-timeout-and-fetch-failure", slow: 6 * time.Second,
		executors: map[string]func(map[string]any){
			"e2":  slowFetch,
			"xc1": fetchingOnly(`{"value": "file:///no/such/file"}`),
			"xc2": fetchingOnly(`{"value": "http://127.0.0.1:<web-port>/missing"}`),
			"xc3": fetchingOnly(`{"value": "http://127.0.0.1:1/x"}`),
			"xc4": fetchingOnly(`{"value": "relative/path"}`),
			"xc5": fetchingOnly(`{"value": "gopher://127.0.0.1/x"}`),
			"xc6": fetchingOnly(`{"value": "file://<probe_dir>/bad.tar.gz"}`),
			"xc7": fetchingOnly(`{"value": "file://<probe_dir>/probe", "output_file": "/abs/x"}`),
		},
		targets: map[int]string{85: "agent-1"},
	},
	{
		name: "14-shutdown",
		executors: map[string]func(map[string]any){
			"e3": set(json.Number("4000000000"), "shutdown_grace_period", "nanoseconds"),
		},
	},
	{
		name:           "15-offers-filters",
		unacknowledged: map[int]unacknowledged{96: {}},
	},
	{name: "16-zookeeper-ha", skip: needsZooKeeper},
	{name: "16b-zookeeper-ha-in-memory-registry", skip: needsZooKeeper},
	{
		name: "17-cgroups-memory", skip: needsCgroups,
		targets: map[int]string{27: "agent-1"},
		// The notes say that it was done, not when and how.
		before: map[int]hidden{
			80: {executor: "e2", command: "./probe eat 200 >/dev/null 2>&1 &"},
		},
	},
	{
		name: "18-operator-api", skip: needsRoot,
		given:   map[string]string{"port": "8080"},
		targets: map[int]string{167: ""},
	},
	{name: "19-authentication-and-domain-socket", skip: needsRoot},
	{name: "20-drain"},
}

// recordingOf is the file of a scenario.
func recordingOf(name string) string { return filepath.Join("..", "testdata", name+".jsonl") }

// TestTraces plays every recording. They run side by side, because they mostly wait.
func TestTraces(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if s.pending != "" {
				t.Skip("pending: " + s.pending)
			}
			if s.skip != nil {
				if reason := s.skip(); reason != "" {
					t.Skip(reason)
				}
			}
			playApart(t, s, recordingOf(s.name))
		})
	}
}

// plays is how often a recording is played before a difference counts. The
// recordings are of machines with nothing else to do. The master's allocation
// cycles and everyone's timeouts go on in real time, so on a busy machine a
// script can fall behind by a cycle and see an offer cut in another way. What
// the emulator does differently it does every time.
const plays = 3

// playApart plays a recording in a process of its own, again if it differs.
func playApart(t *testing.T, s *scenario, path string) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		output, err := playProcess(s.name, path)
		if err == nil {
			return
		}
		if attempt == plays {
			t.Fatalf("differs each of %d times, at last: %v\n%s", plays, err, output)
		}
		t.Logf("differs, played again: %v\n%s", err, output)
	}
}

// playProcess plays a file as a scenario, see TestTrace.
func playProcess(name, path string) (output []byte, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-test.run=^TestTrace$", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), traceVariable+"="+name+"="+path, summaryVariable+"=")
	return cmd.CombinedOutput()
}
