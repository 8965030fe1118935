package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pacer/integration/binaries"
	"pacer/integration/hashicorp"
)

// useRealVault puts a real Vault in the place of the stand-in, set up as the
// documentation has it, with an engine of leases at db that all apps may read.
func (s *site) useRealVault() *hashicorp.Vault {
	s.t.Helper()
	v := hashicorp.StartVault(s.t)
	v.CarryOut(s.t, hashicorp.Documented(s.t, "Vault's set-up"), "SCHEDULER:PORT", s.public)
	s.write(v, "sys/mounts/db", map[string]any{"type": "leased"})
	s.write(v, "sys/policies/acl/db", map[string]any{"policy": `path "db/creds/*" { capabilities = ["read"] }`})
	s.write(v, "auth/jwt/role/pacer", map[string]any{
		"role_type": "jwt", "user_claim": "app", "bound_claims": map[string]any{"framework": "pacer"},
		"token_policies": "pacer-app,db", "token_period": "3s",
	})
	target, err := url.Parse(v.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	s.vault.before = func(w http.ResponseWriter, r *http.Request) bool {
		pass.ServeHTTP(w, r)
		return true
	}
	return v
}

func (s *site) write(v *hashicorp.Vault, path string, data map[string]any) {
	s.t.Helper()
	if _, err := v.Root.Logical().WriteWithContext(s.t.Context(), path, data); err != nil {
		s.t.Fatal(err)
	}
}

// live is how many tokens and leases of db there are.
func (s *site) live(v *hashicorp.Vault) (tokens, leases int) {
	s.t.Helper()
	count := func(path string) int {
		answer, err := v.Root.Logical().ListWithContext(s.t.Context(), path)
		if err != nil {
			s.t.Fatal(err)
		}
		if answer == nil {
			return 0
		}
		keys, _ := answer.Data["keys"].([]any)
		return len(keys)
	}
	return count("auth/token/accessors"), count("sys/leases/lookup/db/creds/web")
}

// variable is what a process was started with.
func (s *site) variable(pid int, name string) string {
	s.t.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for entry := range strings.SplitSeq(string(environ), "\x00") {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// secretFile reads a secret file as the task sees it.
func (s *site) secretFile(pid int, name string) (path, content string) {
	s.t.Helper()
	path = fmt.Sprintf("/proc/%d/root%s/%s", pid, s.variable(pid, "PACER_SECRETS_DIR"), name)
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return path, string(data)
}

// lastStarted is the process of an app that was started last.
func (s *site) lastStarted(app string) entry {
	s.t.Helper()
	diary, err := readDiary(s.diary(app))
	if err != nil {
		s.t.Fatal(err)
	}
	var last entry
	for _, e := range diary {
		if e.Event == "started" {
			last = e
		}
	}
	if last.PID == 0 {
		s.t.Fatal("no process of " + app + " was started")
	}
	return last
}

// TestP5_SecretsAreInTheTaskAndNowhereElse looks for two random values in
// everything that is written or shown anywhere.
func TestP5_SecretsAreInTheTaskAndNowhereElse(t *testing.T) {
	s := newSite(t, 1)
	v := s.useRealVault()
	const app = "/web"
	inEnv, inFile := fmt.Sprintf("canary-e-%d", time.Now().UnixNano()), fmt.Sprintf("canary-f-%d", time.Now().UnixNano())
	s.write(v, "secret/data/web/db", map[string]any{"data": map[string]any{"password": inEnv}})
	s.write(v, "secret/data/web/tls", map[string]any{"data": map[string]any{"key": inFile}})
	s.mustCall(http.MethodPost, "/v2/apps", s.definition(app, 1, map[string]string{
		"secret.env.DB_PASSWORD": "secret/web/db#password", "secret.file.tls.key": "secret/web/tls#key",
	}), nil)
	s.awaitHealthy(app, 1)
	first := s.lastStarted(app)
	if got := s.variable(first.PID, "DB_PASSWORD"); got != inEnv {
		t.Errorf("the variable has %d bytes, want %d", len(got), len(inEnv))
	}
	path, content := s.secretFile(first.PID, "tls.key")
	info, err := os.Stat(path)
	if err != nil || content != inFile || info.Mode() != 0o400 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	if owner, err := os.Stat(fmt.Sprintf("/proc/%d", first.PID)); err != nil || info.Sys().(*syscall.Stat_t).Uid != owner.Sys().(*syscall.Stat_t).Uid {
		t.Errorf("the file does not belong to the task's user: %v", err)
	}
	var where syscall.Statfs_t
	if err := syscall.Statfs(path, &where); err != nil || where.Type != tmpfsMagic {
		t.Errorf("the file is on a file system of type %x, %v; want tmpfs", where.Type, err)
	}
	nowhere := func() {
		t.Helper()
		for _, canary := range []string{inEnv, inFile} {
			s.assertNowhere(canary, sandboxOf(first))
			s.assertInNoProcess(canary, first.PID, s.lastStarted(app).PID)
		}
		out, err := exec.Command(programs.Path(binaries.Executor), "status", sandboxOf(first)).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(first.Task)) && !bytes.Contains(out, []byte(s.lastStarted(app).Task)) {
			t.Errorf("status of the executor: %v\n%s", err, out)
		}
		if bytes.Contains(out, []byte(inEnv)) || bytes.Contains(out, []byte(inFile)) {
			t.Error("the executor's status shows a secret")
		}
	}
	nowhere()
	// A crash leaves no core file, and nothing of it shows a secret.
	if err := syscall.Kill(first.PID, syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	s.eventually("another instance", func() bool { return s.lastStarted(app).PID != first.PID })
	s.awaitHealthy(app, 1)
	nowhere()
	if err := filepath.WalkDir(sandboxOf(first), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "core") {
			t.Errorf("core file %s", path)
		}
		return nil // sockets and links come and go
	}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file outlives the task")
	}
}

// tmpfsMagic is TMPFS_MAGIC of statfs(2).
const tmpfsMagic = 0x01021994

// sandboxOf is the executor's, two levels above the task's directory.
func sandboxOf(e entry) string { return filepath.Dir(filepath.Dir(e.Dir)) }

// assertInNoProcess looks at the argument lists of all processes, and at the
// environments of all but the task's.
func (s *site) assertInNoProcess(canary string, task ...int) {
	s.t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(list) == 0 {
		s.t.Fatal(err)
	}
	for _, dir := range list {
		for _, name := range []string{"cmdline", "environ"} {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil || name == "environ" && (pid == task[0] || pid == task[1]) {
				continue
			}
			// A process may have ended, or be another user's.
			if data, _ := os.ReadFile(filepath.Join(dir, name)); bytes.Contains(data, []byte(canary)) {
				s.t.Errorf("the secret is in %s/%s", dir, name)
			}
		}
	}
}

// TestSecrets_ChangedOnesRestartOneInstanceAtATime: the wish of the executor
// goes through the scheduler.
func TestSecrets_ChangedOnesRestartOneInstanceAtATime(t *testing.T) {
	s := newSite(t, 1)
	v := s.useRealVault()
	const app = "/web"
	put := func(value string) {
		t.Helper()
		s.write(v, "secret/data/web/db", map[string]any{"data": map[string]any{"password": value}})
	}
	put("old")
	definition := s.definition(app, 2, map[string]string{
		"secret.env.DB_PASSWORD": "secret/web/db#password", "secret.on-change": "restart", "secret.refresh": "10s",
	})
	definition["upgradeStrategy"] = map[string]any{"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}
	s.mustCall(http.MethodPost, "/v2/apps", definition, nil)
	before := s.awaitHealthy(app, 2)
	put("new")
	lowest := 2
	s.eventually("both instances replaced", func() bool {
		healthy, old := 0, 0
		for _, now := range s.tasks(app) {
			if now.healthy() {
				healthy++
			}
			if now.ID == before[0].ID || now.ID == before[1].ID {
				old++
			}
		}
		lowest = min(lowest, healthy)
		return old == 0 && healthy == 2
	})
	if lowest < 1 {
		t.Errorf("at some time %d instances were healthy, want at least 1", lowest)
	}
	if got := s.variable(s.lastStarted(app).PID, "DB_PASSWORD"); got != "new" {
		t.Errorf("the new instance has %q", got)
	}
}

// TestP9_LostVaultTokensAreReplacedThroughTheScheduler: tokens are revoked
// behind the tasks' backs; the executor logs in again and brings new
// credentials to the running task.
func TestP9_LostVaultTokensAreReplacedThroughTheScheduler(t *testing.T) {
	s := newSite(t, 1)
	v := s.useRealVault()
	const app = "/web"
	// The identity that the task is launched with will have ended, too.
	var lost, fresh atomic.Bool
	var launchedWith atomic.Value
	through := s.vault.before
	s.vault.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/login") {
			body, err := io.ReadAll(r.Body)
			switch {
			case err != nil:
				w.WriteHeader(http.StatusBadRequest)
				return true
			case !lost.Load():
				launchedWith.Store(string(body))
			case launchedWith.Load() == string(body):
				w.WriteHeader(http.StatusBadRequest)
				return true
			default:
				fresh.Store(true)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return through(w, r)
	}
	s.mustCall(http.MethodPost, "/v2/apps", s.definition(app, 1, map[string]string{"secret.file.db.json": "db/creds/web"}), nil)
	s.awaitHealthy(app, 1)
	pid := s.lastStarted(app).PID
	_, before := s.secretFile(pid, "db.json")
	lost.Store(true)
	answer, err := v.Root.Logical().ListWithContext(t.Context(), "auth/token/accessors")
	if err != nil {
		t.Fatal(err)
	}
	revoked := 0
	for _, accessor := range answer.Data["keys"].([]any) {
		about, err := v.Root.Logical().WriteWithContext(t.Context(), "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		if err == nil && strings.HasPrefix(about.Data["path"].(string), "auth/jwt") {
			s.write(v, "auth/token/revoke-accessor", map[string]any{"accessor": accessor})
			revoked++
		}
	}
	if revoked == 0 {
		t.Fatal("no token of a task was found")
	}
	var after string
	s.eventually("new credentials", func() bool {
		_, after = s.secretFile(pid, "db.json")
		return after != before
	})
	if !fresh.Load() {
		t.Error("no fresh identity was used")
	}
	var credentials struct{ Username, Password string }
	if err := json.Unmarshal([]byte(after), &credentials); err != nil || credentials.Username != "web-2" {
		t.Errorf("new credentials %s, %v", after, err)
	}
	if now := s.awaitHealthy(app, 1); s.lastStarted(app).PID != pid {
		t.Errorf("the task was restarted: %v", now)
	}
}

// TestSecrets_HundredTasksLeaveNoTokenAndNoLease counts what lives in Vault
// before and after.
func TestSecrets_HundredTasksLeaveNoTokenAndNoLease(t *testing.T) {
	s := newSite(t, 1)
	v := s.useRealVault()
	s.write(v, "secret/data/web/db", map[string]any{"data": map[string]any{"password": "x"}})
	tokens, leases := s.live(v)
	const n = 100
	s.mustCall(http.MethodPost, "/v2/apps", map[string]any{
		"id": "/web", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 8, "instances": n, "taskKillGracePeriodSeconds": 5,
		"labels": map[string]string{"secret.env.STATIC": "secret/web/db#password", "secret.env.LEASED": "db/creds/web#password"},
	}, nil)
	running := func() (count int) {
		for _, now := range s.tasks("/web") {
			if now.State == "TASK_RUNNING" {
				count++
			}
		}
		return count
	}
	s.eventually("all running", func() bool { return running() == n })
	if _, now := s.live(v); now != leases+n {
		t.Errorf("%d leases while %d tasks run", now-leases, n)
	}
	s.mustCall(http.MethodDelete, "/v2/apps/web", nil, nil)
	s.eventually("no token and no lease left", func() bool {
		nowTokens, nowLeases := s.live(v)
		return nowTokens == tokens && nowLeases == leases
	})
}
