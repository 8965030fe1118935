package registry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Labels that app teams write; see the package comment.
const (
	LabelName     = "service.name"
	LabelTags     = "service.tags"
	LabelRequired = "service.required"
	LabelDrain    = "drain"
	LabelConsul   = "consul"

	labelPrefix = "service."
	labelSuffix = ".name"
	valueTag    = "tag"
)

// MaxDrain is the longest drain delay where the operator sets no other.
const MaxDrain = 5 * time.Minute

// Consul is the [Backend.Name] for which the labels of marathon-consul are.
const Consul = "consul"

// Declaration is what the labels of an app say about its registration.
type Declaration struct {
	// Services in the order of their labels; none means no registration.
	Services []Service
	// Required says that failing to register in time fails the launch.
	Required bool
	// Drain is the delay between deregistration and SIGTERM.
	Drain time.Duration

	// ports are the names of the ports by index.
	ports []string
}

// Service is one name under which an app's instances are found.
type Service struct {
	Name string
	// Port is the index of the port.
	Port int
	// Tags of this service, for registries that know them.
	Tags []string
	// Endpoints says that the named ports are listed beside Port.
	Endpoints bool
	// Only is as in [Instance].
	Only string
}

// Port is a port of an app as its definition has it.
type Port struct {
	// Name may be empty.
	Name string
	// Labels of the port definition: marathon-consul reads them.
	Labels map[string]string
}

// App is what [ParseLabels] has to know about an app.
type App struct {
	// Path is the app's path, with or without the leading slash.
	Path string
	// Labels and Ports are the definition's.
	Labels map[string]string
	Ports  []Port
}

// Limits is what the site allows. The zero value has no registry at all.
type Limits struct {
	// ZooKeeper and Consul say which registries are configured. Where that is
	// not known (when an app is submitted), set both.
	ZooKeeper, Consul bool
	// MaxDrain is the longest drain delay; 0 means [MaxDrain].
	MaxDrain time.Duration
}

// LabelError is one mistake in a label.
type LabelError struct {
	// Label is its key.
	Label string
	// Message says what is wrong and what is wanted.
	Message string
}

// LabelErrors is the error of [ParseLabels]: every mistake, by label.
type LabelErrors []LabelError

func (e LabelErrors) Error() string {
	var b strings.Builder
	for i, l := range e {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "label %s: %s", l.Label, l.Message)
	}
	return b.String()
}

func (e *LabelErrors) add(label, format string, args ...any) {
	*e = append(*e, LabelError{label, fmt.Sprintf(format, args...)})
}

// ParseLabels reads the labels of an app. It reports every mistake at once, as
// [LabelErrors]. Labels of others are left alone.
func ParseLabels(app App, limits Limits) (*Declaration, error) {
	p := parser{app: app, limits: limits}
	p.d.Required = true
	for _, port := range app.Ports {
		p.d.ports = append(p.d.ports, port.Name)
	}
	for _, label := range slices.Sorted(maps.Keys(app.Labels)) {
		p.label(label, app.Labels[label])
	}
	p.consul()
	p.consistent()
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	for i := range p.d.Services {
		s := &p.d.Services[i]
		if s.Only == "" {
			s.Tags = p.tags
		}
	}
	return &p.d, nil
}

type parser struct {
	app    App
	limits Limits
	d      Declaration
	// labels of the services in d, by index.
	labels []string
	tags   []string
	errs   LabelErrors
}

func (p *parser) label(label, value string) {
	switch {
	case label == LabelRequired:
		switch value {
		case "true":
		case "false":
			p.d.Required = false
		default:
			p.errs.add(label, "%s is neither true nor false", quote(value))
		}
	case label == LabelTags:
		p.tags = p.list(label, value)
	case label == LabelDrain:
		p.drain(value)
	case label == LabelName:
		p.service(label, Service{Name: value, Endpoints: true})
	case strings.HasPrefix(label, labelPrefix) && strings.HasSuffix(label, labelSuffix):
		port := label[len(labelPrefix) : len(label)-len(labelSuffix)]
		if i, ok := p.port(label, port); ok {
			p.service(label, Service{Name: value, Port: i})
		}
	case strings.HasPrefix(label, labelPrefix):
		p.errs.add(label, "is unknown: want %s, service.<port>.name, %s or %s", LabelName, LabelTags, LabelRequired)
	}
}

