package zookeeper_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	server "pacer/integration/zookeeper"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
	"pacer/scheduler/state/zookeeper"
)

func TestMain(m *testing.M) { os.Exit(server.Main(checked{m})) }

// checked runs the tests and then looks for goroutines that are left.
type checked struct{ m *testing.M }

func (c checked) Run() int {
	code := c.m.Run()
	if err := goleak.Find(goleak.IgnoreTopFunction("pacer/integration/zookeeper.startAndWait"),
		goleak.IgnoreAnyFunction("pacer/integration/zookeeper.startAndWait"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func config(t testing.TB, url string) zookeeper.Config {
	t.Helper()
	c, err := zookeeper.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, c zookeeper.Config) *zookeeper.Store {
	t.Helper()
	client, err := zookeeper.Connect(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	store := zookeeper.NewStore(client, "test")
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func lead(t testing.TB, store state.Store) state.Session {
	t.Helper()
	session, err := store.Lead(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return session
}

var roots atomic.Int64

func newRoot() string { return fmt.Sprint("/tests/", roots.Add(1), "/pacer") }

func TestStore(t *testing.T) {
	zookeeperServer := server.Shared(t)
	statetest.Run(t, statetest.Kind{
		Make:   func(*testing.T) string { return zookeeperServer.URL(newRoot()) },
		Open:   func(t *testing.T, url string) (state.Store, error) { return open(t, config(t, url)), nil },
		Shared: true,
	})
}

// TestP7_TransactionsAreExactlyOnce breaks the connection while transactions
// are under way: each counts exactly once, and none fails.
func TestP7_TransactionsAreExactlyOnce(t *testing.T) {
	proxy := newProxy(t, server.Shared(t).Addr())
	root := newRoot()
	store := open(t, config(t, "zk://"+proxy.addr()+root))
	session := lead(t, store)
	stop := make(chan struct{})
	var breaking sync.WaitGroup
	breaking.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(n*7%40) * time.Millisecond):
				// Some answers are lost, some requests do not arrive.
				proxy.cut()
			}
		}
	})
	for n := range 60 {
		ops := []state.Op{{Key: fmt.Sprintf("apps/%02x/a%d", n%3, n), Value: fmt.Appendf(nil, "%d", n)}}
		if n > 0 {
			ops = append(ops, state.Op{Key: fmt.Sprintf("apps/%02x/a%d", (n-1)%3, n-1)})
		}
		if err := session.Apply(testContext(t), ops); err != nil {
			t.Fatalf("transaction %d: %v", n, err)
		}
	}
	close(stop)
	breaking.Wait()
	conn := server.Shared(t).Connect(t)
	_, stat, err := conn.Get(root + "/commit")
	if err != nil || stat.Version != 60 {
		t.Errorf("commit has version %v, %v; want one for each of 60", stat, err)
	}
	got := make(map[string]string)
	other := open(t, config(t, server.Shared(t).URL(root)))
	err = other.Read(testContext(t), func(key string, value []byte) error {
		got[key] = string(value)
		return nil
	})
	if err != nil || len(got) != 1 || got["apps/02/a59"] != "59" {
		t.Errorf("%v, %v", got, err)
	}
	if proxy.cuts.Load() == 0 {
		t.Error("the connection was never broken")
	}
}

// TestApply_UnknownOutcomeIsSettledFirst gives up waiting for a transaction
// whose answer never comes, and then makes another one.
func TestApply_UnknownOutcomeIsSettledFirst(t *testing.T) {
	for name, test := range map[string]struct{ arrives bool }{
		"it arrived": {true}, "it did not arrive": {false},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := newProxy(t, server.Shared(t).Addr())
			root := newRoot()
			session := lead(t, open(t, config(t, "zk://"+proxy.addr()+root)))
			if err := session.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("1")}}); err != nil {
				t.Fatal(err)
			}
			proxy.hold(test.arrives)
			short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := session.Apply(short, []state.Op{{Key: "apps/00/a", Value: []byte("2")}, {Key: "apps/00/b", Value: []byte("2")}})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("err = %v", err)
			}
			proxy.release()
			if err := session.Apply(testContext(t), []state.Op{{Key: "apps/00/b", Value: []byte("3")}}); err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			if err := session.Load(testContext(t), func(key string, value []byte) error {
				got[key] = string(value)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			// An unknown outcome is settled by making it a success.
			if len(got) != 2 || got["apps/00/a"] != "2" || got["apps/00/b"] != "3" {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestApply_WaitsForTheServer(t *testing.T) {
	s := server.Start(t, server.Options{})
	c := config(t, s.URL("/pacer"))
	session := lead(t, open(t, c))
	if err := session.Trouble(); err != nil {
		t.Error(err)
	}
	s.Kill()
	done := make(chan error, 1)
	go func() {
		done <- session.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("1")}})
	}()
	waitFor(t, func() bool { return session.Trouble() != nil })
	if err := session.Trouble(); !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("trouble %q does not name the server", err)
	}
	select {
	case err := <-done:
		t.Fatalf("ended without a server: %v", err)
	default:
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := session.Check(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestApply_SurvivesTheSession(t *testing.T) {
	s := server.Shared(t)
	c := config(t, s.URL(newRoot()))
	client, err := zookeeper.Connect(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	store := zookeeper.NewStore(client, "test")
	defer store.Close()
	session := lead(t, store)
	id, ended := client.Session()
	if err := s.KillSession(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := session.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("1")}}); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the end of the session was not noticed")
	}
}

