package master_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// Status codes and bodies are those that Apache Mesos 1.12-dev was recorded to give.
func TestBadRequests(t *testing.T) {
	m, _ := start(t, quick)
	s := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo())
	// framework fills in the framework's id, stream the stream's.
	const json = "application/json"
	withStream := http.Header{"Content-Type": {json}, "Mesos-Stream-Id": {s.StreamID}}
	plain := http.Header{"Content-Type": {json}}
	minimal := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x","user":"root"}}}`
	call := func(kind, rest string) string {
		return fmt.Sprintf(`{"type":"%s","framework_id":{"value":"%s"}%s}`, kind, s.ID, rest)
	}
	const ack = `,"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t1"},"uuid":"%s"}`
	const info = `"framework_info":{"capabilities":[{"type":"MULTI_ROLE"},{"type":"PARTITION_AWARE"},{"type":"TASK_KILLING_STATE"},` +
		`{"type":"RESERVATION_REFINEMENT"},{"type":"REGION_AWARE"}],"failover_timeout":60,"name":"s1","roles":["r1"],"user":"root"`
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		status int
		text   string
	}{
		{"no Content-Type", http.Header{}, minimal, 400, "Expecting 'Content-Type' to be present"},
		{"charset", http.Header{"Content-Type": {"application/json; charset=utf-8"}}, minimal, 415,
			"Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"text/plain", http.Header{"Content-Type": {"text/plain"}}, minimal, 415,
			"Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"Accept text/html", http.Header{"Content-Type": {json}, "Accept": {"text/html"}}, minimal, 406,
			"Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"},
		{"Accept text/html on RECONCILE", http.Header{"Content-Type": {json}, "Accept": {"text/html"}, "Mesos-Stream-Id": {s.StreamID}},
			call("RECONCILE", `,"reconcile":{}`), 202, ""},
		{"malformed JSON", plain, `{"type"`, 400, "Failed to parse body into JSON: syntax error at line 1 near: "},
		{"malformed protobuf", http.Header{"Content-Type": {"application/x-protobuf"}}, "\xff\xff", 400, "Failed to parse body into Call protobuf"},
		{"empty object", plain, `{}`, 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"},
		{"UNKNOWN without framework_id", withStream, `{"type":"UNKNOWN"}`, 400, "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"},
		{"UNKNOWN of an unknown framework", withStream, `{"type":"UNKNOWN","framework_id":{"value":"nope"}}`, 400, "Framework cannot be found"},
		{"unknown type name", withStream, call("NO_SUCH", ""), 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"},
		{"SUBSCRIBE without subscribe", plain, `{"type":"SUBSCRIBE"}`, 400, "Failed to validate scheduler::Call: Expecting 'subscribe' to be present"},
		{"SUBSCRIBE without user", plain, `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x"}}}`, 400,
			"Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user"},
		{"id only in the call", plain, `{"type":"SUBSCRIBE","framework_id":{"value":"f"},"subscribe":{"framework_info":{"name":"x","user":"root"}}}`, 400,
			"Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'"},
		{"id only in framework_info", plain, `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x","user":"root","id":{"value":"f"}}}}`, 400,
			"Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'"},
		{"SUBSCRIBE with a stream id", withStream, minimal, 400, "Subscribe calls should not include the 'Mesos-Stream-Id' header"},
		{"without framework_id", withStream, `{"type":"REVIVE"}`, 400, "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"},
		{"unknown framework", withStream, `{"type":"REVIVE","framework_id":{"value":"nope"}}`, 400, "Framework cannot be found"},
		{"without stream id", plain, call("REVIVE", ""), 400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"},
		{"wrong stream id", http.Header{"Content-Type": {json}, "Mesos-Stream-Id": {"other"}}, call("REVIVE", ""), 400,
			"The stream ID 'other' included in this request didn't match the stream ID currently associated with framework ID " + s.ID},
		{"ACCEPT without accept", withStream, call("ACCEPT", ""), 400, "Failed to validate scheduler::Call: Expecting 'accept' to be present"},
		{"DECLINE without decline", withStream, call("DECLINE", ""), 400, "Failed to validate scheduler::Call: Expecting 'decline' to be present"},
		{"KILL without kill", withStream, call("KILL", ""), 400, "Failed to validate scheduler::Call: Expecting 'kill' to be present"},
		{"ACKNOWLEDGE without acknowledge", withStream, call("ACKNOWLEDGE", ""), 400, "Failed to validate scheduler::Call: Expecting 'acknowledge' to be present"},
		{"RECONCILE without reconcile", withStream, call("RECONCILE", ""), 400, "Failed to validate scheduler::Call: Expecting 'reconcile' to be present"},
		{"MESSAGE without message", withStream, call("MESSAGE", ""), 400, "Failed to validate scheduler::Call: Expecting 'message' to be present"},
		{"SHUTDOWN without shutdown", withStream, call("SHUTDOWN", ""), 400, "Failed to validate scheduler::Call: Expecting 'shutdown' to be present"},
		{"REQUEST without request", withStream, call("REQUEST", ""), 400, "Failed to validate scheduler::Call: Expecting 'request' to be present"},
		{"ACCEPT_INVERSE_OFFERS without its message", withStream, call("ACCEPT_INVERSE_OFFERS", ""), 400,
			"Failed to validate scheduler::Call: Expecting 'accept_inverse_offers' to be present"},
		{"DECLINE_INVERSE_OFFERS without its message", withStream, call("DECLINE_INVERSE_OFFERS", ""), 400,
			"Failed to validate scheduler::Call: Expecting 'decline_inverse_offers' to be present"},
		{"ACKNOWLEDGE_OPERATION_STATUS without its message", withStream, call("ACKNOWLEDGE_OPERATION_STATUS", ""), 400,
			"Failed to validate scheduler::Call: Expecting 'acknowledge_operation_status' to be present"},
		{"RECONCILE_OPERATIONS without its message", withStream, call("RECONCILE_OPERATIONS", ""), 400,
			"Failed to validate scheduler::Call: Expecting 'reconcile_operations' to be present"},
		{"UPDATE_FRAMEWORK without its message", withStream, call("UPDATE_FRAMEWORK", ""), 400,
			"Failed to validate scheduler::Call: Expecting 'update_framework' to be present"},
		{"REVIVE without revive", withStream, call("REVIVE", ""), 202, ""},
		{"SUPPRESS without suppress", withStream, call("SUPPRESS", ""), 202, ""},
		{"4 byte uuid", withStream, call("ACKNOWLEDGE", fmt.Sprintf(ack, "AAAAAA==")), 400, "Failed to validate scheduler::Call: Not a valid UUID"},
		{"all-zero uuid", withStream, call("ACKNOWLEDGE", fmt.Sprintf(ack, "AAAAAAAAAAAAAAAAAAAAAA==")), 400, "Failed to validate scheduler::Call: Not a valid UUID"},
		{"uuid never forwarded", withStream, call("ACKNOWLEDGE", fmt.Sprintf(ack, "AAAAAAAAQAAAAAAAAAAAAA==")), 202, ""},
		{"ACKNOWLEDGE without uuid", withStream, call("ACKNOWLEDGE", `,"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"}}`), 400,
			"Failed to convert JSON into Call protobuf: Missing required fields: acknowledge.uuid"},
		{"ACKNOWLEDGE without agent_id", withStream, call("ACKNOWLEDGE", `,"acknowledge":{"task_id":{"value":"t"},"uuid":"AAAAAAAAQAAAAAAAAAAAAA=="}`), 400,
			"Failed to convert JSON into Call protobuf: Missing required fields: acknowledge.agent_id"},
		{"ACCEPT without offer_ids", withStream, call("ACCEPT", `,"accept":{}`), 202, ""},
		{"DECLINE of an unknown offer", withStream, call("DECLINE", `,"decline":{"offer_ids":[{"value":"nope-O1"}]}`), 202, ""},
		{"SHUTDOWN of an unknown executor", withStream, call("SHUTDOWN", `,"shutdown":{"executor_id":{"value":"e"},"agent_id":{"value":"a"}}`), 202, ""},
		{"SHUTDOWN without agent_id", withStream, call("SHUTDOWN", `,"shutdown":{"executor_id":{"value":"e"}}`), 400,
			"Failed to convert JSON into Call protobuf: Missing required fields: shutdown.agent_id"},
		{"MESSAGE to an unknown executor", withStream, call("MESSAGE", `,"message":{"executor_id":{"value":"e"},"agent_id":{"value":"a"},"data":"eA=="}`), 202, ""},
		{"REVIVE with a foreign role", withStream, call("REVIVE", `,"revive":{"roles":["foreign"]}`), 202, ""},
		{"RECONCILE_OPERATIONS, empty", withStream, call("RECONCILE_OPERATIONS", `,"reconcile_operations":{}`), 202, ""},
		{"UPDATE_FRAMEWORK without id", withStream, call("UPDATE_FRAMEWORK", `,"update_framework":{`+info+`,"checkpoint":true}}`), 400,
			"Failed to validate scheduler::Call: 'framework_id' differs from 'update_framework.framework_info.id'"},
		{"UPDATE_FRAMEWORK", withStream, call("UPDATE_FRAMEWORK", `,"update_framework":{`+info+`,"checkpoint":true,"id":{"value":"`+s.ID+`"}}}`), 200, ""},
		{"UPDATE_FRAMEWORK of checkpoint", withStream, call("UPDATE_FRAMEWORK", `,"update_framework":{`+info+`,"checkpoint":false,"id":{"value":"`+s.ID+`"}}}`), 400,
			"FrameworkInfo update is not valid: Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from 'true' to 'false'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			response, text := probe.Post(t, m.URL()+"/api/v1/scheduler", c.header.Clone(), []byte(c.body))
			if response.StatusCode != c.status || text != c.text {
				t.Errorf("got %d %q, want %d %q", response.StatusCode, text, c.status, c.text)
			}
			want := ""
			if c.text != "" {
				want = "text/plain; charset=utf-8"
			}
			if got := response.Header.Get("Content-Type"); got != want {
				t.Errorf("Content-Type %q, want %q", got, want)
			}
		})
	}

	t.Run("GET", func(t *testing.T) {
		response, err := http.Get(m.URL() + "/api/v1/scheduler")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "POST" {
			t.Errorf("%d %v", response.StatusCode, response.Header)
		}
	})
	for _, path := range []string{"/master/api/v1/scheduler", "/api/v1/scheduler/", "/api/v1/scheduler/more"} {
		t.Run(path, func(t *testing.T) {
			if response, text := probe.Post(t, m.URL()+path, withStream.Clone(), []byte(call("REVIVE", ""))); response.StatusCode != 202 {
				t.Errorf("%d %s", response.StatusCode, text)
			}
		})
	}
	t.Run("path of the executor API", func(t *testing.T) {
		response, text := probe.Post(t, m.URL()+"/api/v1/executor", withStream.Clone(), []byte(call("REVIVE", "")))
		if response.StatusCode != 400 || text != "Failed to validate master::Call: Expecting 'type' to be present" {
			t.Errorf("%d %s", response.StatusCode, text)
		}
	})
	t.Run("after the stream was closed", func(t *testing.T) {
		s.Close()
		awaitFramework(t, m, s.ID, func(f framework) bool { return !f.Connected })
		response, text := probe.Post(t, m.URL()+"/api/v1/scheduler", withStream.Clone(), []byte(call("REVIVE", "")))
		if response.StatusCode != 403 || text != "Framework is not subscribed" {
			t.Errorf("%d %s", response.StatusCode, text)
		}
	})
}

// Refusals of a SUBSCRIBE's content are an ERROR event on a stream that then ends.
func TestRefusedSubscriptions(t *testing.T) {
	m, _ := start(t, quick)
	for _, c := range []struct {
		name   string
		change func(*mesos.FrameworkInfo)
		text   string
	}{
		{"role and roles", func(f *mesos.FrameworkInfo) { x := "x"; f.Role = &x },
			"'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"},
		{"roles without MULTI_ROLE", func(f *mesos.FrameworkInfo) { f.Capabilities = nil },
			"'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"},
		{"invalid role", func(f *mesos.FrameworkInfo) { f.Roles = []string{"a b"} },
			"'FrameworkInfo.roles' contains invalid role: Role component 'a b' is invalid because it contains backspace or whitespace"},
		{"duplicate role", func(f *mesos.FrameworkInfo) { f.Roles = []string{"a", "a"} },
			"'FrameworkInfo.roles' contains duplicate items: { a }"},
		{"failover_timeout too large", func(f *mesos.FrameworkInfo) { x := 1e30; f.FailoverTimeout = &x },
			"The framework failover_timeout (1e+30) is invalid"},
		{"id with a slash", func(f *mesos.FrameworkInfo) { f.ID = &mesos.FrameworkID{Value: "a/b"} },
			"'a/b' contains invalid characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, contentType wire.ContentType) {
				s := probe.Subscribe(t, m.URL(), contentType, probe.FrameworkInfo(c.change))
				s.Refused(c.text)
			})
		})
	}
	t.Run("suppressed role of others", func(t *testing.T) {
		probe.Subscribe(t, m.URL(), wire.JSON, probe.FrameworkInfo(), "r9").
			Refused("Suppressed roles { r9 } are not contained in the set of roles")
	})
	t.Run("an id never seen is accepted", func(t *testing.T) {
		s := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo(func(f *mesos.FrameworkInfo) {
			f.ID = &mesos.FrameworkID{Value: "made-up-1"}
		}))
		if s.ID != "made-up-1" {
			t.Errorf("id %s", s.ID)
		}
	})
}

