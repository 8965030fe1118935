package executor_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/payload"
	"pacer/integration/mesos/probe"
	"pacer/integration/zookeeper"
)

// proportional is a process' share of memory in MiB.
func proportional(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Skipf("the executor does not let other processes of its user look at it: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	b.Fatal("no Pss in smaps_rollup")
	return 0
}

// BenchmarkMemory is the executor's share of memory with a ZooKeeper session:
// with one idle task (budget 25 MiB), and with 100 tasks that are registered and
// checked over HTTP every second (budget 40 MiB).
func BenchmarkMemory(b *testing.B) {
	keeper := zookeeper.Shared(b)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"))
			conn.Close()
		}
	}()
	port := uint32(listener.Addr().(*net.TCPAddr).Port)
	for b.Loop() {
		c := newCluster(b, map[string]string{"PACER_ZK": keeper.URL(fmt.Sprintf("/memory-%d", time.Now().UnixNano())), "PACER_LOG_LEVEL": "warn"})
		c.Accept(0, c.offers, probe.Launch(c.task("idle", &payload.Task{Command: &payload.Command{Shell: "echo $PPID; exec sleep 600"}}, small)))
		c.want(mesos.TASK_STARTING)
		c.want(mesos.TASK_RUNNING)
		pid := c.parent("idle")
		time.Sleep(2 * time.Second) // what starting took is given back
		b.ReportMetric(proportional(b, pid), "idle-MiB")

		c.offers = c.Offers()
		var tasks []mesos.TaskInfo
		name, service := "http", "memory"
		for i := range 100 {
			tasks = append(tasks, c.task(fmt.Sprintf("t.%d", i), &payload.Task{App: "/memory", Command: &payload.Command{Shell: "exec sleep 600"}}, func(info *mesos.TaskInfo) {
				small(info)
				info.Discovery = &mesos.DiscoveryInfo{Visibility: mesos.FRAMEWORK, Ports: &mesos.Ports{Ports: []mesos.Port{{Number: port, Name: &name}}}}
				info.Labels = &mesos.Labels{Labels: []mesos.Label{{Key: "service.name", Value: &service}}}
				info.HealthCheck = &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: port},
					DelaySeconds: seconds(0), IntervalSeconds: seconds(1)}
			}))
		}
		c.Accept(3600, c.offers, probe.Launch(tasks...))
		for healthy := 0; healthy < len(tasks); {
			event := c.Next(scheduler.Event_UPDATE)
			s := event.Update.Status
			c.Acknowledge(s)
			if s.GetHealthy() {
				healthy++
			}
		}
		time.Sleep(10 * time.Second)
		b.ReportMetric(proportional(b, pid), "100-tasks-MiB")
		c.Must(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
	}
}
