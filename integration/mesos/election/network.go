package election

import (
	"errors"
	"net"
	"sync"
	"time"
)

// network is a member's way to ZooKeeper, with switches for faults. The zero value is
// intact.
type network struct {
	mu     sync.Mutex
	frozen chan struct{} // closed by thaw; nil when not frozen
	dead   bool
	conns  map[*connection]struct{}
}

// connection is a TCP connection that stands still while its network is frozen.
type connection struct {
	net.Conn
	network *network
}

var errDead = errors.New("the process is dead")

func (n *network) dial(kind, address string, timeout time.Duration) (net.Conn, error) {
	if err := n.wait(); err != nil {
		return nil, err
	}
	raw, err := net.DialTimeout(kind, address, timeout)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: raw, network: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return nil, errors.Join(errDead, raw.Close())
	}
	if n.conns == nil {
		n.conns = make(map[*connection]struct{})
	}
	n.conns[c] = struct{}{}
	return c, nil
}

func (n *network) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen == nil {
		n.frozen = make(chan struct{})
	}
}

func (n *network) thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		close(n.frozen)
		n.frozen = nil
	}
}

// cut breaks all connections, for good.
func (n *network) cut() {
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	n.reset()
}

// reset breaks all connections.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Conn.Close()
	}
}

// wait returns when the network is not frozen.
func (n *network) wait() error {
	for {
		n.mu.Lock()
		frozen, dead := n.frozen, n.dead
		n.mu.Unlock()
		switch {
		case dead:
			return errDead
		case frozen == nil:
			return nil
		}
		<-frozen
	}
}

func (c *connection) Write(b []byte) (int, error) {
	if err := c.network.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if dead := c.network.wait(); dead != nil {
		return 0, dead
	}
	return n, err
}

func (c *connection) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	return c.Conn.Close()
}
