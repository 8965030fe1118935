package failover_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	emulator "pacer/integration/mesos"
	mesosmaster "pacer/integration/mesos/master"
	"pacer/integration/mesos/simulated"
	"pacer/integration/zookeeper"
)

// newLargeWorld has simulated agents and a ZooKeeper that syncs every write.
func newLargeWorld(b *testing.B, agents int) *world {
	w := &world{
		t: b, client: &http.Client{Timeout: 2 * time.Minute},
		zookeeper: zookeeper.Start(b, zookeeper.Options{Tick: 100 * time.Millisecond, Fsync: true, HeapMiB: 512}),
	}
	b.Cleanup(w.client.CloseIdleConnections)
	cluster, err := emulator.Start(emulator.Config{
		Agents: -1, Master: mesosmaster.Config{MaxCompletedTasks: 1}, Simulated: &simulated.Config{Agents: agents},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := cluster.AwaitAgents(b.Context(), agents); err != nil {
		b.Fatal(err)
	}
	w.cluster = cluster
	w.flags = []string{
		"--master=" + cluster.MasterURL(), "--state=" + w.zookeeper.URL("/pacer"), "--state-session=" + session.String(),
		"--listen=127.0.0.1:0", "--public-listen=127.0.0.1:0", "--user=" + self(b),
		"--executor-uri=http://127.0.0.1:1/pacer-executor", "--executor-sha256=" + executor.SHA256(),
		"--executor-env=PACER_ALLOWED_USERS=" + self(b), "--log-level=info",
	}
	return w
}

// metric is the value of a metric, by its name and labels as they are shown.
func (w *world) metric(p *process, name string) float64 {
	w.t.Helper()
	_, _, text := w.ask("GET", p.api+"/metrics", "")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				w.t.Fatalf("%s: %v", name, err)
			}
			return number
		}
	}
	return 0
}

// rss of a process in bytes.
func (p *process) rss() float64 {
	p.w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.w.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				p.w.t.Fatal(err)
			}
			return kib * 1024
		}
	}
	p.w.t.Fatal("no VmRSS")
	return 0
}

// processor time that a process has used.
func (p *process) processor() time.Duration {
	p.w.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		p.w.t.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}

// fill creates apps, a hundred in one request.
func (w *world) fill(p *process, apps, instances int) {
	w.t.Helper()
	for first := 0; first < apps; first += 100 {
		var batch []map[string]any
		for n := first; n < min(first+100, apps); n++ {
			batch = append(batch, map[string]any{
				"id": fmt.Sprintf("/team-%d/app-%d", n%20, n), "cmd": "serve", "cpus": 0.01, "mem": 1, "instances": instances,
				"portDefinitions": []any{},
			})
		}
		body, err := json.Marshal(batch)
		if err != nil {
			w.t.Fatal(err)
		}
		if status, _, answer := w.ask("PUT", p.api+"/v2/apps", string(body)); status != http.StatusOK && status != http.StatusCreated {
			w.t.Fatalf("PUT /v2/apps: %d %.300s", status, answer)
		}
	}
}

func (w *world) untilTasks(p *process, n int) {
	w.t.Helper()
	deadline := time.Now().Add(10 * time.Minute)
	for w.metric(p, `pacer_scheduler_tasks{state="running"}`) < float64(n) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%v of %d running, %v launched", w.metric(p, `pacer_scheduler_tasks{state="running"}`), n, w.metric(p, "pacer_scheduler_launches_total"))
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
}

