package secrets

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leaseSource gives leases in a bubble's time.
type leaseSource struct {
	mu      sync.Mutex
	ttl     time.Duration
	longest time.Duration // of a lease, renewals included; 0 is for ever
	login   time.Duration // 0 is for ever
	down    bool          // renewals and reads fail
	lost    bool          // the login has ended
	value   string        // of the static secret
	asked   []string      // "renew 40s", "read db 0s"
	issued  map[string]time.Time
	logins  int
	closed  int
	began   time.Time
}

var (
	_ Source  = (*leaseSource)(nil)
	_ Session = (*leaseSource)(nil)
)

func newLeaseSource(ttl time.Duration) *leaseSource {
	return &leaseSource{ttl: ttl, value: "v1", issued: map[string]time.Time{}, began: time.Now()}
}

func (s *leaseSource) note(what string) { s.asked = append(s.asked, what) }

func (s *leaseSource) Open(context.Context, Identity, func(string)) (Session, error) { return s, nil }

func (s *leaseSource) Read(_ context.Context, path string, _ int) (Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down || s.lost {
		return Content{}, errors.New("down")
	}
	s.note("read " + path)
	if strings.HasPrefix(path, "kv/") {
		return Content{Keys: map[string]Secret{"k": NewSecret([]byte(s.value))}}, nil
	}
	id := fmt.Sprintf("%s-%d", path, len(s.issued)+1)
	s.issued[id] = time.Now()
	return Content{Keys: map[string]Secret{"k": NewSecret([]byte(id))}, Lease: Lease{ID: id, Duration: s.ttl, Renewable: true}}, nil
}

func (s *leaseSource) Login() Lease { return Lease{Duration: s.login, Renewable: true} }

func (s *leaseSource) RenewLogin(context.Context) (Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("renew login")
	if s.lost {
		return Lease{}, fmt.Errorf("login: %w", ErrEnded)
	}
	return s.Login(), nil
}

func (s *leaseSource) Relogin(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("login")
	if s.down {
		return errors.New("down")
	}
	s.lost = false
	s.logins++
	return nil
}

func (s *leaseSource) Renew(_ context.Context, l Lease) (Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.issued[l.ID])
	s.note("renew")
	switch {
	case s.lost:
		return Lease{}, fmt.Errorf("lease: %w", ErrEnded)
	case s.down:
		return Lease{}, errors.New("down")
	}
	l.Duration = s.ttl
	if s.longest > 0 {
		l.Duration = min(s.ttl, s.longest-age)
	}
	return l, nil
}

func (s *leaseSource) Revoke(context.Context, Lease) error { return nil }

func (s *leaseSource) Close(context.Context) error { s.closed++; return nil }

// taken returns what has been asked since the last call.
func (s *leaseSource) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.asked, ", ")
	s.asked = nil
	return all
}

func (s *leaseSource) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// kept runs a test in a bubble with a grant of one task.
func kept(t *testing.T, ttl time.Duration, labels map[string]string, prepare func(*leaseSource), test func(*testing.T, *leaseSource, *Grant)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaseSource(ttl)
		if prepare != nil {
			prepare(s)
		}
		k := NewKeeper(s, zerolog.Nop())
		defer shut(t, k)
		g, err := k.Acquire(t.Context(), Identity{App: "web", Task: "web.1"}, mustParse(t, labels), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.taken()
		synctest.Wait()
		test(t, s, g)
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		s.taken()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if after := s.taken(); after != "" || s.closed != 1 {
			t.Errorf("after the end: %s; the session was closed %d times", after, s.closed)
		}
	})
}

