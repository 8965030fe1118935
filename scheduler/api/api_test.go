package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pacer/scheduler/api"
	"pacer/scheduler/api/apitest"
	"pacer/scheduler/app"
)

var update = flag.Bool("update", false, "write the files in testdata that hold what is expected")

// server is the API over a Backend in memory.
type server struct {
	t       *testing.T
	backend *apitest.Backend
	handler http.Handler
	log     *bytes.Buffer
}

func newServer(t *testing.T) *server {
	backend, log := apitest.New(), new(bytes.Buffer)
	return &server{t, backend, api.New(api.Config{Backend: backend, Log: zerolog.New(log), Metrics: prometheus.NewRegistry()}), log}
}

// do sends a request; a body is sent as JSON.
func (s *server) do(method, target, body string) *httptest.ResponseRecorder {
	s.t.Helper()
	request := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	return s.send(request)
}

func (s *server) send(request *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, request)
	return recorder
}

// must sends a request that has to succeed.
func (s *server) must(method, target, body string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := s.do(method, target, body)
	if r.Code >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, target, r.Code, r.Body)
	}
	return r
}

// want compares a reply with what is expected; the body as text.
func want(t *testing.T, r *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if r.Code != status {
		t.Errorf("status %d, want %d", r.Code, status)
	}
	if diff := cmp.Diff(body, strings.TrimSuffix(r.Body.String(), "\n")); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

const (
	hello  = `{"id":"/hello","cmd":"sleep 1000","instances":2}`
	first  = "00000000-0000-4000-8000-000000000001"
	second = "00000000-0000-4000-8000-000000000002"
	third  = "00000000-0000-4000-8000-000000000003"
)

// expect compares a body with a file that holds it indented.
func expect(t *testing.T, file string, body []byte) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, body, "", "  "); err != nil {
		t.Fatalf("no JSON: %v\n%s", err, body)
	}
	file = "testdata/" + file
	if *update {
		if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), pretty.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestApps_LifeOfAnApp(t *testing.T) {
	s := newServer(t)

	r := s.do("POST", "/v2/apps", hello)
	if r.Code != 201 || r.Header().Get("Marathon-Deployment-Id") != first || r.Header().Get("Location") != "/v2/apps/hello" || r.Header().Get("Content-Type") != "application/json" {
		t.Errorf("POST: %d %v", r.Code, r.Header())
	}
	expect(t, "created.json", r.Body.Bytes())
	s.backend.Finish()

	started := time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
	s.backend.SetTasks("/hello", api.Counts{Staged: 1, Running: 1, Healthy: 1},
		api.Task{ID: "hello.1", AppID: "/hello", Version: s.backend.Current("/hello").LastConfigChange, State: "TASK_RUNNING", Host: "node1", AgentID: "a1",
			IP: "10.0.0.1", Ports: []int{31001}, StagedAt: started.Add(-time.Second), StartedAt: started, Health: &api.Health{Alive: true, Since: started}},
		api.Task{ID: "hello.2", AppID: "/hello", State: "TASK_STAGING", Host: "node2", AgentID: "a2", StagedAt: started})
	s.backend.SetFailure(api.TaskFailure{AppID: "/hello", TaskID: "hello.0", Host: "node1", AgentID: "a1", State: "TASK_FAILED", Message: "exit code 1", Timestamp: started})
	expect(t, "app.json", s.must("GET", "/v2/apps/hello", "").Body.Bytes())
	expect(t, "apps.json", s.must("GET", "/v2/apps", "").Body.Bytes())
	expect(t, "apps-tasks.json", s.must("GET", "/v2/apps?embed=apps.tasks&embed=apps.failures&embed=apps.readiness", "").Body.Bytes())
	expect(t, "app-tasks.json", s.must("GET", "/v2/apps/hello/tasks", "").Body.Bytes())
	expect(t, "tasks.json", s.must("GET", "/v2/tasks", "").Body.Bytes())
	want(t, s.do("GET", "/v2/tasks?status=staging", ""), 200,
		`{"tasks":[{"id":"hello.2","appId":"/hello","host":"node2","slaveId":"a2","state":"TASK_STAGING","stagedAt":"2026-03-01T12:00:05.000Z","version":"","ports":[],"servicePorts":[0],"ipAddresses":[]}]}`)

	r = s.do("PUT", "/v2/apps/hello", `{"instances":3}`)
	want(t, r, 200, `{"version":"2026-03-01T12:00:02.000Z","deploymentId":"`+second+`","changes":[{"app":"/hello","action":"ScaleApplication","restarts":0,"instancesFrom":2,"instancesTo":3}]}`)
	if got := r.Header().Get("Marathon-Deployment-Id"); got != second {
		t.Errorf("PUT names deployment %q", got)
	}
	if a := s.backend.Current("/hello"); a.Instances != 3 || a.Cmd != "sleep 1000" {
		t.Errorf("PUT made %s", a.JSON())
	}
	expect(t, "deployments.json", s.must("GET", "/v2/deployments", "").Body.Bytes())
	want(t, s.do("GET", "/v2/apps/hello/versions", ""), 200, `{"versions":["2026-03-01T12:00:02.000Z","2026-03-01T12:00:01.000Z"]}`)
	expect(t, "version.json", s.must("GET", "/v2/apps/hello/versions/2026-03-01T12:00:01.000Z", "").Body.Bytes())

	s.backend.Finish()
	want(t, s.do("PUT", "/v2/apps/hello", `{"version":"2026-03-01T12:00:01.000Z"}`), 200, `{"version":"2026-03-01T12:00:03.000Z","deploymentId":"`+third+`","changes":[{"app":"/hello","action":"ScaleApplication","restarts":0,"instancesFrom":3,"instancesTo":2}]}`)
	if a := s.backend.Current("/hello"); a.Instances != 2 {
		t.Errorf("rollback made %s", a.JSON())
	}
	s.backend.Finish()
	want(t, s.do("POST", "/v2/apps/hello/restart", ""), 200, `{"version":"2026-03-01T12:00:04.000Z","deploymentId":"00000000-0000-4000-8000-000000000004","changes":[{"app":"/hello","action":"RestartApplication","restarts":2}]}`)
	want(t, s.do("DELETE", "/v2/apps/hello", ""), 200, `{"version":"2026-03-01T12:00:05.000Z","deploymentId":"00000000-0000-4000-8000-000000000005","changes":[{"app":"/hello","action":"StopApplication","restarts":2}]}`)
	want(t, s.do("GET", "/v2/apps/hello", ""), 404, `{"message":"App '/hello' does not exist"}`)
	want(t, s.do("GET", "/v2/apps", ""), 200, `{"apps":[]}`)
}

