package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// awaitOffers waits for the offers of a recorded event, which may come in several.
func (p *player) awaitOffers(l *line, s *stream) error {
	offers, _ := member(l.Body, "offers", "offers").([]any)
	for i, want := range offers {
		var first error
		err := p.await(l, func() (bool, error) {
			first = nil
			for j, a := range s.offers {
				d := p.bound.match(want, a.value, p.accept(l))
				if d == nil {
					s.offers = slices.Delete(s.offers, j, j+1)
					s.claimed = append(s.claimed, a)
					p.offered = a.at
					return true, nil
				}
				if first == nil {
					first = d
				}
			}
			return p.takeSurplus(want, s) || p.takePieces(want, s) || p.takeMore(l, want, s) || p.takeLess(want, s), nil
		})
		if errors.Is(err, errTooLate) && first != nil {
			err = fmt.Errorf("%w, but\n    %w", err, first)
		}
		if err != nil {
			return fmt.Errorf("offer %d: %w", i+1, err)
		}
	}
	return nil
}

// takePieces claims several offers that are together what was recorded as one. Where
// an allocation cycle cuts what is being freed is a matter of milliseconds.
func (p *player) takePieces(want any, s *stream) bool {
	recorded, _ := clone(want).(map[string]any)
	text, ok := recorded["resources"].(string)
	if !ok {
		return false
	}
	sum, err := parseAmounts(text)
	if err != nil {
		return false
	}
	name, _ := member(recorded, "id", "value").(string)
	for _, key := range []string{"resources", "id", "executor_ids"} {
		delete(recorded, key)
	}
	recorded["_elided"] = true
	var pieces []*arrival
	for _, a := range s.offers {
		if p.bound.match(recorded, a.value, nil) != nil {
			continue
		}
		piece, ok := amountsOf(member(a.value, "resources"))
		if !ok || !subtract(sum, piece) {
			return false
		}
		pieces = append(pieces, a)
	}
	if len(pieces) < 2 || slices.ContainsFunc(sum, func(a amount) bool { return !a.zero() }) {
		return false
	}
	name = strings.Trim(name, "<>")
	for i, a := range pieces {
		id, _ := member(a.value, "id", "value").(string)
		if i == 0 {
			if err := p.bound.bind(name, "offer", id); err != nil {
				return false
			}
			p.bound.commit()
		} else {
			p.bound.more[name] = append(p.bound.more[name], id)
		}
		s.claimed = append(s.claimed, a)
		s.offers = slices.DeleteFunc(s.offers, func(o *arrival) bool { return o == a })
	}
	p.note(piecesTolerance)
	return true
}

// takeMore claims an offer that has more in it than was recorded, because an executor
// that ended just then had ended already when the cycle came. What is more is kept
// for the next recorded offer.
func (p *player) takeMore(l *line, want any, s *stream) bool {
	if !p.ending(l) || time.Since(p.done) < 1500*time.Millisecond {
		return false // what was recorded may still come
	}
	recorded, _ := clone(want).(map[string]any)
	text, ok := recorded["resources"].(string)
	if !ok {
		return false
	}
	for _, key := range []string{"resources", "executor_ids"} {
		delete(recorded, key)
	}
	recorded["_elided"] = true
	for i, a := range s.offers {
		surplus, ok := amountsOf(member(a.value, "resources"))
		if !ok {
			continue
		}
		amounts, err := parseAmounts(text)
		if err != nil || !subtract(surplus, amounts) || p.bound.match(recorded, a.value, nil) != nil {
			continue
		}
		s.surplus = surplus
		s.offers = slices.Delete(s.offers, i, i+1)
		s.claimed = append(s.claimed, a)
		p.note(endingTolerance)
		return true
	}
	return false
}

// takeSurplus finds a recorded offer in what takeMore has left.
func (p *player) takeSurplus(want any, s *stream) bool {
	text, _ := member(want, "resources").(string)
	amounts, err := parseAmounts(text)
	if err != nil || s.surplus == nil {
		return false
	}
	rest := slices.Clone(s.surplus)
	if !subtract(rest, amounts) || slices.ContainsFunc(rest, func(a amount) bool { return !a.zero() }) {
		return false
	}
	name, _ := member(want, "id", "value").(string)
	p.bound.merged[name] = true
	s.surplus = nil
	return true
}

// takeLess claims an offer that lacks what a cycle has put into offers of their own
// before, which the recording does not have.
func (p *player) takeLess(want any, s *stream) bool {
	if time.Since(p.done) < 1500*time.Millisecond {
		return false // what was recorded may still come
	}
	recorded, _ := clone(want).(map[string]any)
	text, ok := recorded["resources"].(string)
	if !ok {
		return false
	}
	for _, key := range []string{"resources", "executor_ids"} {
		delete(recorded, key)
	}
	recorded["_elided"] = true
	for _, a := range s.offers {
		missing, err := parseAmounts(text)
		if err != nil {
			return false
		}
		got, ok := amountsOf(member(a.value, "resources"))
		if !ok || !subtract(missing, got) || !p.takeApart(missing, a) || p.bound.match(recorded, a.value, nil) != nil {
			continue
		}
		s.offers = slices.DeleteFunc(s.offers, func(o *arrival) bool { return o == a })
		s.claimed = append(s.claimed, a)
		p.note(piecesTolerance)
		return true
	}
	return false
}

// takeApart puts aside the unclaimed offers, of any framework, that are together what
// is missing from another one. They are not reported as left over then.
func (p *player) takeApart(missing []amount, but *arrival) bool {
	for i := range missing {
		missing[i].attributes = "" // roles are different elsewhere
	}
	type place struct {
		s *stream
		a *arrival
	}
	var parts []place
	subtractPlain := func(a *arrival) bool {
		amounts, ok := amountsOf(member(a.value, "resources"))
		for i := range amounts {
			amounts[i].attributes = ""
		}
		return ok && subtract(missing, amounts)
	}
	for _, a := range p.apart {
		if !subtractPlain(a) {
			return false
		}
	}
	for _, s := range p.streams {
		for _, a := range s.offers {
			if a != but && subtractPlain(a) {
				parts = append(parts, place{s, a})
			}
		}
	}
	if slices.ContainsFunc(missing, func(a amount) bool { return !a.zero() }) {
		return false
	}
	for _, part := range parts {
		p.apart = append(p.apart, part.a)
		part.s.offers = slices.DeleteFunc(part.s.offers, func(o *arrival) bool { return o == part.a })
	}
	return true
}

// ending tells whether an executor ended around the line.
func (p *player) ending(l *line) bool {
	return slices.ContainsFunc(p.lines, func(other *line) bool {
		return (other.What == whatExit || other.Event == "FAILURE") && (other.At-l.At).Abs() < 1500*time.Millisecond
	})
}

// rescinds tells whether an event rescinds an offer that no line has claimed.
func (p *player) rescinds(s *stream, a *arrival) bool {
	return a.kind == "RESCIND" && slices.ContainsFunc(slices.Concat(s.offers, p.apart), func(o *arrival) bool {
		return member(o.value, "id", "value") == member(a.value, "rescind", "offer_id", "value")
	})
}

// rescinded tells whether an offer that no line has claimed has been rescinded.
func (s *stream) rescinded(offer *arrival) bool {
	return slices.ContainsFunc(s.arrived, func(a *arrival) bool {
		return a.kind == "RESCIND" && member(offer.value, "id", "value") == member(a.value, "rescind", "offer_id", "value")
	})
}
