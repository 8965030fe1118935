package scheduler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counted as things happen. Gauges are read when they are asked
// for; see Scheduler.Collect.
type metrics struct {
	launched    prometheus.Counter
	ended       *prometheus.CounterVec // state
	kills       prometheus.Counter
	adopted     prometheus.Counter
	calls       *prometheus.CounterVec // outcome
	declined    prometheus.Counter
	subscribed  prometheus.Counter
	writeFailed prometheus.Counter
	writes      prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pacer_scheduler_" + name, Help: help})
	}
	return &metrics{
		launched: counter("launches_total", "Tasks whose ACCEPT was answered."),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pacer_scheduler_task_ends_total", Help: "Tasks that have ended, by Mesos' state.",
		}, []string{"state"}),
		kills:   counter("kills_total", "KILL calls made, repetitions included."),
		adopted: counter("adopted_total", "Unknown tasks that became instances."),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pacer_scheduler_master_calls_total", Help: "Calls to the master, by outcome: ok or failed.",
		}, []string{"outcome"}),
		declined:    counter("offers_declined_total", "Offers given back."),
		subscribed:  counter("subscriptions_total", "Times that the framework has subscribed."),
		writeFailed: counter("store_writes_failed_total", "Changes that the store did not take."),
		writes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pacer_scheduler_store_write_seconds", Help: "Time from a change to its being stored, waiting for others included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.launched, m.ended, m.kills, m.adopted, m.calls, m.declined, m.subscribed, m.writeFailed, m.writes}
}

// written counts a change that has been stored, or not.
func (m *metrics) written(took time.Duration, err error) {
	m.writes.Observe(took.Seconds())
	if err != nil {
		m.writeFailed.Inc()
	}
}

// called counts a call to the master.
func (m *metrics) called(err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.calls.WithLabelValues(outcome).Inc()
}

var _ prometheus.Collector = (*Scheduler)(nil)

func describeMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pacer_scheduler_"+name, help, labels, nil)
}

// Gauges, and counters that others count.
var (
	descSubscribed  = describeMetric("subscribed", "1 while there is a subscription.")
	descReconciled  = describeMetric("reconciled", "1 once the first reconciliation is complete.")
	descReady       = describeMetric("ready", "1 while writes are taken and launches can happen.")
	descStore       = describeMetric("store_reachable", "1 while the store can be reached.")
	descEpoch       = describeMetric("epoch", "Number of this leadership.")
	descApps        = describeMetric("apps", "Apps that exist.")
	descDeployments = describeMetric("deploying_apps", "Apps that a deployment is changing.")
	descTasks       = describeMetric("tasks", "Instances of apps by what is known of them.", "state")
	descRecords     = describeMetric("task_records", "Tasks that the store tells of, those on their way out included.")
	descWaiting     = describeMetric("waiting_instances", "Instances that are wanted and not placed yet.")
	descQuarantine  = describeMetric("quarantined_tasks", "Tasks of the framework that no app here knows, and that are left alone.")
	descUnreadable  = describeMetric("unreadable_nodes", "Nodes of the state that could not be read, and are left alone.")
	descWrites      = describeMetric("store_transactions_total", "Transactions that the store has taken.")
	descWritten     = describeMetric("store_bytes_total", "Keys and values in them, in bytes.")
)

// Describe implements [prometheus.Collector].
func (s *Scheduler) Describe(to chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(to)
	}
	for _, d := range []*prometheus.Desc{
		descSubscribed, descReconciled, descReady, descStore, descEpoch, descApps, descDeployments, descTasks,
		descRecords, descWaiting, descQuarantine, descUnreadable, descWrites, descWritten,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. It costs a look at every app.
func (s *Scheduler) Collect(to chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(to)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	yes := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	s.shown.mu.RLock()
	info, ready, records, services := s.shown.info, s.shown.ready, s.shown.tasks, s.shown.services
	s.shown.mu.RUnlock()
	gauge(descSubscribed, yes(info.Master != ""))
	gauge(descReconciled, yes(!info.Stale))
	gauge(descReady, yes(ready == ""))
	gauge(descStore, yes(s.journal.Trouble() == nil))
	gauge(descEpoch, float64(s.journal.Epoch()))
	gauge(descApps, float64(len(services)))
	gauge(descRecords, float64(records))
	gauge(descQuarantine, float64(info.QuarantineCount))
	gauge(descUnreadable, float64(s.unreadable))
	deploying, waiting, staged, running, healthy, unhealthy := 0, 0, 0, 0, 0, 0
	for _, v := range services {
		shown := v.view.Load()
		counts := shown.status.Counts
		staged, running = staged+counts.Staged, running+counts.Running
		healthy, unhealthy = healthy+counts.Healthy, unhealthy+counts.Unhealthy
		if shown.deployment != nil {
			deploying++
		}
		if shown.queue != nil {
			waiting += shown.queue.Count
		}
	}
	gauge(descDeployments, float64(deploying))
	gauge(descWaiting, float64(waiting))
	gauge(descTasks, float64(staged), "staged")
	gauge(descTasks, float64(running), "running")
	gauge(descTasks, float64(healthy), "healthy")
	gauge(descTasks, float64(unhealthy), "unhealthy")
	transactions, bytes := s.journal.Written()
	to <- prometheus.MustNewConstMetric(descWrites, prometheus.CounterValue, float64(transactions))
	to <- prometheus.MustNewConstMetric(descWritten, prometheus.CounterValue, float64(bytes))
}
