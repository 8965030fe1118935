package zookeeper

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"pacer/executor/registry"
	zkserver "pacer/integration/zookeeper"
)

// shared returns a registry on the shared server with a path of the test's own.
func shared(t *testing.T) (*harness, string) {
	t.Helper()
	server := zkserver.Shared(t)
	root := "/" + t.Name()
	h := newHarness(t, Config{Servers: []string{server.Addr()}, Path: root + "/{name}"}, server.Connect(t))
	return h, root + "/web"
}

func TestP1_RegisteredMeansFindable(t *testing.T) {
	h, dir := shared(t)
	defer h.close(t)
	inst := instance(3)
	inst.Endpoints = map[string]int{"admin": 31900}
	for range 20 {
		if err := h.Register(within(t, 5*time.Second), []registry.Instance{inst}); err != nil {
			t.Fatal(err)
		}
		got := entries(t, h.conn, dir)
		shard := 3
		want := serviceInstance{
			ServiceEndpoint:     endpoint{"10.0.0.7", 31003},
			AdditionalEndpoints: map[string]endpoint{"admin": {"10.0.0.7", 31900}},
			Status:              "ALIVE", Shard: &shard,
		}
		if len(got) != 1 || !cmp.Equal(got[0].serviceInstance, want) {
			t.Fatalf("entries when Register returned: %+v, want one: %+v", got, want)
		}
		if id, _ := h.sets.Session(); got[0].Owner != id {
			t.Fatalf("entry is owned by session %#x, want ours, %#x", got[0].Owner, id)
		}
		if err := h.Deregister(within(t, 5*time.Second), []registry.Instance{inst}); err != nil {
			t.Fatal(err)
		}
		if got := entries(t, h.conn, dir); len(got) != 0 {
			t.Fatalf("entries when Deregister returned: %+v, want none", got)
		}
	}
}

func TestRegister_IsIdempotent(t *testing.T) {
	h, dir := shared(t)
	defer h.close(t)
	list := []registry.Instance{instance(1), instance(2)}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := h.Register(within(t, 5*time.Second), list); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := entries(t, h.conn, dir); len(got) != 2 {
		t.Errorf("%d entries for two instances registered ten times: %+v", len(got), got)
	}
	for range 2 {
		if err := h.Deregister(within(t, 5*time.Second), list); err != nil {
			t.Error(err)
		}
	}
}

func TestClose_DeletesWhatIsOurs(t *testing.T) {
	h, dir := shared(t)
	if err := h.Register(within(t, 5*time.Second), []registry.Instance{instance(1), instance(2)}); err != nil {
		t.Fatal(err)
	}
	h.close(t)
	if got := entries(t, h.conn, dir); len(got) != 0 {
		t.Errorf("entries after Close: %+v", got)
	}
	if err := h.Register(t.Context(), []registry.Instance{instance(1)}); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("Register after Close: %v, want ErrClosed", err)
	}
}

func TestSessionExpiry_EntriesComeBackOnce(t *testing.T) {
	t.Parallel()
	server := zkserver.Shared(t)
	h, dir := shared(t)
	defer h.close(t)
	list := []registry.Instance{instance(1), instance(2), instance(3)}
	if err := h.Register(within(t, 5*time.Second), list); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		old, _ := h.sets.Session()
		start := time.Now()
		if err := server.KillSession(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		eventually(t, "three entries of a new session", func() bool {
			got := entries(t, h.conn, dir)
			return len(got) == 3 && got[0].Owner != old && got[1].Owner != old && got[2].Owner != old
		})
		t.Logf("entries right %v after the session ended", time.Since(start).Round(time.Millisecond))
	}
}