func TestUnknownCallAbortsTheMaster(t *testing.T) {
	m, _ := start(t, quick)
	s := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo())
	request, err := http.NewRequest(http.MethodPost, m.URL()+"/api/v1/scheduler",
		strings.NewReader(fmt.Sprintf(`{"type":"UNKNOWN","framework_id":{"value":"%s"}}`, s.ID)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Content-Type": {"application/json"}, "Mesos-Stream-Id": {s.StreamID}}
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
		t.Errorf("answered %s", response.Status)
	}
	<-m.Aborted()
	s.Broken()
}

func TestStandbyRedirects(t *testing.T) {
	m, _ := start(t, quick)
	body := []byte(`{"type":"GET_HEALTH"}`)
	header := http.Header{"Content-Type": {"application/json"}}
	m.SetLeader("127.0.0.1:5")
	for path, want := range map[string]string{
		"/api/v1/scheduler":     "//127.0.0.1:5/master/api/v1/scheduler",
		"/api/v1/scheduler?x=y": "//127.0.0.1:5/master/api/v1/scheduler?x=y",
		"/api/v1":               "//127.0.0.1:5/master/api/v1",
		"/state":                "//127.0.0.1:5/master/state",
		"/redirect":             "//127.0.0.1:5",
	} {
		response, _ := probe.Post(t, m.URL()+path, header.Clone(), body)
		if got := response.Header.Get("Location"); response.StatusCode != 307 || got != want {
			t.Errorf("%s: %d %s, want 307 %s", path, response.StatusCode, got, want)
		}
	}
	m.SetLeader("")
	if response, text := probe.Post(t, m.URL()+"/api/v1/scheduler", header.Clone(), body); response.StatusCode != 503 || text != "No leader elected" {
		t.Errorf("without leader: %d %s", response.StatusCode, text)
	}
	if response, _ := probe.Post(t, m.URL()+"/health", header.Clone(), nil); response.StatusCode != 200 {
		t.Errorf("health of a standby: %d", response.StatusCode)
	}
}

