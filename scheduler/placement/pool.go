package placement

import (
	"math"
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
)

// amounts of the scalar resources that apps can ask for.
type amounts struct {
	CPUs, Mem, Disk, GPUs app.Milli
}

func wanted(a *app.App) amounts {
	w := amounts{CPUs: a.CPUs, Mem: a.Mem, Disk: a.Disk, GPUs: a.GPUs}
	if w == (amounts{}) {
		// Mesos refuses a task without any resource; this is the least there is.
		w.CPUs = 1
	}
	return w
}

// scalars in the order in which they are tested.
func (a amounts) scalars() []scalar {
	return []scalar{
		{"cpus", a.CPUs, InsufficientCPUs},
		{"mem", a.Mem, InsufficientMemory},
		{"disk", a.Disk, InsufficientDisk},
		{"gpus", a.GPUs, InsufficientGPUs},
	}
}

type scalar struct {
	name   string
	amount app.Milli
	reason Reason
}

// pool is what is left of an agent's offers.
type pool struct {
	entries []entry
}

// entry is one Resource object of an offer and how much of it is left.
type entry struct {
	resource *mesos.Resource
	scalar   app.Milli
	ports    []portRange
}

// portRange is inclusive on both sides.
type portRange struct{ first, last uint32 }

// newPool keeps what tasks can use: no revocable or shared resources, no
// volumes and nothing of a resource provider.
func newPool(offers []mesos.Offer) pool {
	var p pool
	for i := range offers {
		for j := range offers[i].Resources {
			r := offers[i].Resources[j]
			if r.Revocable != nil || r.Shared != nil || r.Disk != nil || r.ProviderID != nil {
				continue
			}
			if r.AllocationInfo == nil && offers[i].AllocationInfo != nil && offers[i].AllocationInfo.Role != nil {
				r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: offers[i].AllocationInfo.Role}
			}
			e := entry{resource: &r}
			switch {
			case r.Scalar != nil:
				e.scalar = toMilli(r.Scalar.Value)
			case r.Name == "ports" && r.Ranges != nil:
				for _, span := range r.Ranges.Range {
					if span.Begin <= span.End && span.End <= math.MaxUint16 {
						e.ports = append(e.ports, portRange{uint32(span.Begin), uint32(span.End)})
					}
				}
			default:
				continue
			}
			p.entries = append(p.entries, e)
		}
	}
	// Reserved ones first: others cannot use them.
	slices.SortStableFunc(p.entries, func(a, b entry) int {
		switch x, y := role(a.resource) == unreserved, role(b.resource) == unreserved; {
		case x == y:
			return 0
		case y:
			return -1
		default:
			return 1
		}
	})
	return p
}

// toMilli rounds as Mesos does.
func toMilli(value float64) app.Milli { return app.Milli(math.Round(value * 1000)) }

const unreserved = "*"

// role for which a resource is reserved, in either of Mesos' formats.
func role(r *mesos.Resource) string {
	if n := len(r.Reservations); n > 0 {
		if name := r.Reservations[n-1].Role; name != nil {
			return *name
		}
	}
	if r.Role != nil && *r.Role != "" {
		return *r.Role
	}
	return unreserved
}

func accepted(r *mesos.Resource, roles []string) bool {
	return len(roles) == 0 || slices.Contains(roles, role(r))
}

func (p *pool) hasRole(roles []string) bool {
	return slices.ContainsFunc(p.entries, func(e entry) bool { return accepted(e.resource, roles) })
}

// total of a scalar that is left for roles; nil means all.
func (p *pool) total(name string, roles []string) app.Milli {
	var sum app.Milli
	for i := range p.entries {
		e := &p.entries[i]
		if e.resource.Name == name && e.resource.Scalar != nil && accepted(e.resource, roles) {
			sum += e.scalar
		}
	}
	return sum
}

// mark remembers what is left, for reset.
func (p *pool) mark() []entry { return slices.Clone(p.entries) }

func (p *pool) reset(entries []entry) { p.entries = entries }

// take carves scalars out of the pool. Nothing is taken when something is
// missing; the reason says what.
func (p *pool) take(a amounts, roles []string) ([]mesos.Resource, Reason) {
	for _, s := range a.scalars() {
		if p.total(s.name, roles) < s.amount {
			return nil, s.reason
		}
	}
	var taken []mesos.Resource
	for _, s := range a.scalars() {
		rest := s.amount
		for i := range p.entries {
			e := &p.entries[i]
			if rest == 0 {
				break
			}
			if e.resource.Name != s.name || e.scalar <= 0 || !accepted(e.resource, roles) {
				continue
			}
			part := min(rest, e.scalar)
			e.scalar -= part
			rest -= part
			carved := *e.resource
			carved.Scalar = &mesos.Value_Scalar{Value: part.Float64()}
			taken = append(taken, carved)
		}
	}
	return taken, ""
}