func shut(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// pass lets time pass and what is due be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// change is what has been announced, or nothing.
func change(g *Grant) string {
	synctest.Wait()
	select {
	case c := <-g.Changes():
		text := strings.Join(c.Names, " ")
		for _, f := range c.Files {
			text += fmt.Sprintf(" %s=%s", f.Name, f.Secret.Reveal())
		}
		return text
	default:
		return ""
	}
}

var leased = map[string]string{"secret.env.PASSWORD": "db/creds#k"}

func TestKeeper_RenewsAtTwoThirdsAndNeverAtOnce(t *testing.T) {
	kept(t, time.Hour, leased, nil, func(t *testing.T, s *leaseSource, g *Grant) {
		pass(35 * time.Minute) // two thirds less a tenth of them are 36m
		if asked := s.taken(); asked != "" {
			t.Errorf("asked early: %s", asked)
		}
		pass(9 * time.Minute)
		if asked := s.taken(); asked != "renew" {
			t.Errorf("asked %q, want one renewal", asked)
		}
		pass(24 * time.Hour)
		if n := strings.Count(s.taken(), "renew"); n < 32 || n > 40 {
			t.Errorf("%d renewals in a day", n)
		}
		if c := change(g); c != "" {
			t.Errorf("a renewal was announced: %s", c)
		}
	})
}

func TestSpread_StaysWithinATenth(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 10000 {
		d := spread(time.Hour, fmt.Sprint("task-", i))
		if d < 54*time.Minute || d > 66*time.Minute {
			t.Fatalf("%s is not within a tenth of an hour", d)
		}
		seen[d] = true
	}
	if len(seen) < 1500 {
		t.Errorf("only %d different times", len(seen))
	}
}

func TestP9_FailedRenewalsHarmNothing(t *testing.T) {
	labels := map[string]string{"secret.env.PASSWORD": "db/creds#k", "secret.on-change": "restart"}
	kept(t, time.Hour, labels, nil, func(t *testing.T, s *leaseSource, g *Grant) {
		s.set(func() { s.down = true })
		pass(59 * time.Minute)
		tries := strings.Count(s.taken(), "renew")
		if tries < 3 || tries > 40 {
			t.Errorf("%d attempts in the last third of an hour", tries)
		}
		if c := change(g); c != "" {
			t.Errorf("while the lease lived: %s", c)
		}
		s.set(func() { s.down = false })
		pass(time.Minute)
		if asked := s.taken(); !strings.HasPrefix(asked, "renew") {
			t.Errorf("after the outage: %q", asked)
		}
		if c := change(g); c != "" {
			t.Errorf("after a late renewal: %s", c)
		}
		// It lasts longer than the lease: what the task has stays, and it is
		// told as soon as there is something else.
		s.set(func() { s.down = true })
		pass(3 * time.Hour)
		if c := change(g); c != "" {
			t.Errorf("without anything new: %s", c)
		}
		s.set(func() { s.down = false })
		pass(2 * time.Minute)
		if c := change(g); c != "PASSWORD" {
			t.Errorf("announced %q, want PASSWORD", c)
		}
	})
}

func TestKeeper_ReplacesWhatCannotBeProlonged(t *testing.T) {
	prepare := func(s *leaseSource) { s.longest = 3 * time.Hour }
	file := map[string]string{"secret.file.password": "db/creds#k"}
	kept(t, time.Hour, file, prepare, func(t *testing.T, s *leaseSource, g *Grant) {
		pass(178 * time.Minute)
		if asked := s.taken(); strings.Count(asked, "read") != 1 {
			t.Errorf("asked %q, want one read before three hours are over", asked)
		}
		if c := change(g); c != "password password=db/creds-2" {
			t.Errorf("announced %q", c)
		}
	})
	// A variable of a process does not change, so nothing is read for it.
	kept(t, time.Hour, leased, prepare, func(t *testing.T, s *leaseSource, g *Grant) {
		pass(24 * time.Hour)
		if asked := s.taken(); strings.Contains(asked, "read") {
			t.Errorf("asked %q", asked)
		}
	})
}

func TestKeeper_ReplacesALostLogin(t *testing.T) {
	labels := map[string]string{"secret.env.PASSWORD": "db/creds#k", "secret.on-change": "signal:HUP"}
	kept(t, 10*time.Hour, labels, func(s *leaseSource) { s.login = time.Hour }, func(t *testing.T, s *leaseSource, g *Grant) {
		pass(45 * time.Minute)
		if asked := s.taken(); asked != "renew login" {
			t.Errorf("asked %q", asked)
		}
		s.set(func() { s.lost, s.down = true, true })
		pass(3 * time.Hour)
		if n := strings.Count(s.taken(), ", login"); n < 10 {
			t.Errorf("%d attempts to log in during three hours", n)
		}
		s.set(func() { s.down = false })
		pass(2 * time.Minute)
		if asked := s.taken(); !strings.Contains(asked, "login, read db/creds") {
			t.Errorf("asked %q, want a login and a read", asked)
		}
		if c := change(g); c != "PASSWORD" {
			t.Errorf("announced %q", c)
		}
		if action, signal := g.Action(); action != ActionSignal || signal != "HUP" {
			t.Errorf("action %v %s", action, signal)
		}
	})
}

func TestKeeper_RefreshesStaticSecretsOnlyWhenAsked(t *testing.T) {
	labels := map[string]string{"secret.env.A": "kv/a#k", "secret.env.B": "kv/b#k@1", "secret.file.f": "kv/a#k", "secret.file.db": "db/creds#k", "secret.refresh": "5m"}
	kept(t, 24*time.Hour, labels, nil, func(t *testing.T, s *leaseSource, g *Grant) {
		pass(time.Hour)
		asked := s.taken()
		if n := strings.Count(asked, "read kv/a"); n < 10 || n > 14 || strings.Contains(asked, "kv/b") || strings.Contains(asked, "db/creds") {
			t.Errorf("asked %q: want kv/a about 12 times and no other", asked)
		}
		if c := change(g); c != "" {
			t.Errorf("announced %q although nothing changed", c)
		}
		s.set(func() { s.value = "v2" })
		pass(6 * time.Minute)
		s.set(func() { s.value = "v3" })
		pass(6 * time.Minute)
		if c := change(g); c != "A f f=v3" {
			t.Errorf("announced %q, want the last value once", c)
		}
	})
	kept(t, time.Hour, map[string]string{"secret.env.A": "kv/a#k"}, nil, func(t *testing.T, s *leaseSource, g *Grant) {
		if s.closed != 1 || g.Changes() != nil {
			t.Errorf("static secrets keep the session (%d closed)", s.closed)
		}
		pass(24 * time.Hour)
		if asked := s.taken(); asked != "" {
			t.Errorf("asked %q at rest", asked)
		}
	})
}

func TestKeeper_CollectsChangesThatComeTogether(t *testing.T) {
	labels := map[string]string{"secret.file.a": "db/a#k", "secret.file.b": "db/b#k"}
	kept(t, time.Hour, labels, func(s *leaseSource) { s.login = 30 * time.Minute }, func(t *testing.T, s *leaseSource, g *Grant) {
		s.set(func() { s.lost = true })
		pass(30 * time.Minute)
		if c := change(g); c != "a b a=db/a-3 b=db/b-4" && c != "a b a=db/a-4 b=db/b-3" && c != "a b b=db/b-3 a=db/a-4" && c != "a b b=db/b-4 a=db/a-3" {
			t.Errorf("announced %q, want both at once", c)
		}
	})
}

// TestKeeper_LeasesAreCheap: 500 leases cost no goroutine and less than 1 MB.
func TestKeeper_LeasesAreCheap(t *testing.T) {
	s := newLeaseSource(time.Hour)
	k := NewKeeper(s, zerolog.Nop())
	defer shut(t, k)
	d := mustParse(t, leased)
	memory := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	goroutines, before := runtime.NumGoroutine(), memory()
	grants := make([]*Grant, 500)
	for i := range grants {
		var err error
		if grants[i], err = k.Acquire(t.Context(), Identity{App: "web", Task: fmt.Sprint("web.", i)}, d, nil); err != nil {
			t.Fatal(err)
		}
	}
	cost, more := memory()-before, runtime.NumGoroutine()-goroutines
	t.Logf("500 leases of 500 tasks: %d bytes, %d goroutines", cost, more)
	if more > 1 || cost > 1<<20 {
		t.Errorf("500 leases cost %d bytes and %d goroutines, want at most 1 MiB and 1", cost, more)
	}
	for _, g := range grants {
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if left := len(k.due); left != 0 {
		t.Errorf("%d timers are left", left)
	}
}
