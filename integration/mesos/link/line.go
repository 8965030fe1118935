package link

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Master is where agents' connections arrive.
type Master interface {
	// Attach hands the master its end of a new connection. It fails when the
	// master does not serve any more.
	Attach(*End) error
}

// Detector tells who leads.
type Detector interface {
	// Leader returns the leading master, nil when there is none, and a channel
	// that is closed when the answer is no longer true.
	Leader() (Master, <-chan struct{})
}

// Line is an agent's way to the leading master, with switches for faults. The
// zero value is not usable; call NewLine. All methods may be called by any
// goroutine.
type Line struct {
	detector Detector
	delay    atomic.Int64 // time.Duration

	mu      sync.Mutex
	current *conn
	frozen  chan struct{} // closed by Thaw; nil when not frozen
	cut     chan struct{} // closed by Restore; nil when not cut
}

// NewLine returns an intact line to whomever the detector names.
func NewLine(d Detector) *Line { return &Line{detector: d} }

// Dial waits until a master leads and the line is neither cut nor frozen, and
// connects to that master. The connection the agent had before is closed. When
// another master starts to lead, the returned End breaks.
func (l *Line) Dial(ctx context.Context) (*End, error) {
	for {
		master, changed := l.detector.Leader()
		if master == nil {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-changed:
			}
			continue
		}
		agentEnd, masterEnd, obstacle := l.open()
		if obstacle != nil {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-obstacle:
			}
			continue
		}
		if err := master.Attach(masterEnd); err != nil {
			agentEnd.Close()
			// The master is going; wait for the detector to notice.
			select {
			case <-ctx.Done():
				return nil, errors.Join(ctx.Err(), err)
			case <-changed:
			}
			continue
		}
		agentEnd.deposed, agentEnd.leader = changed, master
		return agentEnd, nil
	}
}

// open makes a connection, or returns what has to be closed before one can be made.
func (l *Line) open() (agent, master *End, obstacle <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != nil {
		return nil, nil, l.cut
	}
	if l.frozen != nil {
		return nil, nil, l.frozen
	}
	if l.current != nil {
		l.current.close()
	}
	agent, master = newConn(l)
	l.current = agent.conn
	return agent, master, nil
}

// Cut breaks the connection; both ends notice. Dial waits for Restore.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == nil {
		l.cut = make(chan struct{})
	}
	if l.current != nil {
		l.current.close()
		l.current = nil
	}
}

// Restore ends a Cut.
func (l *Line) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != nil {
		close(l.cut)
		l.cut = nil
	}
}

// Freeze stops delivery in both directions without an error on either side.
func (l *Line) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

// Thaw ends a Freeze; what was sent meanwhile is delivered.
func (l *Line) Thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// thawed returns the channel that Thaw closes, nil when the line is not frozen.
func (l *Line) thawed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.frozen
}

// SetDelay holds back every message sent from now on for d. Order is kept.
func (l *Line) SetDelay(d time.Duration) { l.delay.Store(int64(d)) }