func TestApps_Put(t *testing.T) {
	for name, test := range map[string]struct {
		before, target, body string
		status               int
		want                 string // of the app's JSON, a part
	}{
		"creates":                     {"", "/v2/apps/new", `{"cmd":"x"}`, 201, `"cmd":"x"`},
		"creates with ID in the body": {"", "/v2/apps//new", `{"id":"new","cmd":"x"}`, 201, `"cmd":"x"`},
		"keeps what is not given":     {`{"id":"/new","cmd":"x","mem":64}`, "/v2/apps/new", `{"cmd":"y","ports":null,"dependencies":null}`, 200, `"mem":64`},
		"replaces the whole":          {`{"id":"/new","cmd":"x","mem":64}`, "/v2/apps/new?partialUpdate=false", `{"cmd":"y"}`, 200, `"mem":128`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			if test.before != "" {
				s.must("POST", "/v2/apps", test.before)
				s.backend.Finish()
			}
			r := s.do("PUT", test.target, test.body)
			if r.Code != test.status {
				t.Fatalf("%d %s", r.Code, r.Body)
			}
			if got := s.backend.Current("/new"); got == nil || !strings.Contains(string(got.JSON()), test.want) {
				t.Errorf("made %+v, want %s in it", got, test.want)
			}
		})
	}
}

func TestTasks_AnyTextIsJSON(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	const odd = "line\nbreak \"quoted\" \\ \x00 \u00e4 \xff"
	s.backend.SetTasks("/hello", api.Counts{}, api.Task{ID: "hello.1", AppID: "/hello", Host: odd, IP: "::1", Health: &api.Health{Cause: odd, ConsecutiveFailures: 3}})
	var got struct {
		Tasks []struct {
			Host               string
			IPAddresses        []struct{ Protocol string }
			HealthCheckResults []struct {
				LastFailureCause    string
				ConsecutiveFailures int
			}
		}
	}
	body := s.must("GET", "/v2/apps/hello/tasks", "").Body.Bytes()
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	valid := strings.ToValidUTF8(odd, "\ufffd")
	if task := got.Tasks[0]; task.Host != valid || task.HealthCheckResults[0].LastFailureCause != valid || task.HealthCheckResults[0].ConsecutiveFailures != 3 || task.IPAddresses[0].Protocol != "IPv6" {
		t.Errorf("%+v", got)
	}
}

