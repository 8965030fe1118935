package zookeeper

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	// dialTimeout bounds resolving a server's name, connecting, and TLS.
	dialTimeout = 3 * time.Second
	// dialPause is the mean pause before all attempts but the first, so that a
	// server that came back is not met by all its clients at once.
	dialPause = 50 * time.Millisecond
	// maxHello is far above the size of a server's first packet (41 bytes).
	maxHello = 1 << 10
)

// dialer makes connections with bounds that the library lacks: on the time of
// every read, since it waits for ten times the session for a server that says
// nothing, and on the size of the first packet, which it would allocate.
type dialer struct {
	patience time.Duration
	tls      *tls.Config

	mu      sync.Mutex
	dialed  bool
	closed  bool
	current net.Conn
	trouble error
}

func (d *dialer) dial(network, address string, _ time.Duration) (net.Conn, error) {
	d.mu.Lock()
	again, closed := d.dialed, d.closed
	d.dialed = true
	d.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	if again {
		time.Sleep(dialPause/2 + rand.N(dialPause))
	}
	conn, err := d.connect(network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.trouble = err
		return nil, err
	}
	if d.closed {
		return nil, joinClose(net.ErrClosed, conn)
	}
	d.current = conn
	return &boundedConn{Conn: conn, dialer: d}, nil
}

func (d *dialer) connect(network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	if d.tls == nil {
		return plain.Dial(network, address)
	}
	return tls.DialWithDialer(plain, network, address, d.tls)
}

func joinClose(err error, c io.Closer) error {
	_ = c.Close() // nobody uses it
	return err
}

// note keeps what went wrong, nil when all is well again.
func (d *dialer) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = err
}

func (d *dialer) problem() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble
}

// close breaks the connection and prevents new ones.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.current != nil {
		_ = d.current.Close()
	}
}

// boundedConn is a connection of a dialer.
type boundedConn struct {
	net.Conn
	dialer *dialer
	head   []byte // the first four bytes read: the size of the first packet
}

// SetReadDeadline never allows more than the dialer's patience.
func (c *boundedConn) SetReadDeadline(t time.Time) error {
	if most := time.Now().Add(c.dialer.patience); t.IsZero() || t.After(most) {
		t = most
	}
	return c.Conn.SetReadDeadline(t)
}

// Read refuses what is no ZooKeeper server.
func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && err != io.EOF {
		c.dialer.note(err)
	}
	if missing := 4 - len(c.head); missing > 0 && n > 0 {
		c.head = append(c.head, p[:min(n, missing)]...)
		if len(c.head) == 4 {
			if size := binary.BigEndian.Uint32(c.head); size > maxHello {
				err = fmt.Errorf("%s is no ZooKeeper server: its first packet claims %d bytes", c.RemoteAddr(), size)
				c.dialer.note(err)
				return 0, err
			}
		}
	}
	return n, err
}

// hosts gives the library one server after the other; unlike the library's own
// it leaves names to be resolved at each attempt, so that servers can move.
type hosts struct {
	mu      sync.Mutex
	servers []string
	next    int
	tries   int // since the last success
}

var _ zk.HostProvider = (*hosts)(nil)

// Init is given the servers.
func (h *hosts) Init(servers []string) error {
	h.servers = servers
	h.next = rand.IntN(len(servers))
	return nil
}

// Len is the number of servers.
func (h *hosts) Len() int { return len(h.servers) }

// Next is the server to try, and whether to pause for a second before: after
// each round, which is two attempts at every server, because resuming a
// session that has expired takes one.
func (h *hosts) Next() (server string, pause bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tries >= 2*len(h.servers) {
		h.tries, pause = 0, true
	}
	h.tries++
	server = h.servers[h.next%len(h.servers)]
	h.next++
	return server, pause
}

// Connected notes a success: the same server is tried first the next time.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries = 1
	h.next--
}
