package agent

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"
)

// withFiles starts an executor that has written the sandbox files of the recording.
func withFiles(t *testing.T) (h *harness, virtual, sandbox string) {
	h = newHarness(t, nil)
	end := h.register()
	h.launch(end, true, shellExecutor("e1", `printf 'line one\nline two\n' > out.txt; printf '\377\376bin' > bin.dat; head -c 100000 /dev/zero | tr '\0' x > big.txt; mkdir sub; ln -s /etc outside; touch started; exec sleep 1000`), "t1")
	h.untilStarted("e1")
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
	h.update("e1", "t1", mesos.TASK_RUNNING)
	h.expectUpdate("t1", mesos.TASK_RUNNING, "")
	sandbox, err := filepath.EvalSymlinks(sandboxOf(h, "e1"))
	if err != nil {
		t.Fatal(err)
	}
	return h, "/frameworks/F1/executors/e1/runs/latest", sandbox
}

func TestFiles_AnswersAsRecorded(t *testing.T) {
	h, virtual, sandbox := withFiles(t)
	query := func(endpoint, path, more string) string {
		return "/files/" + endpoint + "?path=" + url.QueryEscape(path) + more
	}
	for _, c := range []struct {
		name, path string
		status     int
		text       string
	}{
		{"virtual path with a container id", query("browse", strings.Replace(virtual, "latest", filepath.Base(sandbox), 1), ""), 404, ""},
		{"runs directory", query("browse", filepath.Dir(virtual), ""), 404, ""},
		{"empty directory", query("browse", virtual+"/sub", ""), 200, "[]"},
		{"browse of a file", query("browse", virtual+"/out.txt", ""), 200, "[]"},
		{"dot-dot", query("browse", virtual+"/../..", ""), 400, "'" + sandbox + "/../..' is inaccessible.\n"},
		{"link that leads out", query("browse", virtual+"/outside", ""), 400, "'" + sandbox + "/outside' is inaccessible.\n"},
		{"no path", "/files/browse", 400, "Expecting 'path=value' in query.\n"},
		{"unattached", query("browse", "/etc", ""), 404, ""},
		{"read", query("read", virtual+"/out.txt", "&offset=0&length=4"), 200, `{"data":"line","offset":0}`},
		{"offset -1", query("read", virtual+"/out.txt", "&offset=-1"), 200, `{"data":"","offset":18}`},
		{"no offset", query("read", virtual+"/out.txt", ""), 200, `{"data":"","offset":18}`},
		{"past the end", query("read", virtual+"/out.txt", "&offset=100"), 200, `{"data":"","offset":100}`},
		{"bad offset", query("read", virtual+"/out.txt", "&offset=x"), 400, "Failed to parse offset: Failed to convert 'x' to number.\n"},
		{"missing file", query("read", virtual+"/nope", "&offset=0"), 404, ""},
		{"directory", query("read", virtual, "&offset=0"), 400, "Cannot read a directory.\n"},
		{"real path", query("read", sandbox+"/out.txt", "&offset=5&length=3"), 200, `{"data":"one","offset":5}`},
		{"real path with latest", query("read", filepath.Dir(sandbox)+"/latest/out.txt", "&offset=5&length=3"), 200, `{"data":"one","offset":5}`},
		{"download", query("download", virtual+"/out.txt", ""), 200, "line one\nline two\n"},
		{"log", query("browse", "/slave/log", ""), 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := h.ask(h.client, "GET", c.path, "", "")
			if status != c.status || text != c.text {
				t.Errorf("%d %q, want %d %q", status, text, c.status, c.text)
			}
		})
	}
	_, text := h.ask(h.client, "GET", query("read", virtual+"/big.txt", "&offset=0"), "", "")
	if n := strings.Count(text, "x"); n != 65536 {
		t.Errorf("%d bytes of a long file, want 65536", n)
	}
	var rows []struct {
		Path, Mode string
		Size       int64
		Nlink      int
	}
	_, text = h.ask(h.client, "GET", query("browse", virtual, ""), "", "")
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var names []string
	for _, r := range rows {
		names = append(names, filepath.Base(r.Path)+" "+r.Mode)
	}
	if got, want := strings.Join(names, ", "), "big.txt -rw-r--r--, bin.dat -rw-r--r--, out.txt -rw-r--r--, outside drwxr-xr-x, "+
		"started -rw-r--r--, stderr -rw-r--r--, stdout -rw-r--r--, sub drwxr-xr-x"; got != want {
		t.Errorf("browse: %s", got)
	}
}

