package registry

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics_CountByResult(t *testing.T) {
	m := NewMetrics()
	if err := prometheus.NewPedanticRegistry().Register(m); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		nil, nil, &Error{Err: fmt.Errorf("put: %w", ErrUnavailable)}, &Error{Err: ErrSuperseded}, &Error{Err: ErrClosed}, &Error{Err: errors.New("no rights")},
	} {
		m.Observe(Operation{Op: "register", Registry: "consul", Elapsed: time.Millisecond, Err: err})
	}
	m.Connected("consul")
	for result, want := range map[string]float64{"ok": 2, "unavailable": 1, "superseded": 1, "closed": 1, "refused": 1} {
		if got := testutil.ToFloat64(m.operations.WithLabelValues("consul", "register", result)); got != want {
			t.Errorf("%s: %v, want %v", result, got, want)
		}
	}
	if got := testutil.CollectAndCount(m.durations); got != 1 {
		t.Errorf("%d series of durations", got)
	}
	if got := testutil.ToFloat64(m.connections.WithLabelValues("consul")); got != 1 {
		t.Errorf("%v connections", got)
	}
}
