package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/master"
)

// TestP1P2P3P5_LifeOfAnInstance follows one instance from its definition to
// its end and asserts the order of everything that others rely on.
func TestP1P2P3P5_LifeOfAnInstance(t *testing.T) {
	s := newSite(t, 1)
	const app = "/shop/cart"
	canary := fmt.Sprintf("canary-%d", time.Now().UnixNano())
	s.vault.Put("shop/cart/db", map[string]string{"password": canary})
	var refused atomic.Int32
	s.vault.before = func(w http.ResponseWriter, r *http.Request) bool {
		// Sealed at first: the launch has to wait and say why.
		if strings.HasSuffix(r.URL.Path, "/login") && refused.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	s.mustCall(http.MethodPost, "/v2/apps", s.definition(app, 1, map[string]string{
		"secret.env.DB_PASSWORD": "secret/shop/cart/db#password",
	}), nil)
	instance := s.awaitHealthy(app, 1)[0]

	// The process has the secret in its environment.
	diary, err := readDiary(s.diary(app))
	if err != nil || len(diary) == 0 || diary[0].Event != "started" {
		t.Fatalf("diary %v, %v", diary, err)
	}
	pid := diary[0].PID
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !slices.Contains(strings.Split(string(environ), "\x00"), "DB_PASSWORD="+canary) {
		t.Fatalf("the process lacks the secret: %v", err)
	}
	for _, own := range []string{"VAULT_ADDR=", "PACER_ZK=", "PACER_ALLOWED_USERS=", "MESOS_AGENT_ENDPOINT="} {
		if bytes.Contains(environ, []byte(own)) {
			t.Errorf("the task sees the executor's %s", own)
		}
	}

	// Its member_ node is there, ephemeral, with Finagle's JSON.
	children, _, err := s.zookeeper.Children(s.serverSet(app))
	if err != nil || len(children) != 1 || !strings.HasPrefix(children[0], "member_") || len(children[0]) != len("member_0000000000") {
		t.Fatalf("members %v, %v", children, err)
	}
	data, stat, err := s.zookeeper.Get(s.serverSet(app) + "/" + children[0])
	if err != nil || stat.EphemeralOwner == 0 {
		t.Fatalf("member %v, %v", stat, err)
	}
	var member struct {
		ServiceEndpoint struct {
			Host string
			Port int
		}
		AdditionalEndpoints map[string]any
		Status              string
		Shard               *int
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&member); err != nil || member.Status != "ALIVE" || member.AdditionalEndpoints == nil ||
		member.ServiceEndpoint.Host != "127.0.0.1" || member.ServiceEndpoint.Port != instance.Ports[0] {
		t.Errorf("member is %s (%v), want port %d", data, err, instance.Ports[0])
	}

	// Only then healthy=true was said.
	healthy := s.watcher.await(t, "healthy=true", instance.ID, func(status taskStatus) bool { return status.Healthy != nil && *status.Healthy })
	if created := time.UnixMilli(stat.Ctime); created.After(healthy.time()) {
		t.Errorf("healthy=true at %s, before the node was made at %s", healthy.time(), created)
	}
	if s.cluster != nil { // real masters do not show a repeated state
		if waiting := s.starting(instance.ID); !strings.Contains(waiting, "sealed") {
			t.Errorf("while Vault was sealed the status said %q", waiting)
		}
	}

	// On kill the node goes before SIGTERM arrives, and TASK_KILLED is said
	// after the process is gone.
	s.mustCall(http.MethodDelete, "/v2/apps"+app, nil, nil)
	killed := s.watcher.await(t, "TASK_KILLED", instance.ID, func(status taskStatus) bool { return status.State == "TASK_KILLED" })
	if diary, err = readDiary(s.diary(app)); err != nil || len(diary) != 3 {
		t.Fatalf("diary %v, %v", diary, err)
	}
	endpoint := net.JoinHostPort("127.0.0.1", fmt.Sprint(instance.Ports[0]))
	if terminated := diary[1]; terminated.Event != "terminated" || terminated.Members == nil || slices.Contains(terminated.Members, endpoint) {
		t.Errorf("at SIGTERM the ServerSet held %v; %s had to be gone", terminated.Members, endpoint)
	}
	if killed.time().Before(diary[2].Time) {
		t.Errorf("TASK_KILLED at %s, the process lived at %s", killed.time(), diary[2].Time)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Errorf("process %d is still there after TASK_KILLED", pid)
	}
	s.eventually("app gone from the API", func() bool {
		status, _ := s.call(http.MethodGet, "/v2/apps"+app, nil)
		return status == http.StatusNotFound
	})
	// The executor's sandbox holds the task's folder two levels down.
	s.assertNowhere(canary, filepath.Dir(filepath.Dir(diary[0].Dir)))
}

// starting returns the first message of a TASK_STARTING that has one.
func (s *site) starting(taskID string) (message string) {
	s.t.Helper()
	err := s.cluster.Await(s.t.Context(), "TASK_STARTING with a message of "+taskID, func(log []master.Entry) bool {
		for _, e := range log {
			event, ok := e.Message.(*scheduler.Event)
			if !ok || event.Type != scheduler.Event_UPDATE {
				continue
			}
			status := event.Update.Status
			if status.TaskID.Value == taskID && *status.State == mesosgo.TASK_STARTING && status.GetMessage() != "" {
				message = status.GetMessage()
				return true
			}
		}
		return false
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return message
}

// assertNowhere looks for a secret's value in everything that was written: all
// files of the sandbox, logs and the state, every status and call that Mesos
// saw, every znode and the API. Common encodings count as well.
func (s *site) assertNowhere(canary, sandbox string) {
	s.t.Helper()
	var forms [][]byte
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary))[:len(canary)], fmt.Sprint([]byte(canary))} {
		forms = append(forms, []byte(form))
	}
	looked := 0
	look := func(where string, data []byte) {
		looked++
		for _, form := range forms {
			if bytes.Contains(data, form) {
				s.t.Errorf("the secret is in %s", where)
			}
		}
	}
	for _, root := range []string{s.dir, sandbox} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			look(path, data)
			return err
		})
		if err != nil {
			s.t.Error(err)
		}
	}
	look("the master's events", s.watcher.bytes())
	var log []master.Entry
	if s.cluster != nil {
		log = s.cluster.Log()
	}
	for _, e := range log {
		text := fmt.Sprintf("%+v", e.Message)
		if message, ok := e.Message.(interface{ Marshal() ([]byte, error) }); ok {
			data, err := message.Marshal()
			if err != nil {
				s.t.Error(err)
			}
			look("a message of "+e.From, data)
		}
		look("a message of "+e.From, []byte(text))
	}
	s.walkZooKeeper("/", look)
	for _, path := range []string{"/v2/apps", "/v2/tasks", "/v2/queue", "/v2/info", "/metrics"} {
		_, data := s.call(http.MethodGet, path, nil)
		look(path, data)
	}
	if looked < 20 {
		s.t.Errorf("only %d places were looked at", looked)
	}
}

