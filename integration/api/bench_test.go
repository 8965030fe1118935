package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pacer/integration/binaries"
	emulator "pacer/integration/mesos"
	mesosmaster "pacer/integration/mesos/master"
	"pacer/integration/mesos/simulated"
)

// load is a scheduler in a process of its own with apps and tasks, so that its
// CPU and memory are its own.
type load struct {
	b      *testing.B
	url    string
	client *http.Client
	pid    int
	apps   []string
}

// newLoad starts a cluster and a scheduler and deploys apps with tasks in all.
func newLoad(b *testing.B, apps, tasks int) *load {
	b.Helper()
	built, err := binaries.Build(binaries.Scheduler)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(built.Remove)
	cluster, err := emulator.Start(emulator.Config{
		Agents:    -1, // none with processes
		Master:    mesosmaster.Config{AllocationInterval: 100 * time.Millisecond},
		Simulated: &simulated.Config{Agents: 200, Resources: "cpus:64;mem:131072;disk:1048576;ports:[31000-32000]", Life: brisk()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := cluster.AwaitAgents(b.Context(), 200); err != nil {
		b.Fatal(err)
	}
	address, public := freeAddress(b), freeAddress(b)
	l := &load{b: b, url: "http://" + address, client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 500}}}
	command := exec.Command(built.Path(binaries.Scheduler),
		"--master="+cluster.MasterURL(), "--state=bolt:"+filepath.Join(b.TempDir(), "state.db"), "--listen="+address, "--public-listen="+public,
		"--executor-uri=http://127.0.0.1:1/pacer-executor", "--executor-sha256="+strings.Repeat("ab", 32), "--user=nobody", "--log-level=warn")
	var log bytes.Buffer
	command.Stderr = &log
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	l.pid = command.Process.Pid
	b.Cleanup(func() {
		l.client.CloseIdleConnections()
		if err := command.Process.Signal(os.Interrupt); err != nil {
			b.Error(err)
		}
		if err := command.Wait(); err != nil {
			b.Errorf("scheduler: %v\n%s", err, log.String())
		}
	})
	l.until("the scheduler is ready", func() bool {
		response, err := l.client.Get(l.url + "/ready")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == 200
	})
	for first := 0; first < apps; first += 250 {
		var bodies []string
		for n := first; n < min(apps, first+250); n++ {
			instances := tasks / apps
			if n < tasks%apps {
				instances++
			}
			id := fmt.Sprintf("/team-%d/app-%d", n%50, n)
			l.apps = append(l.apps, id)
			bodies = append(bodies, definition(id, instances, 1))
		}
		l.must("PUT", "/v2/apps", "["+strings.Join(bodies, ",")+"]")
	}
	l.settled()
	return l
}

// definition is an app with a health check and secrets.
func definition(id string, instances, version int) string {
	return fmt.Sprintf(`{"id":%q,"cmd":"./service --port $PORT0","cpus":0.1,"mem":32,"instances":%d,"env":{"VERSION":"%d"},
		"labels":{"HAPROXY_GROUP":"external","service.name":"app","secret.env.DB_PASSWORD":"secret/app/db#password","secret.env.API_KEY":"secret/app/api#key"},
		"healthChecks":[{"protocol":"MESOS_HTTP","path":"/health","intervalSeconds":10}],
		"upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":0.25},"backoffSeconds":1}`, id, instances, version)
}

func freeAddress(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (l *load) until(what string, condition func() bool) {
	l.b.Helper()
	for deadline := time.Now().Add(5 * patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.b.Fatalf("not within %s: %s", 5*patience, what)
		}
	}
}

// settled waits until no deployment is under way.
func (l *load) settled() {
	l.b.Helper()
	l.until("all deployments end", func() bool { return string(bytes.TrimSpace(l.get("/v2/deployments"))) == "[]" })
}

func (l *load) get(path string) []byte { return l.must("GET", path, "") }

func (l *load) must(method, path, body string) []byte {
	l.b.Helper()
	data, status, err := l.send(l.b.Context(), method, path, body)
	if err != nil || status >= 300 {
		l.b.Fatalf("%s %s: %d %v %s", method, path, status, err, data)
	}
	return data
}

func (l *load) send(ctx context.Context, method, path, body string) ([]byte, int, error) {
	request, err := http.NewRequestWithContext(ctx, method, l.url+path, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return data, response.StatusCode, err
}

// cpu is what the scheduler has used.
func (l *load) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.pid))
	if err != nil {
		l.b.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime, see proc(5)
		n, err := strconv.Atoi(field)
		if err != nil {
			l.b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is a line of the scheduler's status, in MiB.
func (l *load) memory(name string) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.pid))
	if err != nil {
		l.b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				l.b.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	return 0
}

// times gathers durations.
type times struct {
	mu  sync.Mutex
	all []time.Duration
}

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, d)
}

func (t *times) quantile(q float64) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) == 0 {
		return 0
	}
	slices.Sort(t.all)
	return float64(t.all[int(q*float64(len(t.all)-1))]) / float64(time.Millisecond)
}

