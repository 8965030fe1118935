package zookeeper

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rs/zerolog"

	"pacer/executor/registry"
)

// harness is a registry under test, and a client that looks at what it did.
type harness struct {
	*registry.Reconciler
	sets *ServerSets
	conn *zk.Conn
	log  *logBuffer
}

func newHarness(t testing.TB, c Config, conn *zk.Conn) *harness {
	t.Helper()
	h := &harness{conn: conn, log: new(logBuffer)}
	log := zerolog.New(h.log).Level(zerolog.InfoLevel)
	var err error
	if h.sets, err = New(c, log); err != nil {
		t.Fatal(err)
	}
	h.Reconciler = registry.New(h.sets, registry.Options{Log: log})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", h.log.String())
		}
	})
	return h
}

// close closes the registry, which must succeed.
func (h *harness) close(t testing.TB) {
	t.Helper()
	if err := h.Close(within(t, 5*time.Second)); err != nil {
		t.Errorf("Close: %v", err)
	}
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// entry is a member as a client of ServerSets sees it.
type entry struct {
	Name  string
	Owner int64
	serviceInstance
}

// entries reads a ServerSet by the rules of Finagle's parser: names begin with
// member_, ports are integers.
func entries(t testing.TB, conn *zk.Conn, dir string) []entry {
	t.Helper()
	list, err := readEntries(conn, dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readEntries(conn *zk.Conn, dir string) ([]entry, error) {
	names, _, err := conn.Children(dir)
	if err == zk.ErrNoNode {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var list []entry
	for _, name := range names {
		if !strings.HasPrefix(name, "member_") {
			continue
		}
		data, stat, err := conn.Get(dir + "/" + name)
		if err == zk.ErrNoNode {
			continue
		}
		if err != nil {
			return nil, err
		}
		e := entry{Name: name, Owner: stat.EphemeralOwner}
		if err := json.Unmarshal(data, &e.serviceInstance); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, e)
	}
	return list, nil
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func instance(n int) registry.Instance {
	return registry.Instance{
		TaskID: fmt.Sprintf("web.%d", n), Name: "web", App: "web",
		Host: "10.0.0.7", Port: 31000 + n, Shard: n,
	}
}

// proxy stands between a client and a server and breaks connections.
type proxy struct {
	t      testing.TB
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	// cutAfter, if not nil, tells for each request (opcode and body) whether
	// the connection is to be cut after the server has got it and before the
	// client gets any answer. It is used up by the first true.
	cutAfter func(opcode int32, body []byte) bool
	cuts     int
	// deaf is how many of the next connections are accepted and never served.
	deaf int
}

func newProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, target: target, l: l}
	p.wg.Go(p.acceptLoop)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) acceptLoop() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		deaf := p.deaf > 0
		if deaf {
			p.deaf--
			p.conns = append(p.conns, client)
		}
		p.mu.Unlock()
		if deaf {
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Go(func() { p.requests(client, server) })
		p.wg.Go(func() {
			io.Copy(client, server)
			client.Close()
		})
	}
}

// requests forwards the packets of a client.
func (p *proxy) requests(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	for first := true; ; first = false {
		var head [4]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			return
		}
		packet := make([]byte, 4+binary.BigEndian.Uint32(head[:]))
		copy(packet, head[:])
		if _, err := io.ReadFull(client, packet[4:]); err != nil {
			return
		}
		cut := !first && len(packet) >= 12 && p.cuts1(int32(binary.BigEndian.Uint32(packet[8:])), packet[12:])
		if cut {
			client.Close() // before the server can answer
		}
		if _, err := server.Write(packet); err != nil {
			return
		}
		if cut {
			// The server has to read the request before it sees the end.
			io.Copy(io.Discard, io.LimitReader(server, 1))
			return
		}
	}
}

func (p *proxy) cuts1(opcode int32, body []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cutAfter == nil || !p.cutAfter(opcode, body) {
		return false
	}
	p.cutAfter = nil
	p.cuts++
	return true
}