func (s *site) walkZooKeeper(path string, look func(string, []byte)) {
	s.t.Helper()
	data, _, err := s.zookeeper.Get(path)
	if err != nil {
		return // gone meanwhile
	}
	look("znode "+path, data)
	children, _, err := s.zookeeper.Children(path)
	if err != nil {
		return
	}
	for _, child := range children {
		s.walkZooKeeper(strings.TrimSuffix(path, "/")+"/"+child, look)
	}
}

// TestP8_RollingChangeGoesOnAfterTheSchedulerIsKilled kills the scheduler in
// the middle of a rolling change; the next one finishes it, restarts nothing
// else and doubles nothing.
func TestP7P8_RollingChangeGoesOnAfterTheSchedulerIsKilled(t *testing.T) {
	s := newSite(t, 2)
	const app, n = "/roll", 4
	definition := s.definition(app, n, nil)
	definition["upgradeStrategy"] = map[string]any{"minimumHealthCapacity": 1, "maximumOverCapacity": 0.25}
	s.mustCall(http.MethodPut, "/v2/apps"+app, definition, nil)
	before := s.awaitHealthy(app, n)

	definition["env"].(map[string]string)["CHANGED"] = "1"
	s.mustCall(http.MethodPut, "/v2/apps"+app, definition, nil)
	s.eventually("one instance replaced", func() bool {
		return slices.ContainsFunc(s.tasks(app), func(now task) bool {
			return now.healthy() && !slices.ContainsFunc(before, func(old task) bool { return old.ID == now.ID })
		})
	})
	s.killScheduler()
	midway, err := readDiary(s.diary(app))
	if err != nil {
		t.Fatal(err)
	}
	s.startScheduler()
	s.eventually("all replaced by one version", func() bool {
		now := s.tasks(app)
		for _, one := range now {
			if !one.healthy() || one.Version != now[0].Version || slices.ContainsFunc(before, func(old task) bool { return old.ID == one.ID }) {
				return false
			}
		}
		return len(now) == n
	})
	after, err := readDiary(s.diary(app))
	if err != nil {
		t.Fatal(err)
	}
	started := map[string]int{}
	for _, e := range after {
		if e.Event == "started" {
			started[e.Task]++
		}
	}
	// Four old, four new, and nothing else: neither doubled nor restarted.
	if len(started) != 2*n {
		t.Errorf("%d tasks were started in all, want %d (the diary had %d lines at the kill)", len(started), 2*n, len(midway))
	}
	for id, times := range started {
		if times != 1 {
			t.Errorf("task %s was started %d times", id, times)
		}
	}
}

