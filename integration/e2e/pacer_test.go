package e2e

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"pacer/integration/binaries"
	"pacer/integration/demo/standin"
	emulator "pacer/integration/mesos"
	"pacer/integration/zookeeper"
)

// programs are the executor and the scheduler, built by TestMain.
var programs binaries.Built

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) (code int) {
	var err error
	if programs, err = binaries.Build(binaries.Executor, binaries.Scheduler); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer programs.Remove()
	return zookeeper.Main(m)
}

// masterVariable names a real master to run on, http://host:port. Its agents
// have to be on this machine, because the tests look at processes and files.
const masterVariable = "PACER_TEST_MASTER"

// site is a whole installation: Mesos, emulated unless a master is given, real
// ZooKeeper, a Vault that a test can script, and Pacer.
type site struct {
	t         *testing.T
	dir       string            // everything that any part of ours writes
	cluster   *emulator.Cluster // nil on a real one
	masterURL string
	watcher   *watcher
	zookeeper *zk.Conn
	zkAddress string
	prefix    string // of the registry
	vault     *scriptedVault
	url       string // of the API
	public    string
	scheduler *exec.Cmd
}

func newSite(t *testing.T, agents int) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), prefix: fmt.Sprintf("/e2e-%d", time.Now().UnixNano())}
	server := zookeeper.Shared(t)
	s.zkAddress, s.zookeeper = server.Addr(), server.Connect(t)
	// Files of tasks' users come into it.
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if s.masterURL = os.Getenv(masterVariable); s.masterURL == "" {
		s.cluster = emulator.New(t, emulator.Config{Agents: agents, Record: true, Dir: filepath.Join(s.dir, "agents")})
		s.masterURL = s.cluster.MasterURL()
	}
	s.watcher = watch(t, s.masterURL)
	s.url, s.public = "http://"+freeAddress(t), freeAddress(t)
	s.vault = newScriptedVault(t, "http://"+s.public+"/.well-known/jwks.json")
	s.startScheduler()
	return s
}

// startScheduler starts one over the same state; the one before must be dead.
func (s *site) startScheduler() {
	s.t.Helper()
	me, err := user.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "scheduler.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(programs.Path(binaries.Scheduler),
		"--master", s.masterURL, "--failover-timeout", "1m", "--state", "bolt:"+filepath.Join(s.dir, "pacer.db"),
		"--listen", strings.TrimPrefix(s.url, "http://"), "--public-listen", s.public, "--advertise", "http://"+s.public,
		"--executor", programs.Path(binaries.Executor), "--user", me.Username, "--log-level", "debug",
		"--executor-env", "PACER_ALLOWED_USERS="+me.Username,
		"--executor-env", "PACER_ZK=zk://"+s.zkAddress+s.prefix,
		"--executor-env", "PACER_ADVERTISE_HOST=127.0.0.1",
		"--executor-env", "PACER_LOG_LEVEL=debug",
		"--executor-env", "VAULT_ADDR="+s.vault.URL,
	)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.scheduler = cmd
	s.t.Cleanup(func() {
		// It may have ended already, by this test's hand.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			data, _ := os.ReadFile(log.Name())
			s.t.Logf("scheduler.log ends with:\n%s", data[max(0, len(data)-6000):])
		}
	})
	s.eventually("scheduler ready", func() bool {
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
	s.t.Helper()
	if err := s.scheduler.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.scheduler.Wait() // killed
}

// eventualLimit bounds every wait for a condition. It is long because machines
// that test are busy, and costs nothing when all is well.
const eventualLimit = 2 * time.Minute

// eventually fails the test when a condition does not come true.
func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(eventualLimit); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s", eventualLimit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// call sends a request to the API and returns status and body.
func (s *site) call(method, path string, body any) (int, []byte) {
	s.t.Helper()
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		data, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		content = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, data
}

// mustCall is call for requests that have to succeed.
func (s *site) mustCall(method, path string, body, reply any) {
	s.t.Helper()
	status, data := s.call(method, path, body)
	if status >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, status, data)
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
	ID      string `json:"id"`
	Host    string `json:"host"`
	Ports   []int  `json:"ports"`
	State   string `json:"state"`
	Version string `json:"version"`
	Health  []struct {
		Alive bool `json:"alive"`
	} `json:"healthCheckResults"`
}

func (t task) healthy() bool {
	return t.State == "TASK_RUNNING" && len(t.Health) > 0 && t.Health[0].Alive
}

func (s *site) tasks(app string) []task {
	s.t.Helper()
	var reply struct {
		Tasks []task `json:"tasks"`
	}
	s.mustCall(http.MethodGet, "/v2/apps"+app+"/tasks", nil, &reply)
	return reply.Tasks
}

// awaitHealthy waits for exactly n instances, all healthy.
func (s *site) awaitHealthy(app string, n int) []task {
	s.t.Helper()
	var list []task
	s.eventually(fmt.Sprintf("%d healthy instances of %s", n, app), func() bool {
		list = s.tasks(app)
		for _, task := range list {
			if !task.healthy() {
				return false
			}
		}
		return len(list) == n
	})
	return list
}

// definition is an app that runs this test binary as its service.
func (s *site) definition(id string, instances int, labels map[string]string) map[string]any {
	s.t.Helper()
	me, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	name := strings.ReplaceAll(strings.Trim(id, "/"), "/", "-")
	all := map[string]string{"service.name": name}
	for k, v := range labels {
		all[k] = v
	}
	return map[string]any{
		"id": id, "cmd": "exec " + me, "cpus": 0.1, "mem": 32, "instances": instances,
		"portDefinitions": []map[string]any{{"port": 0, "name": "http"}},
		"env": map[string]string{
			roleVariable: "1", diaryVariable: s.diary(id), zkVariable: s.zkAddress, pathVariable: s.serverSet(id),
		},
		"labels": all,
		"healthChecks": []map[string]any{{
			"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0, "delaySeconds": 0,
			"gracePeriodSeconds": 20, "intervalSeconds": 1, "timeoutSeconds": 5, "maxConsecutiveFailures": 3,
		}},
		"taskKillGracePeriodSeconds": 10, "backoffSeconds": 1,
	}
}

func (s *site) diary(id string) string {
	return filepath.Join(s.dir, "diary"+strings.ReplaceAll(id, "/", "-"))
}

func (s *site) serverSet(id string) string {
	return s.prefix + "/" + strings.ReplaceAll(strings.Trim(id, "/"), "/", "-")
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

// scriptedVault is the stand-in of the demo behind a script: before, when set,
// may answer a request in its place.
type scriptedVault struct {
	*standin.Vault
	URL    string
	server *http.Server
	before func(w http.ResponseWriter, r *http.Request) bool
}

func newScriptedVault(t *testing.T, keysURL string) *scriptedVault {
	t.Helper()
	behind, err := standin.StartVault(keysURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &scriptedVault{Vault: behind, URL: "http://" + listener.Addr().String()}
	v.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v.before == nil || !v.before(w, r) {
			behind.ServeHTTP(w, r)
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = v.server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() { v.server.Close(); <-served })
	return v
}
