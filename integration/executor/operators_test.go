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
