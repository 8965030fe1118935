package healthcheck

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Problem is one mistake in a [Check].
type Problem struct {
	// Field is the path of the field, e.g. "http.port".
	Field string
	// Message says what is wrong with it and what is wanted.
	Message string
}

// Problems is the error of [Check.Validate]: every mistake, in the order of
// the fields.
type Problems []Problem

func (p Problems) Error() string {
	var b strings.Builder
	for i, problem := range p {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %s", problem.Field, problem.Message)
	}
	return b.String()
}

func (p *Problems) add(field, format string, args ...any) {
	*p = append(*p, Problem{field, fmt.Sprintf(format, args...)})
}

// Seconds turns the seconds of a Mesos message into a duration. The field is
// named in the error.
func Seconds(field string, s float64) (time.Duration, error) {
	// A day is longer than any sensible value and far from overflowing.
	const most = 24 * 60 * 60 * 365
	if math.IsNaN(s) || s < 0 || s > most {
		return 0, Problems{{field, fmt.Sprintf("%v is not a number of seconds from 0 to %d", s, most)}}
	}
	return time.Duration(s * float64(time.Second)), nil
}

// Validate reports every mistake as [Problems], or nil.
func (c *Check) Validate() error {
	var p Problems
	n := 0
	for _, set := range []bool{c.HTTP != nil, c.TCP != nil, c.Command != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		p.add("type", "%d of http, tcp and command are set: set exactly one", n)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"delay", c.Delay}, {"interval", c.Interval}, {"timeout", c.Timeout}, {"grace", c.Grace}} {
		if d.value < 0 {
			p.add(d.field, "%v is negative: want 0 or more", d.value)
		}
	}
	if c.Timeout > MaxTimeout {
		p.add("timeout", "%v is too long: want at most %v", c.Timeout, MaxTimeout)
	}
	if c.Failures < 0 {
		p.add("failures", "%d is negative: want 1 or more, or 0 for never", c.Failures)
	}
	if c.Successes < 1 {
		p.add("successes", "%d is too low: want 1 or more", c.Successes)
	}
	if c.HTTP != nil {
		c.HTTP.validate(&p)
	}
	if c.TCP != nil {
		validateAddress(&p, "tcp", c.TCP.Address, c.TCP.Port)
	}
	if c.Command != nil {
		c.Command.validate(&p)
	}
	if len(p) == 0 {
		return nil
	}
	return p
}

func (h *HTTP) validate(p *Problems) {
	if h.Scheme != "" && h.Scheme != "http" && h.Scheme != "https" {
		p.add("http.scheme", "%q is unknown: want http or https", h.Scheme)
	}
	validateAddress(p, "http", h.Address, h.Port)
	switch {
	case h.Path != "" && !strings.HasPrefix(h.Path, "/"):
		p.add("http.path", "%q does not start with /", h.Path)
	case strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		p.add("http.path", "%q has spaces or control characters: encode them, e.g. as %%20", h.Path)
	}
	if !validHost(h.Host) {
		p.add("http.host", "%q is not a host name with an optional port", h.Host)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Header)) {
		if !validToken(name) {
			p.add("http.header", "%q is not a header name", name)
		} else if strings.EqualFold(name, "Host") {
			p.add("http.header", "%s is set by http.host", name)
		}
		if strings.ContainsFunc(h.Header[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			p.add("http.header", "the value of %q has control characters", name)
		}
	}
	for i, s := range h.Statuses {
		if s.First < 100 || s.Last > 599 || s.First > s.Last {
			p.add(fmt.Sprintf("http.statuses[%d]", i), "%d-%d is not a range within 100-599", s.First, s.Last)
		}
	}
	if len(h.Body) > MaxBody {
		p.add("http.body", "%d bytes are too long: only the first %d of an answer are read", len(h.Body), MaxBody)
	}
	if h.Verify && h.Scheme != "https" {
		p.add("http.verify", "needs http.scheme https")
	}
}

func (c *Command) validate(p *Problems) {
	switch {
	case c.Shell == "" && len(c.Argv) == 0:
		p.add("command", "has neither shell nor argv: set one")
	case c.Shell != "" && len(c.Argv) > 0:
		p.add("command", "has both shell and argv: set one")
	case c.Shell == "" && c.Argv[0] == "":
		p.add("command.argv", "the program is empty")
	}
	for _, s := range append([]string{c.Shell}, c.Argv...) {
		if strings.ContainsRune(s, 0) {
			p.add("command", "has a NUL character")
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			p.add("command.env", "%q is not a variable name", name)
		}
		if strings.ContainsRune(c.Env[name], 0) {
			p.add("command.env", "the value of %q has a NUL character", name)
		}
	}
}

func validateAddress(p *Problems, field, address string, port int) {
	if port < 1 || port > 65535 {
		p.add(field+".port", "%d is not a port: want 1 to 65535", port)
	}
	if address == "" {
		return
	}
	if _, err := netip.ParseAddr(address); err != nil && (!validHost(address) || strings.Contains(address, ":")) {
		p.add(field+".address", "%q is neither an IP address nor a host name", address)
	}
}

func validHost(h string) bool {
	return len(h) <= 255+6 && !strings.ContainsFunc(h, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\@?#"<>`, r)
	})
}

func validToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}
