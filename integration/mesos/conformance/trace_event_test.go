package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// awaitEvent waits for a recorded event on its stream. Events that came before it
// have to be such that Mesos sends them in any order.
func (p *player) awaitEvent(l *line) error {
	s, err := p.stream(l)
	if err != nil {
		return err
	}
	if l.Event == "OFFERS" {
		return p.awaitOffers(l, s)
	}
	if id, ok := member(l.Body, "rescind", "offer_id", "value").(string); ok && p.bound.merged[id] {
		return nil // it is part of another one
	}
	limit := p.limit(l)
	switch {
	case l.Event == "HEARTBEAT" && !p.scenario.heartbeats && p.heartbeats(l) > 1:
		// They count the time that the recording took.
		p.note(heartbeatsTolerance)
		limit = 0
	case p.repeats(l):
		limit = 500 * time.Millisecond
	}
	var first *difference
	accept := p.accept(l)
	err = p.awaitFor(limit, func() (bool, error) {
		first = nil
		for i, a := range s.arrived {
			if a.kind == l.Event {
				d := p.bound.match(l.Body, a.value, accept)
				if d == nil {
					s.arrived = slices.Delete(s.arrived, i, i+1)
					s.claimed = append(s.claimed, a)
					return true, p.checkTime(l, a)
				}
				if first == nil {
					first = d
				}
			}
			if p.commute(l, a, s) {
				continue
			}
			if a.kind != l.Event {
				return false, fmt.Errorf("instead came %s\n    %s", a.kind, show(a.value))
			}
			p.differs(l, first)
			_ = p.bound.match(l.Body, a.value, anything)
			s.arrived = slices.Delete(s.arrived, i, i+1)
			s.claimed = append(s.claimed, a)
			return true, nil
		}
		return false, nil
	})
	if errors.Is(err, errTooLate) {
		switch {
		case l.Event == "HEARTBEAT" && limit == 0:
			return nil
		case p.repeats(l):
			p.note(repeatsTolerance)
			return nil
		case first != nil:
			return fmt.Errorf("%w, but\n    %w", err, first)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Errorf("%w: want %s\n    on the stream wait %s; end %q", err, show(l.Body), show(kindsOf(s.arrived)), s.end)
	}
	return err
}

// heartbeats counts the recorded heartbeats of a stream up to a line.
func (p *player) heartbeats(l *line) int {
	n := 0
	for _, other := range p.lines[:l.Number] {
		if other.Event == "HEARTBEAT" && other.actor() == l.actor() && other.Conn == l.Conn {
			n++
		}
	}
	return n
}

// repeats tells whether the line is a copy of an update sent just before.
func (p *player) repeats(l *line) bool {
	id := member(l.Body, "update", "status", "uuid")
	if l.Event != "UPDATE" || id == nil {
		return false
	}
	for _, other := range p.lines[:l.Number-1] {
		if other.Event == "UPDATE" && other.actor() == l.actor() && other.Conn == l.Conn &&
			l.At-other.At < time.Second && member(other.Body, "update", "status", "uuid") == id {
			return true
		}
	}
	return false
}

// commute tells whether an event may come before the one of the line although it was
// recorded after it. That is for what Mesos itself sends in no particular order.
func (p *player) commute(l *line, a *arrival, s *stream) bool {
	switch {
	case a.kind == "HEARTBEAT" || l.Event == "HEARTBEAT":
		return true
	case p.rescinds(s, a):
		p.note(earlyTolerance)
		return true
	case a.kind == "RESCIND" && l.Event == "RESCIND":
		p.note(rescindTolerance)
		return true
	case a.kind == "UPDATE" && s.repeated(a):
		p.note(repeatsTolerance)
		return true
	case a.kind == "UPDATE" && l.Event == "UPDATE":
		return p.updatesCommute(l, a)
	}
	for _, c := range commuting {
		if p.scenario.name == c.scenario && l.Number == c.line && a.kind == c.before {
			p.note(c)
			return true
		}
	}
	return false
}

func (p *player) updatesCommute(l *line, a *arrival) bool {
	recorded, _ := member(l.Body, "update", "status").(map[string]any)
	got, _ := member(a.value, "update", "status").(map[string]any)
	if member(recorded, "task_id", "value") == member(got, "task_id", "value") {
		return false
	}
	if recorded["reason"] == "REASON_RECONCILIATION" || got["reason"] == "REASON_RECONCILIATION" {
		// The answers to a list are in its order, and what is asked later is
		// answered later.
		if !p.implicit(l) || recorded["message"] != got["message"] {
			return false
		}
	}
	p.note(updatesTolerance)
	return true
}

// implicit tells whether the line answers an implicit reconciliation, which goes
// through a hash table.
func (p *player) implicit(l *line) bool {
	return slices.ContainsFunc(p.lines[:l.Number], func(other *line) bool {
		tasks, _ := member(other.Body, "reconcile", "tasks").([]any)
		return other.Sent && other.callType() == "RECONCILE" && len(tasks) == 0 && l.At-other.At < 500*time.Millisecond
	})
}

// repeated tells whether an update has been claimed before, in the same moment.
func (s *stream) repeated(a *arrival) bool {
	id := member(a.value, "update", "status", "uuid")
	if id == nil {
		return false
	}
	return slices.ContainsFunc(s.claimed, func(c *arrival) bool {
		return member(c.value, "update", "status", "uuid") == id && a.at.Sub(c.at).Abs() < 2*time.Second
	})
}

// checkTime compares the time since the last thing the script did, when it is long.
// Cycles of a second, random pauses of as much and a busy machine are allowed for.
func (p *player) checkTime(l *line, a *arrival) error {
	recorded, got := l.At-p.acted.At, a.at.Sub(p.actedAt)
	for _, t := range hasty {
		if t.applies(p.scenario.name, p.acted.Number) {
			p.note(t)
			return nil
		}
	}
	if recorded < 1500*time.Millisecond || l.Event == "HEARTBEAT" && !p.scenario.heartbeats {
		return nil
	}
	const slack = 1200 * time.Millisecond
	if got < recorded*3/4-slack || got > recorded*3/2+4*slack {
		return fmt.Errorf("came %v after line %d, recorded %v", got.Round(time.Millisecond), p.acted.Number, recorded)
	}
	return nil
}

func kindsOf(arrivals []*arrival) []string {
	var all []string
	for _, a := range arrivals {
		all = append(all, a.kind)
	}
	return all
}

// leftOver reports what has arrived and is not in the recording.
func (p *player) leftOver() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var problems []error
	all := slices.Clone(p.retired)
	for _, s := range p.streams {
		all = append(all, s)
	}
	now := time.Now()
	for _, s := range all {
		if s.closed && len(s.claimed) == 0 {
			continue // the recorded client closed it before it had read anything
		}
		// Nobody was there to see the end of the streams of an executor that has gone.
		gone := s.who == executor && p.stage.probes[strings.TrimPrefix(s.actor, executor+" ")].gone
		if s.end != "" && !s.endTaken && !s.closed && !gone && now.Sub(s.endedAt) > time.Second {
			problems = append(problems, fmt.Errorf("%s %s: ended, which is not in the recording: %s", s.actor, s.label, s.end))
		}
		last := now.Add(-1200 * time.Millisecond) // a cycle and a bit
		if !s.endedAt.IsZero() {
			last = s.endedAt.Add(-1200 * time.Millisecond)
		}
		for _, a := range s.arrived {
			switch {
			case a.kind == "HEARTBEAT":
			case a.kind == "UPDATE" && s.repeated(a):
				p.note(repeatsTolerance)
			case p.rescinds(s, a):
				p.note(earlyTolerance)
			default:
				if !p.tolerateLeftOver(s, a) {
					problems = append(problems, fmt.Errorf("%s %s: not in the recording: %s\n    %s", s.actor, s.label, a.kind, show(a.value)))
				}
			}
		}
		for _, a := range s.offers {
			// The recorded stream ended just before the cycle.
			if a.at.Before(last) && !s.rescinded(a) && !p.tolerateLeftOver(s, a) {
				problems = append(problems, fmt.Errorf("%s %s: an offer that is not in the recording:\n    %s", s.actor, s.label, show(a.value)))
			}
		}
	}
	for actor, calls := range p.calls {
		for _, c := range calls {
			if c.answer != nil && p.answered(c) {
				problems = append(problems, fmt.Errorf("%s: the recording has no answer to line %d, got %s", actor, c.line.Number, summary(c.answer)))
			}
		}
	}
	return errors.Join(append(problems, p.stage.leftOver()...)...)
}

// answered tells whether the recording goes on long enough after a request for its
// answer to be in it.
func (p *player) answered(c *call) bool {
	last := p.lines[len(p.lines)-1]
	return last.At-c.line.At > 500*time.Millisecond
}