// poll asks again and again for what people and programs look at, until ctx
// ends.
func (l *load) poll(ctx context.Context, took *times) {
	for ctx.Err() == nil {
		path := "/v2/apps" + l.apps[rand.IntN(len(l.apps))]
		switch n := rand.IntN(20); {
		case n < 3:
			path = "/v2/deployments"
		case n < 5:
			path = "/v2/queue"
		case n < 7:
			path = fmt.Sprintf("/v2/apps?id=/team-%d/&embed=apps.tasks", rand.IntN(50))
		case n < 8:
			path = "/v2/info"
		}
		began := time.Now()
		_, status, err := l.send(ctx, "GET", path, "")
		if ctx.Err() != nil {
			return
		}
		if err != nil || status != 200 {
			l.b.Errorf("GET %s: %d %v", path, status, err)
			return
		}
		took.add(time.Since(began))
		pause(ctx, time.Duration(50+rand.IntN(100))*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// subscribe follows events until ctx ends and notes how late they come.
func (l *load) subscribe(ctx context.Context, lag *times) {
	request, err := http.NewRequestWithContext(ctx, "GET", l.url+"/v2/events", nil)
	if err != nil {
		l.b.Error(err)
		return
	}
	response, err := (&http.Client{Transport: l.client.Transport}).Do(request)
	if err != nil {
		l.b.Error(err)
		return
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		now := time.Now()
		var e struct {
			EventType string
			Timestamp time.Time
		}
		if err := json.Unmarshal(data, &e); err != nil {
			l.b.Errorf("event %s: %v", data, err)
			return
		}
		if e.EventType == "event_stream_detached" {
			l.b.Errorf("a reader was cut off: %s", data)
		}
		lag.add(now.Sub(e.Timestamp))
	}
}

// benchmarkDeployments changes so many apps at once beside readers and
// subscribers.
func benchmarkDeployments(b *testing.B, apps, tasks, deployments, readers, subscribers int) {
	l := newLoad(b, apps, tasks)
	version := 1
	for b.Loop() {
		version++
		leader := string(l.get("/v2/leader"))
		ctx, cancel := context.WithCancel(b.Context())
		var reads, writes, lag times
		var group sync.WaitGroup
		for range readers {
			group.Go(func() { l.poll(ctx, &reads) })
		}
		for range subscribers {
			group.Go(func() { l.subscribe(ctx, &lag) })
		}
		pause(ctx, time.Second) // everybody is connected
		began, cpu := time.Now(), l.cpu()
		var changes sync.WaitGroup
		for _, n := range rand.Perm(len(l.apps))[:deployments] {
			changes.Go(func() {
				began := time.Now()
				data, status, err := l.send(ctx, "PUT", "/v2/apps"+l.apps[n], fmt.Sprintf(`{"env":{"VERSION":"%d"}}`, version))
				if err != nil || status != 200 {
					b.Errorf("PUT %s: %d %v %s", l.apps[n], status, err, data)
				}
				writes.add(time.Since(began))
			})
		}
		changes.Wait()
		l.settled()
		took := time.Since(began)
		used := l.cpu() - cpu
		cancel()
		group.Wait()
		if now := string(l.get("/v2/leader")); now != leader {
			b.Errorf("the leader was %s and is %s", leader, now)
		}
		b.ReportMetric(reads.quantile(0.99), "api-p99-ms")
		b.ReportMetric(reads.quantile(0.5), "api-p50-ms")
		b.ReportMetric(writes.quantile(0.99), "write-p99-ms")
		b.ReportMetric(lag.quantile(0.99), "event-lag-p99-ms")
		b.ReportMetric(took.Seconds(), "s-until-all-ended")
		b.ReportMetric(used.Seconds()/took.Seconds(), "cores")
		b.ReportMetric(l.memory("VmRSS"), "rss-MiB")
		b.ReportMetric(float64(len(lag.all)), "events")
	}
}

// BenchmarkDeployments is what the budget of design.md section 11 is about.
func BenchmarkDeployments(b *testing.B) { benchmarkDeployments(b, 1500, 10_000, 100, 50, 50) }

// BenchmarkPostMortem is the case in which Marathon's leader with a secrets
// plugin used to die.
func BenchmarkPostMortem(b *testing.B) { benchmarkDeployments(b, 1000, 5000, 25, 20, 10) }

// BenchmarkListAll reads all apps with their tasks: alone, and by 100 readers
// at once.
func BenchmarkListAll(b *testing.B) {
	l := newLoad(b, 1500, 10_000)
	l.get("/v2/apps?embed=apps.tasks")
	before := l.memory("VmHWM")
	for b.Loop() {
		var alone, crowd times
		size := 0
		for range 20 {
			began := time.Now()
			size = len(l.get("/v2/apps?embed=apps.tasks"))
			alone.add(time.Since(began))
		}
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				began := time.Now()
				response, err := l.client.Get(l.url + "/v2/apps?embed=apps.tasks")
				if err != nil {
					b.Error(err)
					return
				}
				defer response.Body.Close()
				n, err := io.Copy(io.Discard, response.Body)
				if err != nil || int(n) != size {
					b.Errorf("%d bytes of %d, %v", n, size, err)
				}
				crowd.add(time.Since(began))
			})
		}
		group.Wait()
		b.ReportMetric(alone.quantile(0.5), "alone-ms")
		b.ReportMetric(crowd.quantile(0.99), "by-100-p99-ms")
		b.ReportMetric(float64(size)/(1<<20), "MiB")
		b.ReportMetric(l.memory("VmHWM")-before, "by-100-peak-MiB-more")
	}
}
