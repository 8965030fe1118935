package agent

import (
	"time"

	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"
)

// faults are what the agent has been told to do wrong.
type faults struct {
	lose      map[execv1.Event_Type]int
	duplicate int // further updates to send twice
	refuse    int // further UPDATE calls to answer 503
	delay     time.Duration
}

func (f *faults) loseLocked(kind execv1.Event_Type) bool {
	if f.lose[kind] > 0 {
		f.lose[kind]--
		return true
	}
	return false
}

func (f *faults) duplicateLocked() int {
	if f.duplicate > 0 {
		f.duplicate--
		return 1
	}
	return 0
}

// LoseEvents makes the next n events of a kind vanish on their way to executors.
func (a *Agent) LoseEvents(kind execv1.Event_Type, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.faults.lose == nil {
		a.faults.lose = make(map[execv1.Event_Type]int)
	}
	a.faults.lose[kind] = n
}

// DuplicateUpdates makes the next n status updates reach the master twice.
func (a *Agent) DuplicateUpdates(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults.duplicate = n
}

// RefuseUpdates answers the next n UPDATE calls with 503.
func (a *Agent) RefuseUpdates(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults.refuse = n
}

// DelayUpdates holds every UPDATE call back for d before it is looked at.
func (a *Agent) DelayUpdates(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults.delay = d
}

// BreakStreams ends all executors' event streams without a terminating chunk; the
// agent goes on writing into them.
func (a *Agent) BreakStreams() { a.eachStream((*executor).breakStream) }

// FreezeStreams makes all executors' event streams silent while their connections
// stay open. A new SUBSCRIBE gets a stream that works.
func (a *Agent) FreezeStreams() { a.eachStream((*executor).freezeStream) }

// SendRecord puts any bytes as one record into the event streams of all executors,
// for events that are younger than the definitions here. It returns how many streams
// there were.
func (a *Agent) SendRecord(record []byte) (streams int) {
	a.eachStream(func(e *executor) {
		e.stream.SendRecord(record)
		streams++
	})
	return streams
}

// Freeze stops the agent as SIGSTOP does: connections are taken and stay open, and
// nothing is answered, sent or noticed.
func (a *Agent) Freeze() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.frozen == nil {
		a.frozen = make(chan struct{})
	}
}

// Thaw ends a Freeze.
func (a *Agent) Thaw() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.frozen != nil {
		close(a.frozen)
		a.frozen = nil
	}
}

// awaitThaw holds up whatever comes from outside or from timers while the agent is
// frozen.
func (a *Agent) awaitThaw() {
	a.mu.Lock()
	frozen := a.frozen
	a.mu.Unlock()
	if frozen == nil {
		return
	}
	select {
	case <-frozen:
	case <-a.ctx.Done():
	}
}

func (e *executor) breakStream()  { e.stream.Abort() }
func (e *executor) freezeStream() { e.stream.Freeze() }

func (a *Agent) eachStream(f func(*executor)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, framework := range a.frameworks {
		for _, e := range framework.order {
			if e.stream != nil {
				f(e)
			}
		}
	}
}
