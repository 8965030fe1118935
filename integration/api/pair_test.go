package api_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	mesosscheduler "github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/scheduler"
	"pacer/scheduler/api"
)

// TestTwoSchedulers_ShareACluster: two frameworks with names, roles and states
// of their own, apps of the same names, and all that each does beside the
// other: neither touches the other's tasks.
func TestTwoSchedulers_ShareACluster(t *testing.T) {
	cluster := newCluster(t, 3, brisk())
	named := func(name string) func(*scheduler.Config) {
		return func(c *scheduler.Config) {
			c.Framework.Name, c.Framework.Role = name, name
			c.Times.Reconcile = time.Second // implicit reconciliation is where foreign tasks would show
		}
	}
	red, blue := newWorld(t, cluster, named("red")), newWorld(t, cluster, named("blue"))
	for _, w := range []*world{red, blue} {
		w.must("POST", "/v2/apps", service("/shop/cart", 3, 1), nil)
		w.must("POST", "/v2/apps", service("/gone", 2, 1), nil)
	}
	red.settled()
	blue.settled()
	before := blue.tasks("/shop/cart", "/gone")
	if len(before) != 5 {
		t.Fatalf("blue has %v", before)
	}

	red.must("PUT", "/v2/apps/shop/cart", `{"env":{"VERSION":"2"}}`, nil)
	red.must("DELETE", "/v2/apps/gone", "", nil)
	red.settled()
	red.must("DELETE", "/v2/apps/shop/cart/tasks", "", nil)
	red.must("PUT", "/v2/apps/shop/cart?force=true", `{"instances":1}`, nil)
	red.settled()
	// A task of the other is unknown here, whoever asks.
	foreign := fmt.Sprintf(`{"ids":[%q]}`, before[0])
	red.must("POST", "/v2/tasks/delete", foreign, nil)
	if code := red.do("DELETE", "/v2/apps/shop/cart/tasks/"+before[0], "", nil); code != 404 {
		t.Errorf("a task of the other: %d", code)
	}
	// Long enough for several reconciliations of both.
	asked := reconciliations(cluster)
	red.until("both have reconciled again", func() bool { return reconciliations(cluster) > asked+12 })
	if after := blue.tasks("/shop/cart", "/gone"); !slices.Equal(after, before) {
		t.Errorf("blue has %v, had %v", after, before)
	}
	for _, w := range []*world{red, blue} {
		var info struct{ Quarantine struct{ Count int } }
		if w.must("GET", "/v2/info", "", &info); info.Quarantine.Count != 0 {
			t.Errorf("quarantine: %+v", info)
		}
	}
	for _, e := range cluster.Log() {
		call, ok := e.Message.(*mesosscheduler.Call)
		if !ok {
			continue
		}
		switch id := call.GetKill().GetTaskID().Value; {
		case call.Type == mesosscheduler.Call_KILL && slices.Contains(before, id):
			t.Errorf("%s was asked to kill blue's %s", e.From, id)
		case call.Type == mesosscheduler.Call_SHUTDOWN:
			t.Errorf("%s was asked to shut down %s", e.From, call.Shutdown.ExecutorID.Value)
		}
	}

	// The end of one is nothing to the other.
	red.stop()
	blue.must("PUT", "/v2/apps/shop/cart", `{"instances":4}`, nil)
	blue.settled()
	if after := blue.tasks("/shop/cart", "/gone"); len(after) != 6 {
		t.Errorf("blue has %v", after)
	}
}

// tasks are the IDs of the tasks of apps, sorted.
func (w *world) tasks(apps ...string) []string {
	w.t.Helper()
	var ids []string
	for _, id := range apps {
		status, err := w.scheduler.App(w.t.Context(), id, api.Embed{Tasks: true})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, task := range status.Tasks {
			ids = append(ids, task.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// reconciliations that frameworks have asked for.
func reconciliations(cluster *emulator.Cluster) int {
	n := 0
	for _, e := range cluster.Log() {
		if call, ok := e.Message.(*mesosscheduler.Call); ok && call.Type == mesosscheduler.Call_RECONCILE {
			n++
		}
	}
	return n
}

// service is an app with a health check.
func service(id string, instances, version int) string {
	return fmt.Sprintf(`{"id":%q,"cmd":"serve","cpus":0.1,"mem":16,"instances":%d,"env":{"VERSION":"%d"},"healthChecks":[{"protocol":"MESOS_HTTP","path":"/"}]}`, id, instances, version)
}
