package api_test

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	marathon "github.com/gambol99/go-marathon"
)

// TestClient_GoMarathonDrivesAFullCycle: a client that was written for Marathon
// works as it is.
func TestClient_GoMarathonDrivesAFullCycle(t *testing.T) {
	w := newWorld(t, newCluster(t, 3, brisk()))
	config := marathon.NewDefaultConfig()
	config.URL = w.url
	config.EventsTransport = marathon.EventsTransportSSE
	config.PollingWaitTime = 20 * time.Millisecond
	client, err := marathon.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	deployed := func(what string, id *marathon.DeploymentID, err error) {
		t.Helper()
		check(what, err)
		check("wait for "+what, client.WaitOnDeployment(id.DeploymentID, patience))
	}

	seen := newSeen()
	events, err := client.AddEventsListener(marathon.EventIDAPIRequest | marathon.EventIDApplications | marathon.EventIDDeploymentSuccess | marathon.EventIDDeploymentInfo)
	check("listen to events", err)
	go seen.collect(events)

	ok, err := client.Ping()
	if check("ping", err); !ok {
		t.Error("ping is not answered")
	}
	info, err := client.Info()
	if check("info", err); info.FrameworkID == "" || info.Name != "pacer" {
		t.Errorf("info: %+v", info)
	}
	leader, err := client.Leader()
	if check("leader", err); !strings.HasSuffix(w.url, leader) {
		t.Errorf("leader %q", leader)
	}

	app := marathon.NewDockerApplication()
	app.Container = nil
	app.Name("/shop/cart").Command("serve").CPU(0.1).Memory(32).Count(2)
	app.AddEnv("VERSION", "1").AddLabel("team", "shop")
	app.AddHealthCheck(*marathon.NewDefaultHealthCheck())
	created, err := client.CreateApplication(app)
	if check("create", err); created.Version == "" || len(created.DeploymentIDs()) != 1 {
		t.Errorf("created %+v", created)
	}
	check("wait for the deployment", client.WaitOnDeployment(created.DeploymentIDs()[0].DeploymentID, patience))
	check("wait for the app", client.WaitOnApplication("/shop/cart", patience))
	if ok, err := client.ApplicationOK("/shop/cart"); err != nil || !ok {
		t.Errorf("ApplicationOK: %v, %v", ok, err)
	}
	if _, err := client.CreateApplication(app); apiCode(err) != marathon.ErrCodeDuplicateID {
		t.Errorf("created twice: %v", err)
	}
	if _, err := client.Application("/shop/none"); apiCode(err) != marathon.ErrCodeNotFound {
		t.Errorf("unknown app: %v", err)
	}
	bad := marathon.NewDockerApplication().Name("/shop/bad").CPU(-1)
	bad.Container = nil
	if _, err := client.CreateApplication(bad); apiCode(err) != marathon.ErrCodeInvalidBean || !strings.Contains(err.Error(), "/cpus") {
		t.Errorf("invalid app: %v", err)
	}

	id, err := client.ScaleApplicationInstances("/shop/cart", 4, false)
	deployed("scale", id, err)
	got, err := client.ApplicationBy("/shop/cart", &marathon.GetAppOpts{Embed: []string{"app.taskStats", "app.readiness"}})
	check("read", err)
	if got.TasksRunning != 4 || got.TasksHealthy != 4 || len(got.Tasks) != 4 || got.TaskStats["totalSummary"].Stats.Counts["healthy"] != 4 {
		t.Errorf("after scaling: %d running, %d healthy, %d tasks, stats %+v", got.TasksRunning, got.TasksHealthy, len(got.Tasks), got.TaskStats)
	}

	update := marathon.NewDockerApplication().Name("/shop/cart").AddEnv("VERSION", "2")
	update.Container = nil
	id, err = client.UpdateApplication(update, false)
	deployed("update", id, err)
	versions, err := client.ApplicationVersions("/shop/cart")
	if check("versions", err); len(versions.Versions) != 3 {
		t.Errorf("versions %v", versions)
	}
	old, err := client.ApplicationByVersion("/shop/cart", versions.Versions[1])
	if check("old version", err); (*old.Env)["VERSION"] != "1" {
		t.Errorf("old version has %v", old.Env)
	}
	id, err = client.SetApplicationVersion("/shop/cart", &marathon.ApplicationVersion{Version: versions.Versions[1]})
	deployed("go back", id, err)
	id, err = client.RestartApplication("/shop/cart", false)
	deployed("restart", id, err)

	list, err := client.ListApplications(url.Values{"label": {"team==shop"}})
	if check("list", err); len(list) != 1 || list[0] != "/shop/cart" {
		t.Errorf("list %v", list)
	}
	tasks, err := client.Tasks("/shop/cart")
	if check("tasks", err); len(tasks.Tasks) != 4 {
		t.Fatalf("%d tasks", len(tasks.Tasks))
	}
	first := tasks.Tasks[0]
	killed, err := client.KillTask(first.ID, nil)
	if check("kill", err); killed.ID != first.ID {
		t.Errorf("killed %+v", killed)
	}
	w.until("the killed task is replaced", func() bool {
		all, err := client.AllTasks(&marathon.AllTasksOpts{Status: "running"})
		if err != nil || len(all.Tasks) != 4 {
			return false
		}
		for _, task := range all.Tasks {
			if task.ID == first.ID {
				return false
			}
		}
		return true
	})
	check("wait for the app", client.WaitOnApplication("/shop/cart", patience))
	tasks, err = client.Tasks("/shop/cart")
	check("tasks", err)
	check("kill and scale", client.KillTasks([]string{tasks.Tasks[0].ID, tasks.Tasks[1].ID}, &marathon.KillTaskOpts{Scale: true}))
	w.settled()
	got, err = client.Application("/shop/cart")
	if check("read", err); *got.Instances != 2 || len(got.Tasks) != 2 {
		t.Errorf("after kill and scale: %d instances, %d tasks", *got.Instances, len(got.Tasks))
	}
	host := got.Tasks[0].Host
	byHost, err := client.KillApplicationTasks("/shop/cart", &marathon.KillApplicationTasksOpts{Host: host})
	if check("kill by host", err); len(byHost.Tasks) == 0 {
		t.Error("no task was killed on " + host)
	}

	group := marathon.NewApplicationGroup("/team")
	for _, name := range []string{"/team/one", "/team/sub/two"} {
		member := marathon.NewDockerApplication().Name(name).Command("serve").CPU(0.1).Memory(16).Count(1)
		member.Container = nil
		group.App(member)
	}
	check("create group", client.CreateGroup(group))
	check("wait for the group", client.WaitOnGroup("/team", patience))
	if has, err := client.HasGroup("/team/sub"); err != nil || !has {
		t.Errorf("group within: %v, %v", has, err)
	}
	view, err := client.Group("/team")
	if check("group", err); len(view.Apps) != 1 || len(view.Groups) != 1 || view.Groups[0].Apps[0].ID != "/team/sub/two" {
		t.Errorf("group: %+v", view)
	}
	id, err = client.DeleteGroup("/team", true)
	deployed("delete group", id, err)
	if has, err := client.HasGroup("/team"); err != nil || has {
		t.Errorf("deleted group: %v, %v", has, err)
	}

	large := marathon.NewDockerApplication().Name("/large").Command("serve").CPU(1000).Memory(16).Count(1)
	large.Container = nil
	created, err = client.CreateApplication(large)
	check("create one that fits nowhere", err)
	w.until("it waits", func() bool {
		queue, err := client.Queue()
		return err == nil && len(queue.Items) == 1 && queue.Items[0].Application.ID == "/large" && queue.Items[0].Count == 1
	})
	check("reset the delay", client.DeleteQueueDelay("/large"))
	if _, err := client.ScaleApplicationInstances("/large", 2, false); apiCode(err) != marathon.ErrCodeAppLocked {
		t.Errorf("locked: %v", err)
	}
	deployments, err := client.Deployments()
	if check("deployments", err); len(deployments) != 1 || deployments[0].ID != created.DeploymentIDs()[0].DeploymentID || deployments[0].AffectedApps[0] != "/large" {
		t.Errorf("deployments %+v", deployments)
	}
	id, err = client.DeleteDeployment(deployments[0].ID, false)
	deployed("roll back", id, err)
	if _, err := client.Application("/large"); apiCode(err) != marathon.ErrCodeNotFound {
		t.Errorf("rolled back to nothing: %v", err)
	}

	id, err = client.DeleteApplication("/shop/cart", false)
	deployed("delete", id, err)
	for _, name := range []string{"status_update_event", "health_status_changed_event", "deployment_info", "deployment_success", "api_post_event", "app_terminated_event"} {
		w.until("an event comes of type "+name, func() bool { return seen.has(name) })
	}
	client.RemoveEventsListener(events)
}

func apiCode(err error) int {
	if refused, ok := err.(*marathon.APIError); ok {
		return refused.ErrCode
	}
	return -1
}

// seen are the names of events that have come.
type seen struct {
	mu    sync.Mutex
	names map[string]bool
}

func newSeen() *seen { return &seen{names: make(map[string]bool)} }

func (s *seen) collect(events marathon.EventsChannel) {
	for event := range events {
		s.mu.Lock()
		s.names[event.Name] = true
		s.mu.Unlock()
	}
}

func (s *seen) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name]
}
