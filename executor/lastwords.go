package executor

import (
	"strings"

	"pacer/secrets"
)

// Of what a task has last written to stderr, this much is in the message of its
// failure.
const (
	maxWordLines = 10
	maxWordBytes = 1 << 10
)

// redactor knows the secrets that a task was given, its identity among them; nil
// where there are none.
func (p *plan) redactor(grant *secrets.Grant) *redactor {
	var values []secrets.Secret
	if !p.identity.Token.Empty() {
		values = append(values, p.identity.Token)
	}
	for _, v := range grant.Bundle.Variables {
		values = append(values, v.Secret)
	}
	for _, v := range grant.Bundle.Files {
		values = append(values, v.Secret)
	}
	if len(values) == 0 {
		return nil
	}
	r := new(redactor)
	r.add(values...)
	return r
}

// lastWords are the last lines of stderr, in one line and without secrets.
func lastWords(tail func(bytes int) string, known *redactor) string {
	if tail == nil {
		return ""
	}
	text := known.redactEnd(strings.TrimRight(tail(maxWordBytes+known.longest()), "\r\n \t"), maxWordBytes)
	lines := strings.Split(text, "\n")
	if len(text) == maxWordBytes && len(lines) > 1 {
		lines = lines[1:] // it may have lost its beginning
	}
	var shown []string
	for _, line := range lines[max(0, len(lines)-maxWordLines):] {
		if line = strings.TrimSpace(printable(line)); line != "" {
			shown = append(shown, line)
		}
	}
	return strings.Join(shown, " | ")
}

// printable replaces what would steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
