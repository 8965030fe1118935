package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/scheduler/api"
	"pacer/scheduler/api/apitest"
	"pacer/scheduler/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	hello  = `{"id":"/hello","cmd":"sleep 1000","instances":2}`
	first  = "00000000-0000-4000-8000-000000000001"
	second = "00000000-0000-4000-8000-000000000002"
)

// scheduler is the real API over a Backend in memory.
type scheduler struct {
	t       *testing.T
	backend *apitest.Backend
	url     string
}

func newScheduler(t *testing.T) *scheduler {
	backend := apitest.New()
	server := httptest.NewServer(api.New(api.Config{Backend: backend, Log: zerolog.Nop(), Metrics: prometheus.NewRegistry()}))
	t.Cleanup(server.Close)
	return &scheduler{t, backend, server.URL}
}

// result of a command.
type result struct {
	code           int
	stdout, stderr string
}

func (s *scheduler) pacer(args ...string) result { return s.feed("", args...) }

// feed runs a command with text on its stdin.
func (s *scheduler) feed(stdin string, args ...string) result {
	return s.run(s.t.Context(), stdin, args...)
}

func (s *scheduler) run(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	getenv := func(name string) string { return map[string]string{"PACER_URL": s.url}[name] }
	code := Run(ctx, args, getenv, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func want(t *testing.T, got result, code int, stdout, stderr string) {
	t.Helper()
	if diff := cmp.Diff(result{code, stdout, stderr}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestApply(t *testing.T) {
	s := newScheduler(t)
	file := filepath.Join(t.TempDir(), "hello.json")
	if err := os.WriteFile(file, []byte(hello), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, s.pacer("apply", file), 0, "/hello applied, version 2026-03-01T12:00:01.000Z, deployment "+first+"\n", "")
	want(t, s.feed(`{"id":"hello","cmd":"sleep 2"}`, "apply", "-"), 1, "",
		"pacer: /hello: deployment "+first+" is changing it: wait for its end, or end it with --force\n")
	want(t, s.feed(`{"id":"hello","cmd":"sleep 2"}`, "apply", "-", "--force"), 0, "/hello applied, version 2026-03-01T12:00:02.000Z, deployment "+second+"\n", "")
	if a := s.backend.Current("/hello"); a.Cmd != "sleep 2" || a.Instances != 2 {
		t.Errorf("applied %s: a file without instances keeps their number", a.JSON())
	}
}

func TestApply_FileIsTheWholeDefinition(t *testing.T) {
	s := newScheduler(t)
	s.feed(`{"id":"/a","cmd":"x","mem":64,"env":{"A":"1"}}`, "apply", "-")
	s.backend.Finish()
	if got := s.feed(`{"id":"/a","cmd":"x"}`, "apply", "-"); got.code != 0 {
		t.Fatal(got)
	}
	if a := s.backend.Current("/a"); a.Mem != app.DefaultMem || len(a.Env) != 0 {
		t.Errorf("what the file does not have is still there: %s", a.JSON())
	}
}

func TestP12_ErrorsAreOneLine(t *testing.T) {
	directory := t.TempDir()
	missing := filepath.Join(directory, "missing.json")
	for name, test := range map[string]struct {
		stdin  string
		args   []string
		code   int
		stderr string
	}{
		"no command":       {"", nil, 2, `expected one of "apply", "list", "show", "scale", "delete"`},
		"unknown command":  {"", []string{"aply"}, 2, `unexpected argument aply, did you mean "apply"?`},
		"unknown flag":     {"", []string{"list", "--jsn"}, 2, `unknown flag --jsn, did you mean "--json"?`},
		"bad URL":          {"", []string{"list", "--url", "localhost:8080"}, 2, `--url is "localhost:8080": expected http://host:port or https://host:port`},
		"no file":          {"", []string{"apply", missing}, 2, "read definition: open " + missing + ": no such file or directory"},
		"malformed file":   {"{\"id\":\n", []string{"apply", "-"}, 2, "-: /: line 2, column 1: the JSON ends too early"},
		"array":            {"[]", []string{"apply", "-"}, 2, "-: /: expected an object that defines an app, got an array"},
		"no ID":            {`{"cmd":"x"}`, []string{"apply", "-"}, 2, `-: /id must be a string with the app's path, e.g. "/shop/cart"`},
		"ID of wrong type": {`{"id":1}`, []string{"apply", "-"}, 2, `-: /id must be a string with the app's path, e.g. "/shop/cart"`},
		"bad ID":           {`{"id":"/A"}`, []string{"apply", "-"}, 2, `-: /id: ID "/A" must be parts of lower-case letters, digits, hyphens and dots, separated by slashes; a part begins and ends with a letter or digit, e.g. /shop/cart-2`},
		"refused fields": {`{"id":"/a","cmd":"x","cpus":-1,"ports":[1,1]}`, []string{"apply", "-"}, 1,
			"/a: Object is not valid: /cpus is -1, expected at least 0; /portDefinitions(1)/port is 1, as is port 0's: ports must differ, or be 0 for any"},
		"instances no number": {"", []string{"scale", "/a", "many"}, 2, `<n>: expected a valid 64 bit int but got "many"`},
		"too many instances":  {"", []string{"scale", "/a", "1000000"}, 2, "number of instances is 1000000: expected 0 to 100000"},
		"show of nothing":     {"", []string{"show", "a"}, 1, "App '/a' does not exist"},
		"scale of nothing":    {"", []string{"scale", "a", "2"}, 1, "/a: App '/a' does not exist"},
		"delete of nothing":   {"", []string{"delete", "a"}, 1, "/a: App '/a' does not exist"},
		"bad timeout":         {"", []string{"delete", "a", "--timeout=soon"}, 2, `--timeout: expected duration but got "soon": time: invalid duration "soon"`},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, newScheduler(t).feed(test.stdin, test.args...), test.code, "", "pacer: "+test.stderr+"\n")
		})
	}
}

func TestUnreachableScheduler(t *testing.T) {
	s := newScheduler(t)
	server := httptest.NewServer(nil)
	s.url = server.URL
	server.Close()
	got := s.pacer("list")
	if got.code != 1 || !strings.HasPrefix(got.stderr, "pacer: ask the scheduler at "+s.url) || !strings.HasSuffix(got.stderr, "is it running, and is --url right?\n") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	other := httptest.NewServer(nil) // answers 404 in plain text
	defer other.Close()
	s.url = other.URL
	want(t, s.pacer("list"), 1, "", "pacer: "+other.URL+" answered 404 Not Found, not as a Pacer scheduler does\n")
}

func TestHelpAndVersion(t *testing.T) {
	s := newScheduler(t)
	for _, args := range [][]string{{"--help"}, {"apply", "--help"}, {"--version"}} {
		if got := s.pacer(args...); got.code != 0 || got.stdout == "" || got.stderr != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := s.pacer("--help"); !strings.Contains(got.stdout, "PACER_URL") {
		t.Errorf("help does not name the variable: %s", got.stdout)
	}
}

// populate makes one app that runs and one that waits.
func (s *scheduler) populate() {
	s.t.Helper()
	for _, definition := range []string{
		`{"id":"/shop/cart","cmd":"./cart","cpus":0.5,"instances":2,"healthChecks":[{"path":"/health"}]}`,
		`{"id":"/big","args":["./big","-v"],"cpus":64,"user":"big"}`,
		`{"id":"/off","cmd":"x","instances":0}`,
	} {
		if got := s.feed(definition, "apply", "-"); got.code != 0 {
			s.t.Fatal(got)
		}
		if !strings.Contains(definition, "/big") {
			s.backend.Finish()
		}
		if strings.Contains(definition, "/off") {
			break
		}
	}
	at := apitest.Epoch
	version := s.backend.Current("/shop/cart").Version
	s.backend.SetTasks("/shop/cart", api.Counts{Running: 2, Healthy: 1, Unhealthy: 1},
		api.Task{ID: "shop_cart.1", AppID: "/shop/cart", Version: version, State: "TASK_RUNNING", Host: "node1", Ports: []int{31001}, StagedAt: at, StartedAt: at, Health: &api.Health{Alive: true, Since: at}},
		api.Task{ID: "shop_cart.2", AppID: "/shop/cart", Version: version, State: "TASK_RUNNING", Host: "node2", Ports: []int{31002}, StagedAt: at, StartedAt: at, Health: &api.Health{ConsecutiveFailures: 2, Cause: "status 503", Since: at}})
	s.backend.SetFailure(api.TaskFailure{AppID: "/shop/cart", TaskID: "shop_cart.0", Host: "node1", State: "TASK_FAILED", Message: "exit\ncode 1", Timestamp: at})
	if got := s.pacer("scale", "big", "3"); got.code != 0 {
		s.t.Fatal(got)
	}
	s.backend.SetQueue("/big", api.QueueItem{Count: 3, Since: at, Reason: "no offer has 64 cpus: the largest of 3 has 8"})
}

func TestList(t *testing.T) {
	s := newScheduler(t)
	want(t, s.pacer("list"), 0, "ID  RUNNING  HEALTHY  CPUS  MEM  VERSION  STATE\n", "")
	s.populate()
	want(t, s.pacer("list"), 0, `ID          RUNNING  HEALTHY  CPUS  MEM  VERSION                   STATE
/big        0/3      -        64    128  2026-03-01T12:00:04.000Z  deploying
/off        0/0      -        1     128  2026-03-01T12:00:03.000Z  suspended
/shop/cart  2/2      1/2      0.5   128  2026-03-01T12:00:01.000Z  incomplete
`, "")
	var apps []appView
	if got := s.pacer("list", "--json"); json.Unmarshal([]byte(got.stdout), &apps) != nil || len(apps) != 3 || apps[2].TasksHealthy != 1 {
		t.Errorf("--json: %+v", got)
	}
}

func TestShow(t *testing.T) {
	s := newScheduler(t)
	s.populate()
	want(t, s.pacer("show", "shop/cart"), 0, `id:            /shop/cart
state:         incomplete, 2 of 2 instances running, 1 healthy, 1 unhealthy
last failure:  2026-03-01T12:00:00.000Z shop_cart.0 on node1: TASK_FAILED exit code 1
version:       2026-03-01T12:00:01.000Z
cmd:           ./cart
resources:     0.5 cpus, 128 MiB

TASK         STATE    HEALTH                 HOST   PORTS  STARTED                   VERSION
shop_cart.1  RUNNING  healthy                node1  31001  2026-03-01T12:00:00.000Z  2026-03-01T12:00:01.000Z
shop_cart.2  RUNNING  unhealthy: status 503  node2  31002  2026-03-01T12:00:00.000Z  2026-03-01T12:00:01.000Z
`, "")
	want(t, s.pacer("show", "/big"), 0, `id:          /big
state:       deploying, 0 of 3 instances running
deployment:  00000000-0000-4000-8000-000000000004
waiting:     3, no offer has 64 cpus: the largest of 3 has 8
version:     2026-03-01T12:00:04.000Z
args:        ["./big" "-v"]
user:        big
resources:   64 cpus, 128 MiB
`, "")
	var view appView
	if got := s.pacer("--json", "show", "/big"); json.Unmarshal([]byte(got.stdout), &view) != nil || view.Instances != 3 {
		t.Errorf("--json: %+v", got)
	}
}

func TestScaleAndDelete(t *testing.T) {
	s := newScheduler(t)
	s.feed(hello, "apply", "-")
	s.backend.Finish()
	want(t, s.pacer("scale", "hello", "5"), 0, "/hello scaled to 5, version 2026-03-01T12:00:02.000Z, deployment "+second+"\n", "")
	if a := s.backend.Current("/hello"); a.Instances != 5 || a.Cmd != "sleep 1000" {
		t.Errorf("made %s", a.JSON())
	}
	want(t, s.pacer("delete", "hello", "--json"), 0, `{
  "id": "/hello",
  "version": "2026-03-01T12:00:03.000Z",
  "deploymentId": "00000000-0000-4000-8000-000000000003",
  "finished": false
}
`, "")
	if a := s.backend.Current("/hello"); a != nil {
		t.Error("still there")
	}
}

// watching runs a command that waits, and then lets the test change what the
// scheduler says.
func (s *scheduler) watching(stdin string, args []string, then func()) result {
	s.t.Helper()
	done := make(chan result, 1)
	go func() { done <- s.feed(stdin, args...) }()
	deadline := time.After(20 * time.Second)
	for len(s.backend.Deploying()) == 0 {
		select {
		case got := <-done:
			s.t.Fatalf("ended too early: %+v", got)
		case <-deadline:
			s.t.Fatal("nothing was deployed")
		case <-time.After(time.Millisecond):
		}
	}
	then()
	return <-done
}

func TestApplyWait(t *testing.T) {
	const name = "/hello applied, version 2026-03-01T12:00:01.000Z, deployment " + first + " finished\n"
	failure := api.TaskFailure{AppID: "/hello", TaskID: "hello.0", Host: "node1", State: "TASK_FAILED", Message: "exit code 1", Timestamp: apitest.Epoch.Add(time.Minute)}
	for title, test := range map[string]struct {
		then   func(*apitest.Backend)
		code   int
		stdout string
		stderr string // its last line
	}{
		"succeeds": {func(b *apitest.Backend) {
			b.SetTasks("/hello", api.Counts{Running: 2})
			b.Finish()
		}, 0, name, ""},
		"fails": {func(b *apitest.Backend) {
			b.SetTasks("/hello", api.Counts{Running: 1, Staged: 1})
			b.SetFailure(failure)
			b.Finish()
		}, 1, "", "pacer: /hello: deployment " + first + " failed: 1 of 2 instances running, 1 starting; task hello.0 on node1: TASK_FAILED exit code 1"},
		"times out waiting": {func(b *apitest.Backend) {
			b.SetQueue("/hello", api.QueueItem{Count: 2, Reason: "no offer has 1 cpus"})
		}, 1, "", "pacer: /hello: deployment " + first + " has not ended after 2s: 0 of 2 instances running; 2 waiting: no offer has 1 cpus"},
		"is deleted": {func(b *apitest.Backend) {
			_, _ = b.Change(context.Background(), []api.Edit{{ID: "/hello", Delete: true}}, api.ChangeOptions{Force: true})
		}, 1, "", "pacer: /hello: was deleted meanwhile"},
		"is rolled back": {func(b *apitest.Backend) {
			_, _ = b.Change(context.Background(), []api.Edit{{ID: "/hello", Restart: true}}, api.ChangeOptions{Force: true})
			b.SetTasks("/hello", api.Counts{Running: 2})
		}, 1, "", "pacer: /hello: deployment " + first + " was ended by version 2026-03-01T12:00:02.000Z, a rollback or another change: 2 of 2 instances running"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := newScheduler(t)
			got := s.watching(hello, []string{"apply", "-", "--wait", "--timeout=2s"}, func() { test.then(s.backend) })
			lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n")
			if last := lines[len(lines)-1]; got.code != test.code || got.stdout != test.stdout || test.stderr != "" && last != test.stderr {
				t.Errorf("got %+v\nwant code %d, stdout %q, last line %q", got, test.code, test.stdout, test.stderr)
			}
		})
	}
}

// A scheduler that is replaced by another one meanwhile ends nothing.
func TestApplyWait_OutlastsAnOutage(t *testing.T) {
	s := newScheduler(t)
	got := s.watching(hello, []string{"apply", "-", "--wait", "--timeout=20s"}, func() {
		s.backend.Fail(fmt.Errorf("no leader: %w", api.ErrUnavailable))
		time.AfterFunc(time.Second, func() {
			s.backend.SetTasks("/hello", api.Counts{Running: 2})
			s.backend.Finish()
			s.backend.Fail(nil)
		})
	})
	if got.code != 0 || !strings.Contains(got.stderr, "/hello: no leader: unavailable\n") {
		t.Errorf("%+v", got)
	}
}

func TestApplyWait_Interrupted(t *testing.T) {
	s := newScheduler(t)
	ctx, interrupt := context.WithCancelCause(t.Context())
	done := make(chan result, 1)
	go func() { done <- s.run(ctx, hello, "apply", "-", "--wait") }()
	for len(s.backend.Deploying()) == 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	interrupt(errors.New("Ctrl-C"))
	if got := <-done; got.code != 1 || !strings.Contains(got.stderr, "interrupted") {
		t.Errorf("%+v", got)
	}
}

func TestDeleteWait(t *testing.T) {
	s := newScheduler(t)
	s.feed(hello, "apply", "-")
	s.backend.Finish()
	got := s.watching("", []string{"delete", "hello", "--wait"}, s.backend.Finish)
	want(t, got, 0, "/hello deleted, version 2026-03-01T12:00:02.000Z, deployment "+second+" finished\n", "")
	s.feed(hello, "apply", "-")
	s.backend.Finish()
	got = s.watching("", []string{"delete", "hello", "--wait", "--timeout=1s"}, func() {})
	want(t, got, 1, "", "pacer: /hello: instances have not ended after 1s; deployment 00000000-0000-4000-8000-000000000004 goes on\n")
}