// A name must not be found twice, nor Deregister be thwarted, when both happen
// while the session is being replaced.
func TestSessionExpiry_WithCallsUnderWay(t *testing.T) {
	t.Parallel()
	server := zkserver.Shared(t)
	h, dir := shared(t)
	defer h.close(t)
	for i := range 10 {
		keep, drop := instance(2*i), instance(2*i+1)
		if err := h.Register(within(t, 5*time.Second), []registry.Instance{drop}); err != nil {
			t.Fatal(err)
		}
		id, _ := h.sets.Session()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := h.Register(within(t, 20*time.Second), []registry.Instance{keep}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := h.Deregister(within(t, 20*time.Second), []registry.Instance{drop}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { server.KillSession(t.Context(), id) })
		wg.Wait()
	}
	eventually(t, "ten entries, each once", func() bool {
		got := entries(t, h.conn, dir)
		ports := make(map[int]bool)
		for _, e := range got {
			ports[e.ServiceEndpoint.Port] = true
		}
		return len(got) == 10 && len(ports) == 10
	})
}

func TestForeignHands_AreRepairedAtOnce(t *testing.T) {
	h, dir := shared(t)
	defer h.close(t)
	if err := h.Register(within(t, 5*time.Second), []registry.Instance{instance(1)}); err != nil {
		t.Fatal(err)
	}
	var original entry
	right := func() bool {
		got := entries(t, h.conn, dir)
		return len(got) == 1 && cmp.Equal(got[0].serviceInstance, original.serviceInstance)
	}
	original = entries(t, h.conn, dir)[0]
	for _, c := range []struct {
		name string
		do   func(path string) error
	}{
		{"deleted", func(path string) error { return h.conn.Delete(path, -1) }},
		{"changed", func(path string) error {
			_, err := h.conn.Set(path, []byte(`{"serviceEndpoint":{"host":"evil","port":1}}`), -1)
			return err
		}},
		{"deleted with its parents", func(path string) error {
			return errors.Join(h.conn.Delete(path, -1), h.conn.Delete(dir, -1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 5 {
				path := dir + "/" + entries(t, h.conn, dir)[0].Name
				start := time.Now()
				// The parent can be non-empty again before it is deleted.
				if err := c.do(path); err != nil && !errors.Is(err, zk.ErrNotEmpty) {
					t.Fatal(err)
				}
				eventually(t, "the entry is right again", right)
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("repaired after %v: not by the watch", took)
				}
			}
		})
	}
}

// The answer to the create is lost, and the entry is there all the same.
func TestUnknownOutcome_LeavesOneEntry(t *testing.T) {
	t.Parallel()
	server := zkserver.Shared(t)
	p := newProxy(t, server.Addr())
	dir := "/" + t.Name() + "/web"
	h := newHarness(t, Config{Servers: []string{p.addr()}, Path: "/" + t.Name() + "/{name}"}, server.Connect(t))
	defer h.close(t)
	const opCreate, opDelete = 1, 2
	for i := range 5 {
		inst := []registry.Instance{instance(i)}
		cut := func(opcode int32) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.cutAfter = func(op int32, body []byte) bool {
				return op == opcode && strings.Contains(string(body), memberPrefix)
			}
		}
		cut(opCreate)
		if err := h.Register(within(t, 10*time.Second), inst); err != nil {
			t.Fatal(err)
		}
		if got := entries(t, h.conn, dir); len(got) != 1 {
			t.Fatalf("entries after a create whose answer was lost: %+v, want one", got)
		}
		cut(opDelete)
		if err := h.Deregister(within(t, 10*time.Second), inst); err != nil {
			t.Fatal(err)
		}
		if got := entries(t, h.conn, dir); len(got) != 0 {
			t.Fatalf("entries after a delete whose answer was lost: %+v, want none", got)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cuts != 10 {
		t.Errorf("the proxy cut %d connections, want 10: the test tested nothing", p.cuts)
	}
}

func TestHundredInstances_OneSession(t *testing.T) {
	h, dir := shared(t)
	defer h.close(t)
	var list []registry.Instance
	for i := range 100 {
		list = append(list, instance(i))
	}
	start := time.Now()
	if err := h.Register(within(t, 20*time.Second), list); err != nil {
		t.Fatal(err)
	}
	registered := time.Since(start)
	got := entries(t, h.conn, dir)
	owners := make(map[int64]bool)
	for _, e := range got {
		owners[e.Owner] = true
	}
	if len(got) != 100 || len(owners) != 1 {
		t.Errorf("%d entries of %d sessions, want 100 of one", len(got), len(owners))
	}
	start = time.Now()
	if err := h.Deregister(within(t, 20*time.Second), list); err != nil {
		t.Fatal(err)
	}
	t.Logf("100 instances registered in %v, deregistered in %v", registered, time.Since(start))
	if got := entries(t, h.conn, dir); len(got) != 0 {
		t.Errorf("%d entries are left", len(got))
	}
}

func TestServerAway_CallsAreBoundedAndWishesKept(t *testing.T) {
	t.Parallel()
	server := zkserver.Start(t, zkserver.Options{})
	h := newHarness(t, Config{Servers: []string{server.Addr()}, Path: "/{name}"}, nil)
	defer h.close(t)
	one, two, three := []registry.Instance{instance(1)}, []registry.Instance{instance(2)}, []registry.Instance{instance(3)}
	if err := h.Register(within(t, 5*time.Second), append(one, two...)); err != nil {
		t.Fatal(err)
	}
	server.Stop()

	const deadline = 300 * time.Millisecond
	for name, call := range map[string]func(context.Context) error{
		"Register":   func(ctx context.Context) error { return h.Register(ctx, three) },
		"Deregister": func(ctx context.Context) error { return h.Deregister(ctx, one) },
	} {
		start := time.Now()
		err := call(within(t, deadline))
		if err == nil {
			t.Errorf("%s succeeded without a server", name)
		}
		if took := time.Since(start); took > deadline+2*time.Second {
			t.Errorf("%s took %v, want about its deadline, %v", name, took, deadline)
		}
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), server.Addr()) {
			t.Errorf("%s: error %q, want ErrUnavailable naming the server", name, err)
		}
	}

	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := server.Connect(t)
	eventually(t, "instances 2 and 3 are there, 1 is not", func() bool {
		var ports []int
		for _, e := range entries(t, conn, "/web") {
			ports = append(ports, e.ServiceEndpoint.Port)
		}
		return len(ports) == 2 && ports[0]+ports[1] == 31002+31003
	})
	if n := strings.Count(h.log.String(), `"level":"warn"`); n != 1 {
		t.Errorf("%d warnings for one outage, want 1", n)
	}
}

// A server that is frozen keeps its connections and answers nothing.
func TestServerFrozen_CallsAreBounded(t *testing.T) {
	t.Parallel()
	server := zkserver.Start(t, zkserver.Options{})
	h := newHarness(t, Config{Servers: []string{server.Addr()}, Path: "/{name}", SessionTimeout: 2 * time.Second}, nil)
	defer h.close(t)
	one, two := []registry.Instance{instance(1)}, []registry.Instance{instance(2)}
	if err := h.Register(within(t, 5*time.Second), one); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(context.Context) error{
		"Register":   func(ctx context.Context) error { return h.Register(ctx, two) },
		"Deregister": func(ctx context.Context) error { return h.Deregister(ctx, one) },
	} {
		start := time.Now()
		if err := call(within(t, 200*time.Millisecond)); err == nil {
			t.Errorf("%s succeeded with a frozen server", name)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s took %v, want about its deadline, 200ms", name, took)
		}
	}
	eventually(t, "the client notices", func() bool { _, ok := h.sets.Session(); return !ok })
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	conn := server.Connect(t)
	eventually(t, "only instance 2 is there", func() bool {
		got := entries(t, conn, "/web")
		return len(got) == 1 && got[0].ServiceEndpoint.Port == 31002
	})
}

func TestStart_WithoutServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	h := newHarness(t, Config{Servers: []string{l.Addr().String()}, Path: "/{name}"}, nil)
	err = h.Register(within(t, 500*time.Millisecond), []registry.Instance{instance(1)})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v, want one that says that the connection was refused", err)
	}
	start := time.Now()
	h.close(t) // nothing was ever created
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// An HTTP server's first bytes are a packet of 1.2 GB to the client library.
func TestStart_WithAServerThatIsNoZooKeeper(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			conn.Close()
		}
	})
	defer wg.Wait()
	defer l.Close()
	h := newHarness(t, Config{Servers: []string{l.Addr().String()}, Path: "/{name}"}, nil)
	eventually(t, "the error names the reason", func() bool {
		err = h.Register(within(t, 100*time.Millisecond), []registry.Instance{instance(1)})
		return err != nil && strings.Contains(err.Error(), "is no ZooKeeper server")
	})
	h.Close(within(t, 100*time.Millisecond))
}