// What one GET returns can be put and posted again.
func TestApps_GetThenPut(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	s.backend.Finish()
	var got struct{ App json.RawMessage }
	if err := json.Unmarshal(s.must("GET", "/v2/apps/hello", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want(t, s.do("PUT", "/v2/apps/hello", string(got.App)), 200, `{"version":"2026-03-01T12:00:01.000Z","deploymentId":"`+second+`"}`)
	if running := s.backend.Deploying(); len(running) != 0 {
		t.Errorf("a change of nothing started %v", running)
	}
	s.must("DELETE", "/v2/apps/hello", "")
	s.backend.Finish()
	if r := s.do("POST", "/v2/apps", string(got.App)); r.Code != 201 {
		t.Errorf("POST: %d %s", r.Code, r.Body)
	}
}

func TestApps_ListFilters(t *testing.T) {
	s := newServer(t)
	for _, body := range []string{
		`{"id":"/shop/cart","cmd":"./cart","labels":{"team":"shop","tier":"1","HAPROXY,GROUP":"x y"}}`,
		`{"id":"/shop/pay","cmd":"./pay","labels":{"team":"shop","tier":"2"}}`,
		`{"id":"/web","cmd":"./web --shop","labels":{"team":"web"}}`,
	} {
		s.must("POST", "/v2/apps", body)
	}
	for query, want := range map[string]string{
		"":                                  "/shop/cart /shop/pay /web",
		"?id=shop":                          "/shop/cart /shop/pay",
		"?cmd=shop":                         "/web",
		"?label=tier":                       "/shop/cart /shop/pay",
		"?label=team==shop":                 "/shop/cart /shop/pay",
		"?label=tier!=1":                    "/shop/pay",
		"?label=tier%20in%20(1,%203)":       "/shop/cart",
		"?label=tier%20notin%20(1)":         "/shop/pay",
		"?label=team==shop,tier==2":         "/shop/pay",
		"?label=team==shop&label=tier==1":   "/shop/cart",
		"?label=HAPROXY%5C,GROUP==x%5C%20y": "/shop/cart",
		"?id=none":                          "",
		"/shop/*":                           "/shop/cart /shop/pay",
		"/sho/*":                            "",
		"/*":                                "/shop/cart /shop/pay /web",
		"/":                                 "/shop/cart /shop/pay /web",
	} {
		t.Run(query, func(t *testing.T) {
			var got struct{ Apps []struct{ ID string } }
			if err := json.Unmarshal(s.must("GET", "/v2/apps"+query, "").Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, a := range got.Apps {
				ids = append(ids, a.ID)
			}
			if got := strings.Join(ids, " "); got != want {
				t.Errorf("lists %q, want %q", got, want)
			}
		})
	}
}

// Everything here is a client's mistake and hence a 4xx, and nothing is stored.
func TestP12_MistakesOfClients(t *testing.T) {
	const bad = "The query's label is no selector: "
	const forms = "; expected e.g. k, k==v, k!=v, k in (a, b), k notin (a, b), with commas between"
	for name, test := range map[string]struct {
		method, target, body string
		status               int
		want                 string
	}{
		"malformed JSON": {"POST", "/v2/apps", `{"id":`, 400,
			`{"message":"Invalid JSON","details":[{"path":"/","errors":["line 1, column 6: the JSON ends too early"]}]}`},
		"array": {"POST", "/v2/apps", `[]`, 400,
			`{"message":"Invalid JSON","details":[{"path":"/","errors":["expected an object that defines an app, got an array"]}]}`},
		"unknown field": {"POST", "/v2/apps", `{"id":"/x","cmd":"x","instance":2}`, 400,
			`{"message":"Invalid JSON","details":[{"path":"/instance","errors":["is not a field of an app; did you mean \"instances\"?"]}]}`},
		"invalid": {"POST", "/v2/apps", `{"id":"/x","cmd":"x","cpus":-1,"instances":1.5}`, 422,
			`{"message":"Object is not valid","details":[{"path":"/cpus","errors":["is -1, expected at least 0"]},{"path":"/instances","errors":["is 1.5, expected a whole number"]}]}`},
		"existing": {"POST", "/v2/apps", hello, 409,
			`{"message":"An app with id [/hello] already exists."}`},
		"below another": {"POST", "/v2/apps", `{"id":"/hello/world","cmd":"x"}`, 422,
			`{"message":"Object is not valid","details":[{"path":"/id","errors":["is above or below the app /hello"]}]}`},
		"locked": {"PUT", "/v2/apps/hello", `{"instances":5}`, 409,
			`{"message":"App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'. App: /hello, deployments: ` + first + `","deployments":[{"id":"` + first + `"}]}`},
		"locked restart": {"POST", "/v2/apps/hello/restart", "", 409,
			`{"message":"App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'. App: /hello, deployments: ` + first + `","deployments":[{"id":"` + first + `"}]}`},
		"body for another": {"PUT", "/v2/apps/hello", `{"id":"/other"}`, 422,
			`{"message":"Object is not valid","details":[{"path":"/id","errors":["is not the app that the body was sent to: leave it out, or create another app and delete this one"]}]}`},
		"patch of nothing":    {"PATCH", "/v2/apps/none", `{"instances":1}`, 404, `{"message":"App '/none' does not exist"}`},
		"put to bad ID":       {"PUT", "/v2/apps/None", `{"cmd":"x"}`, 422, `{"message":"Object is not valid","details":[{"path":"/id","errors":["must be parts of lower-case letters, digits, hyphens and dots, separated by slashes; a part begins and ends with a letter or digit, e.g. /shop/cart-2"]}]}`},
		"rollback of nothing": {"PUT", "/v2/apps/none", `{"version":"2026-03-01T12:00:01.000Z"}`, 404, `{"message":"App '/none' does not exist"}`},
		"rollback to nothing": {"PUT", "/v2/apps/hello", `{"version":"2020-03-01T12:00:01.000Z"}`, 404, `{"message":"App '/hello' does not exist in version 2020-03-01T12:00:01.000Z"}`},
		"rollback to no version": {"PUT", "/v2/apps/hello", `{"version":"old"}`, 422,
			`{"message":"Object is not valid","details":[{"path":"/version","errors":["\"old\" is not a version: expected RFC 3339 with milliseconds, e.g. 2026-03-01T12:00:00.000Z"]}]}`},
		"delete of nothing":    {"DELETE", "/v2/apps/none", "", 404, `{"message":"App '/none' does not exist"}`},
		"restart of nothing":   {"POST", "/v2/apps/none/restart", "", 404, `{"message":"App '/none' does not exist"}`},
		"tasks of nothing":     {"GET", "/v2/apps/none/tasks", "", 404, `{"message":"App '/none' does not exist"}`},
		"versions of nothing":  {"GET", "/v2/apps/none/versions", "", 404, `{"message":"App '/none' does not exist"}`},
		"unknown version":      {"GET", "/v2/apps/hello/versions/2020-03-01T12:00:01.000Z", "", 404, `{"message":"App '/hello' does not exist in version 2020-03-01T12:00:01.000Z"}`},
		"no version":           {"GET", "/v2/apps/hello/versions/12:00", "", 400, `{"message":"\"12:00\" is not a version: expected RFC 3339 with milliseconds, e.g. 2026-03-01T12:00:00.000Z"}`},
		"unknown deployment":   {"DELETE", "/v2/deployments/none", "", 404, `{"message":"DeploymentPlan none does not exist"}`},
		"unknown address":      {"GET", "/v2/nothing", "", 404, `{"message":"There is nothing at /v2/nothing"}`},
		"pods":                 {"HEAD", "/v2/pods", "", 404, `{"message":"There is nothing at /v2/pods"}`},
		"wrong method":         {"DELETE", "/v2/apps", "", 405, `{"message":"DELETE is not possible at /v2/apps, only GET, PATCH, POST, PUT"}`},
		"post to an app":       {"POST", "/v2/apps/hello", `{}`, 405, `{"message":"POST is not possible at /v2/apps/hello, only DELETE, GET, PATCH, PUT"}`},
		"force of no kind":     {"DELETE", "/v2/apps/hello?force=maybe", "", 400, `{"message":"The query's force is neither true nor false"}`},
		"status of no kind":    {"GET", "/v2/tasks?status=lost", "", 400, `{"message":"The query's status is neither running nor staging"}`},
		"selector cut":         {"GET", "/v2/apps?label=a%20in%20(b", "", 400, `{"message":"` + bad + `it ends where \",\" is expected` + forms + `"}`},
		"selector of one sign": {"GET", "/v2/apps?label=a=b", "", 400, `{"message":"` + bad + `\"=\" at character 2 is not followed by \"=\"` + forms + `"}`},
		"selector of nothing":  {"GET", "/v2/apps?label=,", "", 400, `{"message":"` + bad + `\",\" where a word is expected` + forms + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.must("POST", "/v2/apps", hello)
			before := s.must("GET", "/v2/apps", "").Body.String()
			want(t, s.do(test.method, test.target, test.body), test.status, test.want)
			if after := s.must("GET", "/v2/apps", "").Body.String(); after != before {
				t.Errorf("something was stored:\n%s\n%s", before, after)
			}
		})
	}
}

func TestP12_TypeAndSizeOfBodies(t *testing.T) {
	s := newServer(t)
	request := httptest.NewRequestWithContext(t.Context(), "POST", "/v2/apps", strings.NewReader(hello))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	want(t, s.send(request), 415, `{"message":"The body must be JSON: send it with the header Content-Type: application/json"}`)

	large := `{"id":"/large","cmd":"` + strings.Repeat("x", 2<<20) + `"}`
	want(t, s.do("POST", "/v2/apps", large), 413, `{"message":"The body is larger than 2097152 bytes"}`)

	request = httptest.NewRequestWithContext(t.Context(), "POST", "/v2/apps", io.MultiReader(strings.NewReader(`{"id"`), brokenReader{}))
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	want(t, s.send(request), 400, `{"message":"The body could not be read: it ended early or came too slowly"}`)

	deep := `{"id":"/deep","cmd":"x","env":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`
	if r := s.do("POST", "/v2/apps", deep); r.Code != 400 {
		t.Errorf("deep nesting: %d %s", r.Code, r.Body)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestApps_LockedAppTakesForce(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	want(t, s.do("PUT", "/v2/apps/hello?force=true", `{"instances":5}`), 200, `{"version":"2026-03-01T12:00:02.000Z","deploymentId":"`+second+`","changes":[{"app":"/hello","action":"ScaleApplication","restarts":0,"instancesFrom":2,"instancesTo":5}]}`)
	// Deleting is forced unless told otherwise, as in Marathon.
	if r := s.do("DELETE", "/v2/apps/hello?force=false", ""); r.Code != 409 {
		t.Errorf("DELETE without force: %d %s", r.Code, r.Body)
	}
	s.must("DELETE", "/v2/apps/hello", "")
}

// A change that another one overtakes is made again from what that one left.
func TestApps_OvertakenChangeIsRepeated(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	s.backend.Finish()
	s.backend.BeforePut(func() {
		s.must("PUT", "/v2/apps/hello", `{"mem":64}`)
		s.backend.Finish()
	})
	s.must("PUT", "/v2/apps/hello", `{"cpus":2}`)
	if a := s.backend.Current("/hello"); a.Mem != 64*app.Unit || a.CPUs != 2*app.Unit {
		t.Errorf("one of the changes is lost: %s", a.JSON())
	}
	s.backend.BeforePut(func() { s.must("DELETE", "/v2/apps/hello", ""); s.backend.Finish() })
	if r := s.do("PUT", "/v2/apps/hello", `{"cmd":"y"}`); r.Code != 201 {
		t.Errorf("after a deletion: %d %s", r.Code, r.Body)
	}
}

func TestDeployments_Cancel(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	r := s.do("DELETE", "/v2/deployments/"+first, "")
	want(t, r, 200, `{"version":"2026-03-01T12:00:02.000Z","deploymentId":"`+second+`"}`)
	if got := r.Header().Get("Marathon-Deployment-Id"); got != second {
		t.Errorf("header names %q", got)
	}
	want(t, s.do("DELETE", "/v2/deployments/"+second+"?force=true", ""), 202, "")
	want(t, s.do("GET", "/v2/deployments", ""), 200, "[]")
}

func TestQueue_SaysWhy(t *testing.T) {
	s := newServer(t)
	want(t, s.do("GET", "/v2/queue", ""), 200, `{"queue":[]}`)
	s.must("POST", "/v2/apps", hello)
	s.backend.SetQueue("/hello", api.QueueItem{
		Count: 2, Since: apitest.Epoch, Reason: "no offer has 4 cpus: the largest of 3 has 2",
		ProcessedOffers: 3, UnusedOffers: 3, LastUnusedOffer: apitest.Epoch.Add(time.Second),
		Rejections: []api.Rejection{{Reason: api.UnfulfilledRole, Processed: 3}, {Reason: api.InsufficientCpus, Declined: 3, Processed: 3}},
	})
	expect(t, "queue.json", s.must("GET", "/v2/queue", "").Body.Bytes())

	s.backend.SetQueue("/hello", api.QueueItem{Count: 1, LastUnusedOffer: apitest.Epoch, Unused: []api.UnusedOffer{{OfferID: "O1", AgentID: "S1", Hostname: "node1", Reason: api.InsufficientCpus}}})
	if body := s.must("GET", "/v2/queue?embed=lastUnusedOffers", "").Body.String(); !strings.Contains(body, `"lastUnusedOffers":[{"offer":{"id":"O1","hostname":"node1","agentId":"S1"},"reason":["InsufficientCpus"],"timestamp":"2026-03-01T12:00:00.000Z"}]`) {
		t.Errorf("unused offers: %s", body)
	}

	s.backend.SetQueue("/hello", api.QueueItem{Count: 1, NotBefore: time.Now().Add(time.Hour)})
	var got struct {
		Queue []struct {
			Delay struct {
				TimeLeftSeconds int
				Overdue         bool
			}
		}
	}
	if err := json.Unmarshal(s.must("GET", "/v2/queue", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if delay := got.Queue[0].Delay; delay.Overdue || delay.TimeLeftSeconds < 3500 || delay.TimeLeftSeconds > 3600 {
		t.Errorf("in backoff for an hour: %+v", delay)
	}
}

func TestUnavailable(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	s.backend.Fail(fmt.Errorf("store zk://a:2181: %w", api.ErrUnavailable))
	for _, r := range []*httptest.ResponseRecorder{
		s.do("POST", "/v2/apps", hello), s.do("PUT", "/v2/apps/hello", `{"instances":3}`), s.do("DELETE", "/v2/apps/hello", ""), s.do("POST", "/v2/apps/hello/restart", ""),
	} {
		want(t, r, 503, `{"message":"store zk://a:2181: unavailable"}`)
		if r.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	s.backend.Fail(context.DeadlineExceeded)
	want(t, s.do("DELETE", "/v2/apps/hello", ""), 503, `{"message":"No answer within 20s; whether anything changed is not known"}`)
	s.backend.Fail(errors.New("secret detail"))
	want(t, s.do("DELETE", "/v2/apps/hello", ""), 500, `{"message":"Internal error; the scheduler's log says more"}`)
	if got := s.log.String(); !strings.Contains(got, `"error":"secret detail"`) || !strings.Contains(got, `"path":"/v2/apps/hello"`) {
		t.Errorf("log has %s", got)
	}
}

func TestAboutTheScheduler(t *testing.T) {
	s := newServer(t)
	want(t, s.do("GET", "/ping", ""), 200, "pong")
	want(t, s.do("GET", "/health", ""), 200, `{"alive":true}`)
	want(t, s.do("GET", "/ready", ""), 200, `{"ready":true}`)
	want(t, s.do("GET", "/v2/leader", ""), 200, `{"leader":"127.0.0.1:8080"}`)
	want(t, s.do("DELETE", "/v2/leader", ""), 409, `{"message":"This scheduler's state is its own: no other one could take the lead"}`)
	want(t, s.do("GET", "/v2/plugins", ""), 200, `{"plugins":[]}`)
	expect(t, "info.json", s.must("GET", "/v2/info", "").Body.Bytes())
	if body := s.must("GET", "/metrics", "").Body.String(); !strings.Contains(body, `pacer_api_requests_total{method="GET",route="/ping",status="200"} 1`) {
		t.Errorf("metrics have %s", body)
	}
	s.backend.SetInfo(api.Info{})
	want(t, s.do("GET", "/ready", ""), 503, `{"message":"no master found: unavailable"}`)
	want(t, s.do("GET", "/v2/leader", ""), 404, `{"message":"There is no leader"}`)
}

// Whoever opens a page in a browser on the scheduler's machine must not
// command the cluster by it.
func TestBrowsersOfOtherOriginsAreRefused(t *testing.T) {
	s := newServer(t)
	request := httptest.NewRequestWithContext(t.Context(), "POST", "/v2/apps", strings.NewReader(hello))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", "https://evil.example.com")
	want(t, s.send(request), 403, `{"message":"A page of another origin cannot change anything here"}`)
}

// A list that fails half-way is not mistaken for a complete one.
func TestApps_ListCutShort(t *testing.T) {
	backend := cutBackend{apitest.New()}
	web := httptest.NewServer(api.New(api.Config{Backend: backend, Log: zerolog.Nop(), Metrics: prometheus.NewRegistry()}))
	defer web.Close()
	defer web.Client().CloseIdleConnections()
	request, _ := http.NewRequestWithContext(t.Context(), "GET", web.URL+"/v2/apps", nil)
	r, err := web.Client().Do(request)
	if err != nil {
		return
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); r.StatusCode == 200 && err == nil {
		t.Errorf("complete reply: %.100s", body)
	}
}

type cutBackend struct{ *apitest.Backend }

func (b cutBackend) Apps(_ context.Context, _ api.Embed, yield func(api.AppStatus) bool) error {
	a := app.Default("/a")
	a.Cmd = strings.Repeat("x", 100_000)
	yield(api.AppStatus{App: a, JSON: a.JSON()})
	return errors.New("cut")
}

func FuzzSelector(f *testing.F) {
	for _, seed := range []string{"a", "a==b", "a!=b,c in (d, e)", `a\,b notin (c)`, "a in (", "=", `\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, selector string) {
		s := newServer(t)
		request := httptest.NewRequestWithContext(t.Context(), "GET", "/v2/apps", nil)
		query := request.URL.Query()
		query.Set("label", selector)
		request.URL.RawQuery = query.Encode()
		if r := s.send(request); r.Code != 200 && r.Code != 400 {
			t.Errorf("%d %s", r.Code, r.Body)
		}
	})
}

// Whatever a client sends, it is never the server's fault.
func FuzzRequests(f *testing.F) {
	f.Add("GET", "/v2/apps?embed=apps.tasks", "")
	f.Add("PUT", "/v2/apps/hello?force=true", `{"instances":3}`)
	f.Add("PUT", "/v2/apps/hello?partialUpdate=false", hello)
	f.Add("POST", "/v2/apps", `{"id":"/hello/world","cmd":"x"}`)
	f.Add("POST", "/v2/apps//hello/restart", "")
	f.Add("GET", "/v2/apps/hello/versions/2026-03-01T12:00:01.000Z", "")
	f.Add("DELETE", "/v2/deployments/x?force=1&app=/hello", "")
	f.Add("PUT", "/v2/apps?dryRun=true", `[{"id":"hello","instances":3},{"id":"/x","cmd":"x"}]`)
	f.Add("PUT", "/v2/groups/g", `{"apps":[{"id":"a","cmd":"x"}],"groups":[{"id":"b","apps":[]}]}`)
	f.Add("DELETE", "/v2/groups//?force=true", "")
	f.Add("POST", "/v2/tasks/delete?scale=true", `{"ids":["hello.1","x_y.2"]}`)
	f.Add("DELETE", "/v2/apps/hello/tasks?host=x&wipe=1", "")
	f.Add("DELETE", "/v2/queue/hello/delay", "")
	f.Fuzz(func(t *testing.T, method, target, body string) {
		address, err := url.ParseRequestURI(target)
		if err != nil || address.Host != "" || !strings.HasPrefix(target, "/") {
			return
		}
		if strings.HasSuffix(strings.Trim(address.Path, "/"), "events") {
			return // a recorder is no connection
		}
		s := newServer(t)
		s.must("POST", "/v2/apps", hello)
		request := httptest.NewRequestWithContext(t.Context(), "GET", "/", strings.NewReader(body))
		request.Method, request.URL = method, address
		request.Header.Set("Content-Type", "application/json")
		if r := s.send(request); r.Code >= 500 {
			t.Errorf("%d %s", r.Code, r.Body)
		}
	})
}
