package registry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count and measure what the registries of a process do. They are a
// [prometheus.Collector]. Labels have a few values each, whatever the number of
// tasks.
type Metrics struct {
	operations  *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	connections *prometheus.CounterVec
}

var _ prometheus.Collector = (*Metrics)(nil)

// NewMetrics returns metrics for the Observe and Connected of [Options].
func NewMetrics() *Metrics {
	return &Metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pacer_registry_operations_total",
			Help: "Calls to register and deregister by result: ok, unavailable, refused, superseded or closed."}, []string{"registry", "op", "result"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pacer_registry_operation_seconds",
			Help:    "How long a call waited, until the instance was found, or gone.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}}, []string{"registry", "op"}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pacer_registry_connections_total",
			Help: "Sessions and connections that were established; more than one means reconnects."}, []string{"registry"}),
	}
}

// Observe is for [Options.Observe].
func (m *Metrics) Observe(o Operation) {
	m.operations.WithLabelValues(o.Registry, o.Op, result(o.Err)).Inc()
	if o.Err == nil {
		m.durations.WithLabelValues(o.Registry, o.Op).Observe(o.Elapsed.Seconds())
	}
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrSuperseded):
		return "superseded"
	case errors.Is(err, ErrClosed):
		return "closed"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return "refused"
}

// Connected is for [Options.Connected].
func (m *Metrics) Connected(registry string) { m.connections.WithLabelValues(registry).Inc() }

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.operations, m.durations, m.connections} {
		c.Describe(descriptions)
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(values chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.operations, m.durations, m.connections} {
		c.Collect(values)
	}
}