func TestAuth_OthersCanReadOnly(t *testing.T) {
	t.Parallel()
	server := zkserver.Shared(t)
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, []byte(`{"auth":[{"scheme":"digest","credential":"pacer:canary"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ConfigFromEnv(func(name string) string {
		return map[string]string{EnvServers: server.URL("/" + t.Name()), EnvAuthFile: file}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	other := server.Connect(t)
	h := newHarness(t, c, other)
	defer h.close(t)
	if err := h.Register(within(t, 5*time.Second), []registry.Instance{instance(1)}); err != nil {
		t.Fatal(err)
	}
	dir := "/" + t.Name() + "/web"
	path := dir + "/" + entries(t, other, dir)[0].Name
	if err := other.Delete(path, -1); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("somebody else deletes an entry: %v, want %v", err, zk.ErrNoAuth)
	}
	// The credentials are there again after the session's end.
	id, _ := h.sets.Session()
	if err := server.KillSession(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the entry is there again", func() bool {
		got := entries(t, other, dir)
		return len(got) == 1 && got[0].Owner != id
	})
	// Without the credentials nothing can be created beside it, and that is said.
	c.Auth = nil
	without := newHarness(t, c, other)
	err = without.Register(within(t, 500*time.Millisecond), []registry.Instance{instance(2)})
	if !errors.Is(err, zk.ErrNoAuth) || !strings.Contains(err.Error(), EnvAuthFile) {
		t.Errorf("error without credentials: %v, want one that names %s", err, EnvAuthFile)
	}
	without.Close(within(t, time.Second))
	if strings.Contains(h.log.String(), "canary") {
		t.Error("the log shows the password")
	}
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]Config{
		"no servers": {Path: "/{name}"},
		"no path":    {Servers: []string{"127.0.0.1:1"}},
	} {
		if s, err := New(c, zerolog.Nop()); err == nil {
			s.Close(t.Context())
			t.Errorf("%s: no error", name)
		}
	}
}

// A server that is just starting accepts connections that it never serves.
func TestSession_OneUnansweredConnectionCostsSeconds(t *testing.T) {
	server := zkserver.Shared(t)
	p := newProxy(t, server.Addr())
	p.mu.Lock()
	p.deaf = 1
	p.mu.Unlock()
	began := time.Now()
	h := newHarness(t, Config{Servers: []string{p.addr()}, Path: "/" + t.Name() + "/{name}"}, server.Connect(t))
	defer h.close(t)
	if err := h.Register(within(t, 20*time.Second), []registry.Instance{instance(1)}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < firstPatience || took > firstPatience+2*time.Second {
		t.Errorf("registered after %v, want a little more than %v", took, firstPatience)
	}
}

// BenchmarkRegister measures healthy-to-findable and kill-to-gone against a
// server on this machine; budget: 50 ms at the 99th percentile.
func BenchmarkRegister(b *testing.B) {
	for _, mode := range []struct {
		name  string
		fsync bool
	}{{"memory", false}, {"fsync", true}} {
		b.Run(mode.name, func(b *testing.B) {
			server := zkserver.Start(b, zkserver.Options{Fsync: mode.fsync})
			h := newHarness(b, Config{Servers: []string{server.Addr()}, Path: "/bench/{name}"}, nil)
			defer h.close(b)
			list := []registry.Instance{instance(1)}
			var found, gone []time.Duration
			for b.Loop() {
				start := time.Now()
				if err := h.Register(b.Context(), list); err != nil {
					b.Fatal(err)
				}
				found = append(found, time.Since(start))
				start = time.Now()
				if err := h.Deregister(b.Context(), list); err != nil {
					b.Fatal(err)
				}
				gone = append(gone, time.Since(start))
			}
			b.ReportMetric(p99(found).Seconds()*1000, "ms-found-p99")
			b.ReportMetric(p99(gone).Seconds()*1000, "ms-gone-p99")
		})
	}
}

func p99(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)*99/100]
}
