package executor_test

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/payload"
	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
	"pacer/integration/zookeeper"
)

// cluster is one agent, and a scheduler that is subscribed.
type cluster struct {
	*probe.Scheduler
	t      testing.TB
	mesos  *emulator.Cluster
	user   string
	env    map[string]string
	offers []mesos.Offer
}

func newCluster(t testing.TB, env map[string]string, changes ...func(*agent.Config)) *cluster {
	t.Helper()
	return newClusterFor(t, func(*mesos.FrameworkInfo) {}, env, changes...)
}

// newClusterFor is newCluster with another framework.
func newClusterFor(t testing.TB, framework func(*mesos.FrameworkInfo), env map[string]string, changes ...func(*agent.Config)) *cluster {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	config := emulator.Config{CloseGrace: 5 * time.Second, Customize: func(_ int, a *agent.Config) {
		for _, change := range changes {
			change(a)
		}
	}}
	c := &cluster{t: t, user: me.Username, env: env, mesos: emulator.New(t, config)}
	c.Scheduler = probe.Connect(t, c.mesos.MasterURL(), wire.Protobuf, probe.FrameworkInfo(func(f *mesos.FrameworkInfo) {
		f.User = me.Username
		framework(f)
	}))
	c.offers = c.Offers()
	return c
}

// port is the n-th port that the agent offers.
func (c *cluster) port(n uint64) uint32 {
	c.t.Helper()
	for _, r := range c.offers[0].Resources {
		if r.Name == "ports" {
			return uint32(r.GetRanges().Range[0].Begin + n)
		}
	}
	c.t.Fatal("no ports in the offer")
	return 0
}

// task is one that our executor runs.
func (c *cluster) task(id string, p *payload.Task, change func(*mesos.TaskInfo)) mesos.TaskInfo {
	c.t.Helper()
	data, err := payload.Encode(p)
	if err != nil {
		c.t.Fatal(err)
	}
	return probe.Task(c.offers[0].AgentID.Value, id, "pacer-1", func(info *mesos.TaskInfo) {
		info.Data = data
		e := info.Executor
		grace := mesos.DurationInfo{Nanoseconds: int64(20 * time.Second)}
		e.ShutdownGracePeriod = &grace
		e.Command.Value, e.Command.Arguments = &binary, []string{binary}
		e.Command.Environment = new(mesos.Environment)
		for name, value := range c.env {
			e.Command.Environment.Variables = append(e.Command.Environment.Variables, mesos.Environment_Variable{Name: name, Value: &value})
		}
		allowed := c.user
		e.Command.Environment.Variables = append(e.Command.Environment.Variables, mesos.Environment_Variable{Name: "PACER_ALLOWED_USERS", Value: &allowed})
		if change != nil {
			change(info)
		}
	})
}

// file finds a file of a task in the agent's work directory.
func (c *cluster) file(id, name string) string {
	c.t.Helper()
	pattern := filepath.Join(c.mesos.Node(0).WorkDir(), "slaves/*/frameworks/*/executors/pacer-1/runs/*/tasks", id, name)
	matches, err := filepath.Glob(pattern)
	if err != nil || len(matches) == 0 {
		c.t.Fatalf("no %s: %v", pattern, err)
	}
	data, err := os.ReadFile(matches[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func executable(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

func portText(port uint32) string { return strconv.FormatUint(uint64(port), 10) }

// parent is the process id of the executor, which a task has printed.
func (c *cluster) parent(id string) int {
	c.t.Helper()
	for end := time.Now().Add(probe.Patience); ; time.Sleep(5 * time.Millisecond) {
		if pid, err := strconv.Atoi(strings.TrimSpace(c.file(id, "stdout"))); err == nil {
			return pid
		}
		if time.Now().After(end) {
			c.t.Fatal("the task does not say who its parent is")
		}
	}
}

// next returns the next status, acknowledged.
func (c *cluster) next() mesos.TaskStatus {
	c.t.Helper()
	s := c.Status()
	c.t.Logf("%s: %s", probe.Describe(s), s.GetMessage())
	if len(s.UUID) > 0 {
		c.Acknowledge(s)
	}
	return s
}

func (c *cluster) want(state mesos.TaskState) mesos.TaskStatus {
	c.t.Helper()
	s := c.next()
	if s.GetState() != state {
		c.t.Fatalf("%s, want %v", probe.Describe(s), state)
	}
	return s
}

func (c *cluster) kill(id string) {
	c.t.Helper()
	c.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: id}}})
}