func TestAuthentication(t *testing.T) {
	m, _ := start(t, master.Config{Credentials: map[string]string{"p1": "s1", "p2": "s2"}})
	post := func(user, password, body string) (int, string) {
		request, err := http.NewRequest(http.MethodPost, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if user != "" {
			request.SetBasicAuth(user, password)
		}
		response, text := probe.Post(t, m.URL()+"/api/v1/scheduler", request.Header, []byte(body))
		if response.StatusCode == 401 && response.Header.Get("WWW-Authenticate") != `Basic realm="mesos-master-scheduler"` {
			t.Errorf("challenge %q", response.Header.Get("WWW-Authenticate"))
		}
		return response.StatusCode, text
	}
	if code, text := post("", "", `{}`); code != 401 || text != "401 Unauthorized." {
		t.Errorf("without credentials: %d %s", code, text)
	}
	if code, _ := post("p1", "wrong", `{}`); code != 401 {
		t.Errorf("wrong password: %d", code)
	}
	if code, text := post("p1", "s1", `{}`); code != 400 || !strings.HasSuffix(text, "Expecting 'type' to be present") {
		t.Errorf("good credentials: %d %s", code, text)
	}
	code, text := post("p1", "s1", `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x","user":"root","principal":"p2"}}}`)
	if code != 400 || text != "Failed to validate scheduler::Call: Authenticated principal 'p1' does not match principal 'p2' set in `FrameworkInfo`" {
		t.Errorf("foreign principal: %d %s", code, text)
	}
}
