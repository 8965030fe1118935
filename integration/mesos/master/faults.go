package master

import (
	"net/http"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// faults are what the master has been told to do wrong.
type faults struct {
	loseCalls, loseAnswers map[scheduler.Call_Type]int
	rescind                int // further ACCEPTs whose offers are rescinded before
}

// LoseCalls makes the next n calls of a kind vanish: their connections break and
// nothing has been done.
func (m *Master) LoseCalls(kind scheduler.Call_Type, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	setCount(&m.core.faults.loseCalls, kind, n)
}

// LoseAnswers makes the answers to the next n calls of a kind vanish: what they ask
// for is done, and their connections break.
func (m *Master) LoseAnswers(kind scheduler.Call_Type, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	setCount(&m.core.faults.loseAnswers, kind, n)
}

func setCount(counts *map[scheduler.Call_Type]int, kind scheduler.Call_Type, n int) {
	if *counts == nil {
		*counts = make(map[scheduler.Call_Type]int)
	}
	(*counts)[kind] = n
}

// breakIf ends the connection of a call when one more of its kind is to be lost.
func breakIf(counts map[scheduler.Call_Type]int, kind scheduler.Call_Type) {
	if counts[kind] > 0 {
		counts[kind]--
		panic(http.ErrAbortHandler)
	}
}

// RescindAccepted rescinds the offers of the next n ACCEPTs, as if the RESCIND had
// been on its way while the ACCEPT was.
func (m *Master) RescindAccepted(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.core.faults.rescind = n
}

// rescindAccepted does what RescindAccepted has ordered.
func (c *core) rescindAccepted(call *scheduler.Call_Accept) {
	if c.faults.rescind == 0 {
		return
	}
	c.faults.rescind--
	for _, id := range call.OfferIDs {
		if o := c.offers[id.Value]; o != nil {
			c.rescind(o)
		}
	}
}

// BreakStream ends a framework's event stream without a terminating chunk. The
// master notices, as it does when a scheduler is gone.
func (m *Master) BreakStream(frameworkID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.core.frameworks[frameworkID]; f != nil && f.stream != nil {
		f.stream.Abort()
	}
}

// FreezeStream makes a framework's event stream swallow everything, heartbeats too,
// while its connection stays open.
func (m *Master) FreezeStream(frameworkID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.core.frameworks[frameworkID]; f != nil && f.stream != nil {
		f.stream.Freeze()
	}
}

// SendRecord puts any bytes as one record into a framework's event stream, for
// events that are younger than the definitions here. It reports whether there was
// a stream.
func (m *Master) SendRecord(frameworkID string, record []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.core.frameworks[frameworkID]
	if f == nil || f.stream == nil {
		return false
	}
	f.stream.SendRecord(record)
	return true
}

// Rescind takes an offer back, as the operator's reservation of its resources does.
// It reports whether the offer was outstanding.
func (m *Master) Rescind(offerID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.core.offers[offerID]
	if o != nil {
		m.core.rescind(o)
	}
	return o != nil
}
