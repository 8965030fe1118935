package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/wire"
)

// ask sends a raw request to the agent and returns status and body.
func (h *harness) ask(client *http.Client, method, path, contentType, body string) (int, string) {
	h.t.Helper()
	request, err := http.NewRequest(method, "http://"+h.agent.Addr()+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// The recorded answers to bad requests.
func TestCall_RefusedAsMesosDoes(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	const path = "/api/v1/executor"
	const ids = `"framework_id":{"value":"F1"},"executor_id":{"value":"e1"}`
	status := func(fields string) string {
		return `{` + ids + `,"type":"UPDATE","update":{"status":{"task_id":{"value":"t1"},"state":"TASK_RUNNING"` + fields + `}}}`
	}
	const good = `,"source":"SOURCE_EXECUTOR","uuid":"AAECAwQFRgeICQoLDA0ODw=="`
	h.launch(end, true, sleeper("e1"), "t1")
	h.until("launch", func() bool { return h.known("e1") })
	type request struct {
		name, method, path, body string
		status                   int
		text                     string
	}
	run := func(list []request) {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) {
				got, text := h.ask(h.client, c.method, c.path, "application/json", c.body)
				if got != c.status || text != c.text {
					t.Errorf("%d %q, want %d %q", got, text, c.status, c.text)
				}
			})
		}
	}
	run([]request{
		{"before SUBSCRIBE", "POST", path, status(good), 403, "Executor is not subscribed"},
		{"UNKNOWN before SUBSCRIBE", "POST", path, `{` + ids + `,"type":"UNKNOWN"}`, 403, "Executor is not subscribed"},
		{"HEARTBEAT with any id", "POST", path, `{"type":"HEARTBEAT","framework_id":{"value":"x"},"executor_id":{"value":"y"}}`, 202, ""},
		{"method", "GET", path, "", 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"no type", "POST", path, `{` + ids + `}`, 400, "Failed to validate Executor::Call: Expecting 'type' to be present"},
		{"unknown type", "POST", path, `{` + ids + `,"type":"NO_SUCH_TYPE"}`, 400, "Failed to validate Executor::Call: Expecting 'type' to be present"},
		{"no subscribe", "POST", path, `{` + ids + `,"type":"SUBSCRIBE"}`, 400, "Failed to validate Executor::Call: Expecting 'subscribe' to be present"},
		{"no update", "POST", path, `{` + ids + `,"type":"UPDATE"}`, 400, "Failed to validate Executor::Call: Expecting 'update' to be present"},
		{"no message", "POST", path, `{` + ids + `,"type":"MESSAGE"}`, 400, "Failed to validate Executor::Call: Expecting 'message' to be present"},
		{"unknown framework", "POST", path, `{"type":"SUBSCRIBE","subscribe":{},"framework_id":{"value":"x"},"executor_id":{"value":"e1"}}`, 400, "Framework cannot be found"},
		{"unknown executor", "POST", path, `{"type":"SUBSCRIBE","subscribe":{},"framework_id":{"value":"F1"},"executor_id":{"value":"x"}}`, 400, "Executor cannot be found"},
		{"below the path", "POST", path + "/more", `{}`, 400, "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"},
		{"long path", "POST", "/slave(1)" + path, `{}`, 400, "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"},
		{"other version", "POST", "/api/v2/executor", `{}`, 404, "404 Not Found."},
		{"other process", "POST", "/slave(2)" + path, `{}`, 404, "404 Not Found."},
	})
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
	run([]request{
		{"UNKNOWN", "POST", path, `{` + ids + `,"type":"UNKNOWN"}`, 501, "501 Not Implemented."},
		{"no uuid", "POST", path, status(`,"source":"SOURCE_EXECUTOR"`), 400, "Failed to validate Executor::Call: Expecting 'uuid' to be present"},
		{"short uuid", "POST", path, status(`,"source":"SOURCE_EXECUTOR","uuid":"AAEC"`), 400, "Failed to validate Executor::Call: Not a valid UUID"},
		{"uuid of version 7", "POST", path, status(`,"source":"SOURCE_EXECUTOR","uuid":"AAECAwQFdgeICQoLDA0ODw=="`), 400, "Failed to validate Executor::Call: Not a valid UUID"},
		{"no source", "POST", path, status(`,"uuid":"AAECAwQFRgeICQoLDA0ODw=="`), 400, "Failed to validate Executor::Call: Received Call from executor e1 of framework F1 with invalid source, expecting 'SOURCE_EXECUTOR'"},
		{"staging", "POST", path, strings.Replace(status(good), "RUNNING", "STAGING", 1), 400, "Failed to validate Executor::Call: Received TASK_STAGING from executor e1 of framework F1 which is not allowed"},
		{"another's executor id", "POST", path, status(good + `,"executor_id":{"value":"e2"}`), 400, "Failed to validate Executor::Call: ExecutorID in Call: e1 does not match ExecutorID in TaskStatus: e2"},
		{"check without type", "POST", path, status(good + `,"check_status":{}`), 400, "Failed to validate Executor::Call: CheckStatusInfo must specify 'type'"},
		{"check without its status", "POST", path, status(good + `,"check_status":{"type":"COMMAND"}`), 400, "Failed to validate Executor::Call: Expecting 'command' to be set for COMMAND check's status"},
	})
	h.silent(end)
	run([]request{
		{"check with an empty status, uuid of any variant", "POST", path, status(`,"source":"SOURCE_EXECUTOR","uuid":"AAECAwQFVgcICQoLDA0ODw==","check_status":{"type":"COMMAND","command":{}}`), 202, ""},
	})
	h.expectUpdate("t1", mesos.TASK_RUNNING, "")
}

func TestDomainSocket_LongPathsOnly(t *testing.T) {
	directory, err := os.MkdirTemp("", "a") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	path := filepath.Join(directory, "s")
	h := newHarness(t, func(c *Config) { c.DomainSocket = path })
	h.register()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("socket: %v, %v", info, err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	for _, c := range []struct {
		path, body string
		status     int
		text       string
	}{
		{"/api/v1/executor", `{}`, 403, "403 Forbidden."},
		{"/slave(1)/health", ``, 403, "403 Forbidden."},
		{"/slave(1)/api/v1", `{"type":"GET_HEALTH"}`, 200, `{"type":"GET_HEALTH","get_health":{"healthy":true}}`},
		{"/slave(1)/api/v1/executor", `{}`, 400, "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"},
	} {
		t.Run(c.path, func(t *testing.T) {
			got, text := h.ask(client, "POST", c.path, string(wire.JSON), c.body)
			if got != c.status || text != c.text {
				t.Errorf("%d %q, want %d %q", got, text, c.status, c.text)
			}
		})
	}
}
