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

// BenchmarkOutput has one task write 100 MB/s for 5 s: by how much that raises
// the executor's share of memory (budget 8 MiB), what it costs of a core, and
// how much arrives.
func BenchmarkOutput(b *testing.B) {
	const seconds, rate = 5, 100
	for b.Loop() {
		c := newCluster(b, map[string]string{"PACER_LOG_MIB": "16", "PACER_LOG_FILES": "1"})
		c.Accept(0, c.offers, probe.Launch(c.task("idle", &payload.Task{Command: &payload.Command{Shell: "echo $PPID; exec sleep 600"}}, small)))
		c.want(mesos.TASK_STARTING)
		c.want(mesos.TASK_RUNNING)
		pid := c.parent("idle")
		time.Sleep(time.Second) // what starting took is given back
		before, cpu := proportional(b, pid), processorTime(b, pid)
		c.offers = c.Offers()
		task := &payload.Task{Command: &payload.Command{Argv: []string{executable(b)}},
			Environment: []*payload.Variable{{Name: serviceRole, Value: fmt.Sprintf("write %d MB/s for %d s", rate, seconds)}}}
		c.Accept(3600, c.offers, probe.Launch(c.task("writes", task, small)))
		c.want(mesos.TASK_STARTING)
		c.want(mesos.TASK_RUNNING)
		most := before
		for end := time.Now().Add((seconds - 1) * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			most = max(most, proportional(b, pid))
		}
		c.want(mesos.TASK_FINISHED)
		used := processorTime(b, pid) - cpu
		b.ReportMetric(most-before, "more-MiB")
		b.ReportMetric(100*used.Seconds()/seconds, "%core")
		var wrote float64
		if _, err := fmt.Sscan(c.file("writes", "stderr"), &wrote); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(wrote/1e6/seconds, "MB/s")
		c.Must(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
	}
	b.ReportMetric(0, "ns/op")
}

// processorTime is what a process has used so far.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, field := range fields[11:13] { // utime and stime, proc(5)
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ on every architecture that Mesos runs on
	return time.Duration(ticks) * time.Second / perSecond
}

// BenchmarkSubscribe is the time from the start of the program until it is
// subscribed, with Vault, ZooKeeper and Consul out of reach; budget 1 s.
func BenchmarkSubscribe(b *testing.B) {
	address := freeAddress(b)
	for b.Loop() {
		c := newCluster(b, map[string]string{"PACER_ZK": "zk://" + address + "/x", "PACER_CONSUL": "http://" + address, "VAULT_ADDR": "http://" + address})
		c.Accept(0, c.offers, probe.Launch(c.task("a", &payload.Task{Command: &payload.Command{Shell: "exec sleep 600"}}, small)))
		c.want(mesos.TASK_STARTING)
		b.ReportMetric(float64(c.moment("subscribed").Sub(c.moment("pacer-executor starts")).Milliseconds()), "ms/subscribe")
		c.Must(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
	}
	b.ReportMetric(0, "ns/op")
}
