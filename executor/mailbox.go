package executor

import "sync"

// letter is an event on its way to the goroutine that owns a task, with what
// that goroutine is to take over before it judges the event.
type letter struct {
	event    event
	takeOver func()
}

// mailbox holds letters in order. Putting one never blocks: the events of the
// Mesos agent for all tasks come from one goroutine, which must not wait for
// any task.
type mailbox struct {
	mu      sync.Mutex
	letters []letter
	// arrived has room for one: it says that there is something, not how much.
	arrived chan struct{}
}

func newMailbox() *mailbox { return &mailbox{arrived: make(chan struct{}, 1)} }

func (m *mailbox) put(l letter) {
	m.mu.Lock()
	m.letters = append(m.letters, l)
	m.mu.Unlock()
	select {
	case m.arrived <- struct{}{}:
	default:
	}
}

// take returns the oldest letter, if there is one.
func (m *mailbox) take() (letter, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.letters) == 0 {
		return letter{}, false
	}
	l := m.letters[0]
	m.letters[0] = letter{}
	m.letters = m.letters[1:]
	return l, true
}
