package master_test

import (
	"encoding/json"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

func decline(refuse *float64, offers ...mesos.Offer) *scheduler.Call {
	call := &scheduler.Call{Type: scheduler.Call_DECLINE, Decline: &scheduler.Call_Decline{}}
	if refuse != nil {
		call.Decline.Filters = &mesos.Filters{RefuseSeconds: refuse}
	}
	for _, o := range offers {
		call.Decline.OfferIDs = append(call.Decline.OfferIDs, o.ID)
	}
	return call
}

// wait is how long after a DECLINE the next offer came.
func wait(s *probe.Scheduler, refuse *float64) time.Duration {
	offers := s.Offers()
	start := time.Now()
	s.Must(decline(refuse, offers...))
	offer := s.Offers()[0]
	took := time.Since(start)
	s.Must(decline(ptr(0.0), offer))
	return took
}

func TestFilters(t *testing.T) {
	const cycle = 50 * time.Millisecond
	for _, c := range []struct {
		name     string
		refuse   *float64
		from, to time.Duration
	}{
		{"0 lasts until the next cycle", ptr(0.0), 0, cycle},
		{"never shorter than a cycle", ptr(0.001), cycle, 2 * cycle},
		{"rounded up to cycles", ptr(0.12), 120 * time.Millisecond, 120*time.Millisecond + cycle},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := start(t, master.Config{AllocationInterval: cycle})
			newPuppet(t, l)
			s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
			// A busy machine may be late, never early.
			const late = time.Second
			if got := wait(s, c.refuse); got < c.from || got > c.to+late {
				t.Errorf("offered after %v, want %v to %v", got, c.from, c.to)
			}
		})
	}
}

// While a filter lasts, what is asked of the master shows that nothing is offered.
func TestWhatLiftsFilters(t *testing.T) {
	for _, c := range []struct {
		name   string
		refuse *float64
		lift   func(s *probe.Scheduler, a *puppet)
	}{
		{"REVIVE, default filter", nil, func(s *probe.Scheduler, _ *puppet) {
			s.Must(&scheduler.Call{Type: scheduler.Call_REVIVE})
		}},
		{"REVIVE, nonsense is the default", ptr(-1.0), func(s *probe.Scheduler, _ *puppet) {
			s.Must(&scheduler.Call{Type: scheduler.Call_REVIVE, Revive: &scheduler.Call_Revive{Roles: []string{"r1"}}})
		}},
		{"a disconnect", ptr(1000.0), func(s *probe.Scheduler, _ *puppet) { s.Close() }},
		{"more resources", ptr(1000.0), func(s *probe.Scheduler, a *puppet) {
			a.info.Resources = append(a.info.Resources, probe.Scalars(1, 0, 0)...)
			a.reregister([]mesos.FrameworkInfo{named(s.ID)}, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := start(t, quick)
			agent := newPuppet(t, l)
			s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
			s.Must(decline(c.refuse, s.Offers()...))
			if event, err := s.Poll(5 * quick.AllocationInterval); err == nil {
				t.Fatalf("offered in spite of the filter: %v", event)
			}
			c.lift(s, agent)
			again := s
			if c.name == "a disconnect" {
				awaitFramework(t, m, s.ID, func(f framework) bool { return !f.Connected })
				again = probe.Connect(t, m.URL(), wire.Protobuf, named(s.ID))
			}
			again.Offers()
		})
	}
}

func TestFilterConcernsOneRole(t *testing.T) {
	m, l := start(t, quick)
	newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) { info.Roles = []string{"r1", "r2"} }))
	first := s.Offers()[0]
	s.Must(decline(nil, first))
	second := s.Offers()[0]
	if a, b := first.AllocationInfo.GetRole(), second.AllocationInfo.GetRole(); a != "r1" || b != "r2" {
		t.Errorf("offered to %s, then %s", a, b)
	}
}

func TestFilterOfWhatAnAcceptLeft(t *testing.T) {
	m, l := start(t, quick)
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	s.Accept(1000, s.Offers(), probe.Launch(probe.Task(agent.id, "t1", "e1")))
	if event, err := s.Poll(5 * quick.AllocationInterval); err == nil {
		t.Fatalf("offered in spite of the filter: %v", event)
	}
	// What grows beyond what was refused gets through.
	agent.update(s.ID, "t1", mesos.TASK_FINISHED)
	if got := s.Offers()[0].Resources[1].Scalar.GetValue(); got != 3.9 {
		t.Errorf("%v cpus", got)
	}
}

func TestSuppressAndRevive(t *testing.T) {
	m, l := start(t, quick)
	newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	offers := s.Offers()
	s.Must(&scheduler.Call{Type: scheduler.Call_SUPPRESS})
	s.Must(decline(ptr(0.0), offers...))
	s.Must(&scheduler.Call{Type: scheduler.Call_REVIVE, Revive: &scheduler.Call_Revive{Roles: []string{"r1", "foreign"}}})
	if event, err := s.Poll(5 * quick.AllocationInterval); err == nil {
		t.Fatalf("offered although suppressed: %v", event)
	}
	s.Must(&scheduler.Call{Type: scheduler.Call_REVIVE})
	s.Offers()

	quiet := probe.Subscribe(t, m.URL(), wire.Protobuf, named(s.ID), "r1")
	quiet.ID = quiet.Next(scheduler.Event_SUBSCRIBED).Subscribed.FrameworkID.Value
	if event, err := quiet.Poll(5 * quick.AllocationInterval); err == nil {
		t.Fatalf("offered although suppressed at SUBSCRIBE: %v", event)
	}
	loud := probe.Connect(t, m.URL(), wire.Protobuf, named(s.ID))
	loud.Offers()
}

