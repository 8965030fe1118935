package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"pacer/scheduler/app"
)

// filter is which apps a list shows: those that meet all that is given.
type filter struct {
	cmd, id string
	labels  []requirement
}

// requirement is one term of Marathon's label selector.
type requirement struct {
	label string
	// values to be equal to one of; nil asks only for the label to exist.
	values []string
	// not turns "one of" into "none of". The label must exist all the same.
	not bool
}

func newFilter(query url.Values) (filter, error) {
	f := filter{cmd: query.Get("cmd"), id: query.Get("id")}
	for _, text := range query["label"] {
		terms, err := parseSelector(text)
		if err != nil {
			return f, refuse(http.StatusBadRequest, "The query's label is no selector: %s; expected e.g. k, k==v, k!=v, k in (a, b), k notin (a, b), with commas between", err)
		}
		f.labels = append(f.labels, terms...)
	}
	return f, nil
}

func (f filter) match(a *app.App) bool {
	if !strings.Contains(a.Cmd, f.cmd) || !strings.Contains(a.ID, f.id) {
		return false
	}
	for _, term := range f.labels {
		value, exists := a.Labels[term.label]
		if !exists || term.values != nil && slices.Contains(term.values, value) == term.not {
			return false
		}
	}
	return true
}

// parseSelector reads "k, k==v, k!=v, k in (a, b), k notin (a, b)". A
// backslash takes the next character as it is.
func parseSelector(text string) ([]requirement, error) {
	tokens, err := selectorTokens(text)
	if err != nil {
		return nil, err
	}
	p := selectorParser{tokens: tokens}
	var terms []requirement
	for {
		term, err := p.requirement()
		if err != nil {
			return nil, err
		}
		terms = append(terms, term)
		if p.done() {
			return terms, nil
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
	}
}

// token is a word, or a symbol that was not escaped.
type token struct {
	text   string
	symbol bool
}

func selectorTokens(text string) (tokens []token, err error) {
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			tokens = append(tokens, token{text: word.String()})
		}
		word.Reset()
		inWord = false
	}
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch {
		case rest[0] == '\\':
			if i++; i == len(text) {
				return nil, fmt.Errorf("a backslash at the end")
			}
			word.WriteByte(text[i])
			inWord = true
		case rest[0] == ' ' || rest[0] == '\t':
			endWord()
		case strings.HasPrefix(rest, "==") || strings.HasPrefix(rest, "!="):
			endWord()
			tokens = append(tokens, token{rest[:2], true})
			i++
		case strings.IndexByte(",()", rest[0]) >= 0:
			endWord()
			tokens = append(tokens, token{rest[:1], true})
		case rest[0] == '=' || rest[0] == '!':
			return nil, fmt.Errorf("%q at character %d is not followed by \"=\"", rest[:1], i+1)
		default:
			word.WriteByte(rest[0])
			inWord = true
		}
	}
	endWord()
	return tokens, nil
}

type selectorParser struct{ tokens []token }

func (p *selectorParser) done() bool { return len(p.tokens) == 0 }

// symbol consumes the next token if it is this symbol.
func (p *selectorParser) symbol(text string) bool {
	if p.done() || p.tokens[0] != (token{text, true}) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *selectorParser) expect(symbol string) error {
	if p.symbol(symbol) {
		return nil
	}
	if p.done() {
		return fmt.Errorf("it ends where %q is expected", symbol)
	}
	return fmt.Errorf("%q where %q is expected", p.tokens[0].text, symbol)
}

func (p *selectorParser) word() (string, error) {
	if p.done() {
		return "", fmt.Errorf("it ends where a word is expected")
	}
	if p.tokens[0].symbol {
		return "", fmt.Errorf("%q where a word is expected", p.tokens[0].text)
	}
	text := p.tokens[0].text
	p.tokens = p.tokens[1:]
	return text, nil
}

func (p *selectorParser) requirement() (term requirement, err error) {
	if term.label, err = p.word(); err != nil {
		return term, err
	}
	switch {
	case p.symbol("=="):
	case p.symbol("!="):
		term.not = true
	default:
		if p.done() || p.tokens[0].symbol {
			return term, nil
		}
		return p.set(term)
	}
	value, err := p.word()
	term.values = []string{value}
	return term, err
}

// set reads "in (a, b)" or "notin (a, b)".
func (p *selectorParser) set(term requirement) (requirement, error) {
	operator, err := p.word()
	if err != nil {
		return term, err
	}
	if operator != "in" && operator != "notin" {
		return term, fmt.Errorf("%q where ==, !=, in or notin is expected", operator)
	}
	term.not = operator == "notin"
	if err := p.expect("("); err != nil {
		return term, err
	}
	for {
		value, err := p.word()
		if err != nil {
			return term, err
		}
		term.values = append(term.values, value)
		if p.symbol(")") {
			return term, nil
		}
		if err := p.expect(","); err != nil {
			return term, err
		}
	}
}
