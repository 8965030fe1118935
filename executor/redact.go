package executor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pacer/secrets"
)

// redactor takes a task's secrets out of what leaves the executor: the end of a
// task's stderr and whatever health checks have heard. It finds a value
//
//   - as it is, and each line of it, because of a key in PEM form often only some
//     lines are shown;
//   - as JSON, Go and URLs quote it, in hexadecimal, and in base64 wherever it
//     begins there;
//   - cut off at the end of the text, where the process died while it wrote.
//
// Texts have to be redacted before their beginning is cut off. What a task does
// to hide a secret from this, such as printing it backwards, does hide it.
//
// The values are kept in memory until wipe; this process lets no other read it
// and leaves no core file. A redactor is safe for concurrent use; nil has
// nothing to find.
type redactor struct {
	mu       sync.Mutex
	patterns [][]byte // of at least shortest bytes
	words    [][]byte // shorter ones, which count as whole words only
}

const (
	// shortest value that is looked for inside words: any shorter would make
	// gibberish of every text.
	shortest = 4
	// shortestInner of what is left of a value inside other base64.
	shortestInner = 8
	// shortestEnd of what is taken for a value that was cut off.
	shortestEnd = 4
)

// add makes more values known; they are copied.
func (r *redactor) add(values ...secrets.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		r.addLocked(v.Reveal())
		var fields map[string]any
		if json.Unmarshal(v.Reveal(), &fields) == nil {
			for _, field := range fields {
				if text, ok := field.(string); ok {
					r.addLocked([]byte(text))
				}
			}
		}
	}
}

func (r *redactor) addLocked(value []byte) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return
	}
	if len(value) < shortest {
		r.words = append(r.words, slices.Clone(value))
		return
	}
	note := func(pattern string) {
		if len(pattern) >= shortest && !slices.ContainsFunc(r.patterns, func(p []byte) bool { return string(p) == pattern }) {
			r.patterns = append(r.patterns, []byte(pattern))
		}
	}
	text := string(value)
	note(text)
	for line := range strings.Lines(text) {
		note(strings.TrimSpace(line))
	}
	quoted, err := json.Marshal(text)
	if err == nil {
		note(string(quoted[1 : len(quoted)-1]))
	}
	quotedByGo := strconv.Quote(text)
	note(quotedByGo[1 : len(quotedByGo)-1])
	note(url.QueryEscape(text))
	note(url.PathEscape(text))
	note(hex.EncodeToString(value))
	note(strings.ToUpper(hex.EncodeToString(value)))
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// A value may begin at any of the three bytes that become four
		// characters; those that depend on its neighbours are left out.
		for before := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, before), value...))
			first, last := (before*8+5)/6, (before+len(value))*8/6
			if last-first >= shortestInner || before == 0 {
				note(encoded[first:last])
			}
		}
	}
}

// longest is how much of a text before its end has to be known to find
// everything in that end.
func (r *redactor) longest() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, p := range r.patterns {
		n = max(n, len(p))
	}
	return n
}

// redact puts [secrets.Redacted] in the place of every value.
func (r *redactor) redact(text string) string { return r.redactEnd(text, len(text)) }

// redactEnd is the redacted end of a text: of its last n bytes, or fewer. Of
// what is before them, only values that reach into them matter.
func (r *redactor) redactEnd(text string, n int) string {
	first := max(0, len(text)-n)
	if r == nil || text == "" {
		return text[first:]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := []byte(text)
	hide := make([]bool, len(b))
	mark := func(from, to int) {
		for i := from; i < to; i++ {
			hide[i] = true
		}
	}
	found := false
	for _, p := range r.patterns {
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], p)
			if i < 0 {
				break
			}
			at += i
			mark(at, at+len(p))
			found = true
		}
		for n := min(len(p)-1, len(b)); n >= shortestEnd; n-- {
			if bytes.HasSuffix(b, p[:n]) {
				mark(len(b)-n, len(b))
				found = true
				break
			}
		}
	}
	for _, w := range r.words {
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], w)
			if i < 0 {
				break
			}
			at += i
			if end := at + len(w); (at == 0 || !isWord(b[at-1])) && (end == len(b) || !isWord(b[end])) {
				mark(at, end)
				found = true
			}
		}
	}
	if !found {
		return text[first:]
	}
	var out strings.Builder
	for i := first; i < len(b); i++ {
		switch {
		case !hide[i]:
			out.WriteByte(b[i])
		case i == first || !hide[i-1]:
			out.WriteString(secrets.Redacted)
		}
	}
	return out.String()
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// wipe overwrites what is known.
func (r *redactor) wipe() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range append(r.patterns, r.words...) {
		clear(p)
	}
	r.patterns, r.words = nil, nil
}