func TestOfferTimeout(t *testing.T) {
	config := quick
	config.OfferTimeout = 60 * time.Millisecond
	m, l := start(t, config)
	newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	for range 2 {
		offer := s.Offers()[0]
		if got := s.Next(scheduler.Event_RESCIND).Rescind.OfferID; got != offer.ID {
			t.Errorf("rescinded %v, offered %v", got, offer.ID)
		}
	}
}

func TestExecutorIsChargedOnce(t *testing.T) {
	m, l := start(t, quick)
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	cpus := func() float64 { return s.Offers()[0].Resources[1].Scalar.GetValue() }
	s.Accept(0, s.Offers(), probe.Launch(probe.Task(agent.id, "t1", "e1"), probe.Task(agent.id, "t2", "e1")))
	if got := cpus(); got != 3.7 {
		t.Errorf("two tasks and their executor leave %v cpus", got)
	}
	for _, id := range []string{"t1", "t2"} {
		agent.update(s.ID, id, mesos.TASK_FINISHED)
		s.Acknowledge(s.Status())
	}
	m.Rescind(lastOffer(t, m))
	for got := cpus(); got != 3.9; got = cpus() {
		m.Rescind(lastOffer(t, m)) // an offer of what the first task has freed
	}
	agent.end.Send(link.ExitedExecutor{AgentID: agent.id, FrameworkID: s.ID, ExecutorID: "e1"})
	s.Next(scheduler.Event_FAILURE)
	s.Drop(scheduler.Event_OFFERS)
	m.Rescind(lastOffer(t, m))
	if got := cpus(); got != 4 && got != 0.1 {
		t.Errorf("all that is left: %v cpus", got)
	}
}

func TestFormatOfOffers(t *testing.T) {
	m, l := start(t, master.Config{AllocationInterval: quick.AllocationInterval, Domain: domain("region-a")})
	newPuppet(t, l, func(info *mesos.AgentInfo) {
		info.Resources = parse(t, "cpus:3;mem:3072;disk:4096;ports:[31000-32000];cpus(r1):1;mem(r1):1024")
		info.Domain = domain("region-a")
	})
	newPuppet(t, l, func(info *mesos.AgentInfo) { info.Hostname, info.Domain = "127.0.0.2", domain("region-b") })
	role := "r1"
	capability := func(kinds ...mesos.FrameworkInfo_Capability_Type) []mesos.FrameworkInfo_Capability {
		var out []mesos.FrameworkInfo_Capability
		for _, k := range kinds {
			out = append(out, mesos.FrameworkInfo_Capability{Type: k})
		}
		return out
	}
	for _, c := range []struct {
		name   string
		info   mesos.FrameworkInfo
		offers int
		second string // the second resource of the offer of the first agent, in JSON
	}{
		{"no capability", mesos.FrameworkInfo{Name: "x", User: "root", Role: &role}, 1,
			`{"name":"cpus","type":"SCALAR","scalar":{"value":1.0},"role":"r1"}`},
		{"no role", mesos.FrameworkInfo{Name: "x", User: "root"}, 1,
			`{"name":"cpus","type":"SCALAR","scalar":{"value":3.0},"role":"*"}`},
		{"MULTI_ROLE", mesos.FrameworkInfo{Name: "x", User: "root", Roles: []string{"r1"},
			Capabilities: capability(mesos.FrameworkInfo_Capability_MULTI_ROLE)}, 1,
			`{"name":"cpus","type":"SCALAR","scalar":{"value":1.0},"role":"r1","allocation_info":{"role":"r1"}}`},
		{"RESERVATION_REFINEMENT", mesos.FrameworkInfo{Name: "x", User: "root", Role: &role,
			Capabilities: capability(mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT)}, 1,
			`{"name":"cpus","type":"SCALAR","scalar":{"value":1.0},"reservations":[{"type":"STATIC","role":"r1"}]}`},
		{"REGION_AWARE", mesos.FrameworkInfo{Name: "x", User: "root", Role: &role,
			Capabilities: capability(mesos.FrameworkInfo_Capability_REGION_AWARE)}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := probe.Connect(t, m.URL(), wire.JSON, c.info)
			offers := s.Offers()
			if len(offers) != c.offers {
				t.Fatalf("%d offers, want %d", len(offers), c.offers)
			}
			if c.second != "" {
				text, err := wire.JSON.Marshal(&offers[0].Resources[1])
				if err != nil {
					t.Fatal(err)
				}
				var got, want any
				if json.Unmarshal(text, &got) != nil || json.Unmarshal([]byte(c.second), &want) != nil {
					t.Fatalf("not JSON: %s, %s", text, c.second)
				}
				a, _ := json.Marshal(got)
				b, _ := json.Marshal(want)
				if string(a) != string(b) {
					t.Errorf("got  %s\nwant %s", a, b)
				}
			}
			s.Must(teardown())
		})
	}
}

func domain(region string) *mesos.DomainInfo {
	return &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: mesos.DomainInfo_FaultDomain_RegionInfo{Name: region},
		Zone:   mesos.DomainInfo_FaultDomain_ZoneInfo{Name: "zone"},
	}}
}

func TestTwoFrameworksShareAgents(t *testing.T) {
	m, l := start(t, quick)
	newPuppet(t, l)
	newPuppet(t, l, func(info *mesos.AgentInfo) { info.Hostname = "127.0.0.2" })
	first := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	offers := first.Offers()
	second := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) { info.Name = "s2" }))
	first.Must(decline(ptr(0.0), offers[0]))
	// The first one still holds an agent, so the other one is next.
	if got := second.Offers(); len(got) != 1 || got[0].AgentID != offers[0].AgentID {
		t.Errorf("offers to the second framework: %v", got)
	}
}