func seconds(s float64) *float64 { return &s }

// service is the test's own binary as a task with a health check.
func (c *cluster) service(id string, variables map[string]string, labels ...string) mesos.TaskInfo {
	c.t.Helper()
	self := executable(c.t)
	port := c.port(0)
	p := &payload.Task{App: "/shop/cart", Command: &payload.Command{Argv: []string{self}}, Environment: []*payload.Variable{{Name: serviceRole, Value: "1"}}, Shard: -1}
	for name, value := range variables {
		p.Environment = append(p.Environment, &payload.Variable{Name: name, Value: value})
	}
	return c.task(id, p, func(info *mesos.TaskInfo) {
		name, kind := "http", mesos.RANGES
		info.Resources = append(info.Resources, mesos.Resource{Name: "ports", Type: &kind, Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: uint64(port), End: uint64(port)}}}})
		info.Discovery = &mesos.DiscoveryInfo{Visibility: mesos.FRAMEWORK, Ports: &mesos.Ports{Ports: []mesos.Port{{Number: port, Name: &name}}}}
		info.HealthCheck = &mesos.HealthCheck{
			Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: port},
			DelaySeconds: seconds(0), IntervalSeconds: seconds(0.2), GracePeriodSeconds: seconds(20),
		}
		info.Labels = new(mesos.Labels)
		for i := 0; i < len(labels); i += 2 {
			value := labels[i+1]
			info.Labels.Labels = append(info.Labels.Labels, mesos.Label{Key: labels[i], Value: &value})
		}
	})
}

func TestService_RunsIsHealthyAndIsKilled(t *testing.T) {
	c := newCluster(t, nil)
	c.Accept(0, c.offers, probe.Launch(c.service("shop_cart.1", nil)))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)
	if s := c.want(mesos.TASK_RUNNING); !s.GetHealthy() || s.GetReason() != mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED {
		t.Errorf("healthy %v, %v", s.Healthy, s.Reason)
	}
	c.kill("shop_cart.1")
	c.want(mesos.TASK_KILLING)
	s := c.want(mesos.TASK_KILLED)
	if !strings.Contains(s.GetMessage(), "exited with code 0") {
		t.Errorf("message %q", s.GetMessage())
	}
	out := c.file("shop_cart.1", "stdout")
	if !strings.HasSuffix(out, "bye\n") {
		t.Errorf("stdout %q", out)
	}
	for _, name := range []string{"PACER_ALLOWED_USERS", "MESOS_AGENT_ENDPOINT", "MESOS_EXECUTOR_ID"} {
		if strings.Contains(out, name) {
			t.Errorf("%s reached the task", name)
		}
	}
}

func TestP1P2_TheEntryIsThereBeforeHealthyAndGoneBeforeSIGTERM(t *testing.T) {
	keeper := zookeeper.Shared(t)
	conn := keeper.Connect(t)
	prefix := "/p1p2-" + strings.ToLower(time.Now().Format("150405.000000000"))
	c := newCluster(t, map[string]string{"PACER_ZK": keeper.URL(prefix)})
	c.Accept(0, c.offers, probe.Launch(c.service("shop_cart.1",
		map[string]string{"ZK": keeper.Addr(), "SERVERSET": prefix + "/cart"}, "service.name", "cart", "drain", "200ms")))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)
	if s := c.want(mesos.TASK_RUNNING); !s.GetHealthy() {
		t.Error("not healthy")
	}
	members, _, err := conn.Children(prefix + "/cart")
	if err != nil || len(members) != 1 || !strings.HasPrefix(members[0], "member_") {
		t.Fatalf("P1: members when healthy: %v, %v", members, err)
	}
	data, _, err := conn.Get(prefix + "/cart/" + members[0])
	if err != nil {
		t.Fatal(err)
	}
	var member struct {
		ServiceEndpoint struct {
			Host string
			Port uint32
		}
		Status string
	}
	if err := json.Unmarshal(data, &member); err != nil || member.ServiceEndpoint.Port != c.port(0) || member.ServiceEndpoint.Host == "" || member.Status != "ALIVE" {
		t.Errorf("member %s: %v", data, err)
	}
	c.kill("shop_cart.1")
	c.want(mesos.TASK_KILLING)
	c.want(mesos.TASK_KILLED)
	if out := c.file("shop_cart.1", "stdout"); !strings.Contains(out, "members at SIGTERM 0\n") {
		t.Errorf("P2: %q", out)
	}
	if ok, _, err := conn.Exists(prefix + "/cart/" + members[0]); ok || err != nil && err != zk.ErrNoNode {
		t.Errorf("member after the kill: %v, %v", ok, err)
	}
}

