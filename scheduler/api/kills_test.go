package api_test

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pacer/scheduler/api"
	"pacer/scheduler/api/apitest"
)

func decode(t *testing.T, r *httptest.ResponseRecorder, into any) {
	t.Helper()
	if err := json.Unmarshal(r.Body.Bytes(), into); err != nil {
		t.Fatalf("%v in %s", err, r.Body)
	}
}

func TestKills(t *testing.T) {
	for name, test := range map[string]struct {
		method, target, body string
		status               int
		killed               string
		instances            int    // afterwards
		has                  string // in the reply
	}{
		"all":                  {"DELETE", "/v2/apps/hello/tasks", "", 200, "hello.1 hello.2 hello.3", 3, `{"tasks":[{"id":"hello.1"`},
		"of one host":          {"DELETE", "/v2/apps/hello/tasks?host=n1", "", 200, "hello.1 hello.3", 3, `{"tasks":[`},
		"of a host without":    {"DELETE", "/v2/apps/hello/tasks?host=n9", "", 200, "", 3, `{"tasks":[]}`},
		"one":                  {"DELETE", "/v2/apps/hello/tasks/hello.2", "", 200, "hello.2", 3, `{"task":{"id":"hello.2"`},
		"one, scaled":          {"DELETE", "/v2/apps/hello/tasks/hello.2?scale=true", "", 200, "hello.2", 2, `"deploymentId"`},
		"host, scaled":         {"DELETE", "/v2/apps/hello/tasks?host=n1&scale=true", "", 200, "hello.1 hello.3", 1, `"deploymentId"`},
		"wiped":                {"DELETE", "/v2/apps/hello/tasks/hello.2?wipe=true", "", 200, "hello.2", 3, `{"task":`},
		"scaled and wiped":     {"DELETE", "/v2/apps/hello/tasks?scale=true&wipe=true", "", 400, "", 3, "You cannot use scale and wipe at the same time."},
		"none such":            {"DELETE", "/v2/apps/hello/tasks/hello.9", "", 404, "", 3, "Task 'hello.9' does not exist"},
		"of no app":            {"DELETE", "/v2/apps/none/tasks", "", 404, "", 3, "App '/none' does not exist"},
		"many":                 {"POST", "/v2/tasks/delete", `{"ids":["hello.1","hello.2","hello.9","none.1"]}`, 200, "hello.1 hello.2", 3, `{"tasks":[{"id":"hello.1"`},
		"many, scaled":         {"POST", "/v2/tasks/delete?scale=true", `{"ids":["hello.1","hello.2"]}`, 200, "hello.1 hello.2", 1, `"deploymentId"`},
		"many, no ID":          {"POST", "/v2/tasks/delete", `{"ids":["hello"]}`, 400, "", 3, "Invalid task id 'hello'."},
		"many, nonsense":       {"POST", "/v2/tasks/delete", `{"ids":3}`, 400, "", 3, `"path":"/ids"`},
		"many, nothing":        {"POST", "/v2/tasks/delete", `{}`, 400, "", 3, `"path":"/ids"`},
		"many, scaled to none": {"POST", "/v2/tasks/delete?scale=true", `{"ids":["none.1"]}`, 200, "", 3, `"deploymentId"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.must("POST", "/v2/apps", `{"id":"/hello","cmd":"x","instances":3}`)
			s.backend.Finish()
			s.backend.SetTasks("/hello", api.Counts{Running: 3},
				api.Task{ID: "hello.1", AppID: "/hello", Host: "n1"}, api.Task{ID: "hello.2", AppID: "/hello", Host: "n2"}, api.Task{ID: "hello.3", AppID: "/hello", Host: "n1"})
			r := s.do(test.method, test.target, test.body)
			if r.Code != test.status || !strings.Contains(r.Body.String(), test.has) {
				t.Errorf("%d %s, want %d with %s", r.Code, r.Body, test.status, test.has)
			}
			killed := s.backend.Killed()
			slices.Sort(killed)
			if got := strings.Join(killed, " "); got != test.killed {
				t.Errorf("killed %q, want %q", got, test.killed)
			}
			if n := s.backend.Current("/hello").Instances; n != test.instances {
				t.Errorf("%d instances, want %d", n, test.instances)
			}
		})
	}
}

func TestTasks_OfAGroup(t *testing.T) {
	s := shop(t)
	s.backend.SetTasks("/shop/cart", api.Counts{}, api.Task{ID: "shop_cart.1", AppID: "/shop/cart"})
	s.backend.SetTasks("/shopping", api.Counts{}, api.Task{ID: "shopping.1", AppID: "/shopping"})
	var got struct{ Tasks []struct{ ID string } }
	if decode(t, s.must("GET", "/v2/apps/shop/*/tasks", ""), &got); len(got.Tasks) != 1 || got.Tasks[0].ID != "shop_cart.1" {
		t.Errorf("%+v", got)
	}
}

func TestQueue_DeleteDelay(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	want(t, s.do("DELETE", "/v2/queue/hello/delay", ""), 404, `{"message":"Application /hello not found in tasks queue."}`)
	s.backend.SetQueue("/hello", api.QueueItem{Count: 1, NotBefore: time.Now().Add(time.Hour)})
	want(t, s.do("DELETE", "/v2/queue//hello/delay", ""), 204, "")
	want(t, s.do("DELETE", "/v2/queue/hello", ""), 404, `{"message":"There is nothing at /v2/queue/hello"}`)
}

func TestTaskStats(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	s.backend.Finish()
	s.must("POST", "/v2/apps/hello/restart", "")
	current := s.backend.Current("/hello")
	now := time.Now()
	s.backend.SetTasks("/hello", api.Counts{},
		api.Task{ID: "hello.1", Version: current.LastConfigChange, State: "TASK_RUNNING", StagedAt: now, StartedAt: now.Add(-10 * time.Second), Health: &api.Health{Alive: true}},
		api.Task{ID: "hello.2", Version: current.LastConfigChange - 1, State: "TASK_RUNNING", StagedAt: apitest.Epoch, StartedAt: now.Add(-30 * time.Second), Health: &api.Health{}},
		api.Task{ID: "hello.3", Version: current.LastConfigChange, State: "TASK_STAGING", StagedAt: now})
	type stats struct {
		Stats struct {
			Counts   struct{ Staged, Running, Healthy, Unhealthy int }
			LifeTime *struct{ AverageSeconds, MedianSeconds float64 }
		}
	}
	var got struct {
		Apps []struct {
			TaskStats map[string]stats
			Tasks     []struct{}
		}
	}
	decode(t, s.must("GET", "/v2/apps?embed=apps.taskStats", ""), &got)
	a := got.Apps[0]
	if a.Tasks != nil {
		t.Error("tasks are shown, too")
	}
	counts := func(name string) [4]int {
		c := a.TaskStats[name].Stats.Counts
		return [4]int{c.Staged, c.Running, c.Healthy, c.Unhealthy}
	}
	for name, want := range map[string][4]int{
		"totalSummary": {1, 2, 1, 1}, "withLatestConfig": {1, 1, 1, 0}, "withOutdatedConfig": {0, 1, 0, 1}, "startedAfterLastScaling": {1, 1, 1, 0},
	} {
		if counts(name) != want {
			t.Errorf("%s: %v, want %v", name, counts(name), want)
		}
	}
	if life := a.TaskStats["totalSummary"].Stats.LifeTime; life == nil || life.AverageSeconds < 20 || life.AverageSeconds > 25 || life.MedianSeconds < 20 {
		t.Errorf("life times: %+v", life)
	}
}
