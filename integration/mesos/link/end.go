package link

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrBroken is returned by End.Next when the connection has ended: the peer
// closed it or died, the line was cut, or another master leads now.
var ErrBroken = errors.New("connection between master and agent is broken")

// End is one side of a connection. Send and Close may be called by any
// goroutine, Next by one at a time.
type End struct {
	conn *conn
	in   *queue
	out  *queue
	// deposed is closed when another master may lead. Only the agent's end watches
	// it; nil at the master's.
	deposed <-chan struct{}
	leader  Master // of the connection, at the agent's end
}

// conn is what both ends share.
type conn struct {
	line   *Line
	once   sync.Once
	broken chan struct{}
}

func (c *conn) close() { c.once.Do(func() { close(c.broken) }) }

// queue is one direction of a connection, unbounded as the buffers of two
// processes and a kernel nearly are.
type queue struct {
	mu    sync.Mutex
	items []item
	// wake holds one token while items may have arrived that the receiver has not
	// looked at.
	wake chan struct{}
}

type item struct {
	message Message
	due     time.Time // zero: at once
}

func newConn(line *Line) (agent, master *End) {
	c := &conn{line: line, broken: make(chan struct{})}
	up := &queue{wake: make(chan struct{}, 1)}
	down := &queue{wake: make(chan struct{}, 1)}
	return &End{conn: c, in: down, out: up}, &End{conn: c, in: up, out: down}
}

// Send queues a message for the peer. On a broken connection it is lost.
func (e *End) Send(m Message) {
	select {
	case <-e.conn.broken:
		return
	default:
	}
	it := item{message: m}
	if d := e.conn.line.delay.Load(); d > 0 {
		it.due = time.Now().Add(time.Duration(d))
	}
	q := e.out
	q.mu.Lock()
	q.items = append(q.items, it)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next message. After the connection has broken it returns
// ErrBroken; what had not been taken by then is lost. It returns ctx's error
// when ctx ends first.
func (e *End) Next(ctx context.Context) (Message, error) {
	for {
		thawed := e.conn.line.thawed()
		if thawed != nil {
			// Frozen: even the peer's death goes unnoticed, but our own end and a
			// cut made on purpose do not.
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-e.conn.broken:
				return nil, ErrBroken
			case <-thawed:
			}
			continue
		}
		select {
		case <-e.conn.broken:
			return nil, ErrBroken
		case <-e.deposed:
			if e.replaced() {
				return nil, ErrBroken
			}
			continue
		default:
		}
		m, wait, ok := e.in.take()
		if ok {
			return m, nil
		}
		var due <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-e.conn.broken:
			err = ErrBroken
		case <-e.deposed:
			if e.replaced() {
				err = ErrBroken
			}
		case <-e.in.wake:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return nil, err
		}
	}
}

// replaced closes the connection if another master leads. One that is no longer known
// to lead stays connected until then: its agents hear nothing of it, but neither does
// it lose them.
func (e *End) replaced() bool {
	leader, changed := e.conn.line.detector.Leader()
	e.deposed = changed
	if leader == nil || leader == e.leader {
		return false
	}
	e.Close()
	return true
}

// take returns the first message, or how long until it is due.
func (q *queue) take() (m Message, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return nil, 0, false
	}
	if due := q.items[0].due; !due.IsZero() {
		if wait := time.Until(due); wait > 0 {
			return nil, wait, false
		}
	}
	m = q.items[0].message
	q.items[0] = item{}
	q.items = q.items[1:]
	if len(q.items) == 0 {
		q.items = nil
	}
	return m, 0, true
}

// Close breaks the connection; the peer's Next returns ErrBroken.
func (e *End) Close() { e.conn.close() }

// Broken is closed when the connection has ended.
func (e *End) Broken() <-chan struct{} { return e.conn.broken }
