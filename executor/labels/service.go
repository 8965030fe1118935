package labels

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Labels about registration; see the package comment.
const (
	ServiceName     = "service.name"
	ServiceTags     = "service.tags"
	ServiceRequired = "service.required"
	Drain           = "drain"

	servicePrefix = "service."
	nameSuffix    = ".name"
	consulLabel   = "consul"
	valueTag      = "tag"
)

// MaxDrain is the longest drain delay where the operator sets no other.
const MaxDrain = 5 * time.Minute

// Consul is the name of the registry for which the labels of marathon-consul
// are.
const Consul = "consul"

// Service is one name under which an app's instances are found.
type Service struct {
	Name string
	// Port is the index of the port.
	Port int
	// Tags of this service, for registries that know them.
	Tags []string
	// Endpoints says that the named ports are listed beside Port.
	Endpoints bool
	// Only is the one registry that it is for, [Consul]; empty means every one.
	Only string
}

// registration reads the labels about registration and the drain.
func (p *parser) registration() {
	p.d.Required = true
	for _, label := range slices.Sorted(maps.Keys(p.app.Labels)) {
		p.label(label, p.app.Labels[label])
	}
	p.consul()
	p.consistent()
	for i := range p.d.Services {
		s := &p.d.Services[i]
		if s.Only == "" {
			s.Tags = p.tags
		}
	}
	p.merge()
}

// merge makes one service of a name that both kinds of labels give to the same
// port: in Consul it could not be told apart.
func (p *parser) merge() {
	general := p.d.Services[:0:0] // those come first: indices stay what they are
	for i, s := range p.d.Services {
		j := -1
		if s.Only != "" {
			j = slices.IndexFunc(general, func(g Service) bool { return g.Name == s.Name })
		}
		switch {
		case j < 0:
			general = append(general, s)
		case general[j].Port != s.Port:
			p.errs.addAt(consulLabel, p.at[i], "%s is the name of another port already (label %s): give each port a name of its own", quote(s.Name), p.services[j])
		default:
			general[j].Tags = union(general[j].Tags, s.Tags)
		}
	}
	p.d.Services = general
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

func (p *parser) label(label, value string) {
	switch {
	case label == ServiceRequired:
		switch value {
		case "true":
		case "false":
			p.d.Required = false
		default:
			p.errs.add(label, "%s is neither true nor false", quote(value))
		}
	case label == ServiceTags:
		p.tags = p.list(label, value)
	case label == Drain:
		p.drain(value)
	case label == ServiceName:
		p.service(label, Service{Name: value, Endpoints: true})
	case strings.HasPrefix(label, servicePrefix) && strings.HasSuffix(label, nameSuffix):
		port := label[len(servicePrefix) : len(label)-len(nameSuffix)]
		if i, ok := p.port(label, port); ok {
			p.service(label, Service{Name: value, Port: i})
		}
	case strings.HasPrefix(label, servicePrefix):
		p.errs.add(label, "is unknown: want %s, service.<port>.name, %s or %s", ServiceName, ServiceTags, ServiceRequired)
	}
}

func (p *parser) drain(value string) {
	most := p.limits.MaxDrain
	if most <= 0 {
		most = MaxDrain
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > most {
		p.errs.add(Drain, "%s is not a duration from 0s to %v: want e.g. 5s", quote(value), most)
		return
	}
	p.d.Drain = d
}

// port finds a port by its name, else by its index.
func (p *parser) port(label, port string) (int, bool) {
	if port != "" {
		if i := slices.Index(p.d.Ports, port); i >= 0 {
			return i, true
		}
	}
	i, err := strconv.Atoi(port)
	if err == nil && strconv.Itoa(i) == port && i >= 0 && i < len(p.d.Ports) {
		return i, true
	}
	p.errs.add(label, "the app has no port %s: %s", quote(port), p.portChoice())
	return 0, false
}

func (p *parser) portChoice() string {
	if len(p.d.Ports) == 0 {
		return "it has no ports: give it one"
	}
	var names []string
	for _, n := range p.d.Ports {
		if n != "" {
			names = append(names, strconv.Quote(n))
		}
	}
	choice := fmt.Sprintf("want an index from 0 to %d", len(p.d.Ports)-1)
	if len(names) > 0 {
		choice += " or one of " + strings.Join(names, ", ")
	}
	return choice
}

func (p *parser) service(label string, s Service) { p.serviceAt(label, -1, s) }

// serviceAt adds a service that the label of a port asks for, or with -1 the
// app's.
func (p *parser) serviceAt(label string, at int, s Service) {
	if !validName(s.Name) {
		p.errs.addAt(label, at, "%s is no service name: want 1 to 63 letters, digits, '-', '_' and '.', with a letter or a digit at both ends", quote(s.Name))
		return
	}
	if s.Port >= len(p.d.Ports) {
		p.errs.addAt(label, at, "the app has no ports to register: give it one")
		return
	}
	for i, other := range p.d.Services {
		if other.Name == s.Name && other.Only == s.Only {
			p.errs.addAt(label, at, "%s is the name of another port already (label %s): give each port a name of its own", quote(s.Name), p.services[i])
			return
		}
	}
	if s.Only == "" && !p.limits.ZooKeeper && !p.limits.Consul {
		p.errs.addAt(label, at, "no registry is configured here: the operator has to set PACER_ZK or PACER_CONSUL; or remove the label")
		return
	}
	p.d.Services = append(p.d.Services, s)
	if at >= 0 {
		label = fmt.Sprintf("%s of port %d", label, at)
	}
	p.services, p.at = append(p.services, label), append(p.at, at)
}

// consistent reports labels that can have no effect.
func (p *parser) consistent() {
	if len(p.d.Services) > 0 || len(p.errs) > 0 {
		return
	}
	for _, label := range []string{ServiceRequired, ServiceTags} {
		if _, ok := p.app.Labels[label]; ok {
			p.errs.add(label, "has no effect, as nothing is registered: set %s too, or remove it", ServiceName)
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
		if _, ok := port.Labels[consulLabel]; ok {
			perPort = true
		}
	}
	value, ok := p.app.Labels[consulLabel]
	if !ok && !perPort {
		return
	}
	if !p.limits.Consul {
		p.errs.add(consulLabel, "no Consul is configured here: the operator has to set PACER_CONSUL, or use %s", ServiceName)
		return
	}
	tags := tagsOf(p.app.Labels, "")
	if !perPort {
		p.consulServices(-1, value, tags, nil)
		return
	}
	for i, port := range p.app.Ports {
		if value, ok := port.Labels[consulLabel]; ok {
			p.consulServices(i, value, tags, port.Labels)
		}
	}
}

// consulServices reads the value of the label of a port, or with -1 the app's,
// which is about the first port.
func (p *parser) consulServices(at int, value string, tags []string, portLabels map[string]string) {
	if value == "" || value == "true" {
		value = strings.ReplaceAll(strings.Trim(p.app.Path, "/"), "/", "-")
	}
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		all := slices.Concat(tags, tagsOf(portLabels, ""), tagsOf(portLabels, name))
		p.serviceAt(consulLabel, at, Service{Name: name, Port: max(at, 0), Tags: all, Only: Consul})
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
