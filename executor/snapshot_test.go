package executor

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/prometheus/client_golang/prometheus"

	"pacer/executor/payload"
	"pacer/healthcheck"
)

// seen is a task's line as an operator would read it.
func (e *Executor) seen() string {
	s := e.Snapshot()
	if len(s.Tasks) == 0 {
		return "none"
	}
	v := s.Tasks[0]
	healthy := "-"
	if v.Healthy != nil {
		healthy = fmt.Sprint(*v.Healthy)
	}
	text := fmt.Sprintf("%s %v healthy=%s registered=%s", v.State, time.Since(v.Since), healthy, v.Registered)
	if v.WaitsFor != "" {
		text += fmt.Sprintf(" waits %v for %s", time.Since(v.Waits), v.WaitsFor)
	}
	return text
}

func TestSnapshot_SaysWhatATaskWaitsForAndSinceWhen(t *testing.T) {
	s := &stage{secretsAfter: 5 * time.Second, startAfter: 3 * time.Second, found: 4 * time.Second, gone: 2 * time.Second, onTerm: -1, killTakes: 4 * time.Second}
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := e.seen(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		if c := e.Snapshot().Connection; c.State != Connected {
			t.Errorf("connection %+v", c)
		}
		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
			info.Labels = labelsFor("service.name", "cart", "drain", "6s", "secret.env.PASSWORD", "secret/cart#password")
		}))
		time.Sleep(time.Second)
		expect("starting 1s healthy=- registered=no waits 1s for secrets and files")
		time.Sleep(5 * time.Second)
		expect("starting 6s healthy=- registered=no waits 1s for its process to start")
		time.Sleep(4 * time.Second)
		expect("started 2s healthy=- registered=no waits 2s for its health check to pass")
		s.hear(healthcheck.Healthy)
		time.Sleep(time.Second)
		expect("started 3s healthy=true registered=registering waits 1s for registration")
		time.Sleep(5 * time.Second)
		expect("running 2s healthy=true registered=yes")
		s.hear(healthcheck.Unhealthy)
		time.Sleep(3 * time.Second)
		expect("running 5s healthy=false registered=no waits 3s for its health check to pass: HTTP 503")
		e.Kill("t.1", &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(10 * time.Second)}})
		time.Sleep(time.Second)
		// It has been found gone a second before the kill.
		expect("killing 1s healthy=false registered=no waits 1s for the drain delay of 6s to pass")
		time.Sleep(5 * time.Second)
		expect("killing 6s healthy=false registered=no waits 1s for its end after SIGTERM; SIGKILL follows after 10s")
		time.Sleep(10 * time.Second)
		expect("killing 16s healthy=false registered=no waits 1s for its last process to end")
		time.Sleep(10 * time.Second)
		expect("none")

		e.Disconnected(time.Now())
		if c := e.Snapshot().Connection; c.State != Disconnected || !c.Since.Equal(time.Now()) {
			t.Errorf("connection %+v", c)
		}
	})
}

func TestMetrics_CountEndsAndHaveNoLabelThatGrows(t *testing.T) {
	staged(t, new(stage), nil, func(t *testing.T, e *Executor) {
		registry := prometheus.NewPedanticRegistry()
		if err := registry.Register(e); err != nil {
			t.Fatal(err)
		}
		series := func() (n int, text string) {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, f := range families {
				n += len(f.Metric)
				fmt.Fprintln(&b, f)
			}
			return n, b.String()
		}
		run := func(id string) {
			e.Launch(taskInfo(t, id, func(info *mesos.TaskInfo, _ *payload.Task) { info.HealthCheck, info.Labels = nil, nil }))
			synctest.Wait()
			e.Kill(id, nil)
			synctest.Wait()
		}
		run("t.0")
		before, _ := series()
		for i := range 20 {
			run(fmt.Sprintf("t.%d", i+1))
		}
		after, text := series()
		if before != after {
			t.Errorf("%d series after 1 task, %d after 21", before, after)
		}
		for _, want := range []string{"pacer_executor_tasks_ended_total", `"KILLED"`, "counter:{value:21", `"pacer_executor_kill_seconds"`,
			`"pacer_executor_healthy_to_findable_seconds"`, `"pacer_executor_kill_to_gone_seconds"`, `"pacer_executor_agent_suspect"`} {
			if !strings.Contains(strings.ReplaceAll(text, "  ", " "), want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
	})
}
