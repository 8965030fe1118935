package master

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/resource"
)

// Offers with less than both of these are not made (--min_allocatable_resources).
const (
	minAllocatableCPUs = 10    // thousandths
	minAllocatableMem  = 32000 // thousandths of MiB
)

// offer is outstanding from its OFFERS event until it is accepted, declined,
// rescinded or silently discarded.
type offer struct {
	id        string
	framework *framework
	agent     *agent
	role      string
	resources resource.Set // with allocation
	cancel    func()       // of the offer timeout
}

type filterKey struct{ agent, role string }

// filter withholds offers that hold nothing beyond what was refused.
type filter struct {
	refused resource.Set // without allocation
	expires time.Time
}

// allocateAll runs one allocation over all agents.
func (c *core) allocateAll() { c.allocate(slices.Collect(maps.Values(c.agents))) }

// contender is a role of a framework that may get offers.
type contender struct {
	framework *framework
	role      string
}

// allocate offers what is free on the given agents. Each agent's free resources go
// to the framework with the smallest dominant share among those that want them;
// what it may not have goes to the next.
func (c *core) allocate(agents []*agent) {
	var contenders []contender
	for _, f := range c.frameworks {
		if !f.active {
			continue
		}
		for _, role := range f.roles {
			if !f.suppressed[role] {
				contenders = append(contenders, contender{f, role})
			}
		}
	}
	if len(contenders) == 0 {
		return
	}
	total := make(quantities)
	if len(contenders) > 1 {
		for _, a := range c.agents {
			total.add(a.total, 1)
		}
	}
	rand.Shuffle(len(agents), func(i, j int) { agents[i], agents[j] = agents[j], agents[i] })
	at := time.Now()
	made := make(map[*framework][]*offer)
	for _, a := range agents {
		if !a.active {
			continue
		}
		free := a.total.Minus(a.used)
		if len(free) == 0 {
			continue
		}
		c.sortByShare(contenders, total)
		for _, who := range contenders {
			if !c.mayOffer(who.framework, a) {
				continue
			}
			part := free.OfferedTo(who.role)
			if part.Scalar("cpus") < minAllocatableCPUs && part.Scalar("mem") < minAllocatableMem {
				continue
			}
			if who.framework.filtered(a, who.role, part, at) {
				continue
			}
			made[who.framework] = append(made[who.framework], c.newOffer(who, a, part))
			free = free.Minus(part)
		}
	}
	for f, offers := range made {
		event := &scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{}}
		for _, o := range offers {
			event.Offers.Offers = append(event.Offers.Offers, o.proto())
		}
		c.emit(f, event)
	}
}

// sortByShare orders roles by the share of all that they use, and the frameworks of
// a role by theirs.
func (c *core) sortByShare(contenders []contender, total quantities) {
	if len(contenders) < 2 {
		return
	}
	share := func(q quantities) float64 {
		dominant := 0.0
		for name, used := range q {
			if total[name] > 0 {
				dominant = math.Max(dominant, float64(used)/float64(total[name]))
			}
		}
		return dominant
	}
	roles := make(map[string]quantities)
	for _, f := range c.frameworks {
		for role, used := range f.used {
			if roles[role] == nil {
				roles[role] = make(quantities)
			}
			for name, v := range used {
				roles[role][name] += v
			}
		}
	}
	shares := make(map[string]float64, len(roles))
	for role, used := range roles {
		shares[role] = share(used)
	}
	slices.SortFunc(contenders, func(a, b contender) int {
		return cmp.Or(
			cmp.Compare(shares[a.role], shares[b.role]),
			cmp.Compare(a.role, b.role),
			cmp.Compare(share(a.framework.used[a.role]), share(b.framework.used[b.role])),
			cmp.Compare(a.framework.id, b.framework.id),
		)
	})
}

// mayOffer applies what does not depend on resources: fault domains and GPUs.
func (c *core) mayOffer(f *framework, a *agent) bool {
	own, other := region(c.config.Domain), region(a.info.Domain)
	if own != "" && other != "" && own != other && !f.regionAware {
		return false
	}
	return f.gpus || !a.total.Has("gpus")
}

func region(d *mesos.DomainInfo) string {
	if d == nil || d.FaultDomain == nil {
		return ""
	}
	return d.FaultDomain.Region.Name
}

// filtered reports whether the framework has refused such an offer. Filters that
// have expired are dropped.
func (f *framework) filtered(a *agent, role string, part resource.Set, at time.Time) bool {
	key := filterKey{a.id, role}
	live := slices.DeleteFunc(f.filters[key], func(x filter) bool { return !at.Before(x.expires) })
	if len(live) == 0 {
		delete(f.filters, key)
		return false
	}
	f.filters[key] = live
	return slices.ContainsFunc(live, func(x filter) bool { return x.refused.Contains(part) })
}