func (p *parser) drain(value string) {
	most := p.limits.MaxDrain
	if most <= 0 {
		most = MaxDrain
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > most {
		p.errs.add(LabelDrain, "%s is not a duration from 0s to %v: want e.g. 5s", quote(value), most)
		return
	}
	p.d.Drain = d
}

// port finds a port by its name, else by its index.
func (p *parser) port(label, port string) (int, bool) {
	if port != "" {
		if i := slices.Index(p.d.ports, port); i >= 0 {
			return i, true
		}
	}
	i, err := strconv.Atoi(port)
	if err == nil && strconv.Itoa(i) == port && i >= 0 && i < len(p.d.ports) {
		return i, true
	}
	p.errs.add(label, "the app has no port %s: %s", quote(port), p.portChoice())
	return 0, false
}

func (p *parser) portChoice() string {
	if len(p.d.ports) == 0 {
		return "it has no ports: give it one"
	}
	var names []string
	for _, n := range p.d.ports {
		if n != "" {
			names = append(names, strconv.Quote(n))
		}
	}
	choice := fmt.Sprintf("want an index from 0 to %d", len(p.d.ports)-1)
	if len(names) > 0 {
		choice += " or one of " + strings.Join(names, ", ")
	}
	return choice
}

func (p *parser) service(label string, s Service) {
	if !validName(s.Name) {
		p.errs.add(label, "%s is no service name: want 1 to 63 letters, digits, '-', '_' and '.', with a letter or a digit at both ends", quote(s.Name))
		return
	}
	if s.Port >= len(p.d.ports) {
		p.errs.add(label, "the app has no ports to register: give it one")
		return
	}
	for i, other := range p.d.Services {
		if other.Name == s.Name && other.Only == s.Only {
			p.errs.add(label, "%s is the name of another port already (label %s): give each port a name of its own", quote(s.Name), p.labels[i])
			return
		}
	}
	if s.Only == "" && !p.limits.ZooKeeper && !p.limits.Consul {
		p.errs.add(label, "no registry is configured here: the operator has to set PACER_ZK or PACER_CONSUL; or remove the label")
		return
	}
	p.d.Services = append(p.d.Services, s)
	p.labels = append(p.labels, label)
}

// consistent reports labels that can have no effect.
func (p *parser) consistent() {
	if len(p.d.Services) > 0 || len(p.errs) > 0 {
		return
	}
	for _, label := range []string{LabelRequired, LabelTags} {
		if _, ok := p.app.Labels[label]; ok {
			p.errs.add(label, "has no effect, as nothing is registered: set %s too, or remove it", LabelName)
		}
	}
}

func (p *parser) list(label, value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" || len(item) > 255 || strings.ContainsFunc(item, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			p.errs.add(label, "%s is no comma-separated list of tags", quote(value))
			return nil
		}
		if !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	return items
}

// consul reads the labels as marathon-consul does.
func (p *parser) consul() {
	perPort := false
	for _, port := range p.app.Ports {
		if _, ok := port.Labels[LabelConsul]; ok {
			perPort = true
		}
	}
	value, ok := p.app.Labels[LabelConsul]
	if !ok && !perPort {
		return
	}
	if !p.limits.Consul {
		p.errs.add(LabelConsul, "no Consul is configured here: the operator has to set PACER_CONSUL, or use %s", LabelName)
		return
	}
	tags := tagsOf(p.app.Labels, "")
	if !perPort {
		p.consulServices(LabelConsul, value, 0, tags, nil)
		return
	}
	for i, port := range p.app.Ports {
		if value, ok := port.Labels[LabelConsul]; ok {
			p.consulServices(fmt.Sprintf("%s of port %d", LabelConsul, i), value, i, tags, port.Labels)
		}
	}
}

func (p *parser) consulServices(label, value string, port int, tags []string, portLabels map[string]string) {
	if value == "" || value == "true" {
		value = strings.ReplaceAll(strings.Trim(p.app.Path, "/"), "/", "-")
	}
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		all := slices.Concat(tags, tagsOf(portLabels, ""), tagsOf(portLabels, name))
		p.service(label, Service{Name: name, Port: port, Tags: all, Only: Consul})
	}
}

// tagsOf returns the sorted keys of labels whose value is "tag", or
// "tag:<service>" where a service is given.
func tagsOf(labels map[string]string, service string) []string {
	want := valueTag
	if service != "" {
		want += ":" + service
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if labels[k] == want {
			tags = append(tags, k)
		}
	}
	return tags
}

func validName(s string) bool {
	if len(s) < 1 || len(s) > 63 {
		return false
	}
	alnum := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return alnum(s[0]) && alnum(s[len(s)-1])
}

// quote shows a label's value, bounded.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.Quote(s)
}
