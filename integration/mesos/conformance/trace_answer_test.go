package conformance

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// awaitAnswer waits for an answer and compares it.
func (p *player) awaitAnswer(l *line) error {
	if l.Conn != "" {
		return p.awaitStreamAnswer(l)
	}
	actor := l.actor()
	p.mu.Lock()
	polling := len(p.calls[actor]) == 0 && p.polls[actor] != nil
	p.mu.Unlock()
	if polling {
		return p.awaitPoll(l)
	}
	var first *difference
	err := p.await(l, func() (bool, error) {
		waiting := false
		for _, i := range candidates(p.calls[actor]) {
			c := p.calls[actor][i]
			if c.answer == nil {
				waiting = true
				continue
			}
			d := p.compareAnswer(l, c.answer)
			if d == nil {
				p.calls[actor] = slices.Delete(p.calls[actor], i, i+1)
				return true, nil
			}
			if first == nil {
				first = d
			}
		}
		if !waiting {
			if first == nil {
				return false, errors.New("no request is unanswered")
			}
			p.differs(l, first)
			order := candidates(p.calls[actor])
			c := p.calls[actor][order[0]]
			p.calls[actor] = slices.Delete(p.calls[actor], order[0], order[0]+1)
			p.bindAnswer(l, c.answer)
			return true, nil
		}
		return false, nil
	})
	if errors.Is(err, errTooLate) && first != nil {
		return first
	}
	return err
}

// bindAnswer binds the placeholders of an answer that is not as recorded.
func (p *player) bindAnswer(l *line, answer *exchangeItem) {
	if body, err := decodeJSON(answer.Body); err == nil && l.Body != nil {
		_ = p.bound.match(l.Body, body, anything)
	}
}

// candidates orders unanswered requests by how likely an answer is theirs:
// acknowledgements were sent in the background.
func candidates(calls []*call) []int {
	var order, acknowledgements []int
	for i := len(calls) - 1; i >= 0; i-- {
		if calls[i].line.callType() == "ACKNOWLEDGE" {
			acknowledgements = append(acknowledgements, i)
		} else {
			order = append(order, i)
		}
	}
	return append(order, acknowledgements...)
}

func (p *player) awaitStreamAnswer(l *line) error {
	p.mu.Lock()
	s := p.streams[l.actor()+" "+l.Conn]
	p.mu.Unlock()
	if s == nil {
		return p.awaitPoll(l)
	}
	return p.await(l, func() (bool, error) {
		if s.answer == nil {
			return false, nil
		}
		if d := p.compareAnswer(l, s.answer); d != nil {
			return false, d
		}
		return true, nil
	})
}

var shownKeys = regexp.MustCompile(`^\d+ keys, shown: those starting with (.*)$`)

// compareAnswer compares status, headers and body.
func (p *player) compareAnswer(l *line, answer *exchangeItem) *difference {
	accept := p.accept(l)
	if text, ok := strings.CutPrefix(l.Note, "no answer: "); ok {
		if answer.Failure != text {
			return &difference{path: "failure", want: text, got: summary(answer)}
		}
		return nil
	}
	if answer.Failure != "" || answer.Status != l.Status {
		if accept("status", l.Status, answer.Status) {
			return nil
		}
		return &difference{path: "status", want: l.Status, got: summary(answer), why: fmt.Sprintf("recorded body: %s%s", l.Text, compactOrNothing(l.Body))}
	}
	if d := p.compareHeaders(l, answer, accept); d != nil {
		return d
	}
	if body, err := decodeJSON(answer.Body); err == nil {
		data, _ := member(body, "data").(string)
		p.lastLength = len(data)
	}
	switch {
	case l.Body != nil:
		body, err := decodeJSON(answer.Body)
		if err != nil {
			return &difference{path: "body", want: l.Body, got: string(answer.Body), why: err.Error()}
		}
		if m := shownKeys.FindStringSubmatch(l.Note); m != nil {
			body = only(body, strings.Split(m[1], ", "))
		}
		if d := p.bound.match(l.Body, body, accept); d != nil {
			d.path = "body." + d.path
			return d
		}
	case l.HasText:
		if d := p.bound.match(l.Text, string(answer.Body), accept); d != nil {
			d.path = "text"
			return d
		}
	case l.Note == "body left out" || l.Headers["Transfer-Encoding"] != "":
	case len(answer.Body) > 0:
		return &difference{path: "body", want: absent{}, got: string(answer.Body)}
	}
	return nil
}

func (p *player) compareHeaders(l *line, answer *exchangeItem, accept tolerated) *difference {
	want := make(map[string]any)
	got := make(map[string]any)
	for name, value := range l.Headers {
		if name == "WWW-Authenticate" {
			name = "Www-Authenticate"
		}
		want[name] = value
	}
	for name, value := range answer.Headers {
		got[name] = value
	}
	if l.Body != nil || len(parts(l.Text)) > 1 || l.Note == "body left out" {
		// The length of numbers and paths is different each time.
		if length, ok := want["Content-Length"].(string); ok && length != "0" {
			want["Content-Length"] = strconv.Itoa(len(answer.Body))
		}
	}
	if d := p.bound.match(want, got, accept); d != nil {
		d.path = "headers." + d.path
		return d
	}
	return nil
}

// only keeps the keys with one of the prefixes.
func only(value any, prefixes []string) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	kept := maps.Clone(object)
	maps.DeleteFunc(kept, func(key string, _ any) bool {
		return !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
	})
	return kept
}

func summary(answer *exchangeItem) string {
	if answer.Failure != "" {
		return "no answer: " + answer.Failure
	}
	return fmt.Sprintf("%d %s", answer.Status, answer.Body)
}

func compactOrNothing(value any) string {
	if value == nil {
		return ""
	}
	return compact(value)
}