// refuse sets a filter on behalf of DECLINE or what an ACCEPT left over.
func (c *core) refuse(f *framework, a *agent, role string, left resource.Set, filters *mesos.Filters) {
	d, ok := refusalTime(filters)
	if !ok || len(left) == 0 {
		return
	}
	key := filterKey{a.id, role}
	f.filters[key] = append(f.filters[key], filter{
		refused: left.Unallocated(),
		expires: time.Now().Add(max(d, c.config.AllocationInterval)),
	})
}

// refusalTime reads Filters: 5 s by default and for nonsense, false for none, at most
// a year.
func refusalTime(filters *mesos.Filters) (d time.Duration, ok bool) {
	const fallback, longest = 5 * time.Second, 365 * 24 * time.Hour
	if filters == nil || filters.RefuseSeconds == nil {
		return fallback, true
	}
	switch s := *filters.RefuseSeconds; {
	case s == 0:
		return 0, false
	case s < 0 || math.IsNaN(s):
		return fallback, true
	case s > longest.Seconds():
		return longest, true
	default:
		return time.Duration(s * float64(time.Second)), true
	}
}

func (c *core) newOffer(who contender, a *agent, part resource.Set) *offer {
	o := &offer{
		id:        fmt.Sprintf("%s-O%d", c.config.ID, c.offerCount),
		framework: who.framework,
		agent:     a,
		role:      who.role,
		resources: part.Allocated(who.role),
		cancel:    func() {},
	}
	c.offerCount++
	c.offers[o.id] = o
	o.framework.offers[o.id] = o
	a.offers[o.id] = o
	c.use(o.framework, a, o.resources)
	if c.config.OfferTimeout > 0 {
		o.cancel = c.m.after(c.config.OfferTimeout, func() { c.rescind(o) })
	}
	return o
}

// take ends an offer and frees what it held.
func (c *core) take(o *offer) {
	o.cancel()
	delete(c.offers, o.id)
	delete(o.framework.offers, o.id)
	delete(o.agent.offers, o.id)
	c.unuse(o.framework, o.agent, o.resources)
}

// discard ends an offer without telling the framework.
func (c *core) discard(o *offer, filters *mesos.Filters) {
	c.take(o)
	if filters != nil {
		c.refuse(o.framework, o.agent, o.role, o.resources, filters)
	}
}

// rescind ends an offer and tells the framework.
func (c *core) rescind(o *offer) {
	if c.offers[o.id] != o {
		return
	}
	c.take(o)
	c.emit(o.framework, &scheduler.Event{Type: scheduler.Event_RESCIND, Rescind: &scheduler.Event_Rescind{
		OfferID: mesos.OfferID{Value: o.id},
	}})
}

func (o *offer) proto() mesos.Offer {
	p := mesos.Offer{
		ID:          mesos.OfferID{Value: o.id},
		FrameworkID: mesos.FrameworkID{Value: o.framework.id},
		AgentID:     mesos.AgentID{Value: o.agent.id},
		Hostname:    o.agent.info.Hostname,
		URL:         o.agent.url(),
		Domain:      o.agent.info.Domain,
		Resources:   o.resources.Proto(o.framework.format()),
		Attributes:  o.agent.info.Attributes,
	}
	for key, e := range o.agent.executors {
		if key.framework == o.framework.id {
			p.ExecutorIDs = append(p.ExecutorIDs, e.info.ExecutorID)
		}
	}
	slices.SortFunc(p.ExecutorIDs, func(a, b mesos.ExecutorID) int { return cmp.Compare(a.Value, b.Value) })
	if o.framework.multiRole {
		role := o.role
		p.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
	}
	return p
}

// decline handles DECLINE. Ids of offers that are not the framework's are ignored.
func (c *core) decline(f *framework, call *scheduler.Call_Decline) {
	c.count("master/messages_decline_offers")
	filters := call.Filters
	if filters == nil {
		filters = &mesos.Filters{}
	}
	for _, id := range call.OfferIDs {
		if o := f.offers[id.Value]; o != nil {
			c.discard(o, filters)
		}
	}
}

// revive handles REVIVE: no filters, no suppression, for all roles or those named.
func (c *core) revive(f *framework, roles []string) {
	c.count("master/messages_revive_offers")
	roles, ok := f.ownRoles(roles)
	if !ok {
		return
	}
	for _, role := range roles {
		delete(f.suppressed, role)
		maps.DeleteFunc(f.filters, func(key filterKey, _ []filter) bool { return key.role == role })
	}
	c.allocateAll()
}

// suppress handles SUPPRESS.
func (c *core) suppress(f *framework, roles []string) {
	c.count("master/messages_suppress_offers")
	roles, ok := f.ownRoles(roles)
	if !ok {
		return
	}
	for _, role := range roles {
		f.suppressed[role] = true
	}
}

// ownRoles returns the roles that a call concerns. One role that is not the
// framework's spoils the call.
func (f *framework) ownRoles(roles []string) ([]string, bool) {
	if len(roles) == 0 {
		return f.roles, true
	}
	for _, role := range roles {
		if !slices.Contains(f.roles, role) {
			return nil, false
		}
	}
	return roles, true
}
