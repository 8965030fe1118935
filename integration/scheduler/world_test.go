package scheduler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"

	emulator "pacer/integration/mesos"
	mesosmaster "pacer/integration/mesos/master"
	"pacer/scheduler"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state/bolt"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// world is a cluster with a scheduler that can be stopped and started.
type world struct {
	t       *testing.T
	cluster *emulator.Cluster
	config  scheduler.Config
	path    string
	log     zerolog.Logger

	scheduler *scheduler.Scheduler
	stop      func()
}

// newWorld starts a cluster whose master loses agents within a second.
func newWorld(t *testing.T, agents int, change ...func(*emulator.Config)) *world {
	config := emulator.Config{
		Agents: agents,
		Master: mesosmaster.Config{AllocationInterval: 50 * time.Millisecond, AgentPingTimeout: 250 * time.Millisecond, MaxAgentPingTimeouts: 4},
	}
	for _, f := range change {
		f(&config)
	}
	w := &world{t: t, path: filepath.Join(t.TempDir(), "state.db"), log: zerolog.Nop()}
	if testing.Verbose() {
		w.log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "15:04:05.000"}).With().Timestamp().Logger()
	}
	w.cluster = emulator.New(t, config)
	// Its address must not change with the scheduler.
	public := httptest.NewServer(api.NewPublic(api.PublicConfig{Executor: executor, Log: w.log}))
	t.Cleanup(public.Close)
	w.config = scheduler.DefaultConfig()
	w.config.Framework.User = self(t)
	w.config.Executor.URI = public.URL + executor.Path()
	w.config.Executor.SHA256 = executor.SHA256()
	w.config.Executor.Environment = map[string]string{"PACER_ALLOWED_USERS": self(t)}
	w.config.Times.RefuseUnfit = 200 * time.Millisecond
	w.config.Times.ReconcileDoubtful = time.Second
	w.config.Times.LaunchTimeout = 5 * time.Second
	w.config.Times.KillRepeat = 2 * time.Second
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts a scheduler on what an earlier one has stored.
func (w *world) start() {
	w.t.Helper()
	store, err := bolt.Open(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := master.New(master.Config{Masters: w.cluster.MasterURL()}, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.scheduler, err = scheduler.Open(w.t.Context(), w.config, store, client, nil, w.log); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.scheduler.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("scheduler: %v", err)
		}
		if err := store.Close(); err != nil {
			w.t.Errorf("store: %v", err)
		}
		w.stop = func() {}
	}
}

func (w *world) restart() {
	w.stop()
	w.start()
}

func (w *world) put(a *app.App) api.Started {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	edit := api.Edit{ID: a.ID, Next: a}
	if current, err := w.scheduler.App(ctx, a.ID, api.Embed{}); err == nil {
		edit.Replaces = current.App.Version
	}
	started, err := w.scheduler.Change(ctx, []api.Edit{edit}, api.ChangeOptions{Force: true})
	if err != nil {
		w.t.Fatalf("put %s: %v", a.ID, err)
	}
	return started
}

func (w *world) status(id string) api.AppStatus {
	w.t.Helper()
	status, err := w.scheduler.App(w.t.Context(), id, api.Embed{Tasks: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return status
}

// until waits for a condition; what names it.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			queue, _ := w.scheduler.Queue(w.t.Context())
			for _, item := range queue {
				w.t.Logf("%d of %s wait: %s", item.Count, item.App.ID, item.Reason)
			}
			w.t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// deployed waits until no deployment is under way and n instances are healthy.
func (w *world) deployed(id string, n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s has %d healthy instances", id, n), func() bool {
		status := w.status(id)
		return len(status.Deployments) == 0 && status.Counts.Healthy == n && len(status.Tasks) == n
	})
}

// service is an app that runs this test binary.
func (w *world) service(id string, instances, version int, change ...func(*app.App)) *app.App {
	program, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	a := app.Default(id)
	a.Args = []string{program}
	a.Env = map[string]string{serviceRole: "1", "VERSION": strconv.Itoa(version)}
	a.CPUs, a.Mem, a.Instances = 100, 32*app.Unit, instances
	a.HealthCheck = &app.HealthCheck{
		Protocol: app.CheckMesosHTTP, Path: "/", GracePeriod: 30 * time.Second,
		Interval: time.Second, Timeout: 5 * time.Second, MaxConsecutiveFailures: 3,
	}
	for _, f := range change {
		f(a)
	}
	return a
}

// answers asks every instance for its version.
func (w *world) answers(id string) map[string]int {
	w.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	versions := make(map[string]int)
	for _, task := range w.status(id).Tasks {
		response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", task.Ports[0]))
		if err != nil {
			w.t.Errorf("%s: %v", task.ID, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err := response.Body.Close(); err != nil {
			w.t.Error(err)
		}
		if err != nil {
			w.t.Errorf("%s: %v", task.ID, err)
		}
		versions[string(body)]++
	}
	return versions
}

// tasks are the IDs of an app's instances.
func (w *world) tasks(id string) map[string]bool {
	ids := make(map[string]bool)
	for _, task := range w.status(id).Tasks {
		ids[task.ID] = true
	}
	return ids
}

// alive tells whether anybody listens where a task did.
func (w *world) alive(task api.Task) bool {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", task.Ports[0]))
	if err != nil {
		return false
	}
	return response.Body.Close() == nil
}

// executors counts those that are alive, by the agents' own account.
func (w *world) executors() int {
	n := 0
	for _, node := range w.cluster.Nodes() {
		response, err := http.Get(node.URL() + "/containers")
		if err != nil {
			return -1
		}
		var containers []struct{}
		err = json.NewDecoder(response.Body).Decode(&containers)
		if closed := response.Body.Close(); err != nil || closed != nil {
			return -1
		}
		n += len(containers)
	}
	return n
}
