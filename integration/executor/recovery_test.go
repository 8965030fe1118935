package executor_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/integration/mesos/agent"
	"pacer/integration/mesos/probe"
	"pacer/integration/zookeeper"
)

// gone reports whether a process has ended, reaped or not.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(probe.Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to that: %s", what)
		}
	}
}

// TestLostAgent_EndsTasksInOrderThenTheExecutor has an agent that does not come
// back: the executor deregisters, ends its tasks with their grace, and exits; at
// once where the framework does not checkpoint, else after the recovery timeout.
func TestLostAgent_EndsTasksInOrderThenTheExecutor(t *testing.T) {
	const timeout = 1500 * time.Millisecond
	for _, tc := range []struct {
		name       string
		checkpoint bool
		atLeast    time.Duration // how long tasks live on
	}{
		{"recovery timeout", true, timeout},
		{"no checkpoint", false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			keeper := zookeeper.Shared(t)
			conn := keeper.Connect(t)
			prefix := "/lost-" + time.Now().Format("150405.000000000")
			c := newClusterFor(t, func(f *mesos.FrameworkInfo) { f.Checkpoint = &tc.checkpoint }, map[string]string{"PACER_ZK": keeper.URL(prefix)},
				func(a *agent.Config) { a.RecoveryTimeout, a.ExecutorReregistrationTimeout = timeout, time.Second })
			service := c.service("shop_cart.1", map[string]string{"ZK": keeper.Addr(), "SERVERSET": prefix + "/cart"}, "service.name", "cart")
			shell := c.task("shell", &payload.Task{Command: &payload.Command{Shell: "echo $PPID; exec sleep 600"}}, nil)
			// The executor offers the statuses of their ends to the agent for this
			// long, in case it comes back after all.
			for _, info := range []*mesos.TaskInfo{&service, &shell} {
				info.Executor.ShutdownGracePeriod.Nanoseconds = int64(4 * time.Second)
			}
			c.Accept(0, c.offers, probe.Launch(service, shell))
			running, healthy := false, false
			for !running || !healthy {
				s := c.next()
				running = running || s.TaskID.Value == "shell" && s.GetState() == mesos.TASK_RUNNING
				healthy = healthy || s.GetHealthy()
			}
			executor := c.parent("shell")
			begin := time.Now()
			c.mesos.Node(0).Kill()
			eventually(t, "the executor exits", func() bool { return gone(executor) })
			if took := time.Since(begin); took < tc.atLeast {
				t.Errorf("the executor ended after %v, want at least %v", took, tc.atLeast)
			}
			out := c.file("shop_cart.1", "stdout")
			if !strings.Contains(out, "members at SIGTERM 0\n") || !strings.HasSuffix(out, "bye\n") {
				t.Errorf("the service was not deregistered first, or not given its grace:\n%s", out)
			}
			if members, _, err := conn.Children(prefix + "/cart"); err != nil || len(members) > 0 {
				t.Errorf("members left: %v, %v", members, err)
			}
		})
	}
}
