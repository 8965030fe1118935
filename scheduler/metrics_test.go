package scheduler

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/prometheus/client_golang/prometheus"

	"pacer/scheduler/state/statetest"
)

// gathered are the values of all metrics of a scheduler, by name and labels'
// values.
func gathered(t *testing.T, s *Scheduler) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry() // it checks them against their descriptions
	registry.MustRegister(s)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 2)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 3))
		l.settle()
		world.report(l.status("/a").Tasks[0].ID, mesos.TASK_FAILED, false)
		time.Sleep(5 * time.Minute)
		l.put(web("/a", 2))
		l.settle()
		memory.SetTrouble(errors.New("no connection"))
		time.Sleep(time.Minute)
		synctest.Wait()
		got := gathered(t, l.Scheduler)
		for name, want := range map[string]float64{
			"pacer_scheduler_apps":                        1,
			"pacer_scheduler_tasks healthy":               2,
			"pacer_scheduler_tasks running":               2,
			"pacer_scheduler_tasks staged":                0,
			"pacer_scheduler_launches_total":              4,
			"pacer_scheduler_task_ends_total TASK_FAILED": 1,
			"pacer_scheduler_task_ends_total TASK_KILLED": 1,
			"pacer_scheduler_kills_total":                 1,
			"pacer_scheduler_subscriptions_total":         1,
			"pacer_scheduler_subscribed":                  1,
			"pacer_scheduler_reconciled":                  1,
			"pacer_scheduler_store_reachable":             0,
			"pacer_scheduler_epoch":                       1,
			"pacer_scheduler_quarantined_tasks":           0,
			"pacer_scheduler_unreadable_nodes":            0,
			"pacer_scheduler_deploying_apps":              0,
			"pacer_scheduler_task_records":                2,
			"pacer_scheduler_master_calls_total failed":   0,
			"pacer_scheduler_store_writes_failed_total":   0,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		for _, name := range []string{
			"pacer_scheduler_store_bytes_total", "pacer_scheduler_store_transactions_total",
			"pacer_scheduler_store_write_seconds", "pacer_scheduler_master_calls_total ok", "pacer_scheduler_offers_declined_total",
		} {
			if got[name] == 0 {
				t.Errorf("%s is 0", name)
			}
		}
	})
}
