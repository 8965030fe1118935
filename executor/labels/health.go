package labels

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pacer/healthcheck"
)

// HealthPrefix begins the labels about health checks; see the package comment.
const HealthPrefix = "health."

const (
	fieldSuccesses = "success-threshold"
	fieldHost      = "host"
	fieldHeader    = "header."
	fieldBody      = "body"
	fieldStatuses  = "statuses"
	fieldRedirects = "redirects"
	fieldVerify    = "verify"

	fieldProtocol = "protocol"
	fieldPort     = "port"
	fieldPath     = "path"
	fieldCommand  = "command"
	fieldFailures = "failures"
	fieldDelay    = "delay"
	fieldInterval = "interval"
	fieldTimeout  = "timeout"
	fieldGrace    = "grace"
	fieldIP       = "ip"
)

// mainFields can be given for the app's own check, and for further ones.
var mainFields = []string{fieldSuccesses, fieldHost, fieldHeader + "<Name>", fieldBody, fieldStatuses, fieldRedirects, fieldVerify}

// furtherFields can be given for further checks only.
var furtherFields = []string{fieldProtocol, fieldPort, fieldPath, fieldCommand, fieldFailures, fieldDelay, fieldInterval, fieldTimeout, fieldGrace, fieldIP}

// maxChecks bounds how many checks one task can have.
const maxChecks = 20

// Check is a health check whose port may not be known yet.
type Check struct {
	healthcheck.Check
	// Port is the index of the port that is asked, -1 if Check says itself what
	// is asked.
	Port int
}

// At returns the check for a task with these ports, one for each of the app's.
func (c Check) At(ports []int) healthcheck.Check {
	check := c.Check
	if c.Port < 0 || c.Port >= len(ports) {
		return check
	}
	switch {
	case check.HTTP != nil:
		target := *check.HTTP
		target.Port = ports[c.Port]
		check.HTTP = &target
	case check.TCP != nil:
		target := *check.TCP
		target.Port = ports[c.Port]
		check.TCP = &target
	}
	return check
}

// health reads the labels about health checks.
func (p *parser) health() {
	own := map[string]string{}
	further := map[string]map[string]string{}
	for _, label := range slices.Sorted(maps.Keys(p.app.Labels)) {
		rest, ok := strings.CutPrefix(label, HealthPrefix)
		if !ok {
			continue
		}
		value := p.app.Labels[label]
		if isMainField(rest) {
			own[rest] = value
			continue
		}
		name, field, ok := strings.Cut(rest, ".")
		switch {
		case !ok || !validName(name) || name+"." == fieldHeader:
			p.errs.add(label, "is unknown: want health.<field> or health.<name>.<field>, the field being one of %s; for a further check also one of %s",
				strings.Join(mainFields, ", "), strings.Join(furtherFields, ", "))
		case !isMainField(field) && !slices.Contains(furtherFields, field):
			p.errs.add(label, "is unknown: want health.%s.<field>, the field being one of %s, %s", name, strings.Join(furtherFields, ", "), strings.Join(mainFields, ", "))
		default:
			if further[name] == nil {
				further[name] = map[string]string{}
			}
			further[name][field] = value
		}
	}
	if p.app.Check == nil {
		for field := range own {
			p.errs.add(HealthPrefix+field, "the app has no health check: give it one, or remove the label")
		}
		for name := range further {
			p.errs.add(HealthPrefix+name, "is a further health check, but the app has no first one: put it into the definition instead")
		}
		return
	}
	if len(further) >= maxChecks {
		p.errs.add(HealthPrefix+"<name>", "%d further checks are too many: want at most %d", len(further), maxChecks-1)
		return
	}
	p.d.Checks = append(p.d.Checks, p.mainCheck(own))
	for _, name := range slices.Sorted(maps.Keys(further)) {
		p.d.Checks = append(p.d.Checks, p.furtherCheck(name, further[name]))
	}
}

func isMainField(field string) bool {
	if header, ok := strings.CutPrefix(field, fieldHeader); ok {
		return header != ""
	}
	return slices.Contains(mainFields, field)
}

// mainCheck is the app's own check with what labels add.
func (p *parser) mainCheck(fields map[string]string) Check {
	c := Check{Check: *p.app.Check, Port: -1}
	if c.HTTP != nil {
		target := *c.HTTP
		target.Header = maps.Clone(target.Header)
		c.HTTP = &target
	}
	wrong := problemsOf(c) // they are the definition's, not the labels'
	p.fields(&c, HealthPrefix, fields)
	p.validate(c, HealthPrefix, wrong)
	return c
}

// furtherCheck is a check that labels alone describe.
func (p *parser) furtherCheck(name string, fields map[string]string) Check {
	prefix := HealthPrefix + name + "."
	c := Check{Check: *p.app.Check, Port: -1}
	c.Name, c.HTTP, c.TCP, c.Command = name, nil, nil, nil
	protocol, given := fields[fieldProtocol]
	if !given {
		protocol = "http"
		if _, ok := fields[fieldCommand]; ok {
			protocol = fieldCommand
		}
	}
	switch protocol {
	case "http", "https":
		c.HTTP = &healthcheck.HTTP{Scheme: protocol, Path: "/"}
	case "tcp":
		c.TCP = new(healthcheck.TCP)
	case "command":
		c.Command = new(healthcheck.Command)
	default:
		p.errs.add(prefix+fieldProtocol, "%s is no protocol: want http, https, tcp or command", quote(protocol))
		return c
	}
	if c.Command == nil {
		label, port := prefix+fieldPort, fields[fieldPort]
		if _, given := fields[fieldPort]; !given {
			port = "0"
		}
		if i, ok := p.port(label, port); ok {
			c.Port = i
		}
	}
	p.fields(&c, prefix, fields)
	p.validate(c, prefix, nil)
	return c
}

