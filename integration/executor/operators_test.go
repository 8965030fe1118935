package executor_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/executor/status"
	"pacer/integration/mesos/probe"
	"pacer/integration/zookeeper"
)

// sandbox is the executor's own directory.
func (c *cluster) sandbox() string {
	c.t.Helper()
	pattern := filepath.Join(c.mesos.Node(0).WorkDir(), "slaves/*-S*/frameworks/*/executors/pacer-1/runs/latest")
	matches, err := filepath.Glob(pattern)
	if err != nil || len(matches) != 1 {
		c.t.Fatalf("%v, %v", matches, err)
	}
	return matches[0]
}

// logged are the lines of the executor's log with a message, oldest first.
func (c *cluster) logged(message string) []map[string]any {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.sandbox(), "stderr"))
	if err != nil {
		c.t.Fatal(err)
	}
	var found []map[string]any
	for line := range bytes.Lines(data) {
		var fields map[string]any
		// What the fetcher wrote is no JSON.
		if json.Unmarshal(line, &fields) == nil && fields["message"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// moment is when a message was first logged.
func (c *cluster) moment(message string) time.Time {
	c.t.Helper()
	lines := c.logged(message)
	if len(lines) == 0 {
		c.t.Fatalf("%q is not in the log", message)
	}
	text, _ := lines[0]["time"].(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		c.t.Fatal(err)
	}
	return at
}

// freeAddress is one where nobody listens, for now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestOperators_SeeTasksInARunningExecutor(t *testing.T) {
	address := freeAddress(t)
	c := newCluster(t, map[string]string{"PACER_STATUS_LISTEN": address})
	c.Accept(0, c.offers, probe.Launch(c.task("shop_cart.1", &payload.Task{App: "/shop/cart", Command: &payload.Command{Shell: "echo $PPID; exec sleep 600"}}, nil)))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)

	report, err := status.Read(t.Context(), c.sandbox())
	if err != nil {
		t.Fatal(err)
	}
	if report.ExecutorID != "pacer-1" || report.AgentID != c.mesos.Node(0).ID() || report.Connection.State != "subscribed" || report.Cgroups.Mode == "" {
		t.Errorf("%+v", report)
	}
	if len(report.Tasks) != 1 || report.Tasks[0].ID != "shop_cart.1" || report.Tasks[0].State != "running" || report.Tasks[0].PID == 0 {
		t.Errorf("tasks %+v", report.Tasks)
	}
	out, err := exec.Command(binary, "status", c.sandbox()).Output()
	if err != nil || !strings.Contains(string(out), "shop_cart.1") {
		t.Errorf("%v\n%s", err, out)
	}

	client := &http.Client{Timeout: probe.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`pacer_executor_tasks{state="running"} 1`, "pacer_executor_agent_subscribed 1", "pacer_executor_statuses_unacknowledged 0", "go_goroutines"} {
		if !strings.Contains(string(text), want+"\n") && !strings.Contains(string(text), want+" ") {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if strings.Contains(string(text), "shop") {
		t.Error("a label has an app or a task as its value")
	}
}

func TestQuit_WritesStacksToTheLogAndHarmsNobody(t *testing.T) {
	c := newCluster(t, nil)
	c.Accept(0, c.offers, probe.Launch(c.task("a", &payload.Task{Command: &payload.Command{Shell: "echo $PPID; exec sleep 600"}}, nil)))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)
	executor := c.parent("a")
	for n := 1; n <= 2; n++ {
		if err := syscall.Kill(executor, syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a dump is in the log", func() bool { return len(c.logged("dump at SIGQUIT")) == n })
	}
	stack, _ := c.logged("dump at SIGQUIT")[0]["stack"].(string)
	for _, want := range []string{"goroutine 1 [", "executor.(*task).live", "agent.(*Client).Run"} {
		if !strings.Contains(stack, want) {
			t.Errorf("no %s in the dump", want)
		}
	}
	c.kill("a")
	c.want(mesos.TASK_KILLING)
	c.want(mesos.TASK_KILLED)
}

// TestStart_TakesNoSecondWithoutVaultZooKeeperAndConsul subscribes with all of
// them out of reach: connections that are refused, and ones that nobody answers.
func TestStart_TakesNoSecondWithoutVaultZooKeeperAndConsul(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, address := range map[string]string{"refused": freeAddress(t), "silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, map[string]string{"PACER_ZK": "zk://" + address + "/x", "PACER_CONSUL": "http://" + address, "VAULT_ADDR": "http://" + address})
			c.Accept(0, c.offers, probe.Launch(c.task("a", &payload.Task{Command: &payload.Command{Shell: "exec sleep 600"}}, nil)))
			c.want(mesos.TASK_STARTING)
			c.want(mesos.TASK_RUNNING)
			if took := c.moment("subscribed").Sub(c.moment("pacer-executor starts")); took > time.Second {
				t.Errorf("from the start to the subscription it takes %v", took)
			}
		})
	}
}

// TestCheck_SaysYesToWhatIsThere asks a real agent's place and a real ZooKeeper.
func TestCheck_SaysYesToWhatIsThere(t *testing.T) {
	keeper := zookeeper.Shared(t)
	c := newCluster(t, nil)
	command := exec.Command(binary, "check")
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "MESOS_AGENT_ENDPOINT=" + strings.TrimPrefix(c.mesos.Node(0).URL(), "http://"),
		"PACER_ZK=" + keeper.URL("/check"), "PACER_ALLOWED_USERS=" + c.user}
	out, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, subject := range []string{"agent", "zookeeper", "users"} {
		if fields := strings.Fields(line(string(out), subject)); len(fields) < 2 || fields[1] != "yes" {
			t.Errorf("%s: no yes in\n%s", subject, out)
		}
	}
}

// line is the first that begins with a text.
func line(text, prefix string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}
