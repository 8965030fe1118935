package zookeeper

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// Start starts a server of the test's own. It ends with the test, which is
// skipped where ZooKeeper is not installed.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Run(context.Background(), o)
	skipIfMissing(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of ZooKeeper:\n%s", s.output())
		}
		s.Close()
	})
	return s
}

func skipIfMissing(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Shared returns a server for all tests of the binary: do not stop it, and
// keep to paths of your own. The binary's TestMain has to use [Main].
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = Run(context.Background(), Options{}) })
	skipIfMissing(t, shared.err)
	return shared.server
}

// Main runs the tests and then stops the shared server, if there is one, for
// use in TestMain: os.Exit(zookeeper.Main(m)).
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if shared.server != nil {
		shared.server.Close()
	}
	return code
}

// Connect returns a client with a session that ends with the test.
func (s *Server) Connect(t testing.TB) *zk.Conn {
	t.Helper()
	conn, events, err := zk.Connect([]string{s.Addr()}, 10*time.Second, zk.WithLogger(silent{}), zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		for range events { // closed when the connection's goroutines have ended
		}
	})
	timeout := time.After(30 * time.Second)
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return conn
			}
		case <-timeout:
			t.Fatalf("no session with ZooKeeper at %s within 30s (%v)", s.Addr(), os.ErrDeadlineExceeded)
		}
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}
