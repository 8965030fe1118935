package master_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
)

// framework is a part of GET_FRAMEWORKS.
type framework struct {
	Info struct {
		ID         struct{ Value string } `json:"id"`
		Name, User string
		Checkpoint bool
	} `json:"framework_info"`
	Active, Connected, Recovered bool
}

// operate sends a call to the operator API and decodes the answer.
func operate(t *testing.T, m *master.Master, body string, answer any) int {
	t.Helper()
	response, text := probe.Post(t, m.URL()+"/api/v1", http.Header{"Content-Type": {"application/json"}}, []byte(body))
	if answer != nil {
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", body, response.StatusCode, text)
		}
		if err := json.Unmarshal([]byte(text), answer); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return response.StatusCode
}

// awaitFramework waits until GET_FRAMEWORKS shows a framework as wanted.
func awaitFramework(t *testing.T, m *master.Master, id string, wanted func(framework) bool) {
	t.Helper()
	var last framework
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var answer struct {
			Get struct{ Frameworks []framework } `json:"get_frameworks"`
		}
		operate(t, m, `{"type":"GET_FRAMEWORKS"}`, &answer)
		for _, f := range answer.Get.Frameworks {
			if f.Info.ID.Value == id {
				if last = f; wanted(f) {
					return
				}
			}
		}
	}
	t.Fatalf("framework %s is not as wanted: %+v", id, last)
}

func TestPlainEndpoints(t *testing.T) {
	m, l := start(t, quick)
	s, agent := running(t, m, l, probe.FrameworkInfo())
	get := func(path string, answer any) {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, m.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, response.Status)
		}
		if answer != nil {
			if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
	}
	get("/health", nil)
	var version struct{ Version string }
	if get("/version", &version); version.Version != "1.12.0" {
		t.Errorf("version %q", version.Version)
	}
	metrics := map[string]float64{}
	get("/metrics/snapshot", &metrics)
	for name, want := range map[string]float64{
		"master/elected": 1, "master/tasks_running": 1, "master/tasks_finished": 0, "master/frameworks_active": 1,
		"master/slaves_active": 1, "master/cpus_total": 4, "master/cpus_used": 0.2, "master/messages_launch_tasks": 1,
	} {
		if metrics[name] != want {
			t.Errorf("%s is %v, want %v", name, metrics[name], want)
		}
	}
	var state struct {
		Slaves     []struct{ ID string }
		Frameworks []struct {
			ID    string
			Tasks []struct{ ID, State string }
		}
	}
	for _, path := range []string{"/slaves", "/frameworks", "/state"} {
		get("/master"+path, &state) // each adds its part
	}
	if state.Slaves[0].ID != agent.id || state.Frameworks[0].ID != s.ID || state.Frameworks[0].Tasks[0].State != "TASK_RUNNING" {
		t.Errorf("state: %+v", state)
	}
	var tasks struct{ Tasks []struct{ ID string } }
	if get("/tasks", &tasks); len(tasks.Tasks) != 1 || tasks.Tasks[0].ID != "t1" {
		t.Errorf("tasks: %+v", tasks)
	}
	var health struct {
		Get struct{ Healthy bool } `json:"get_health"`
	}
	if operate(t, m, `{"type":"GET_HEALTH"}`, &health); !health.Get.Healthy {
		t.Error("not healthy")
	}
	for _, call := range []string{"GET_STATE", "GET_AGENTS", "GET_EXECUTORS", "GET_TASKS", "GET_VERSION", "GET_MASTER"} {
		var answer map[string]any
		if operate(t, m, `{"type":"`+call+`"}`, &answer); answer["type"] != call {
			t.Errorf("%s: %v", call, answer)
		}
	}
	if code := operate(t, m, `{"type":"TEARDOWN","teardown":{"framework_id":{"value":"nope"}}}`, nil); code != 400 {
		t.Errorf("TEARDOWN of nobody: %d", code)
	}
	response, _ := probe.Post(t, m.URL()+"/master/teardown", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		[]byte("frameworkId="+s.ID))
	if response.StatusCode != http.StatusOK {
		t.Errorf("/teardown: %s", response.Status)
	}
}