// BenchmarkLaunch launches 100,000 tasks of 1,000 apps on 1,000 simulated
// agents, until all run and are acknowledged, and then looks at the scheduler
// at rest. Emulator and ZooKeeper share the machine.
func BenchmarkLaunch(b *testing.B) {
	const apps, instances = 1000, 100
	for b.Loop() {
		w := newLargeWorld(b, 1000)
		p := w.start()
		w.leader(p)
		w.until("ready", func() bool { return w.metric(p, "pacer_scheduler_ready") == 1 })
		before := w.metric(p, "pacer_scheduler_store_bytes_total")
		used := p.processor()
		begin := time.Now()
		w.fill(p, apps, instances)
		submitted := w.metric(p, "pacer_scheduler_store_bytes_total")
		w.untilTasks(p, apps*instances)
		took := time.Since(begin)
		b.ReportMetric(apps*instances/took.Seconds(), "running/s")
		b.ReportMetric(float64((p.processor()-used).Microseconds())/(apps*instances), "cpu-us/launch")
		w.until("all deployments have ended", func() bool { return w.metric(p, "pacer_scheduler_deploying_apps") == 0 })
		written := w.metric(p, "pacer_scheduler_store_bytes_total")
		b.ReportMetric((written-before)/(apps*instances), "stored-B/launch")
		b.ReportMetric((submitted-before)/apps, "stored-B/app")
		// The Go runtime gives memory back within minutes; two collections
		// after the burst show what is needed.
		rest := time.Now()
		for time.Since(rest) < 30*time.Second {
			time.Sleep(time.Second)
		}
		idle := p.processor()
		time.Sleep(10 * time.Second)
		b.ReportMetric(float64(p.processor()-idle)/float64(10*time.Second)*100, "idle-cpu-%")
		b.ReportMetric(p.rss()/(1<<20), "rss-MiB")
		b.ReportMetric(w.metric(p, "go_memstats_heap_alloc_bytes")/(1<<20), "heap-MiB")
		if again := w.metric(p, "pacer_scheduler_store_bytes_total"); again != written {
			b.Errorf("%v bytes were stored at rest", again-written)
		}
	}
}

// BenchmarkFailover ends the leader's session and measures until the next one
// has taken a write, with 10,000 tasks of 500 apps.
func BenchmarkFailover(b *testing.B) {
	const apps, instances = 500, 20
	w := newLargeWorld(b, 200)
	leading := w.start()
	w.leader(leading)
	w.until("ready", func() bool { return w.metric(leading, "pacer_scheduler_ready") == 1 })
	w.fill(leading, apps, instances)
	w.untilTasks(leading, apps*instances)
	w.until("all deployments have ended", func() bool { return w.metric(leading, "pacer_scheduler_deploying_apps") == 0 })
	conn := w.zookeeper.Connect(b)
	var total, subscribed time.Duration
	n := 0
	for b.Loop() {
		next := w.start().ready()
		names, _, err := conn.Children("/pacer/election")
		if err != nil {
			b.Fatal(err)
		}
		var owner int64
		for _, name := range names {
			data, stat, err := conn.Get("/pacer/election/" + name)
			if err != nil {
				b.Fatal(err)
			}
			if strings.Contains(string(data), leading.api) {
				owner = stat.EphemeralOwner
			}
		}
		if err := w.zookeeper.KillSession(b.Context(), owner); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		for {
			status, _, answer := w.ask("PUT", next.api+"/v2/apps/probe?force=true", fmt.Sprintf(`{"id":"/probe","cmd":"true","instances":0,"env":{"N":"%d"}}`, n))
			if status == http.StatusOK || status == http.StatusCreated {
				break
			}
			if status != http.StatusServiceUnavailable && status != http.StatusBadGateway {
				b.Fatalf("%d %s", status, answer)
			}
			if time.Since(begin) > patience {
				b.Fatal("no write is taken")
			}
			time.Sleep(2 * time.Millisecond) // between two tries
		}
		total += time.Since(begin)
		w.until("reconciled", func() bool { return w.metric(next, "pacer_scheduler_ready") == 1 })
		subscribed += time.Since(begin)
		leading.exits()
		leading = next
		n++
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(n), "ms-to-write")
	b.ReportMetric(float64(subscribed.Milliseconds())/float64(n), "ms-to-launches")
}
