package scheduler

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state/bolt"
)

// BenchmarkLaunch launches 20,000 tasks of 20 apps on 1,000 scripted agents,
// with the state in a file that is synced, until all are running and
// acknowledged.
func BenchmarkLaunch(b *testing.B) { benchmarkLaunch(b, 20, 1000) }

// BenchmarkLaunchOneApp launches 20,000 tasks of one app.
func BenchmarkLaunchOneApp(b *testing.B) { benchmarkLaunch(b, 1, 20_000) }

func benchmarkLaunch(b *testing.B, apps, instances int) {
	for b.Loop() {
		world := newCluster(b, 1000)
		for _, a := range world.agents {
			a.cpus = 64 * app.Unit
		}
		world.behave = func(*fakeTask) behaviour { return behaviour{starts: time.Millisecond} }
		store, err := bolt.Open(filepath.Join(b.TempDir(), "state.db"))
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(b.Context(), testConfig(), store, world, nil, zerolog.Nop())
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for s.Ready(ctx) != nil {
			time.Sleep(time.Millisecond)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, bytes := s.journal.Written()
		began := time.Now()
		for n := range apps {
			a := web(fmt.Sprint("/app-", n), instances, func(a *app.App) { a.CPUs, a.HealthCheck = 100, nil })
			if _, err := s.Change(ctx, []api.Edit{{ID: a.ID, Next: a}}, api.ChangeOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		running := func() int {
			n := 0
			if err := s.Apps(ctx, api.Embed{}, func(status api.AppStatus) bool { n += status.Counts.Running; return true }); err != nil {
				b.Fatal(err)
			}
			return n
		}
		for running() < apps*instances {
			if time.Since(began) > 2*time.Minute {
				b.Fatalf("%d running after %s", running(), time.Since(began))
			}
			time.Sleep(time.Millisecond)
		}
		took := time.Since(began)
		_, written := s.journal.Written()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(apps*instances)/took.Seconds(), "launches/s")
		b.ReportMetric(float64(written-bytes)/float64(apps*instances), "stored-B/launch")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(apps*instances), "heap-B/task+fake")
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
