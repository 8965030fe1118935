package placement

import (
	"math/rand/v2"
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
)

// takePorts carves the app's ports out of the pool, in the order of the
// definition, required numbers first.
func (p *pool) takePorts(a *app.App, random *rand.Rand) ([]uint32, []mesos.Resource, Reason) {
	if len(a.Ports) == 0 {
		return nil, nil, ""
	}
	ports := make([]uint32, len(a.Ports))
	from := make([]int, len(a.Ports)) // entry of each
	for i, want := range a.Ports {
		if !a.RequirePorts || want.Number == 0 {
			continue
		}
		at := p.takePort(uint32(want.Number), a.AcceptedResourceRoles)
		if at < 0 {
			return nil, nil, InsufficientPorts
		}
		ports[i], from[i] = uint32(want.Number), at
	}
	for i := range ports {
		if ports[i] != 0 {
			continue
		}
		port, ok := p.anyPort(a.AcceptedResourceRoles, random)
		if !ok {
			return nil, nil, InsufficientPorts
		}
		ports[i], from[i] = port, p.takePort(port, a.AcceptedResourceRoles)
	}
	var carved []mesos.Resource
	for i := range p.entries {
		var mine []uint32
		for k := range ports {
			if from[k] == i {
				mine = append(mine, ports[k])
			}
		}
		if len(mine) == 0 {
			continue
		}
		slices.Sort(mine)
		r := *p.entries[i].resource
		r.Ranges = &mesos.Value_Ranges{Range: toRanges(mine)}
		carved = append(carved, r)
	}
	return ports, carved, ""
}

// toRanges joins sorted ports that follow each other.
func toRanges(ports []uint32) []mesos.Value_Range {
	var ranges []mesos.Value_Range
	for _, port := range ports {
		if n := len(ranges); n > 0 && ranges[n-1].End+1 == uint64(port) {
			ranges[n-1].End++
			continue
		}
		ranges = append(ranges, mesos.Value_Range{Begin: uint64(port), End: uint64(port)})
	}
	return ranges
}

// anyPort chooses one of those that are left, each as likely as any other.
func (p *pool) anyPort(roles []string, random *rand.Rand) (uint32, bool) {
	free := p.freePorts(roles)
	if free == 0 {
		return 0, false
	}
	n := random.IntN(free)
	for _, e := range p.entries {
		if !accepted(e.resource, roles) {
			continue
		}
		for _, span := range e.ports {
			if width := span.width(); n >= width {
				n -= width
			} else {
				return span.first + uint32(n), true
			}
		}
	}
	return 0, false
}

func (p *pool) freePorts(roles []string) int {
	free := 0
	for _, e := range p.entries {
		if accepted(e.resource, roles) {
			for _, span := range e.ports {
				free += span.width()
			}
		}
	}
	return free
}

func (r portRange) width() int { return int(r.last-r.first) + 1 }

// takePort removes a port and returns the entry that had it, or -1.
func (p *pool) takePort(port uint32, roles []string) int {
	for i := range p.entries {
		e := &p.entries[i]
		if !accepted(e.resource, roles) {
			continue
		}
		for k, span := range e.ports {
			if port < span.first || port > span.last {
				continue
			}
			var rest []portRange
			if span.first < port {
				rest = append(rest, portRange{span.first, port - 1})
			}
			if port < span.last {
				rest = append(rest, portRange{port + 1, span.last})
			}
			// A new slice: marks share the old one.
			e.ports = slices.Concat(e.ports[:k], rest, e.ports[k+1:])
			return i
		}
	}
	return -1
}
