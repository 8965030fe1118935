package executor

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/agent"
	"pacer/executor/artifact"
	"pacer/executor/labels"
	"pacer/executor/logs"
	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/executor/registry"
	"pacer/healthcheck"
	"pacer/secrets"
)

// inbox is an Agent that keeps the statuses it is given.
type inbox struct {
	mu       sync.Mutex
	statuses []mesos.TaskStatus
	at       []time.Time
	changed  chan struct{} // closed, and replaced, at each status
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{})} }

func (b *inbox) Update(status mesos.TaskStatus) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.statuses, b.at = append(b.statuses, status), append(b.at, time.Now())
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

func (b *inbox) Drain(context.Context) error { return nil }

// wait returns the first status of a task that fits.
func (b *inbox) wait(t testing.TB, id string, fits func(*mesos.TaskStatus) bool) *mesos.TaskStatus {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for seen := 0; ; {
		b.mu.Lock()
		statuses, changed := b.statuses, b.changed
		b.mu.Unlock()
		for ; seen < len(statuses); seen++ {
			if s := &statuses[seen]; s.TaskID.Value == id && fits(s) {
				return s
			}
		}
		select {
		case <-changed:
		case <-deadline:
			for i := range statuses {
				t.Logf("%s %v: %s", statuses[i].TaskID.Value, statuses[i].GetState(), statuses[i].GetMessage())
			}
			t.Fatalf("task %s did not get there", id)
		}
	}
}

func in(state mesos.TaskState) func(*mesos.TaskStatus) bool {
	return func(s *mesos.TaskStatus) bool { return s.GetState() == state }
}

func terminal(s *mesos.TaskStatus) bool { return isTerminal(s.GetState()) }

// memory is a registry in memory.
type memory struct {
	mu      sync.Mutex
	entries map[registry.Key]registry.Instance
}

var _ registry.Registry = (*memory)(nil)

func (m *memory) Register(_ context.Context, instances []registry.Instance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range instances {
		m.entries[i.Key()] = i
	}
	return nil
}

func (m *memory) Deregister(_ context.Context, instances []registry.Instance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range instances {
		delete(m.entries, i.Key())
	}
	return nil
}

func (m *memory) Close(context.Context) error { return nil }

func (m *memory) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.entries {
		if k.TaskID == id {
			return true
		}
	}
	return false
}

// real is an executor with real processes, files and checks.
type real struct {
	*Executor
	inbox   *inbox
	entries *memory
	secrets *stage
	sandbox string
}

func newReal(t testing.TB, users ...string) *real {
	t.Helper()
	return newRealIn(t, process.Config{}, users...)
}

// newRealIn is newReal with cgroups where config says.
func newRealIn(t testing.TB, config process.Config, users ...string) *real {
	t.Helper()
	supervisor, err := process.New(t.Context(), config, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	// t.TempDir is below a directory that other users may not enter.
	sandbox, err := os.MkdirTemp("", "pacer-executor-")
	if err != nil {
		t.Fatal(err)
	}
	r := &real{inbox: newInbox(), entries: &memory{entries: map[registry.Key]registry.Instance{}}, secrets: new(stage), sandbox: sandbox}
	cache, err := artifact.OpenCache(filepath.Join(sandbox, "artifacts"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	settings := DefaultConfig()
	settings.Sandbox = sandbox
	settings.AllowedUsers = append(users, currentUser(t))
	r.Executor, err = New(settings, Parts{
		Agent: r.inbox, Processes: FromSupervisor(supervisor), Output: FromLogs(logs.DefaultPolicy()),
		Artifacts: artifact.NewFetcher(supervisor, cache, artifact.DefaultLimits(), os.Getenv),
		Registry:  r.entries, Secrets: secrets.NewKeeper(r.secrets, zerolog.Nop()), Checks: FromProber(healthcheck.NewProber(0)),
	}, labels.Limits{ZooKeeper: true}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	r.Subscribed(agent.Subscription{
		Framework: mesos.FrameworkInfo{User: currentUser(t), Capabilities: []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE}}},
		Agent:     mesos.AgentInfo{Hostname: "agent-1"},
	})
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if err := supervisor.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(sandbox); err != nil {
			t.Error(err)
		}
	})
	return r
}

