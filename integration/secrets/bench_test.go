package secrets

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pacer/secrets"
)

// tenSecrets are ten keys of one path.
func (s *site) tenSecrets(app string) map[string]string {
	values, labels := map[string]any{}, map[string]string{}
	for i := range 10 {
		values[fmt.Sprint("key", i)] = fmt.Sprint("value-", i)
		labels[fmt.Sprint("secret.env.SECRET_", i)] = fmt.Sprintf("secret/%s/all#key%d", app, i)
	}
	s.put("secret/data/"+app+"/all", values)
	return labels
}

// together starts tasks of one app at the same moment, each with ten secrets.
// Identities are made before, as the scheduler does.
func (s *site) together(k *secrets.Keeper, tasks int, app string, labels map[string]string) {
	s.t.Helper()
	ids := make([]secrets.Identity, tasks)
	for i := range ids {
		ids[i] = s.task(app)
	}
	d := declared(s.t, labels)
	var group sync.WaitGroup
	for _, id := range ids {
		group.Go(func() {
			g, err := k.Acquire(s.t.Context(), id, d, nil)
			if err != nil || len(g.Bundle.Variables) != 10 {
				s.t.Errorf("%d secrets, %v", len(labels), err)
			}
		})
	}
	group.Wait()
}

func TestStart_HundredTasksNeedALoginAndAReadEach(t *testing.T) {
	s := newSite(t)
	front := newProxy(t, s.vault.Address)
	labels := s.tenSecrets("web")
	before := s.tokens()
	const tasks = 100
	s.together(s.keeper(s.clientAt(front.URL)), tasks, "web", labels)
	logins, reads, mounts := front.count("auth/jwt/login"), front.count("secret/data/web/all"), front.count("sys/internal/ui/mounts/")
	t.Logf("%d tasks: %d logins, %d reads, %d look-ups of the mount, %d requests at once", tasks, logins, reads, mounts, front.atOnce())
	if logins > tasks || reads > tasks || mounts > 1 || front.atOnce() > 8 {
		t.Errorf("%d logins, %d reads, %d look-ups, %d requests at once; want at most %d, %d, 1, 8", logins, reads, mounts, front.atOnce(), tasks, tasks)
	}
	s.awaitTokens(before)
	// At rest, nothing is asked.
	asked := front.count("")
	time.Sleep(500 * time.Millisecond)
	if n := front.count("") - asked; n != 0 {
		t.Errorf("%d requests at rest", n)
	}
}

// BenchmarkStart100 starts 100 tasks of one app together, with ten secrets each
// on one path.
func BenchmarkStart100(b *testing.B) {
	s := newSite(b)
	front := newProxy(b, s.vault.Address)
	k := s.keeper(s.clientAt(front.URL))
	labels := s.tenSecrets("web")
	const tasks = 100
	for b.Loop() {
		s.together(k, tasks, "web", labels)
	}
	all := float64(b.N * tasks)
	b.ReportMetric(float64(front.count("auth/jwt/login"))/all, "logins/task")
	b.ReportMetric(float64(front.count("secret/data/"))/all, "reads/task")
	b.ReportMetric(float64(front.atOnce()), "requests-at-once")
}

// BenchmarkAcquire gets ten secrets for one task.
func BenchmarkAcquire(b *testing.B) {
	s := newSite(b)
	k := s.keeper(s.client(nil))
	d := declared(b, s.tenSecrets("web"))
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		id := s.task("web")
		b.StartTimer()
		begin := time.Now()
		if _, err := k.Acquire(b.Context(), id, d, nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkIdle is what static secrets of running tasks cost Vault.
func BenchmarkIdle(b *testing.B) {
	s := newSite(b)
	front := newProxy(b, s.vault.Address)
	k := s.keeper(s.clientAt(front.URL))
	labels := s.tenSecrets("web")
	before := s.tokens()
	s.together(k, 10, "web", labels)
	s.awaitTokens(before)
	asked := front.count("")
	begin := time.Now()
	for b.Loop() {
		time.Sleep(100 * time.Millisecond)
	}
	b.ReportMetric(float64(front.count("")-asked)/time.Since(begin).Seconds(), "requests/s")
	if strings.Contains(s.log.String(), "warn") {
		b.Error(s.log)
	}
}

// BenchmarkLeases500 is what 500 tasks with a lease each cost the executor while
// nothing is due: their sessions, logins and timers.
func BenchmarkLeases500(b *testing.B) {
	s := newLeaseSite(b, "1h", "1h")
	c := s.client(nil)
	k := s.keeper(c)
	d := declared(b, map[string]string{"secret.env.PASSWORD": "db/creds/web#password"})
	const n = 500
	measure := func() (bytes int64, goroutines int) {
		c.Close() // idle connections, which are not the leases'
		var m runtime.MemStats
		for range 3 { // pools are emptied by the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc), runtime.NumGoroutine()
	}
	ids := make([]secrets.Identity, n)
	for i := range ids {
		ids[i] = s.task("web")
	}
	for b.Loop() {
		// The first fills caches.
		if err := s.acquireAs(k, ids[0], d).Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		before, running := measure()
		grants := make([]*secrets.Grant, n)
		for i, id := range ids {
			grants[i] = s.acquireAs(k, id, d)
			grants[i].Bundle.Wipe()
		}
		bytes, goroutines := measure()
		b.ReportMetric(float64(bytes-before)/1024, "KiB")
		b.ReportMetric(float64(goroutines-running), "goroutines")
		for _, g := range grants {
			if err := g.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func (s *site) acquireAs(k *secrets.Keeper, id secrets.Identity, d secrets.Declarations) *secrets.Grant {
	s.t.Helper()
	g, err := k.Acquire(s.t.Context(), id, d, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}
