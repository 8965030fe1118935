package executor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// reportQuantiles gives a benchmark the figures that the budgets are about.
func reportQuantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
}

// arrival is when a status of a task came that fits.
func (b *inbox) arrival(tb testing.TB, id string, fits func(*mesos.TaskStatus) bool) time.Time {
	b.wait(tb, id, fits)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.statuses {
		if s := &b.statuses[i]; s.TaskID.Value == id && fits(s) {
			return b.at[i]
		}
	}
	return time.Time{}
}

// BenchmarkLaunch is the time from LAUNCH to the running process of a task
// without secrets; budget p99 <= 10 ms (cgroup v2 or none), 50 ms (v1).
func BenchmarkLaunch(b *testing.B) {
	r := newReal(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("t.%d", i)
		begin := time.Now()
		r.run(b, id, "exec sleep 60", nil)
		took = append(took, r.inbox.arrival(b, id, in(mesos.TASK_RUNNING)).Sub(begin))
		b.StopTimer()
		r.Kill(id, nil)
		r.inbox.wait(b, id, terminal)
		b.StartTimer()
	}
	reportQuantiles(b, took)
}

// BenchmarkKill is the time from KILL to TASK_KILLED of a task that ends at
// once; budget p99 <= 20 ms.
func BenchmarkKill(b *testing.B) {
	r := newReal(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		id := fmt.Sprintf("t.%d", i)
		r.run(b, id, "exec sleep 60", nil)
		r.inbox.wait(b, id, in(mesos.TASK_RUNNING))
		b.StartTimer()
		begin := time.Now()
		r.Kill(id, nil)
		took = append(took, r.inbox.arrival(b, id, terminal).Sub(begin))
	}
	reportQuantiles(b, took)
}

// BenchmarkNext is the cost of the whole way into service and out of it for the
// state machine alone.
func BenchmarkNext(b *testing.B) {
	events := after(at{10 * sec, kill{}}, at{11 * sec, deregistered{}}, at{14 * sec, rootEnded{}}, at{14 * sec, treeQuiet{}}, at{14 * sec, treeEnded{}})
	begin := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s := newState(rulesFor(nil))
		for _, e := range events {
			s, _ = s.next(begin.Add(e.after), e.event)
		}
		if s.phase() != ended {
			b.Fatalf("still %v", s.phase())
		}
	}
}
