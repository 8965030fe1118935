package executor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/process"
)

// reportQuantiles gives a benchmark the figures that the budgets are about.
func reportQuantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
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

// inCgroups runs a benchmark without cgroups and, as root, below a cgroup that
// an operator made in v2 and in v1.
func inCgroups(b *testing.B, body func(b *testing.B, r *real)) {
	b.Run("none", func(b *testing.B) { body(b, newReal(b)) })
	for name, hierarchies := range map[string][]string{
		"v2": {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}, // the first that is one
		"v1": {"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer"},
	} {
		b.Run(name, func(b *testing.B) {
			parent := fmt.Sprintf("pacer-bench-%d", os.Getpid())
			made := 0
			for _, h := range hierarchies {
				_, err := os.Stat(filepath.Join(h, "cgroup.controllers"))
				if name == "v2" && (err != nil || made > 0) {
					continue
				}
				dir := filepath.Join(h, parent)
				if err := os.Mkdir(dir, 0o755); err != nil {
					b.Skip("needs a cgroup hierarchy that it may write to:", err)
				}
				made++
				b.Cleanup(func() {
					if err := os.Remove(dir); err != nil {
						b.Error(err)
					}
				})
			}
			if made == 0 {
				b.Skip("needs a mounted cgroup hierarchy")
			}
			body(b, newRealIn(b, process.Config{CgroupParent: "/" + parent, ContainerID: "c1", FrameworkID: "f1"}))
		})
	}
}

// BenchmarkLaunch is the time from LAUNCH to the running process of a task
// without secrets; budget p99 <= 10 ms (cgroup v2 or none), 50 ms (v1).
func BenchmarkLaunch(b *testing.B) { inCgroups(b, benchmarkLaunch) }

func benchmarkLaunch(b *testing.B, r *real) {
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

// BenchmarkLaunchAll is the time from 500 LAUNCHes at once until the last of
// them runs; budget 3 s without v1 cgroups.
func BenchmarkLaunchAll(b *testing.B) {
	inCgroups(b, func(b *testing.B, r *real) {
		const tasks = 500
		for round := 0; b.Loop(); round++ {
			begin := time.Now()
			id := func(i int) string { return fmt.Sprintf("t.%d.%d", round, i) }
			for i := range tasks {
				r.run(b, id(i), "exec sleep 600", nil)
			}
			for i := range tasks {
				r.inbox.wait(b, id(i), in(mesos.TASK_RUNNING))
			}
			b.ReportMetric(time.Since(begin).Seconds(), "s/500-launches")
			begin = time.Now()
			for i := range tasks {
				r.Kill(id(i), nil)
			}
			for i := range tasks {
				r.inbox.wait(b, id(i), terminal)
			}
			b.ReportMetric(time.Since(begin).Seconds(), "s/500-kills")
		}
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkKill is the time from KILL to TASK_KILLED of a task that ends at
// once; budget p99 <= 20 ms.
func BenchmarkKill(b *testing.B) { inCgroups(b, benchmarkKill) }

func benchmarkKill(b *testing.B, r *real) {
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