// run launches a shell line as a task without check and service.
func (r *real) run(t testing.TB, id, line string, change func(*mesos.TaskInfo, *payload.Task)) {
	t.Helper()
	r.Launch(taskInfo(t, id, func(info *mesos.TaskInfo, task *payload.Task) {
		info.HealthCheck, info.Labels = nil, nil
		task.Command = &payload.Command{Shell: line}
		if change != nil {
			change(info, task)
		}
	}))
}

// file reads a file of a task.
func (r *real) file(t testing.TB, id, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.sandbox, tasksDir, id, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReal_HowATaskEndsIsToldApart(t *testing.T) {
	r := newReal(t)
	for _, tc := range []struct {
		id, line string
		state    mesos.TaskState
		failure  string
		text     string
	}{
		{"finished", "echo out; echo err >&2", mesos.TASK_FINISHED, "", "exited with code 0"},
		{"failed", "exit 3", mesos.TASK_FAILED, payload.FailureExit, "exited with code 3"},
		{"signalled", "kill -SEGV $$", mesos.TASK_FAILED, payload.FailureSignal, "ended by SIGSEGV"},
	} {
		t.Run(tc.id, func(t *testing.T) {
			r.run(t, tc.id, tc.line, nil)
			s := r.inbox.wait(t, tc.id, terminal)
			if s.GetState() != tc.state || !strings.Contains(s.GetMessage(), tc.text) || labelsOf(s.Labels)[payload.LabelFailure] != tc.failure {
				t.Errorf("%v %q %v", s.GetState(), s.GetMessage(), s.Labels)
			}
		})
	}
	if out, err := r.file(t, "finished", "stdout"), r.file(t, "finished", "stderr"); out != "out\n" || err != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, err)
	}
	r.run(t, "nothing", "", func(_ *mesos.TaskInfo, task *payload.Task) {
		task.Command = &payload.Command{Argv: []string{"/no/such/program"}}
	})
	if s := r.inbox.wait(t, "nothing", terminal); labelsOf(s.Labels)[payload.LabelFailure] != payload.FailureStart || !strings.Contains(s.GetMessage(), "/no/such/program") {
		t.Errorf("%v %q", s.Labels, s.GetMessage())
	}
}

func TestReal_ATaskSeesItsDirectoryAndItsEnvironmentOnly(t *testing.T) {
	t.Setenv("PACER_VAULT_ROLE", "operator")
	t.Setenv("VAULT_ADDR", "https://vault")
	r := newReal(t)
	r.run(t, "env", "pwd; env", func(info *mesos.TaskInfo, task *payload.Task) {
		info.Labels = labelsFor("secret.env.PASSWORD", "secret/db#password")
	})
	r.inbox.wait(t, "env", terminal)
	out := r.file(t, "env", "stdout")
	dir := filepath.Join(r.sandbox, tasksDir, "env")
	for _, line := range []string{dir, "MESOS_SANDBOX=" + dir, "MESOS_TASK_ID=env", "PORT0=31000", "HOST=agent-1", "MARATHON_APP_ID=/shop/cart", "PASSWORD=canary"} {
		if !strings.Contains("\n"+out, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	for _, name := range []string{"PACER_VAULT_ROLE", "VAULT_ADDR"} {
		if strings.Contains(out, name) {
			t.Errorf("%s reached the task", name)
		}
	}
}

func TestReal_AnotherUserHasADirectoryOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to run a task as another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	r := newReal(t, "nobody")
	r.run(t, "nobody", "id -u; pwd; touch mine; ls -ld .; ls .. 2>&1", func(_ *mesos.TaskInfo, task *payload.Task) { task.User = "nobody" })
	if s := r.inbox.wait(t, "nobody", terminal); s.GetState() != mesos.TASK_FAILED {
		t.Errorf("reading the directory of all tasks: %v %s", s.GetState(), s.GetMessage())
	}
	out := r.file(t, "nobody", "stdout")
	for _, text := range []string{nobody.Uid + "\n", filepath.Join(r.sandbox, tasksDir, "nobody"), "drwx------"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in\n%s", text, out)
		}
	}
	r.file(t, "nobody", "mine")
}

