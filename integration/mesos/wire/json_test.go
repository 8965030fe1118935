package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mesos/mesos-go/api/v1/lib/agent"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// recordedEvents are events that Apache Mesos sent, with ids, ports, times and
// uuids replaced.
func recordedEvents(t testing.TB) map[string][]string {
	t.Helper()
	file, err := os.Open("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	events := make(map[string][]string)
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			API   string
			Event json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		events[line.API] = append(events[line.API], string(line.Event))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

func eventOf(api string) Message {
	if api == "executor" {
		return new(executor.Event)
	}
	return new(scheduler.Event)
}

func TestJSON_WritesRecordedEventsAsMesosDoes(t *testing.T) {
	events := recordedEvents(t)
	if len(events["executor"]) < 5 || len(events["scheduler"]) < 5 {
		t.Fatalf("recorded events: %d of the executor API, %d of the scheduler API", len(events["executor"]), len(events["scheduler"]))
	}
	for api, list := range events {
		for _, recorded := range list {
			event := eventOf(api)
			if _, err := JSON.Unmarshal([]byte(recorded), event); err != nil {
				t.Errorf("read %s: %v", recorded, err)
				continue
			}
			written, err := JSON.Marshal(event)
			if err != nil {
				t.Errorf("write %s: %v", recorded, err)
				continue
			}
			if diff := cmp.Diff(generic(t, recorded), generic(t, string(written))); diff != "" {
				t.Errorf("%s event changed (-recorded +written):\n%s", api, diff)
			}
			// And by way of protobuf.
			binary, err := Protobuf.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			again := eventOf(api)
			if _, err := Protobuf.Unmarshal(binary, again); err != nil {
				t.Errorf("protobuf of %s: %v", recorded, err)
				continue
			}
			if twice, err := Protobuf.Marshal(again); err != nil || !bytes.Equal(binary, twice) {
				t.Errorf("protobuf changed from %x to %x, %v", binary, twice, err)
			}
		}
	}
}

// generic decodes JSON keeping numbers as they are written, so that 15 and 15.0
// are different.
func generic(t testing.TB, text string) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func TestJSON_ReadRefusals(t *testing.T) {
	const ids = `"framework_id":{"value":"f"},"executor_id":{"value":"e"}`
	for _, c := range []struct{ name, body, want string }{
		{"cut short", `{"type":`, "syntax error at line 1 near: "},
		{"empty", ``, "syntax error at line 1 near: "},
		{"second line", "{\n\"type\": nope}", "syntax error at line 2 near: ope}"},
		{"goes on", `{} {}`, "Parsed JSON included non-whitespace trailing characters"},
		{"array", `[1, 2]`, "Expecting a JSON object"},
		{"empty object", `{}`, "Missing required fields: executor_id, framework_id"},
		{"enum as a number", `{` + ids + `,"type":1}`, "Not expecting a JSON number for field 'type'"},
		{"message as a string", `{` + ids + `,"type":"UPDATE","update":{"status":{"task_id":"t1"}}}`, "Not expecting a JSON string for field 'task_id'"},
		{"list for a single field", `{` + ids + `,"type":["UPDATE"]}`, "Not expecting a JSON array for field 'type'"},
		{"object for a scalar", `{` + ids + `,"type":{}}`, "Not expecting a JSON object for field 'type'"},
		{"boolean for a string", `{"executor_id":{"value":true}}`, "Not expecting a JSON boolean for field 'value'"},
		{"nested list", `{` + ids + `,"subscribe":{"unacknowledged_tasks":[[]]}}`, "Not expecting a JSON array for field 'unacknowledged_tasks'"},
		{"unknown name in a required enum", `{` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_NO_SUCH"}}}`, "Failed to find enum for 'TASK_NO_SUCH'"},
		{"required enum missing", `{` + ids + `,"update":{"status":{"task_id":{"value":"t"}}}}`, "Missing required fields: update.status.state"},
		{"missing in a list", `{` + ids + `,"subscribe":{"unacknowledged_tasks":[{"name":"a","task_id":{"value":"t"},"agent_id":{"value":"a"}},{"name":"b","task_id":{"value":"t"}}]}}`, "Missing required fields: subscribe.unacknowledged_tasks[1].agent_id"},
		{"base64", `{` + ids + `,"message":{"data":"a-b"}}`, "Failed to base64 decode bytes field 'data': Invalid character '-'"},
		{"text for a number", `{` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","timestamp":"soon"}}}`, "Failed to parse 'soon' as a JSON number for field 'timestamp': syntax error at line 1 near: soon"},
		{"text for a boolean", `{` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","healthy":"yes"}}}`, "Failed to parse 'yes' as a JSON boolean for field 'healthy'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := JSON.Unmarshal([]byte(c.body), new(executor.Call))
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestJSON_ReadsLeniently(t *testing.T) {
	const body = `{"type":"UPDATE","framework_id":{"value":"f","more":[1]},"executor_id":{"value":"e"},"no_such_key":{"a":1},
		"message":null,"subscribe":{"unacknowledged_tasks":{"name":"one","task_id":{"value":"t"},"agent_id":{"value":"a"}}},
		"update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","timestamp":"1.5","healthy":"true","reason":"REASON_NO_SUCH",
		"uuid":"AAEC AwQ","data":null,"source":"SOURCE_EXECUTOR"}}}`
	var call executor.Call
	present, err := JSON.Unmarshal([]byte(body), &call)
	if err != nil {
		t.Fatal(err)
	}
	status := call.GetUpdate().GetStatus()
	if status.GetTimestamp() != 1.5 || !status.GetHealthy() || status.Reason != nil {
		t.Errorf("status: %v", status)
	}
	if string(status.GetUUID()) != "\x00\x01\x02\x03\x04" {
		t.Errorf("uuid: %x", status.GetUUID())
	}
	if n := len(call.GetSubscribe().GetUnacknowledgedTasks()); n != 1 {
		t.Errorf("%d unacknowledged tasks, want 1", n)
	}
	for _, c := range []struct {
		path []any
		want bool
	}{
		{[]any{"type"}, true},
		{[]any{"message"}, false},
		{[]any{"no_such_key"}, false},
		{[]any{"update", "status", "reason"}, false},
		{[]any{"update", "status", "healthy"}, true},
		{[]any{"subscribe", "unacknowledged_tasks", 0, "name"}, true},
		{[]any{"subscribe", "unacknowledged_tasks", 0, "health_check"}, false},
		{[]any{"subscribe", "unacknowledged_tasks", 1}, false},
	} {
		if got := present.Has(c.path...); got != c.want {
			t.Errorf("Has(%v) = %v, want %v", c.path, got, c.want)
		}
	}
}

func TestPresence_TypeSetOrNot(t *testing.T) {
	for _, c := range []struct {
		name string
		kind ContentType
		body string
		want bool
	}{
		{"json unset", JSON, `{}`, false},
		{"json unknown name", JSON, `{"type":"NO_SUCH"}`, false},
		{"json UNKNOWN", JSON, `{"type":"UNKNOWN"}`, true},
		{"protobuf unset", Protobuf, "", false},
		{"protobuf UNKNOWN", Protobuf, "\x10\x00", true},
		{"protobuf unknown number", Protobuf, "\x10\x63", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			present, err := c.kind.Unmarshal([]byte(c.body), new(scheduler.Call))
			if err != nil {
				t.Fatal(err)
			}
			if got := present.Has("type"); got != c.want {
				t.Errorf("type present: %v, want %v", got, c.want)
			}
		})
	}
}

func TestProtobuf_Refusals(t *testing.T) {
	deep := []byte{}
	for range 200 { // ContainerID.parent within ContainerID
		deep = append([]byte{0x12}, append(varint(len(deep)), deep...)...)
	}
	for _, c := range []struct {
		name string
		body []byte
	}{
		{"no protobuf", []byte("\xff\xff\xff")},
		{"empty: required fields missing", nil},
		{"wrong wire type", []byte("\x0a\x03\x0a\x01e\x12\x03\x0a\x01f\x1d\x00\x00\x00\x00")},
		{"group", []byte("\x0b\x0c")},
		{"nested deeply", deep},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Protobuf.Unmarshal(c.body, new(executor.Call)); err == nil {
				t.Error("no error")
			}
		})
	}
}

func varint(n int) []byte {
	var out []byte
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

func TestJSON_ListsOfTheOperatorAPIAreThereWhenEmpty(t *testing.T) {
	for _, c := range []struct {
		name  string
		value Message
		want  string
	}{
		{"agent", &agent.Response{Type: agent.Response_GET_TASKS, GetTasks: &agent.Response_GetTasks{}},
			`{"type":"GET_TASKS","get_tasks":{"pending_tasks":[],"queued_tasks":[],"launched_tasks":[],"terminated_tasks":[],"completed_tasks":[]}}`},
		{"master", &master.Response{Type: master.Response_GET_TASKS, GetTasks: &master.Response_GetTasks{}},
			`{"type":"GET_TASKS","get_tasks":{"tasks":[],"completed_tasks":[],"unreachable_tasks":[]}}`},
		{"master agents", &master.Response_GetAgents{}, `{"agents":[],"recovered_agents":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := JSON.Marshal(c.value)
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestAppendDouble(t *testing.T) {
	for _, c := range []struct {
		value float64
		want  string
	}{
		{0, "0.0"}, {15, "15.0"}, {0.1, "0.1"}, {0.1 + 0.2, "0.3"}, {1700000000.12345, "1700000000.12345"},
		{4096, "4096.0"}, {1e20, "1.0e+20"}, {-2.5, "-2.5"}, {100000000000000, "100000000000000.0"},
	} {
		if got := string(appendDouble(nil, c.value)); got != c.want {
			t.Errorf("%v: %s, want %s", c.value, got, c.want)
		}
	}
}

// What can be read can be written and read again with the same result.
func FuzzJSON(f *testing.F) {
	for _, list := range recordedEvents(f) {
		for _, event := range list {
			f.Add([]byte(event))
		}
	}
	f.Add([]byte(`{"type":"ACCEPT","accept":{"offer_ids":[],"operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},"limits":{"cpus":{"value":1e400}}}]}}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, message := range []Message{new(scheduler.Call), new(scheduler.Event), new(executor.Call), new(executor.Event)} {
			if _, err := JSON.Unmarshal(body, message); err != nil {
				continue
			}
			written, err := JSON.Marshal(message)
			if err != nil {
				t.Fatalf("write %v: %v", message, err)
			}
			if !json.Valid(written) {
				t.Fatalf("not JSON: %s", written)
			}
		}
	})
}

func FuzzProtobuf(f *testing.F) {
	for api, list := range recordedEvents(f) {
		for _, event := range list {
			message := eventOf(api)
			if _, err := JSON.Unmarshal([]byte(event), message); err != nil {
				f.Fatal(err)
			}
			binary, err := message.Marshal()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(binary)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, message := range []Message{new(scheduler.Call), new(scheduler.Event), new(executor.Call), new(executor.Event)} {
			present, err := Protobuf.Unmarshal(body, message)
			if err != nil {
				continue
			}
			present.Has("accept", "operations", 1, "type")
			written, err := JSON.Marshal(message)
			if err != nil {
				t.Fatalf("write %v: %v", message, err)
			}
			if !json.Valid(bytes.ToValidUTF8(written, nil)) {
				t.Fatalf("not JSON: %s", written)
			}
		}
	})
}