func TestP12_BadInputIsRefusedAndNothingIsStored(t *testing.T) {
	s := newSite(t, 1)
	good := s.definition("/a", 0, nil)
	s.mustCall(http.MethodPost, "/v2/apps", good, nil)
	with := func(key string, value any) map[string]any {
		d := s.definition("/bad", 1, nil)
		d[key] = value
		return d
	}
	for _, tc := range []struct {
		name   string
		body   any
		status int
		path   string
	}{
		{"malformed JSON", `{"id":`, 400, ""},
		{"mistyped field", with("cpus", "many"), 400, "/cpus"},
		{"unknown field", with("cpuz", 1), 400, "/cpuz"},
		{"negative resource", with("mem", -1), 422, "/mem"},
		{"duplicate ports", with("portDefinitions", []map[string]any{{"port": 80}, {"port": 80}}), 422, "/portDefinitions"},
		{"id outside the grammar", with("id", "/Bad_Id"), 422, "/id"},
		{"id below another app", with("id", "/a/b"), 422, "/id"},
		{"bad secret label", with("labels", map[string]string{"secret.env.X": "nokey"}), 422, "/labels"},
		{"user that is not allowed", with("user", "daemon"), 422, "/user"},
		{"container", with("container", map[string]any{"type": "DOCKER"}), 422, "/container"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, data := s.call(http.MethodPost, "/v2/apps", tc.body)
			var reply struct {
				Message string
				Details []struct {
					Path   string
					Errors []string
				}
			}
			if err := json.Unmarshal(data, &reply); err != nil || status != tc.status || reply.Message == "" {
				t.Fatalf("%d %s, want %d with a message", status, data, tc.status)
			}
			if tc.path != "" && (len(reply.Details) == 0 || !strings.HasPrefix(reply.Details[0].Path, tc.path) || len(reply.Details[0].Errors) == 0) {
				t.Errorf("%s does not name %s", data, tc.path)
			}
		})
	}
	var reply struct{ Apps []struct{ ID string } }
	s.mustCall(http.MethodGet, "/v2/apps", nil, &reply)
	if len(reply.Apps) != 1 || reply.Apps[0].ID != "/a" {
		t.Errorf("stored apps are %v", reply.Apps)
	}
	// One that fits no agent stays pending and says why.
	s.mustCall(http.MethodPost, "/v2/apps", with("mem", 100000), nil)
	s.eventually("a reason in the queue", func() bool {
		_, data := s.call(http.MethodGet, "/v2/queue", nil)
		return bytes.Contains(data, []byte("/bad")) && bytes.Contains(data, []byte("InsufficientMemory"))
	})
}
