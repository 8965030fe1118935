package executor

import (
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/prometheus/client_golang/prometheus"

	"pacer/healthcheck"
)

// metrics are all that this package measures. Their labels have a few values
// each, whatever the number of apps and tasks.
type metrics struct {
	launches prometheus.Histogram
	services prometheus.Histogram
	kills    prometheus.Histogram
	ends     *prometheus.CounterVec
	panics   prometheus.Counter

	findable prometheus.Histogram
	gone     prometheus.Histogram
	checks   *prometheus.CounterVec
	late     prometheus.Counter

	tasks     *prometheus.Desc
	connected *prometheus.Desc
	suspect   *prometheus.Desc
}

func newMetrics() *metrics {
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	return &metrics{
		launches: histogram("pacer_executor_launch_seconds", "From LAUNCH to the running process, secrets and files included.",
			.002, .005, .01, .02, .05, .1, .5, 1, 5, 30, 120, 600),
		services: histogram("pacer_executor_service_seconds", "From LAUNCH until a task is healthy and can be found.",
			.01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 900),
		kills: histogram("pacer_executor_kill_seconds", "From the decision to end a task until nothing of it is left.",
			.005, .01, .02, .05, .1, .5, 1, 5, 10, 30, 60, 300),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pacer_executor_tasks_ended_total",
			Help: "Tasks by terminal state and class of failure; the class is empty for ends that are none."}, []string{"state", "failure"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "pacer_executor_panics_total",
			Help: "Panics that cost a task; the log has the stacks."}),
		findable: histogram("pacer_executor_healthy_to_findable_seconds", "From healthy until an instance can be found.",
			.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 30, 120),
		gone: histogram("pacer_executor_kill_to_gone_seconds", "From the decision to end a task until it cannot be found any more.",
			.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pacer_executor_health_checks_total",
			Help: "Probes by kind and result: ok, or why they failed."}, []string{"kind", "result"}),
		late: prometheus.NewCounter(prometheus.CounterOpts{Name: "pacer_executor_health_checks_late_total",
			Help: "Probes for which this process itself was too slow, whose failures do not count."}),
		suspect: prometheus.NewDesc("pacer_executor_agent_suspect", "1 while most tasks have turned unhealthy together, else 0.", nil, nil),
		tasks:   prometheus.NewDesc("pacer_executor_tasks", "Tasks by state.", []string{"state"}, nil),
		connected: prometheus.NewDesc("pacer_executor_agent_subscribed",
			"1 while the agent and this executor hear each other, else 0.", nil, nil),
	}
}

func (m *metrics) own() []prometheus.Collector {
	return []prometheus.Collector{m.launches, m.services, m.kills, m.ends, m.panics, m.findable, m.gone, m.checks, m.late}
}

var _ prometheus.Collector = (*Executor)(nil)

// Describe implements [prometheus.Collector].
func (e *Executor) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range e.metrics.own() {
		c.Describe(descriptions)
	}
	descriptions <- e.metrics.tasks
	descriptions <- e.metrics.connected
	descriptions <- e.metrics.suspect
}

// Collect implements [prometheus.Collector].
func (e *Executor) Collect(values chan<- prometheus.Metric) {
	for _, c := range e.metrics.own() {
		c.Collect(values)
	}
	s := e.Snapshot()
	count := map[string]int{}
	for _, t := range s.Tasks {
		count[t.State]++
	}
	for p := staging; p < ended; p++ {
		values <- prometheus.MustNewConstMetric(e.metrics.tasks, prometheus.GaugeValue, float64(count[p.String()]), p.String())
	}
	connected := 0.0
	if s.Connection.State == Connected {
		connected = 1
	}
	values <- prometheus.MustNewConstMetric(e.metrics.connected, prometheus.GaugeValue, connected)
	suspect := 0.0
	if e.guard.suspects() {
		suspect = 1
	}
	values <- prometheus.MustNewConstMetric(e.metrics.suspect, prometheus.GaugeValue, suspect)
}

// registered measures what the next state says of the registry's entry.
func (t *task) registered(next *state, now time.Time) {
	switch was := t.state.entry; {
	case was == registering && next.entry == present:
		t.metrics.findable.Observe(now.Sub(next.registerSince).Seconds())
	case was == leaving && next.entry == absent && next.order == ordered && !t.killed.IsZero():
		t.metrics.gone.Observe(now.Sub(t.killed).Seconds())
	}
}

// probed counts the probes of a check.
func (m *metrics) probed(c healthcheck.Check) func(healthcheck.Result) {
	kind := "command"
	switch {
	case c.HTTP != nil:
		kind = "http"
	case c.TCP != nil:
		kind = "tcp"
	}
	return func(r healthcheck.Result) {
		result := string(r.Reason)
		if r.OK() {
			result = "ok"
		}
		m.checks.WithLabelValues(kind, result).Inc()
		if r.Late {
			m.late.Inc()
		}
	}
}

// moved measures a change of phase.
func (t *task) moved(to phase, now time.Time) {
	switch to {
	case started:
		t.metrics.launches.Observe(now.Sub(t.state.launched).Seconds())
	case running:
		t.metrics.services.Observe(now.Sub(t.state.launched).Seconds())
	case killing:
		t.killed = now
	case ended:
		if !t.killed.IsZero() {
			t.metrics.kills.Observe(now.Sub(t.killed).Seconds())
		}
	}
}

// ended counts a terminal status.
func (m *metrics) ended(state mesos.TaskState, class string) {
	m.ends.WithLabelValues(strings.TrimPrefix(state.String(), "TASK_"), class).Inc()
}
