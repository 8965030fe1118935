package executor

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/payload"
)

func TestGuard_Waits(t *testing.T) {
	const interval = 10 * time.Second
	start := time.Unix(1_000_000, 0)
	// at is when the tasks turn unhealthy, in order.
	every := func(pause time.Duration, n int) (at []time.Duration) {
		for i := range n {
			at = append(at, time.Duration(i)*pause)
		}
		return at
	}
	for _, tc := range []struct {
		name    string
		healthy int // tasks that stay so
		at      []time.Duration
		waits   int // how many of the last have to wait
	}{
		{"one of many", 9, every(0, 1), 0},
		{"half", 4, every(0, 4), 0},
		{"most, but few", 0, every(0, 3), 0},
		{"most", 3, every(0, 4), 1},
		{"all", 0, every(0, 20), 10},
		{"within an interval", 1, every(2*time.Second, 5), 2},
		{"one after the other", 1, every(5*time.Second, 8), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGuard(zerolog.Nop())
			for i := range tc.healthy + len(tc.at) {
				g.healthy(fmt.Sprint(i))
			}
			waits, last := 0, start
			for i, at := range tc.at {
				now := start.Add(at)
				wait := g.unhealthy(fmt.Sprint(i), now, interval)
				if wait == 0 {
					continue
				}
				waits++
				if turn := now.Add(wait); !turn.After(last) || wait > spreadOver {
					t.Errorf("task %d has its turn at %v, the one before at %v", i, turn.Sub(start), last.Sub(start))
				} else {
					last = turn
				}
			}
			if waits != tc.waits {
				t.Errorf("%d tasks have to wait, want %d", waits, tc.waits)
			}
			if g.suspects() != (tc.waits > 0) {
				t.Errorf("suspect: %v", g.suspects())
			}
		})
	}
}

func TestGuard_SuspicionIsLoggedOnceAndEnds(t *testing.T) {
	var log bytes.Buffer
	g := newGuard(zerolog.New(&log))
	now := time.Unix(1_000_000, 0)
	for i := range 6 {
		g.healthy(fmt.Sprint(i))
	}
	for i := range 6 {
		g.unhealthy(fmt.Sprint(i), now, time.Second)
	}
	if g.threshold("0", now) == 0 || g.threshold("stranger", now) != 0 {
		t.Error("kills have no turn, or those of tasks that were never healthy have")
	}
	g.healthy("0")
	g.leave("1")
	if !g.suspects() {
		t.Error("four of five are most")
	}
	g.healthy("2")
	if g.suspects() || g.threshold("3", now) != 0 {
		t.Error("three of five are few")
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines of log, want one for the begin and one for the end:\n%s", n, log.String())
	}
}

// TestReal_AnAgentAtFaultLosesItsTasksOneByOne has six tasks whose checks depend
// on one thing that fails, as on an agent whose network is at fault.
func TestReal_AnAgentAtFaultLosesItsTasksOneByOne(t *testing.T) {
	var bad atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if bad.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	r := newReal(t)
	const n = 6
	id := func(i int) string { return fmt.Sprintf("svc.%d", i) }
	for i := range n {
		r.run(t, id(i), "exec sleep 60", func(info *mesos.TaskInfo, task *payload.Task) {
			zero, interval, failures := 0.0, 0.2, uint32(1000)
			task.Unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS
			info.Discovery.Ports.Ports[0].Number = uint32(port)
			info.Labels = labelsFor("service.name", "svc", "health.more.protocol", "tcp")
			info.HealthCheck = &mesos.HealthCheck{
				Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: uint32(port)},
				DelaySeconds: &zero, IntervalSeconds: &interval, ConsecutiveFailures: &failures,
			}
		})
	}
	says := func(want bool) func(*mesos.TaskStatus) bool {
		return func(s *mesos.TaskStatus) bool { return s.Healthy != nil && *s.Healthy == want }
	}
	for i := range n {
		r.inbox.wait(t, id(i), says(true))
	}
	bad.Store(true)
	began := time.Now()
	// gone are the tasks that were reported unhealthy, with what was said.
	gone := func() map[string]string {
		r.inbox.mu.Lock()
		defer r.inbox.mu.Unlock()
		list := map[string]string{}
		for i := range r.inbox.statuses {
			if s := &r.inbox.statuses[i]; says(false)(s) {
				list[s.TaskID.Value] = s.GetMessage()
			}
		}
		return list
	}
	// Half of them at once; the next one has its turn 5 s later.
	for len(gone()) < n/2+1 {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("unhealthy after 20s: %v", gone())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < spreadOver/n {
		t.Errorf("%d of %d tasks were taken out of service within %v", n/2+1, n, took)
	}
	bad.Store(false)
	suspected := 0
	for _, message := range gone() {
		if strings.Contains(message, suspicion) {
			suspected++
		}
	}
	if suspected != 1 {
		t.Errorf("%d statuses say that the agent is suspect, want the last one's: %v", suspected, gone())
	}
	healthyAgain := func() bool {
		for i := range n {
			if !r.entries.has(id(i)) {
				return false
			}
		}
		return !r.guard.suspects()
	}
	for !healthyAgain() {
		if time.Since(began) > 30*time.Second {
			t.Fatal("not all are back in service")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left := gone(); len(left) != n/2+1 {
		t.Errorf("%d tasks were reported unhealthy, want %d: %v", len(left), n/2+1, left)
	}
}
