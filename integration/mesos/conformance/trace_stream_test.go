package conformance

import (
	"fmt"
	"time"

	mesosexecutor "github.com/mesos/mesos-go/api/v1/lib/executor"
	mesosscheduler "github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/wire"
)

// stream is a connection with events.
type stream struct {
	who      string
	actor    string
	label    string
	answer   *exchangeItem
	arrived  []*arrival // events that no line has claimed
	claimed  []*arrival
	offers   []*arrival // offers one by one, unclaimed
	surplus  []amount   // see takeMore
	end      string     // "" while it lasts
	endTaken bool       // a line has claimed the end
	closed   bool       // by the client
	endedAt  time.Time  // zero while it lasts
	close    func()
}

// arrival is an event, or one offer.
type arrival struct {
	at    time.Time
	kind  string
	value any
}

// newStream makes the stream that a label stands for from now on.
func (p *player) newStream(who, actor, label string) *stream {
	s := &stream{who: who, actor: actor, label: label}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := actor + " " + label
	if old := p.streams[key]; old != nil {
		p.retired = append(p.retired, old)
	}
	p.streams[key] = s
	return s
}

// streamItem takes in what a stream has brought.
func (p *player) streamItem(s *stream, item exchangeItem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.notifyLocked()
	switch {
	case item.End != "":
		s.end, s.endedAt = item.End, time.Now()
	case item.Record != nil:
		s.takeRecord(item.Record)
	default:
		s.answer = &item
	}
}

func (s *stream) takeRecord(record []byte) {
	now := time.Now()
	value, err := s.decode(record)
	if err != nil {
		s.arrived = append(s.arrived, &arrival{at: now, kind: "BROKEN RECORD", value: err.Error()})
		return
	}
	kind, _ := member(value, "type").(string)
	if kind == "OFFERS" && s.who == scheduler {
		offers, _ := member(value, "offers", "offers").([]any)
		for _, offer := range offers {
			s.offers = append(s.offers, &arrival{at: now, kind: kind, value: offer})
		}
		return
	}
	s.arrived = append(s.arrived, &arrival{at: now, kind: kind, value: value})
}

// decode gives the JSON form of a record.
func (s *stream) decode(record []byte) (any, error) {
	if s.answer.Headers["Content-Type"] == string(wire.Protobuf) {
		var m wire.Message = &mesosscheduler.Event{}
		if s.who == executor {
			m = &mesosexecutor.Event{}
		}
		if _, err := wire.Protobuf.Unmarshal(record, m); err != nil {
			return nil, err
		}
		var err error
		if record, err = wire.JSON.Marshal(m); err != nil {
			return nil, err
		}
	}
	return decodeJSON(record)
}

// stream finds the stream that a label stands for. The answer to a repeated SUBSCRIBE
// may have been recorded after the stream's first event.
func (p *player) stream(l *line) (*stream, error) {
	p.mu.Lock()
	known := p.streams[l.actor()+" "+l.Conn] != nil
	p.mu.Unlock()
	for _, next := range p.lines[l.Number:] {
		if known || next.What != whatResponse || next.actor() != l.actor() || next.Conn != l.Conn {
			continue
		}
		p.played[next.Number] = true
		if err := p.awaitPoll(next); err != nil {
			return nil, err
		}
		break
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.streams[l.actor()+" "+l.Conn]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("nothing has opened %s of %s", l.Conn, l.actor())
}

func (p *player) closeStream(l *line) error {
	p.pause(l)
	s, err := p.stream(l)
	if err != nil {
		return err
	}
	s.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.closed, s.endedAt = true, time.Now()
	return nil
}

func (p *player) awaitEnd(l *line) error {
	s, err := p.stream(l)
	if err != nil {
		return err
	}
	err = p.await(l, func() (bool, error) {
		if s.end == "" {
			return false, nil
		}
		s.endTaken = true
		if s.end != l.Note {
			return false, fmt.Errorf("recorded %q, got %q", l.Note, s.end)
		}
		return true, nil
	})
	return err
}