func TestReal_KillGivesChildrenTheirGraceAlthoughTheShellIsGone(t *testing.T) {
	r := newReal(t)
	// The shell dies of SIGTERM at once, what it has started does not.
	r.run(t, "t", `sh -c 'trap "sleep 0.3; echo finished; exit 0" TERM; echo ready; while :; do sleep 0.05; done' & wait`, func(info *mesos.TaskInfo, _ *payload.Task) {
		info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(20 * time.Second)}}
	})
	r.until(t, "ready", func() bool { return strings.Contains(r.output("t"), "ready") })
	begin := time.Now()
	r.Kill("t", nil)
	s := r.inbox.wait(t, "t", terminal)
	if s.GetState() != mesos.TASK_KILLED {
		t.Errorf("%v %s", s.GetState(), s.GetMessage())
	}
	if !strings.Contains(r.output("t"), "finished") {
		t.Errorf("the child was not allowed to finish: %q; %s", r.output("t"), s.GetMessage())
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %v of the grace although everything had gone", took)
	}
}

func TestReal_KillReachesWhatLeftItsSessionAndIgnoresSIGTERM(t *testing.T) {
	r := newReal(t)
	r.run(t, "t", `trap "" TERM; setsid sh -c 'trap "" TERM; echo $$ >daemon; while :; do sleep 1; done' & while :; do sleep 1; done`, func(info *mesos.TaskInfo, _ *payload.Task) {
		info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(200 * time.Millisecond)}}
	})
	path := filepath.Join(r.sandbox, tasksDir, "t", "daemon")
	var pid string
	r.until(t, "daemon", func() bool {
		data, _ := os.ReadFile(path)
		pid = strings.TrimSpace(string(data))
		return pid != ""
	})
	r.Kill("t", nil)
	s := r.inbox.wait(t, "t", terminal)
	if s.GetState() != mesos.TASK_KILLED || !strings.Contains(s.GetMessage(), "SIGKILL was needed") {
		t.Errorf("%v %s", s.GetState(), s.GetMessage())
	}
	if _, err := os.Stat("/proc/" + pid); err == nil {
		t.Errorf("P3: process %s outlives the terminal status", pid)
	}
}