func TestOperator_Calls(t *testing.T) {
	h, virtual, _ := withFiles(t)
	for _, c := range []struct {
		name, body string
		status     int
		contains   []string
	}{
		{"no type", `{}`, 400, []string{"Failed to validate agent::Call: Expecting 'type' to be present"}},
		{"tasks", `{"type":"GET_TASKS"}`, 200, []string{`"queued_tasks":[]`, `"launched_tasks":[{`, `"state":"TASK_RUNNING"`, `"status_update_state":"TASK_RUNNING"`, `"completed_tasks":[]`}},
		{"executors", `{"type":"GET_EXECUTORS"}`, 200, []string{`"executors":[{"executor_info":{"executor_id":{"value":"e1"}`, `"completed_executors":[]`}},
		{"frameworks", `{"type":"GET_FRAMEWORKS"}`, 200, []string{`"frameworks":[{`, `"completed_frameworks":[]`}},
		{"state", `{"type":"GET_STATE"}`, 200, []string{`"get_state":{"get_tasks":{`, `"get_executors":{`, `"get_frameworks":{`}},
		{"containers", `{"type":"GET_CONTAINERS"}`, 200, []string{`"executor_pid":`, `"resource_statistics":{"timestamp":`, `"mem_rss_bytes":`}},
		{"agent", `{"type":"GET_AGENT"}`, 200, []string{`"id":{"value":"A-S0"}`}},
		{"metrics", `{"type":"GET_METRICS","get_metrics":{}}`, 200, []string{`{"name":"slave/registered","value":1.0}`}},
		{"list files", `{"type":"LIST_FILES","list_files":{"path":"` + virtual + `"}}`, 200, []string{`/out.txt"`, `"size":18`, `"mode":33188`}},
		{"read file", `{"type":"READ_FILE","read_file":{"path":"` + virtual + `/out.txt","offset":5,"length":3}}`, 200, []string{`{"type":"READ_FILE","read_file":{"size":18,"data":"b25l"}}`}},
		{"missing file", `{"type":"READ_FILE","read_file":{"path":"` + virtual + `/nope","offset":0}}`, 404, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := h.ask(h.client, "POST", "/api/v1", "application/json", c.body)
			if status != c.status {
				t.Errorf("%d %s, want %d", status, text, c.status)
			}
			for _, part := range c.contains {
				if !strings.Contains(text, part) {
					t.Errorf("%s is not in %s", part, text)
				}
			}
		})
	}
	for path, part := range map[string]string{
		"/containers":                     `"executor_id":"e1"`,
		"/containers?executor_id=another": `[]`,
		"/monitor/statistics":             `[{"executor_id":"e1"`,
		"/files/debug":                    `"/frameworks/F1/executors/e1/runs/latest":"/`,
		"/version":                        `"version":"1.12.0"`,
		"/metrics/snapshot":               `"slave/tasks_running":1`,
		"/slave(1)/containers":            `"status":{"`,
	} {
		if status, text := h.ask(h.client, "GET", path, "", ""); status != 200 || !strings.Contains(text, part) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := h.ask(h.client, "GET", "/health", "", ""); status != 200 || text != "" {
		t.Errorf("health: %d %q", status, text)
	}
}

func FuzzParseStat(f *testing.F) {
	if own, err := os.ReadFile("/proc/self/stat"); err == nil {
		f.Add(own)
	}
	f.Add([]byte("7 (a) b) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 123 0 0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parseStat(7, text)
		if err == nil && (p.pid != 7 || p.started == "") {
			t.Errorf("%q: %+v", text, p)
		}
	})
}

func TestParseStat_NameWithParentheses(t *testing.T) {
	p, err := parseStat(7, []byte("7 (a) S 9 (b) S 1 6 5 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 123 0 0"))
	if want := (process{pid: 7, parent: 1, group: 6, session: 5, state: 'S', started: "123"}); err != nil || p != want {
		t.Errorf("%+v, %v, want %+v", p, err, want)
	}
}

func FuzzReplay(f *testing.F) {
	status := newStatus("t", mesos.TASK_RUNNING)
	content, err := status.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte("1\nA"), content...))
	f.Add([]byte("0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newUpdateStream(updateKey{"f", "t"}, "")
		all, err := replay(s, strings.NewReader(string(text)))
		if err == nil && len(s.pending) > len(all) {
			t.Errorf("%d of %d updates pending", len(s.pending), len(all))
		}
	})
}