func TestMistakes_FailTheTaskAndNameEachOfThem(t *testing.T) {
	c := newCluster(t, nil)
	bad := c.task("bad", &payload.Task{Command: &payload.Command{Shell: "true"}, User: "somebody-else"}, func(info *mesos.TaskInfo) {
		value := "nopath"
		info.Labels = &mesos.Labels{Labels: []mesos.Label{{Key: "secret.env.A", Value: &value}}}
	})
	good := c.task("good", &payload.Task{Command: &payload.Command{Shell: "exit 3"}}, nil)
	c.Accept(0, c.offers, probe.Launch(bad, good))
	seen := map[string]mesos.TaskStatus{}
	for len(seen) < 2 {
		if s := c.next(); s.GetState() == mesos.TASK_FAILED {
			seen[s.TaskID.Value] = s
		}
	}
	s := seen["bad"]
	if s.GetReason() != mesos.REASON_TASK_INVALID || !strings.Contains(s.GetMessage(), "secret.env.A") || !strings.Contains(s.GetMessage(), "somebody-else") {
		t.Errorf("%v %q", s.GetReason(), s.GetMessage())
	}
	if s := seen["good"]; !strings.Contains(s.GetMessage(), "exited with code 3") {
		t.Errorf("%q", s.GetMessage())
	}
}

func TestShutdown_EndsTasksThenTheExecutor(t *testing.T) {
	c := newCluster(t, nil)
	line := &payload.Task{Command: &payload.Command{Shell: "trap 'exit 0' TERM; while :; do sleep 0.05; done"}}
	c.Accept(0, c.offers, probe.Launch(c.task("a", line, nil), c.task("b", line, nil)))
	for running := 0; running < 2; {
		if s := c.next(); s.GetState() == mesos.TASK_RUNNING {
			running++
		}
	}
	c.Must(&scheduler.Call{Type: scheduler.Call_SHUTDOWN, Shutdown: &scheduler.Call_Shutdown{
		AgentID: c.offers[0].AgentID, ExecutorID: mesos.ExecutorID{Value: "pacer-1"},
	}})
	for killed := 0; killed < 2; {
		s := c.next()
		if s.GetState() == mesos.TASK_KILLED {
			killed++
		} else if s.GetState() != mesos.TASK_KILLING {
			t.Errorf("%s", probe.Describe(s))
		}
	}
	if f := c.Next(scheduler.Event_FAILURE).Failure; f.GetStatus() != 0 {
		t.Errorf("the executor ended with %d", f.GetStatus())
	}
}

func TestSignal_ToTheExecutorIsAShutdown(t *testing.T) {
	c := newCluster(t, nil)
	task := c.task("a", &payload.Task{Command: &payload.Command{Shell: "trap 'exit 0' TERM; echo $PPID; while :; do sleep 0.05; done"}}, nil)
	c.Accept(0, c.offers, probe.Launch(task))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)
	if err := syscall.Kill(c.parent("a"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.want(mesos.TASK_KILLING)
	if s := c.want(mesos.TASK_KILLED); !strings.Contains(s.GetMessage(), "signal") {
		t.Errorf("message %q", s.GetMessage())
	}
	if f := c.Next(scheduler.Event_FAILURE).Failure; f.GetStatus() != 0 {
		t.Errorf("the executor ended with %d", f.GetStatus())
	}
}
