package scheduler

import "sync"

// inbox hands events to the core. It never blocks a sender: what is in it is
// bounded by what can be under way (statuses by Mesos' acknowledgements, calls
// and writes by ourselves, requests by the API's server).
type inbox struct {
	mu     sync.Mutex
	events []func(*core)
	closed bool
	wake   chan struct{} // holds a token while events may be waiting
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// post queues an event. It is false if the core has ended.
func (b *inbox) post(event func(*core)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.events = append(b.events, event)
	select {
	case b.wake <- struct{}{}:
	default: // the core has not taken the last token yet
	}
	return true
}

// take removes everything that is queued.
func (b *inbox) take() []func(*core) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.events = nil
}
