package standin

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Request types of the ZooKeeper protocol.
const (
	opCreate      = 1
	opDelete      = 2
	opExists      = 3
	opGetData     = 4
	opSetData     = 5
	opGetChildren = 8
	opSync        = 9
	opPing        = 11
	opChildren2   = 12
	opSetAuth     = 100
	opSetWatches  = 101
	opClose       = -11
)

// maxRequest is ZooKeeper's default jute.maxbuffer.
const maxRequest = 1 << 20

// ZooKeeper is a single in-memory server. See the package comment for what it
// leaves out.
type ZooKeeper struct {
	listener net.Listener
	conns    sync.WaitGroup

	mu       sync.Mutex
	tree     *tree
	sessions map[int64]*zkSession
	open     map[*zkConn]bool
	closed   bool
}

type zkSession struct {
	id       int64
	password []byte
	timeout  time.Duration
	conn     *zkConn     // nil while disconnected
	expiry   *time.Timer // runs while disconnected
}

// StartZooKeeper serves on a free port of 127.0.0.1 until Close.
func StartZooKeeper() (*ZooKeeper, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for ZooKeeper clients: %w", err)
	}
	z := &ZooKeeper{listener: listener, tree: newTree(), sessions: map[int64]*zkSession{}, open: map[*zkConn]bool{}}
	z.conns.Go(z.acceptLoop)
	return z, nil
}

// Address is host:port.
func (z *ZooKeeper) Address() string { return z.listener.Addr().String() }

// Close ends every connection and waits for its goroutine.
func (z *ZooKeeper) Close() {
	z.mu.Lock()
	z.closed = true
	for c := range z.open {
		c.net.Close()
	}
	for _, s := range z.sessions {
		if s.expiry != nil {
			s.expiry.Stop()
		}
	}
	z.mu.Unlock()
	z.listener.Close()
	z.conns.Wait()
}

func (z *ZooKeeper) acceptLoop() {
	for {
		conn, err := z.listener.Accept()
		if err != nil {
			return
		}
		c := &zkConn{server: z, net: conn}
		z.mu.Lock()
		if z.closed {
			z.mu.Unlock()
			conn.Close()
			return
		}
		z.open[c] = true
		z.mu.Unlock()
		z.conns.Go(c.serve)
	}
}

// zkConn is one client connection. Its writes happen under the server's lock,
// which keeps replies and watch events in the order of the tree's changes.
type zkConn struct {
	server  *ZooKeeper
	net     net.Conn
	session *zkSession
}

func (c *zkConn) serve() {
	defer c.close()
	if err := c.handshake(); err != nil {
		return
	}
	for {
		request, err := c.read()
		if err != nil {
			return
		}
		if done := c.handle(request); done {
			return
		}
	}
}

// close starts the session's countdown, if it still has one.
func (c *zkConn) close() {
	c.net.Close()
	z := c.server
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.open, c)
	z.tree.forget(c)
	if s := c.session; s != nil && s.conn == c && !z.closed {
		s.conn = nil
		s.expiry = time.AfterFunc(s.timeout, func() { z.expire(s) })
	}
}

func (z *ZooKeeper) expire(s *zkSession) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if s.conn == nil && !z.closed {
		delete(z.sessions, s.id)
		z.tree.endSession(s.id)
	}
}

