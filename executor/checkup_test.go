package executor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/payload"
	"pacer/healthcheck"
)

func TestCheckup_AllHaveToBeHealthyAndOneIsEnoughToBeUnhealthy(t *testing.T) {
	say := func(check string, kind healthcheck.EventKind) healthcheck.Event {
		return healthcheck.Event{Check: check, Kind: kind, Result: healthcheck.Result{Message: "m"}}
	}
	for _, tc := range []struct {
		name   string
		checks int
		heard  []healthcheck.Event
		want   []event
	}{
		{"one check speaks for itself", 1, []healthcheck.Event{say("", healthcheck.Healthy), say("", healthcheck.Unhealthy), say("", healthcheck.Failure), say("", healthcheck.Threshold), say("", healthcheck.Healthy)},
			[]event{becameHealthy{}, becameUnhealthy{"m"}, failedAgain{"m"}, reachedThreshold{"m"}, becameHealthy{}}},
		{"two healthy checks", 2, []healthcheck.Event{say("", healthcheck.Healthy), say("db", healthcheck.Healthy)}, []event{becameHealthy{}}},
		{"one of two never gets healthy", 2, []healthcheck.Event{say("", healthcheck.Healthy), say("db", healthcheck.Unhealthy), say("db", healthcheck.Threshold)},
			[]event{becameUnhealthy{"check db: m"}, reachedThreshold{"check db: m"}}},
		{"both fail and recover", 2, []healthcheck.Event{
			say("", healthcheck.Healthy), say("db", healthcheck.Healthy),
			say("db", healthcheck.Unhealthy), say("", healthcheck.Unhealthy), say("db", healthcheck.Healthy), say("", healthcheck.Healthy)},
			[]event{becameHealthy{}, becameUnhealthy{"check db: m"}, failedAgain{"m"}, becameHealthy{}}},
		{"a snooze changes nothing", 1, []healthcheck.Event{say("", healthcheck.Snoozed)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []event
			c := &checkup{guard: newGuard(zerolog.Nop()), post: func(ev event) { got = append(got, ev) }, missing: tc.checks, healthy: map[string]bool{}}
			for _, e := range tc.heard {
				c.take(e)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(becameUnhealthy{}, failedAgain{}, reachedThreshold{})); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// patients are tasks with one check each, under one guard.
type patients struct {
	checkups []*checkup
	start    time.Time
	mu       sync.Mutex
	heard    []string // "task@seconds event"
}

func newPatients(n int) *patients {
	p := &patients{start: time.Now()}
	g := newGuard(zerolog.Nop())
	for i := range n {
		c := &checkup{task: fmt.Sprint(i), guard: g, missing: 1, healthy: map[string]bool{}, interval: 10 * time.Second}
		c.post = func(ev event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.heard = append(p.heard, fmt.Sprintf("%s@%d %T", c.task, int(time.Since(p.start)/time.Second), ev))
		}
		c.later = func(d time.Duration, do func()) { time.AfterFunc(d, do) }
		c.take(healthcheck.Event{Kind: healthcheck.Healthy})
		p.checkups = append(p.checkups, c)
	}
	p.heard = nil
	return p
}

func (p *patients) say(task int, kinds ...healthcheck.EventKind) {
	for _, kind := range kinds {
		p.checkups[task].take(healthcheck.Event{Kind: kind, Result: healthcheck.Result{Message: "m"}})
	}
}

func (p *patients) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

func TestCheckup_ASuspectAgentLosesItsTasksOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatients(10)
		for i := range 10 {
			p.say(i, healthcheck.Unhealthy)
		}
		synctest.Wait()
		// Five of ten are not most.
		var want []string
		for i := range 5 {
			want = append(want, fmt.Sprintf("%d@0 executor.becameUnhealthy", i))
		}
		if diff := cmp.Diff(want, p.said()); diff != "" {
			t.Fatalf("at once (-want +got):\n%s", diff)
		}
		p.say(9, healthcheck.Healthy)                        // in time
		p.say(8, healthcheck.Failure, healthcheck.Threshold) // while it waits
		p.say(0, healthcheck.Threshold)                      // has had its turn, but the kill needs one
		time.Sleep(time.Minute)
		synctest.Wait()
		want = append(want,
			"5@3 executor.becameUnhealthy", "6@6 executor.becameUnhealthy", "7@9 executor.becameUnhealthy",
			"8@12 executor.becameUnhealthy", "8@12 executor.failedAgain",
			"8@18 executor.reachedThreshold", "0@21 executor.reachedThreshold")
		if diff := cmp.Diff(want, p.said()); diff != "" {
			t.Errorf("in the end (-want +got):\n%s", diff)
		}
	})
}

func TestCheckup_ARecoveryIsNotUndoneByAnOldTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatients(4)
		for i := range 4 {
			p.say(i, healthcheck.Unhealthy)
		}
		p.say(3, healthcheck.Healthy)
		time.Sleep(time.Second)
		p.say(3, healthcheck.Unhealthy)
		time.Sleep(time.Minute)
		synctest.Wait()
		turns := slices.DeleteFunc(p.said(), func(s string) bool { return !strings.HasPrefix(s, "3@") })
		// 30 s for four tasks are 7.5 s for each; the turn at 7 is void.
		if diff := cmp.Diff([]string{"3@15 executor.becameUnhealthy"}, turns); diff != "" {
			t.Errorf("task 3 (-want +got):\n%s\n%v", diff, p.said())
		}
	})
}

// TestReal_AFurtherCheckDecidesToo has a check that labels alone describe: a
// command that runs in the task's folder.
func TestReal_AFurtherCheckDecidesToo(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := uint32(listener.Addr().(*net.TCPAddr).Port)
	r := newReal(t)
	r.run(t, "svc", "exec sleep 60", func(info *mesos.TaskInfo, task *payload.Task) {
		zero, interval, failures := 0.0, 0.2, uint32(1000)
		task.Unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS
		info.Discovery.Ports.Ports[0].Number = port
		info.Labels = labelsFor("service.name", "svc", "health.disk.command", "test -e fine", "health.disk.failures", "2", "health.disk.grace", "20s")
		info.HealthCheck = &mesos.HealthCheck{
			Type: mesos.HealthCheck_TCP, TCP: &mesos.HealthCheck_TCPCheckInfo{Port: port},
			DelaySeconds: &zero, IntervalSeconds: &interval, ConsecutiveFailures: &failures,
		}
	})
	fine := filepath.Join(r.sandbox, tasksDir, "svc", "fine")
	says := func(want bool) func(*mesos.TaskStatus) bool {
		return func(s *mesos.TaskStatus) bool { return s.Healthy != nil && *s.Healthy == want }
	}
	r.inbox.wait(t, "svc", in(mesos.TASK_RUNNING))
	if r.entries.has("svc") {
		t.Error("registered before all checks were healthy")
	}
	if err := os.WriteFile(fine, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.inbox.wait(t, "svc", says(true))
	if !r.entries.has("svc") {
		t.Error("healthy and not registered")
	}
	if err := os.Remove(fine); err != nil {
		t.Fatal(err)
	}
	if sick := r.inbox.wait(t, "svc", says(false)); !strings.Contains(sick.GetMessage(), "check disk: ") {
		t.Errorf("message %q does not name the check", sick.GetMessage())
	}
	// Its own threshold, not the other check's thousand.
	r.inbox.wait(t, "svc", func(s *mesos.TaskStatus) bool { return labelsOf(s.Labels)[payload.LabelUnhealthy] == thresholdReached })
}