func TestReal_HealthyMeansFindable(t *testing.T) {
	r := newReal(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	seconds := func(s float64) *float64 { return &s }
	failures := uint32(2)
	r.Launch(taskInfo(t, "svc", func(info *mesos.TaskInfo, task *payload.Task) {
		task.Command = &payload.Command{Argv: []string{self}}
		task.Environment = []*payload.Variable{{Name: "PACER_TEST_ROLE", Value: "serve"}}
		info.Discovery.Ports.Ports[0].Number = uint32(port)
		info.Labels = labelsFor("service.name", "svc", "drain", "50ms")
		info.HealthCheck = &mesos.HealthCheck{
			Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: uint32(port)},
			DelaySeconds: seconds(0), IntervalSeconds: seconds(0.1), GracePeriodSeconds: seconds(20), ConsecutiveFailures: &failures,
		}
	}))
	says := func(want bool) func(*mesos.TaskStatus) bool {
		return func(s *mesos.TaskStatus) bool { return s.Healthy != nil && *s.Healthy == want }
	}
	first := r.inbox.wait(t, "svc", in(mesos.TASK_RUNNING))
	if first.Healthy != nil {
		t.Error("the first RUNNING knows about health")
	}
	r.inbox.wait(t, "svc", says(true))
	if !r.entries.has("svc") {
		t.Error("P1: healthy and not registered")
	}
	if err := os.WriteFile(filepath.Join(r.sandbox, tasksDir, "svc", "sick"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sick := r.inbox.wait(t, "svc", says(false))
	if !strings.Contains(sick.GetMessage(), "503") {
		t.Errorf("message %q", sick.GetMessage())
	}
	end := r.inbox.wait(t, "svc", terminal)
	if end.GetState() != mesos.TASK_KILLED || end.GetReason() != mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED || labelsOf(end.Labels)[payload.LabelFailure] != payload.FailureHealth {
		t.Errorf("%v %v %v %s", end.GetState(), end.GetReason(), end.Labels, end.GetMessage())
	}
	if r.entries.has("svc") {
		t.Error("still registered")
	}
	if out := r.output("svc"); !strings.Contains(out, "bye") {
		t.Errorf("not allowed to finish: %q", out)
	}
}

func TestReal_CheckResultsAreReportedWhenTheyChange(t *testing.T) {
	r := newReal(t)
	line, interval, delay := "test -e flag", 0.1, 0.0
	r.run(t, "t", "sleep 0.5; touch flag; sleep 60", func(info *mesos.TaskInfo, _ *payload.Task) {
		info.Check = &mesos.CheckInfo{Type: mesos.CheckInfo_COMMAND, IntervalSeconds: &interval, DelaySeconds: &delay,
			Command: &mesos.CheckInfo_Command{Command: mesos.CommandInfo{Value: &line}}}
	})
	first := r.inbox.wait(t, "t", in(mesos.TASK_RUNNING))
	if c := first.GetCheckStatus(); c.GetType() != mesos.CheckInfo_COMMAND || c.Command == nil || c.Command.ExitCode != nil {
		t.Errorf("first RUNNING has check_status %v", c)
	}
	code := func(want int32) func(*mesos.TaskStatus) bool {
		return func(s *mesos.TaskStatus) bool {
			c := s.GetCheckStatus().GetCommand()
			return c != nil && c.ExitCode != nil && *c.ExitCode == want
		}
	}
	r.inbox.wait(t, "t", code(1))
	zero := r.inbox.wait(t, "t", code(0))
	if zero.GetReason() != mesos.REASON_TASK_CHECK_STATUS_UPDATED {
		t.Errorf("reason %v", zero.GetReason())
	}
	r.Kill("t", nil)
	r.inbox.wait(t, "t", terminal)
	changes := 0
	r.inbox.mu.Lock()
	defer r.inbox.mu.Unlock()
	for i := range r.inbox.statuses {
		if s := &r.inbox.statuses[i]; s.Reason != nil && s.GetReason() == mesos.REASON_TASK_CHECK_STATUS_UPDATED {
			changes++
		}
	}
	if changes != 2 {
		t.Errorf("%d check updates, want 2: one for each change", changes)
	}
}

// until waits for a condition outside the executor.
func (r *real) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

// output is a task's stdout so far.
func (r *real) output(id string) string {
	data, _ := os.ReadFile(filepath.Join(r.sandbox, tasksDir, id, "stdout"))
	return string(data)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestReal_FiveHundredTasks launches and kills as many tasks as an agent may
// have, all at once.
func TestReal_FiveHundredTasks(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 500 processes")
	}
	r := newReal(t)
	const n = 500
	begin := time.Now()
	for i := range n {
		r.run(t, fmt.Sprintf("t.%d", i), "exec sleep 600", nil)
	}
	for i := range n {
		r.inbox.wait(t, fmt.Sprintf("t.%d", i), in(mesos.TASK_RUNNING))
	}
	launched := time.Since(begin)
	begin = time.Now()
	for i := range n {
		r.Kill(fmt.Sprintf("t.%d", i), nil)
	}
	for i := range n {
		if s := r.inbox.wait(t, fmt.Sprintf("t.%d", i), terminal); s.GetState() != mesos.TASK_KILLED {
			t.Errorf("%v %s", s.GetState(), s.GetMessage())
		}
	}
	t.Logf("500 tasks running after %v, killed after %v", launched, time.Since(begin))
}