func (c *zkConn) read() (*reader, error) {
	if c.session != nil {
		// A client pings every third of its timeout.
		if err := c.net.SetReadDeadline(time.Now().Add(c.session.timeout)); err != nil {
			return nil, err
		}
	}
	var length [4]byte
	if _, err := io.ReadFull(c.net, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxRequest {
		return nil, errors.New("request too large")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.net, body); err != nil {
		return nil, err
	}
	return &reader{rest: body}, nil
}

// send writes one frame. A client that does not read loses its connection.
func (c *zkConn) send(body writer) {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if err := c.net.SetWriteDeadline(time.Now().Add(5 * time.Second)); err == nil {
		if _, err = c.net.Write(append(frame, body...)); err == nil {
			return
		}
	}
	c.net.Close()
}

// handshake opens a session or continues one.
func (c *zkConn) handshake() error {
	r, err := c.read()
	if err != nil {
		return err
	}
	r.int32() // protocol version
	r.int64() // last transaction seen
	timeout := time.Duration(r.int32()) * time.Millisecond
	id := r.int64()
	password := r.bytes()
	if r.err != nil {
		return r.err
	}
	timeout = min(max(timeout, 2*time.Second), 40*time.Second)

	z := c.server
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.sessions[id]
	switch {
	case id == 0:
		s = &zkSession{password: make([]byte, 16), timeout: timeout}
		if _, err := rand.Read(s.password); err != nil {
			return err
		}
		s.id = int64(binary.BigEndian.Uint64(s.password) >> 1)
		z.sessions[s.id] = s
	case s == nil || string(s.password) != string(password):
		// An ended session is told so with a session id of zero.
		var w writer
		w.int32(0)
		w.int32(0)
		w.int64(0)
		w.bytes(make([]byte, 16))
		c.send(w)
		return errors.New("session has ended")
	case s.conn != nil:
		s.conn.net.Close()
	}
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.conn, c.session = c, s
	var w writer
	w.int32(0)
	w.int32(int32(s.timeout / time.Millisecond))
	w.int64(s.id)
	w.bytes(s.password)
	c.send(w)
	return nil
}

// notify implements [watcher]; the server's lock is held.
func (c *zkConn) notify(event int32, path string) {
	var w writer
	w.int32(-1)
	w.int64(-1)
	w.int32(codeOK)
	w.int32(event)
	w.int32(3) // connected
	w.string(path)
	c.send(w)
}

// handle answers one request and reports whether it was the last.
func (c *zkConn) handle(r *reader) (done bool) {
	xid, op := r.int32(), r.int32()
	z := c.server
	z.mu.Lock()
	defer z.mu.Unlock()
	var body writer
	code := int32(codeOK)
	t := z.tree
	switch op {
	case opPing, opSetAuth:
	case opClose:
		delete(z.sessions, c.session.id)
		t.endSession(c.session.id)
		c.session = nil
		done = true
	case opSync:
		body.string(r.string())
	case opCreate:
		path, data := r.string(), r.bytes()
		for n := r.int32(); n > 0 && r.err == nil; n-- {
			r.int32()
			r.string()
			r.string()
		}
		flags := r.int32()
		if r.err == nil {
			var created string
			created, code = t.create(path, data, flags, c.session.id)
			body.string(created)
		}
	case opDelete:
		path, version := r.string(), r.int32()
		if r.err == nil {
			code = t.remove(path, version)
		}
	case opSetData:
		path, data, version := r.string(), r.bytes(), r.int32()
		if r.err == nil {
			if code = t.set(path, data, version); code == codeOK {
				t.nodes[path].stat(&body)
			}
		}
	case opExists, opGetData, opGetChildren, opChildren2:
		code = c.get(op, r.string(), r.bool(), &body)
	case opSetWatches:
		c.rewatch(r)
	default:
		code = codeUnimplement
	}
	if r.err != nil {
		code, body = codeBadArguments, nil
	}
	var reply writer
	reply.int32(xid)
	reply.int64(t.zxid)
	reply.int32(code)
	if code == codeOK {
		reply = append(reply, body...)
	}
	c.send(reply)
	return done
}

// get answers the reading requests and sets their watches.
func (c *zkConn) get(op int32, path string, watching bool, body *writer) (code int32) {
	t := c.server.tree
	n := t.nodes[path]
	if n == nil {
		if watching && op == opExists {
			watch(t.data, path, c)
		}
		return codeNoNode
	}
	switch op {
	case opExists:
		n.stat(body)
	case opGetData:
		body.bytes(n.data)
		n.stat(body)
	case opGetChildren:
		body.strings(n.names())
	case opChildren2:
		body.strings(n.names())
		n.stat(body)
	}
	if watching {
		table := t.data
		if op == opGetChildren || op == opChildren2 {
			table = t.child
		}
		watch(table, path, c)
	}
	return codeOK
}

// rewatch sets the watches of a client that has come back, and fires those
// whose node changed meanwhile.
func (c *zkConn) rewatch(r *reader) {
	t := c.server.tree
	seen := r.int64()
	data, exist, child := r.strings(), r.strings(), r.strings()
	for _, p := range data {
		switch n := t.nodes[p]; {
		case n == nil:
			c.notify(eventDeleted, p)
		case n.change > seen:
			c.notify(eventDataChanged, p)
		default:
			watch(t.data, p, c)
		}
	}
	for _, p := range exist {
		if t.nodes[p] != nil {
			c.notify(eventCreated, p)
		} else {
			watch(t.data, p, c)
		}
	}
	for _, p := range child {
		switch n := t.nodes[p]; {
		case n == nil:
			c.notify(eventDeleted, p)
		case n.childChange > seen:
			c.notify(eventChildrenChanged, p)
		default:
			watch(t.child, p, c)
		}
	}
}
