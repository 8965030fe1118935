package zookeeper

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	// dialTimeout bounds looking up a server's name and connecting to it.
	dialTimeout = 3 * time.Second
	// dialPause is the mean pause before every attempt but the first. It
	// spreads the clients of a server that went away, and keeps a session that
	// is just ending on the server from being resumed half.
	dialPause = 100 * time.Millisecond
	// firstPatience is how long the answer to a connect request may take at
	// first. A server that is just starting accepts connections whose requests it
	// may never answer. It doubles with every connection that is not answered, up
	// to the session timeout, for the sake of servers that are slow.
	firstPatience = 2 * time.Second
)

// dialer makes connections for the client library and remembers what went
// wrong last. The library looks names up once, when it starts; here they are
// looked up at each attempt, so that it can start without DNS and servers can
// move.
type dialer struct {
	// limit bounds every read: the library waits for a server that accepts
	// connections and says nothing as long as ten times its normal patience.
	limit time.Duration
	// closing is closed by close.
	closing chan struct{}

	mu      sync.Mutex
	dialed  bool
	closed  bool
	current net.Conn
	lastErr error
	// patience is for the next connection's first answer.
	patience time.Duration
}

func newDialer(limit time.Duration) *dialer {
	return &dialer{limit: limit, patience: firstPatience, closing: make(chan struct{})}
}

func (d *dialer) dial(network, address string, _ time.Duration) (net.Conn, error) {
	d.mu.Lock()
	again := d.dialed
	d.dialed = true
	d.mu.Unlock()
	if again {
		pause := time.NewTimer(dialPause/2 + rand.N(dialPause))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-d.closing:
			return nil, net.ErrClosed
		}
	}
	conn, err := net.DialTimeout(network, address, dialTimeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.lastErr = err
		return nil, err
	}
	if d.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	d.current = conn
	guarded := &guardedConn{Conn: conn, dialer: d, patience: min(d.patience, d.limit)}
	d.patience = min(2*d.patience, d.limit)
	return guarded, nil
}

func (d *dialer) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastErr = err
}

// problem is what went wrong last, or nil.
func (d *dialer) problem() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastErr
}

func (d *dialer) connected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastErr, d.patience = nil, firstPatience
}

// close breaks the connection and prevents new ones.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		close(d.closing)
	}
	if d.current != nil {
		d.current.Close()
	}
}

// guardedConn is a connection with two bounds that the library lacks: on the
// time of every read, and on the size of the very first packet, for which it
// allocates whatever a peer says that may not be a ZooKeeper at all.
type guardedConn struct {
	net.Conn
	dialer *dialer

	// patience is for the first packet.
	patience time.Duration
	head     [4]byte // the first bytes read: the size of the first packet
	headLen  int
}

// maxConnectResponse is far above the size of any answer to a connect request
// (41 bytes).
const maxConnectResponse = 1 << 10

func (c *guardedConn) SetReadDeadline(t time.Time) error {
	limit := c.dialer.limit
	if c.headLen < len(c.head) {
		limit = c.patience
	}
	if most := time.Now().Add(limit); t.IsZero() || t.After(most) {
		t = most
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && err != io.EOF {
		c.dialer.note(err)
	}
	if c.headLen < len(c.head) {
		c.headLen += copy(c.head[c.headLen:], p[:n])
		if size := binary.BigEndian.Uint32(c.head[:]); c.headLen == len(c.head) && size > maxConnectResponse {
			err := fmt.Errorf("%s is no ZooKeeper server: its first packet claims %d bytes", c.RemoteAddr(), size)
			c.dialer.note(err)
			return 0, err
		}
	}
	return n, err
}

// servers gives the library one server after the other. A round is two
// attempts at each, which is what a session that has expired takes with a
// single server; after a round without success the library pauses for a
// second.
type servers struct {
	mu    sync.Mutex
	addrs []string
	next  int
	tries int
	// up is when a session was last there: a server that accepts it and then
	// breaks the connection must not be asked without pause.
	up time.Time
}

func (s *servers) Init(addrs []string) error {
	s.addrs = addrs
	return nil
}

func (s *servers) Len() int { return len(s.addrs) }

func (s *servers) Next() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := s.tries >= 2*len(s.addrs)
	if pause {
		s.tries = 0
	}
	s.tries++
	addr := s.addrs[s.next%len(s.addrs)]
	s.next++
	return addr, pause
}

func (s *servers) Connected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next-- // the same server again, when it comes back
	if now := time.Now(); now.Sub(s.up) > time.Second {
		s.tries, s.up = 0, now
	}
}
