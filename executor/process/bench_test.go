package process

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reportPercentiles replaces the mean, which says little of a wait.
func reportPercentiles(b *testing.B, what string, took []time.Duration) {
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100].Microseconds())/1000, fmt.Sprintf("ms/%s-p%d", what, p))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStart measures Start, which returns when the program runs, and Kill
// of a task of three processes, which returns when nothing is left.
func BenchmarkStart(b *testing.B) {
	run(b, func(e *env) {
		b := e.TB.(*testing.B)
		var starts, kills []time.Duration
		i := 0
		for b.Loop() {
			i++
			spec := shell(fmt.Sprintf("bench.%d", i), "sleep 1000 & setsid sleep 1000 & wait")
			t0 := time.Now()
			p, err := e.s.Start(b.Context(), spec)
			starts = append(starts, time.Since(t0))
			if err != nil {
				b.Fatal(err)
			}
			t0 = time.Now()
			if err := p.Kill(b.Context()); err != nil {
				b.Fatal(err)
			}
			kills = append(kills, time.Since(t0))
		}
		reportPercentiles(b, "start", starts)
		reportPercentiles(b, "kill", kills)
	})
}

// BenchmarkTerminate measures from SIGTERM to nothing left, for a task that
// ends at once: what a KILL costs beside its grace.
func BenchmarkTerminate(b *testing.B) {
	run(b, func(e *env) {
		b := e.TB.(*testing.B)
		var took []time.Duration
		i := 0
		for b.Loop() {
			i++
			p, err := e.s.Start(b.Context(), Spec{TaskID: fmt.Sprintf("bench.%d", i), Argv: []string{"/bin/sleep", "1000"}, Dir: "/"})
			if err != nil {
				b.Fatal(err)
			}
			t0 := time.Now()
			if err := p.Signal(syscall.SIGTERM); err != nil {
				b.Fatal(err)
			}
			<-p.Done()
			if err := p.Kill(b.Context()); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(t0))
		}
		reportPercentiles(b, "term", took)
	})
}

// BenchmarkExec measures one command check.
func BenchmarkExec(b *testing.B) {
	run(b, func(e *env) {
		b := e.TB.(*testing.B)
		p := e.start(shell("bench.1", "sleep 1000"))
		var took []time.Duration
		for b.Loop() {
			t0 := time.Now()
			if r, err := p.Exec(b.Context(), Command{Argv: []string{"/bin/true"}}); err != nil || r.Code != 0 {
				b.Fatal(r, err)
			}
			took = append(took, time.Since(t0))
		}
		reportPercentiles(b, "exec", took)
		e.kill(p)
	})
}

// BenchmarkFiveHundred starts 500 tasks at once and then kills them all.
func BenchmarkFiveHundred(b *testing.B) {
	run(b, func(e *env) {
		b := e.TB.(*testing.B)
		round := 0
		for b.Loop() {
			round++
			procs := make([]*Process, 500)
			var wg sync.WaitGroup
			t0 := time.Now()
			for i := range procs {
				wg.Go(func() {
					var err error
					spec := Spec{TaskID: fmt.Sprintf("bench.%d.%d", round, i), Argv: []string{"/bin/sleep", "1000"}, Dir: "/"}
					if procs[i], err = e.s.Start(b.Context(), spec); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			if b.Failed() {
				b.FailNow()
			}
			b.ReportMetric(time.Since(t0).Seconds(), "s/start-all")
			t0 = time.Now()
			for _, p := range procs {
				wg.Go(func() {
					if err := p.Kill(b.Context()); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(time.Since(t0).Seconds(), "s/kill-all")
		}
		b.ReportMetric(0, "ns/op")
	})
}
