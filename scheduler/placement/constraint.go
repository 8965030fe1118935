package placement

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
)

// Names of fields that are no attributes.
const (
	fieldHostname = "hostname"
	fieldRegion   = "@region"
	fieldZone     = "@zone"
)

// constraint is one of an app's, with what it has to know of the instances
// that exist.
type constraint struct {
	app.Constraint
	counts  map[string]int // instances by the field's value
	pattern *regexp.Regexp
	number  int
	// optional ones allow agents without the field.
	optional bool
}

// mentions tells whether a constraint of the app is about a field.
func mentions(a *app.App, field string) bool {
	return slices.ContainsFunc(a.Constraints, func(c app.Constraint) bool { return c.Field == field })
}

func newConstraint(c app.Constraint, placed []Placed) constraint {
	made := constraint{Constraint: c, counts: make(map[string]int)}
	for _, p := range placed {
		if value, ok := p.value(c.Field); ok {
			made.counts[value]++
		}
	}
	switch c.Operator {
	case app.Like, app.Unlike:
		// Whatever the store holds was valid when it was submitted; a pattern
		// that no longer compiles matches nothing.
		made.pattern, _ = regexp.Compile("^(?:" + c.Value + ")$")
	case app.MaxPer, app.GroupBy:
		made.number, _ = strconv.Atoi(c.Value)
	}
	return made
}

// mayOpen tells whether an agent that is refused now may be allowed after
// another instance has been placed.
func (c *constraint) mayOpen() bool { return c.Operator == app.GroupBy }

// allows tells whether an instance may be placed on h.
func (c *constraint) allows(h *host) bool {
	value, known := agentValue(h.agent, c.Field)
	if !known {
		return c.Operator == app.Unlike || c.optional
	}
	switch c.Operator {
	case app.Unique:
		return c.counts[value] == 0
	case app.Cluster:
		if c.Value != "" && c.Value != value {
			return false
		}
		for other, n := range c.counts {
			if n > 0 && other != value {
				return false
			}
		}
		return true
	case app.GroupBy:
		mine := c.counts[value]
		if mine == 0 {
			return true
		}
		least := mine
		for _, n := range c.counts {
			least = min(least, n)
		}
		return len(c.counts) >= c.number && mine == least
	case app.Like:
		return c.pattern != nil && c.pattern.MatchString(value)
	case app.Unlike:
		return c.pattern != nil && !c.pattern.MatchString(value)
	case app.MaxPer:
		return c.counts[value] < c.number
	case app.Is:
		return sameValue(value, c.Value)
	default:
		return false
	}
}

// place counts an instance on h.
func (c *constraint) place(h *host) {
	if value, known := agentValue(h.agent, c.Field); known {
		c.counts[value]++
	}
}

// sameValue compares numbers by value: an attribute 1 is shown as "1.000".
func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	x, err := strconv.ParseFloat(a, 64)
	if err != nil {
		return false
	}
	y, err := strconv.ParseFloat(b, 64)
	return err == nil && toMilli(x) == toMilli(y)
}

func (p *Placed) value(field string) (string, bool) {
	if field == fieldHostname {
		return p.Hostname, true
	}
	value, ok := p.Attributes[field]
	return value, ok
}

func agentValue(a *Agent, field string) (string, bool) {
	offer := &a.Offers[0]
	switch field {
	case fieldHostname:
		return offer.Hostname, true
	case fieldRegion:
		if domain := offer.Domain.GetFaultDomain(); domain != nil {
			return domain.Region.Name, true
		}
		return "", false
	case fieldZone:
		if domain := offer.Domain.GetFaultDomain(); domain != nil {
			return domain.Zone.Name, true
		}
		return "", false
	}
	at := slices.IndexFunc(offer.Attributes, func(have mesos.Attribute) bool { return have.Name == field })
	if at < 0 {
		return "", false
	}
	return attributeText(&offer.Attributes[at]), true
}

// attributeText is an attribute as constraints see it: text as it is, numbers
// with as many decimals as they need, ranges and sets in Mesos' notation.
func attributeText(a *mesos.Attribute) string {
	switch {
	case a.Text != nil:
		return a.Text.Value
	case a.Scalar != nil:
		return strconv.FormatFloat(toMilli(a.Scalar.Value).Float64(), 'f', -1, 64)
	case a.Ranges != nil:
		var parts []string
		for _, r := range a.Ranges.Range {
			parts = append(parts, strconv.FormatUint(r.Begin, 10)+"-"+strconv.FormatUint(r.End, 10))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case a.Set != nil:
		return "{" + strings.Join(a.Set.Item, ",") + "}"
	default:
		return ""
	}
}

// attributes of an agent that an app's constraints mention, except hostname.
func attributes(a *app.App, agent *Agent) map[string]string {
	var found map[string]string
	for _, c := range a.Constraints {
		if c.Field == fieldHostname {
			continue
		}
		if value, ok := agentValue(agent, c.Field); ok {
			if found == nil {
				found = make(map[string]string)
			}
			found[c.Field] = value
		}
	}
	return found
}
