package failover_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pacer/integration/binaries"
	emulator "pacer/integration/mesos"
	mesosmaster "pacer/integration/mesos/master"
	"pacer/integration/zookeeper"
	"pacer/scheduler/api"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// session is the schedulers' session timeout.
const session = 2 * time.Second

// world is a cluster, a ZooKeeper and schedulers.
type world struct {
	t         testing.TB
	cluster   *emulator.Cluster
	zookeeper *zookeeper.Server
	flags     []string
	client    *http.Client
}

func newWorld(t testing.TB, options zookeeper.Options) *world {
	options.Tick = 100 * time.Millisecond
	w := &world{t: t, zookeeper: zookeeper.Start(t, options), client: &http.Client{Timeout: 30 * time.Second}}
	t.Cleanup(w.client.CloseIdleConnections)
	w.cluster = emulator.New(t, emulator.Config{
		Agents: 2, Master: mesosmaster.Config{AllocationInterval: 50 * time.Millisecond},
	})
	public := httptest.NewServer(api.NewPublic(api.PublicConfig{Executor: executor, Log: zerolog.Nop()}))
	t.Cleanup(public.Close)
	w.flags = []string{
		"--master=" + w.cluster.MasterURL(), "--state=" + w.zookeeper.URL("/pacer"), "--state-session=" + session.String(),
		"--listen=127.0.0.1:0", "--public-listen=127.0.0.1:0", "--user=" + self(t),
		"--executor-uri=" + public.URL + executor.Path(), "--executor-sha256=" + executor.SHA256(),
		"--executor-env=PACER_ALLOWED_USERS=" + self(t), "--log-level=debug",
	}
	return w
}

// process is a pacer-scheduler.
type process struct {
	w      *world
	cmd    *exec.Cmd
	api    string
	public string
	ended  chan struct{} // closed when it has been waited for

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *world) start(more ...string) *process {
	w.t.Helper()
	p := &process{w: w, ended: make(chan struct{}), cmd: exec.Command(programs.Path(binaries.Scheduler), append(slices.Clone(w.flags), more...)...)}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	started := make(chan struct{})
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.mu.Lock()
			p.log.Write(append(lines.Bytes(), '\n'))
			p.mu.Unlock()
			var line struct{ Message, API, Public string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "started" {
				p.api, p.public = line.API, line.Public
				close(started)
			}
		}
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if w.t.Failed() {
			w.t.Logf("log of %s (pid %d):\n%s", p.api, p.cmd.Process.Pid, p.text())
		}
	})
	select {
	case <-started:
	case <-p.ended:
		w.t.Fatalf("scheduler ended: %s", p.text())
	case <-time.After(patience):
		w.t.Fatal("scheduler does not start")
	}
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) signal(s syscall.Signal) {
	p.w.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.w.t.Fatal(err)
	}
}

// exits waits for the end of the process and returns its code.
func (p *process) exits() int {
	p.w.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.w.t.Fatalf("%s does not end", p.api)
		return 0
	}
}

// ask makes a request and returns what came back, status 0 when nothing did.
func (w *world) ask(method, url, body string) (status int, header http.Header, answer []byte) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := w.client.Do(r)
	if err != nil {
		return 0, nil, nil
	}
	defer response.Body.Close()
	if answer, err = io.ReadAll(response.Body); err != nil {
		return 0, nil, nil
	}
	return response.StatusCode, response.Header, answer
}

// until waits for a condition; what names it.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// leader is the one among processes that leads.
func (w *world) leader(among ...*process) *process {
	w.t.Helper()
	var found *process
	w.until("one scheduler leads", func() bool {
		for _, p := range among {
			_, _, metrics := w.ask("GET", p.api+"/metrics", "")
			if strings.Contains(string(metrics), "\npacer_scheduler_leads 1") {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// ready waits until p can answer or pass on requests.
func (p *process) ready() *process {
	p.w.t.Helper()
	p.w.until(p.api+" is ready", func() bool {
		status, _, _ := p.w.ask("GET", p.api+"/ready", "")
		return status == http.StatusOK
	})
	return p
}

// others are those among processes that are not p.
func others(p *process, among ...*process) []*process {
	return slices.DeleteFunc(slices.Clone(among), func(o *process) bool { return o == p })
}

// definition of an app that runs this test binary.
func (w *world) definition(id string, instances, version int) string {
	program, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"id": id, "args": []string{program}, "cpus": 0.1, "mem": 32, "instances": instances,
		"env":             map[string]string{serviceRole: "1", "VERSION": fmt.Sprint(version)},
		"portDefinitions": []map[string]any{{"port": 0}},
		"healthChecks": []map[string]any{{
			"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0,
			"delaySeconds": 0, "gracePeriodSeconds": 30, "intervalSeconds": 1, "timeoutSeconds": 5,
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// put stores an app through any scheduler.
func (w *world) put(p *process, id string, instances, version int) {
	w.t.Helper()
	status, _, answer := w.ask("PUT", p.api+"/v2/apps"+id+"?force=true", w.definition(id, instances, version))
	if status != http.StatusOK && status != http.StatusCreated {
		w.t.Fatalf("PUT %s: %d %s", id, status, answer)
	}
}

// tasks are the IDs of an app's tasks and whether all are healthy.
func (w *world) tasks(p *process, id string) (ids []string, healthy bool) {
	status, _, answer := w.ask("GET", p.api+"/v2/apps"+id, "")
	var reply struct {
		App struct {
			Instances, TasksHealthy int
			Deployments             []any
			Tasks                   []struct{ ID string }
		}
	}
	if status != http.StatusOK || json.Unmarshal(answer, &reply) != nil {
		return nil, false
	}
	for _, task := range reply.App.Tasks {
		ids = append(ids, task.ID)
	}
	slices.Sort(ids)
	return ids, reply.App.TasksHealthy == len(ids) && len(ids) == reply.App.Instances && len(reply.App.Deployments) == 0
}

// deployed waits until all instances are healthy, and returns their IDs.
func (w *world) deployed(p *process, id string) []string {
	w.t.Helper()
	var ids []string
	w.until(id+" is deployed", func() bool {
		var healthy bool
		ids, healthy = w.tasks(p, id)
		return healthy
	})
	return ids
}

// running are the tasks that the master knows to run, by its own account.
func (w *world) running() []string {
	w.t.Helper()
	_, _, answer := w.ask("GET", w.cluster.MasterURL()+"/tasks?limit=10000", "")
	var reply struct {
		Tasks []struct{ ID, State string }
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		w.t.Fatalf("master's tasks: %v: %.200s", err, answer)
	}
	alive := make(map[string]bool)
	for _, task := range reply.Tasks {
		if task.State == "TASK_RUNNING" || task.State == "TASK_STAGING" || task.State == "TASK_STARTING" || task.State == "TASK_KILLING" {
			alive[task.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(alive))
}