func TestApply_ChangedByHand(t *testing.T) {
	s := server.Shared(t)
	root := newRoot()
	session := lead(t, open(t, config(t, s.URL(root))))
	if err := session.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(t).Delete(root+"/state/apps/00/a", -1); err != nil {
		t.Fatal(err)
	}
	err := session.Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("2")}})
	if !errors.Is(err, state.ErrFenced) || !strings.Contains(err.Error(), root+"/state/apps/00/a") {
		t.Errorf("err = %v", err)
	}
}

func TestAccess(t *testing.T) {
	s := server.Shared(t)
	file := filepath.Join(t.TempDir(), "auth.json")
	write := func(text string, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"auth":[{"scheme":"digest","credential":"pacer:letmein"}]}`, 0o600)
	access, err := zookeeper.ReadAuthFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, s.URL(newRoot()))
	c.Access = access
	session := lead(t, open(t, c))
	ops := []state.Op{{Key: "meta/identity", Value: []byte("key")}}
	if err := session.Apply(testContext(t), ops); err != nil {
		t.Fatal(err)
	}
	stranger := s.Connect(t)
	for _, path := range []string{"/state/meta/identity", "/epoch", "/commit"} {
		if _, _, err := stranger.Get(c.Root + path); !errors.Is(err, zk.ErrNoAuth) {
			t.Errorf("a stranger reads %s: %v", path, err)
		}
		if _, err := stranger.Set(c.Root+path, nil, -1); !errors.Is(err, zk.ErrNoAuth) {
			t.Errorf("a stranger writes %s: %v", path, err)
		}
	}
	_, err = open(t, config(t, s.URL(c.Root))).Lead(testContext(t))
	if !errors.Is(err, zk.ErrNoAuth) || !strings.Contains(err.Error(), "--state-auth-file") {
		t.Errorf("without credentials: %v", err)
	}
	again := open(t, c)
	if err := lead(t, again).Apply(testContext(t), ops); err != nil {
		t.Errorf("the next leader with the credentials: %v", err)
	}

	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by others": {`{}`, 0o640, "chmod 0600"},
		"no JSON":            {`digest:secretword`, 0o600, "expected {"},
		"empty":              {`{}`, 0o600, "auth is empty"},
		"no user":            {`{"auth":[{"scheme":"digest","credential":"secretword"}]}`, 0o600, "auth[0]"},
		"unknown field":      {`{"password":"secretword"}`, 0o600, "expected {"},
		"permission":         {`{"auth":[{"scheme":"digest","credential":"u:secretword"}],"acl":[{"scheme":"auth","permissions":["rw"]}]}`, 0o600, "acl[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			write(test.text, test.mode)
			_, err := zookeeper.ReadAuthFile(file)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secretword") {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// TestConnect_TLS speaks to a server behind TLS.
func TestConnect_TLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate, of 127.0.0.1
	defer certified.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	proxy := serveProxy(t, listener, server.Shared(t).Addr())
	c := config(t, "zk://"+proxy.addr()+newRoot())
	c.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	untrusting := open(t, c)
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := untrusting.Lead(short); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server of an unknown authority: %v", err)
	}
	c.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	c.TLS.RootCAs.AddCert(certified.Certificate())
	if err := lead(t, open(t, c)).Apply(testContext(t), []state.Op{{Key: "apps/00/a", Value: []byte("1")}}); err != nil {
		t.Error(err)
	}
}

func TestParseURL(t *testing.T) {
	c, err := zookeeper.ParseURL("zk://a,b:2182,[::1]:2183/x/pacer/")
	if err != nil || fmt.Sprintln(c.Servers, c.Root) != "[a:2181 b:2182 [::1]:2183] /x/pacer\n" {
		t.Errorf("%v %v, %v", c.Servers, c.Root, err)
	}
	for text, want := range map[string]string{
		"http://a/b":       "zk://",
		"zk://a":           "no path",
		"zk://a/":          "no path",
		"zk://u:p@a/pacer": "file",
		"zk:///pacer":      "no host",
		"zk://a:x/pacer":   "port",
		"zk://a:1:2/pacer": "host:port",
		"zk://a/b//c":      "part",
		"zk://a/../c":      "part",
		"zk://a/zookeeper": "own",
	} {
		if _, err := zookeeper.ParseURL(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("zk://a:1,b/c")
	f.Add("zk://[::1]/c")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := zookeeper.ParseURL(text)
		if err == nil && (len(c.Servers) == 0 || !strings.HasPrefix(c.Root, "/") || c.Root == "/") {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

func TestConnect_NotZooKeeper(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	})
	defer serving.Wait()
	defer listener.Close()
	client, err := zookeeper.Connect(config(t, "zk://"+listener.Addr().String()+"/pacer"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	store := zookeeper.NewStore(client, "test")
	defer store.Close()
	waitFor(t, func() bool {
		err := client.Trouble()
		return err != nil && strings.Contains(err.Error(), "no ZooKeeper server")
	})
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := store.Lead(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lead: %v", err)
	}
}

func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatal("waited in vain")
		case <-tick.C:
		}
	}
}

// proxy is a TCP proxy whose connections can be broken and held up.
type proxy struct {
	listener net.Listener
	target   string
	cuts     atomic.Int64

	mu       sync.Mutex
	conns    map[net.Conn]bool
	dropUp   bool // what the client sends does not arrive
	dropDown bool // what the server answers does not arrive
}

func newProxy(t *testing.T, target string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveProxy(t, listener, target)
}

func serveProxy(t *testing.T, listener net.Listener, target string) *proxy {
	p := &proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.conns[client], p.conns[upstream] = true, true
			p.mu.Unlock()
			serving.Go(func() { p.copy(upstream, client, func() bool { return p.dropUp }) })
			serving.Go(func() { p.copy(client, upstream, func() bool { return p.dropDown }) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		serving.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) copy(to, from net.Conn, dropped func() bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		drop := dropped()
		p.mu.Unlock()
		if n > 0 && !drop {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) > 0 {
		p.cuts.Add(1)
	}
	for conn := range p.conns {
		_ = conn.Close()
		delete(p.conns, conn)
	}
}

// hold swallows what is sent, either only the answers or the requests, too.
func (p *proxy) hold(requestsArrive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropUp, p.dropDown = !requestsArrive, true
}

func (p *proxy) release() {
	p.mu.Lock()
	p.dropUp, p.dropDown = false, false
	p.mu.Unlock()
	p.cut()
}
