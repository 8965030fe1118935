package conformance

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests below are about the comparison itself: what it must let pass, and what it
// must not.

func TestMatch(t *testing.T) {
	const (
		agent   = "11111111-1111-1111-1111-111111111111-S0"
		other   = "11111111-1111-1111-1111-111111111111-S1"
		id      = "AAAAAAAAAAAAAAAAAAAAAA=="
		otherID = "AQAAAAAAAAAAAAAAAAAAAA=="
	)
	tests := []struct {
		name      string
		want, got string
		path      string // of the difference, "-" for none
	}{
		{"equal", `{"a":1,"b":["x",true,null]}`, `{"b":["x",true,null],"a":1}`, "-"},
		{"numbers by value", `{"a":4}`, `{"a":4.0}`, "-"},
		{"other number", `{"a":4}`, `{"a":4.1}`, "a"},
		{"number and text", `{"a":4}`, `{"a":"4"}`, "a"},
		{"other text", `{"a":{"b":"x"}}`, `{"a":{"b":"y"}}`, "a.b"},
		{"other boolean", `{"a":true}`, `{"a":false}`, "a"},
		{"null is not nothing", `{"a":null}`, `{}`, "a"},
		{"missing key", `{"a":1,"b":2}`, `{"a":1}`, "b"},
		{"additional key", `{"a":1}`, `{"a":1,"b":2}`, "b"},
		{"additional key beside a shortened object", `{"_elided":true,"a":1}`, `{"a":1,"b":2}`, "-"},
		{"other value in a shortened object", `{"_elided":true,"a":1}`, `{"a":2}`, "a"},
		{"shortened does not go down", `{"_elided":true,"a":{}}`, `{"a":{"b":2}}`, "a.b"},
		{"order of an array", `{"a":[1,2]}`, `{"a":[2,1]}`, "a[0]"},
		{"length of an array", `{"a":[1,2]}`, `{"a":[1]}`, "a"},
		{"array of a hash table", `{"executor_ids":[{"value":"a"},{"value":"b"}]}`, `{"executor_ids":[{"value":"b"},{"value":"a"}]}`, "-"},
		{"other element of a hash table", `{"executor_ids":[{"value":"a"},{"value":"b"}]}`, `{"executor_ids":[{"value":"b"},{"value":"b"}]}`, "executor_ids[0].value"},

		{"placeholder", `{"a":"<agent-1>"}`, `{"a":"` + agent + `"}`, "-"},
		{"placeholder of another form", `{"a":"<agent-1>"}`, `{"a":"S0"}`, "a"},
		{"same placeholder, same value", `{"a":"<agent-1>","b":"<agent-1>"}`, `{"a":"` + agent + `","b":"` + agent + `"}`, "-"},
		{"same placeholder, other value", `{"a":"<agent-1>","b":"<agent-1>"}`, `{"a":"` + agent + `","b":"` + other + `"}`, "b"},
		{"other placeholder, same value", `{"a":"<agent-1>","b":"<agent-2>"}`, `{"a":"` + agent + `","b":"` + agent + `"}`, "b"},
		{"placeholder in a text", `{"a":"x <agent-1> y","b":"<agent-1>"}`, `{"a":"x ` + agent + ` y","b":"` + agent + `"}`, "-"},
		{"text around a placeholder", `{"a":"x <agent-1> y"}`, `{"a":"x ` + agent + ` z"}`, "a"},
		{"placeholder in a key", `{"a":"<agent-1>","b":{"x/<agent-1>":1}}`, `{"a":"` + agent + `","b":{"x/` + agent + `":1}}`, "-"},
		{"uuid", `{"a":"<uuid-1>","b":"<uuid-2>"}`, `{"a":"` + id + `","b":"` + otherID + `"}`, "-"},
		{"time as a number", `{"a":"<time-1>","b":"<time-1>"}`, `{"a":1795169326.45288,"b":1795169326.45288}`, "-"},
		{"other time", `{"a":"<time-1>","b":"<time-1>"}`, `{"a":1795169326.45288,"b":1795169326.5}`, "b"},
		{"any number", `{"a":"<n>","b":"<n>"}`, `{"a":1,"b":2.5}`, "-"},
		{"no number", `{"a":"<n>"}`, `{"a":"x"}`, "a"},
		{"what looks like a placeholder", `{"a":"<b>"}`, `{"a":"<b>"}`, "-"},

		{"resources as text", `{"resources":"cpus:0.1{alloc r1}; ports:[1-2,5-6]"}`,
			`{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"allocation_info":{"role":"r1"}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2},{"begin":5,"end":6}]}}]}`, "-"},
		{"other amount", `{"resources":"cpus:0.1"}`, `{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.2}}]}`, "resources"},
		{"other role", `{"resources":"cpus:0.1{alloc r1}"}`, `{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"allocation_info":{"role":"r2"}}]}`, "resources"},
		{"unshown attribute", `{"resources":"cpus:0.1"}`, `{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"revocable":{}}]}`, "resources"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want, err := decodeJSON([]byte(test.want))
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeJSON([]byte(test.got))
			if err != nil {
				t.Fatal(err)
			}
			b := newBindings()
			d := b.match(want, got, nil)
			switch {
			case d == nil && test.path != "-":
				t.Errorf("no difference, want one at %s", test.path)
			case d != nil && d.path != test.path:
				t.Errorf("%v\nwant path %s", d, test.path)
			case d != nil && len(b.values)+len(b.names) > 0:
				t.Errorf("a failed match has bound %v %v", b.values, b.names)
			}
		})
	}
}

