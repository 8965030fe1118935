package api

import (
	"net"
	"sync"
)

// maxConnections of one listener. More wait in the kernel's queue until one
// ends; idle ones end by themselves.
const maxConnections = 4096

// limit is a listener that has at most as many connections as slots.
type limit struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimit(l net.Listener, most int) *limit {
	return &limit{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for a free slot, and then for a connection.
func (l *limit) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limited{Conn: conn, free: func() { <-l.slots }}, nil
}

// Close ends waiting for a slot, too.
func (l *limit) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limited is a connection that frees its slot when it is closed.
type limited struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *limited) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}