// fields reads the values of labels into a check.
func (p *parser) fields(c *Check, prefix string, fields map[string]string) {
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		label, value := prefix+field, fields[field]
		switch field {
		case fieldProtocol:
		case fieldSuccesses:
			p.number(label, value, 1, 1000, &c.Successes)
		case fieldFailures:
			if p.number(label, value, 0, 1_000_000, &c.Failures) && p.app.Check.Failures == healthcheck.Never && c.Failures != healthcheck.Never {
				p.errs.add(label, "is %s, but the app's own check never ends a task (maxConsecutiveFailures 0), and so nobody would: give that one a number, or 0 here", value)
			}
		case fieldDelay:
			p.duration(label, value, &c.Delay)
		case fieldInterval:
			p.duration(label, value, &c.Interval)
		case fieldTimeout:
			p.duration(label, value, &c.Timeout)
		case fieldGrace:
			p.duration(label, value, &c.Grace)
		case fieldCommand:
			if c.Command == nil {
				p.errs.add(label, "is for the protocol command only")
			} else {
				c.Command.Shell = value
			}
		case fieldPort:
			if c.Command != nil {
				p.errs.add(label, "is not for commands")
			}
		case fieldIP:
			p.ip(c, label, value)
		default:
			p.httpField(c, label, field, value)
		}
	}
}

func (p *parser) ip(c *Check, label, value string) {
	six := value == "6"
	switch {
	case value != "4" && !six:
		p.errs.add(label, "%s is neither 4 nor 6", quote(value))
	case c.HTTP != nil:
		c.HTTP.IPv6 = six
	case c.TCP != nil:
		c.TCP.IPv6 = six
	default:
		p.errs.add(label, "is not for commands")
	}
}

func (p *parser) httpField(c *Check, label, field, value string) {
	if c.HTTP == nil {
		p.errs.add(label, "is for checks over HTTP only: remove it, or make this check one")
		return
	}
	switch field {
	case fieldPath:
		c.HTTP.Path = value
	case fieldHost:
		c.HTTP.Host = value
	case fieldBody:
		c.HTTP.Body = value
	case fieldStatuses:
		p.statuses(c, label, value)
	case fieldRedirects:
		if p.number(label, value, 0, 20, &c.HTTP.Redirects) && c.HTTP.Redirects == 0 {
			c.HTTP.Redirects = -1
		}
	case fieldVerify:
		if value != "true" && value != "false" {
			p.errs.add(label, "%s is neither true nor false", quote(value))
		}
		c.HTTP.Verify = value == "true"
	default:
		if c.HTTP.Header == nil {
			c.HTTP.Header = map[string]string{}
		}
		c.HTTP.Header[strings.TrimPrefix(field, fieldHeader)] = value
	}
}

func (p *parser) statuses(c *Check, label, value string) {
	c.HTTP.Statuses = nil
	for part := range strings.SplitSeq(value, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		var r healthcheck.StatusRange
		var err [2]error
		r.First, err[0] = strconv.Atoi(first)
		r.Last, err[1] = strconv.Atoi(last)
		if err[0] != nil || err[1] != nil || len(c.HTTP.Statuses) == 100 {
			p.errs.add(label, "%s is no list of status codes: want e.g. 200-299,401", quote(value))
			return
		}
		c.HTTP.Statuses = append(c.HTTP.Statuses, r)
	}
}

func (p *parser) number(label, value string, least, most int, into *int) bool {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		p.errs.add(label, "%s is not a number from %d to %d", quote(value), least, most)
		return false
	}
	*into = n
	return true
}

// maxDuration is longer than any sensible time of a check.
const maxDuration = 24 * time.Hour

func (p *parser) duration(label, value string, into *time.Duration) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > maxDuration {
		p.errs.add(label, "%s is not a duration from 0s to %v: want e.g. 5s", quote(value), maxDuration)
		return
	}
	*into = d
}

// problemsOf are what is wrong with a check, apart from a port that is not
// known yet.
func problemsOf(c Check) healthcheck.Problems {
	check := c.Check
	switch {
	case check.HTTP != nil && check.HTTP.Port == 0:
		target := *check.HTTP
		target.Port = 1
		check.HTTP = &target
	case check.TCP != nil && check.TCP.Port == 0:
		target := *check.TCP
		target.Port = 1
		check.TCP = &target
	}
	problems, _ := check.Validate().(healthcheck.Problems)
	return problems
}

// validate reports what is wrong with a check by the labels that say so.
func (p *parser) validate(c Check, prefix string, known healthcheck.Problems) {
	for _, problem := range problemsOf(c) {
		if slices.Contains(known, problem) {
			continue
		}
		label := prefix + fieldOf(problem.Field)
		if !slices.ContainsFunc(p.errs, func(e Error) bool { return e.Label == label }) {
			p.errs.add(label, "%s", problem.Message)
		}
	}
}

// fieldOf is the label's field for a field of a check.
func fieldOf(field string) string {
	field, _, _ = strings.Cut(field, "[")
	field = strings.TrimPrefix(strings.TrimPrefix(field, "http."), "tcp.")
	switch {
	case strings.HasPrefix(field, fieldCommand):
		return fieldCommand
	case field == "header":
		return fieldHeader + "<Name>"
	case field == "successes":
		return fieldSuccesses
	case field == "type":
		return fieldProtocol
	}
	return field
}