func TestInstantiate(t *testing.T) {
	b := newBindings()
	for name, value := range map[string]string{"offer-1": "O1", "port": "80"} {
		if err := b.bind(name, strings.TrimSuffix(name, "-1"), value); err != nil {
			t.Fatal(err)
		}
	}
	b.commit()
	b.more["offer-1"] = []string{"O2"} // it came in two pieces
	sent, err := decodeJSON([]byte(`{"offer_ids":[{"value":"<offer-1>"}],"resources":"cpus:0.1{role r1}","url":"http://x:<port>/"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.instantiate(sent)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"offer_ids":[{"value":"O1"},{"value":"O2"}],"resources":[{"name":"cpus","role":"r1","scalar":{"value":0.1},"type":"SCALAR"}],"url":"http://x:80/"}`
	if compact(got) != want {
		t.Errorf("got  %s\nwant %s", compact(got), want)
	}
	if _, err := b.instantiate("<agent-7>"); err == nil {
		t.Error("a placeholder that has not been received was sent")
	}
}

// traceVariable names a scenario and a file for TestTrace.
const traceVariable = "PACER_CONFORMANCE_TRACE"

// TestTrace plays one file: PACER_CONFORMANCE_TRACE=19-authentication...=/tmp/x.jsonl.
func TestTrace(t *testing.T) {
	name, path, ok := strings.Cut(os.Getenv(traceVariable), "=")
	if !ok {
		t.Skip(traceVariable + " names no scenario and file")
	}
	for _, s := range scenarios {
		if s.name == name {
			play(t, s, path)
			return
		}
	}
	t.Fatalf("%s: there is no scenario %q", traceVariable, name)
}

// A recording in which Mesos did something else must not pass.
func TestTraceOfAnotherMesosFails(t *testing.T) {
	const name = "19-authentication-and-domain-socket"
	if reason := needsRoot(); reason != "" {
		t.Skip(reason)
	}
	recording, err := os.ReadFile(recordingOf(name))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(recording, []byte("\n"))
	replace := func(number int, old, new string) func() [][]byte {
		return func() [][]byte {
			changed := append([][]byte(nil), lines...)
			changed[number-1] = bytes.Replace(lines[number-1], []byte(old), []byte(new), 1)
			if bytes.Equal(changed[number-1], lines[number-1]) {
				t.Errorf("line %d has no %s", number, old)
			}
			return changed
		}
	}
	without := func(number int) func() [][]byte {
		return func() [][]byte { return append(append([][]byte(nil), lines[:number-1]...), lines[number:]...) }
	}
	tests := []struct {
		name   string
		change func() [][]byte
		want   string // in the output
	}{
		{"as recorded", func() [][]byte { return lines }, ""},
		{"status", replace(4, `"status":401`, `"status":403`), "x.jsonl:4: scheduler s1 <- response 403 : at status:"},
		{"header", replace(4, `mesos-master-scheduler`, `mesos-master`), "x.jsonl:4: scheduler s1 <- response 401 : at headers.Www-Authenticate:"},
		{"text", replace(4, `401 Unauthorized.`, `401 No.`), "x.jsonl:4: scheduler s1 <- response 401 : at text:"},
		{"event", replace(18, `"heartbeat_interval_seconds":15.0`, `"heartbeat_interval_seconds":14.0`), "x.jsonl:18: scheduler s1 <- SUBSCRIBED: at subscribed.heartbeat_interval_seconds:"},
		{"event that does not come", replace(29, `"event":"ERROR"`, `"event":"FAILURE"`), "x.jsonl:29: scheduler s1 <- FAILURE: instead came ERROR"},
		{"event that comes", without(29), "not in the recording: ERROR"},
		{"end of a stream", replace(30, `terminating chunk, then EOF`, `connection closed without terminating chunk`), "x.jsonl:30: scheduler s1 stream end"},
		{"environment", replace(39, `MESOS_CHECKPOINT=1`, `MESOS_CHECKPOINT=0`), "x.jsonl:39: executor e1 env environment with --http_executor_domain_sockets: at env["},
		{"output of a command", replace(40, `srw-rw-rw-`, `srw-------`), "x.jsonl:40: executor e1 note sh:"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.jsonl")
			if err := os.WriteFile(path, bytes.Join(test.change(), nil), 0o644); err != nil {
				t.Fatal(err)
			}
			output, err := playProcess(name, path)
			if failed := err != nil; failed != (test.want != "") {
				t.Errorf("error %v, output:\n%s", err, output)
			}
			if !strings.Contains(string(output), test.want) {
				t.Errorf("output:\n%s\nwant %s", output, test.want)
			}
		})
	}
}
