package registration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/binaries"
	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/master"
)

// site is emulated Mesos with a real registry, scheduler and executors.
type site struct {
	t         *testing.T
	dir       string
	cluster   *emulator.Cluster
	registry  server
	url       string // of the API
	scheduler *exec.Cmd
	ended     chan struct{}
}

func newSite(t *testing.T, registry server, agents int) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), registry: registry}
	s.cluster = emulator.New(t, emulator.Config{Agents: agents, Record: true, Dir: filepath.Join(s.dir, "agents")})
	s.startScheduler()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(s.dir, "agents/*/slaves/*/frameworks/*/executors/*/runs/*/stderr"))
		for _, log := range append(logs, filepath.Join(s.dir, "scheduler.log")) {
			if strings.Contains(log, "/latest/") {
				continue // another name of one of the others
			}
			data, _ := os.ReadFile(log)
			t.Logf("%s ends with:\n%s", log, data[max(0, len(data)-4000):])
		}
	})
	return s
}

func (s *site) startScheduler() {
	s.t.Helper()
	me, err := user.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(s.dir, "scheduler.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	listen, public := freeAddress(s.t), freeAddress(s.t)
	arguments := []string{
		"--master", s.cluster.MasterURL(), "--state", "bolt:" + filepath.Join(s.dir, "pacer.db"),
		"--listen", listen, "--public-listen", public, "--advertise", "http://" + public,
		"--executor", programs.Path(binaries.Executor), "--user", me.Username,
		"--executor-env", "PACER_ALLOWED_USERS=" + me.Username, "--executor-env", "PACER_ADVERTISE_HOST=127.0.0.1",
	}
	for _, setting := range s.registry.settings() {
		arguments = append(arguments, "--executor-env", setting)
	}
	cmd := exec.Command(programs.Path(binaries.Scheduler), arguments...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.url, s.scheduler, s.ended = "http://"+listen, cmd, make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // it is killed
	}()
	s.t.Cleanup(s.killScheduler)
	s.eventually(time.Minute, "scheduler ready", func() bool {
		response, err := http.Get(s.url + "/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// killScheduler kills the scheduler without a warning.
func (s *site) killScheduler() {
	_ = s.scheduler.Process.Kill() // it may have ended
	<-s.ended
}

func (s *site) eventually(longest time.Duration, what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(longest); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s", longest, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// call sends a request to the API, which must succeed.
func (s *site) call(method, path string, body, reply any) {
	s.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if data, err = io.ReadAll(response.Body); err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %s %s", method, path, response.Status, data)
	}
	if reply == nil {
		return
	}
	if err := json.Unmarshal(data, reply); err != nil {
		s.t.Fatalf("%s %s: %v in %s", method, path, err, data)
	}
}

// task is what the tests read of the API's tasks.
type task struct {
	ID     string `json:"id"`
	Ports  []int  `json:"ports"`
	State  string `json:"state"`
	Health []struct {
		Alive bool `json:"alive"`
	} `json:"healthCheckResults"`
}

func (t task) healthy() bool {
	return t.State == "TASK_RUNNING" && len(t.Health) > 0 && t.Health[0].Alive
}

func (t task) endpoint() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Ports[0])) }

func (s *site) tasks(app string) []task {
	s.t.Helper()
	var reply struct {
		Tasks []task `json:"tasks"`
	}
	s.call(http.MethodGet, "/v2/apps"+app+"/tasks", nil, &reply)
	return reply.Tasks
}

// deploy puts an app of n instances up and waits until all are healthy.
func (s *site) deploy(app string, n int, labels map[string]string, change ...func(definition map[string]any)) []task {
	s.t.Helper()
	me, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{"service.name": serviceName(app)}
	for k, v := range labels {
		all[k] = v
	}
	definition := map[string]any{
		"id": app, "cmd": "exec " + me, "cpus": 0.05, "mem": 16, "instances": n,
		"portDefinitions": []map[string]any{{"port": 0, "name": "http"}},
		"env":             map[string]string{serviceRole: "1"}, "labels": all,
		"healthChecks": []map[string]any{{
			"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "delaySeconds": 0,
			"gracePeriodSeconds": 20, "intervalSeconds": 1, "timeoutSeconds": 5, "maxConsecutiveFailures": 3,
		}},
		"upgradeStrategy":            map[string]any{"minimumHealthCapacity": 1, "maximumOverCapacity": 0.5},
		"taskKillGracePeriodSeconds": 10, "backoffSeconds": 1,
	}
	for _, f := range change {
		f(definition)
	}
	s.call(http.MethodPut, "/v2/apps"+app, definition, nil)
	return s.awaitHealthy(app, n)
}

// awaitHealthy waits for exactly n instances, all healthy.
func (s *site) awaitHealthy(app string, n int) []task {
	s.t.Helper()
	var list []task
	s.eventually(time.Minute, fmt.Sprintf("%d healthy instances of %s", n, app), func() bool {
		list = s.tasks(app)
		return len(list) == n && !slices.ContainsFunc(list, func(t task) bool { return !t.healthy() })
	})
	return list
}

// found are the sorted endpoints that a client finds, which must be possible.
func (s *site) found(app string) []string {
	s.t.Helper()
	endpoints, err := s.registry.find(serviceName(app))
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(endpoints)
	return endpoints
}

// endpoints are where tasks listen, sorted.
func endpoints(tasks []task) []string {
	var list []string
	for _, t := range tasks {
		list = append(list, t.endpoint())
	}
	slices.Sort(list)
	return list
}

// statuses are those of a task that the scheduler was sent, in order.
func (s *site) statuses(id string) []mesosgo.TaskStatus {
	var list []mesosgo.TaskStatus
	for _, e := range s.cluster.Log() {
		if event, ok := e.Message.(*scheduler.Event); ok && event.Type == scheduler.Event_UPDATE && event.Update.Status.TaskID.Value == id {
			list = append(list, event.Update.Status)
		}
	}
	return list
}

// awaitStatus waits for a status of a task that fits.
func (s *site) awaitStatus(id string, fits func(mesosgo.TaskStatus) bool) (found mesosgo.TaskStatus, at time.Time) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := s.cluster.Await(ctx, "a status of "+id, func(log []master.Entry) bool {
		for _, e := range log {
			event, ok := e.Message.(*scheduler.Event)
			if ok && event.Type == scheduler.Event_UPDATE && event.Update.Status.TaskID.Value == id && fits(event.Update.Status) {
				found, at = event.Update.Status, e.Time
				return true
			}
		}
		return false
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found, at
}

// executors are the process ids of the executors of this site.
func (s *site) executors() []int {
	s.t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		dir, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(dir, s.dir+"/agents/") {
			continue // another's, or ended meanwhile
		}
		exe, err := os.Readlink(filepath.Join(filepath.Dir(link), "exe"))
		if err != nil || filepath.Base(exe) != binaries.Executor {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			s.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
