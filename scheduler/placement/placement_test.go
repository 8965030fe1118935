package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
)

func config(seed uint64) Config {
	return Config{
		ExecutorCPUs: 100, ExecutorMem: 64 * app.Unit, Strategy: Spread,
		Now: time.Unix(1000, 0), Random: rand.New(rand.NewPCG(seed, 1)),
	}
}

func service(id string, change ...func(*app.App)) *app.App {
	a := app.Default(id)
	a.Ports = nil
	for _, f := range change {
		f(a)
	}
	return a
}

func pointer[T any](v T) *T { return &v }

func scalarOf(name string, value float64) mesos.Resource {
	return mesos.Resource{Name: name, Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: value}}
}

func portsOf(spans ...uint64) mesos.Resource {
	r := mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	for pair := range slices.Chunk(spans, 2) {
		r.Ranges.Range = append(r.Ranges.Range, mesos.Value_Range{Begin: pair[0], End: pair[1]})
	}
	return r
}

func reserved(role string, r mesos.Resource) mesos.Resource {
	r.Reservations = []mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_STATIC.Enum(), Role: &role}}
	return r
}

func text(name, value string) mesos.Attribute {
	return mesos.Attribute{Name: name, Type: mesos.TEXT, Text: &mesos.Value_Text{Value: value}}
}

func agent(n int, resources ...mesos.Resource) Agent {
	return Agent{Offers: []mesos.Offer{{
		ID:             mesos.OfferID{Value: fmt.Sprint("o", n)},
		AgentID:        mesos.AgentID{Value: fmt.Sprint("S", n)},
		Hostname:       fmt.Sprint("host", n),
		Resources:      resources,
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: pointer("web")},
	}}}
}

func plenty(n int) Agent {
	return agent(n, scalarOf("cpus", 8), scalarOf("mem", 8192), scalarOf("disk", 8192), portsOf(31000, 32000))
}

func hostsOf(r Result, agents []Agent) map[string]int {
	counts := make(map[string]int)
	for _, l := range r.Launches {
		counts[agents[l.Agent].Hostname()]++
	}
	return counts
}

func TestPlace_CarvesTheOffersOwnResources(t *testing.T) {
	agents := []Agent{agent(1,
		scalarOf("cpus", 1), reserved("web", scalarOf("cpus", 0.4)),
		scalarOf("mem", 1024), portsOf(31000, 31000), reserved("web", portsOf(8080, 8081)))}
	a := service("/a", func(a *app.App) {
		a.CPUs, a.Mem = 700, 100*app.Unit
		a.RequirePorts = true
		a.Ports = []app.Port{{}, {Number: 31000}, {Number: 8081}}
	})
	got := Place(config(1), agents, []Request{{App: a, Count: 1, ExecutorKey: "k"}})
	if len(got.Launches) != 1 {
		t.Fatalf("not placed: %+v", got.Waiting["/a"])
	}
	role := &mesos.Resource_AllocationInfo{Role: pointer("web")}
	with := func(r mesos.Resource) mesos.Resource { r.AllocationInfo = role; return r }
	wantTask := []mesos.Resource{
		with(reserved("web", scalarOf("cpus", 0.3))), with(scalarOf("cpus", 0.4)), with(scalarOf("mem", 100)),
		with(reserved("web", portsOf(8080, 8081))), with(portsOf(31000, 31000)),
	}
	if diff := cmp.Diff(wantTask, got.Launches[0].Resources); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint32{8080, 31000, 8081}, got.Launches[0].Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	wantExecutor := []mesos.Resource{with(reserved("web", scalarOf("cpus", 0.1))), with(scalarOf("mem", 64))}
	if diff := cmp.Diff(wantExecutor, got.Executors[0].Resources); diff != "" {
		t.Errorf("executor (-want +got):\n%s", diff)
	}
}

func TestPlace_ChargesTheExecutorOnce(t *testing.T) {
	small := func() Agent { return agent(1, scalarOf("cpus", 2), scalarOf("mem", 1024)) }
	live := small()
	live.Executors = map[string]string{"k": "pacer-live"}
	a := service("/a", func(a *app.App) { a.CPUs, a.Mem = 500, app.Unit })
	for name, test := range map[string]struct {
		agent               Agent
		key                 string
		launches, executors int
	}{
		// 2 cpus: 0.1 for the executor leaves room for 3.
		"new executor":  {small(), "k", 3, 1},
		"live executor": {live, "k", 4, 0},
		"another key":   {live, "other", 3, 1},
		"one each":      {small(), "", 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place(config(1), []Agent{test.agent}, []Request{{App: a, Count: 9, ExecutorKey: test.key}})
			if len(got.Launches) != test.launches || len(got.Executors) != test.executors {
				t.Errorf("%d launches, %d executors; want %d, %d", len(got.Launches), len(got.Executors), test.launches, test.executors)
			}
			if w := got.Waiting["/a"]; w == nil || w.Count != 9-test.launches {
				t.Errorf("waiting = %+v", w)
			}
		})
	}
}

func TestPlace_OneAppThatFitsNowhereDelaysNobody(t *testing.T) {
	agents := []Agent{plenty(1), plenty(2)}
	requests := []Request{
		{App: service("/huge", func(a *app.App) { a.CPUs = 100 * app.Unit }), Count: 1000, ExecutorKey: "k"},
		{App: service("/greedy"), Count: 1000, ExecutorKey: "k"},
		{App: service("/small"), Count: 3, ExecutorKey: "k"},
	}
	got := Place(config(1), agents, requests)
	counts := make(map[string]int)
	for _, l := range got.Launches {
		counts[l.App.ID]++
	}
	if counts["/small"] != 3 || counts["/greedy"] != 11 || counts["/huge"] != 0 {
		t.Errorf("launches: %v", counts)
	}
	if got.Waiting["/small"] != nil {
		t.Errorf("small waits: %+v", got.Waiting["/small"])
	}
}

func TestPlace_Strategies(t *testing.T) {
	for name, test := range map[string]struct {
		strategy Strategy
		placed   []Placed
		count    int
		want     map[string]int
	}{
		"spread":                      {Spread, nil, 6, map[string]int{"host1": 2, "host2": 2, "host3": 2}},
		"spread minds what is there":  {Spread, []Placed{{AgentID: "S1"}, {AgentID: "S1"}, {AgentID: "S2"}}, 3, map[string]int{"host2": 1, "host3": 2}},
		"pack fills one, then others": {Pack, nil, 7, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				c := config(seed)
				c.Strategy = test.strategy
				agents := []Agent{plenty(1), plenty(2), plenty(3)}
				got := hostsOf(Place(c, agents, []Request{{App: service("/a"), Count: test.count, Placed: test.placed, ExecutorKey: "k"}}), agents)
				if test.want == nil {
					if len(got) != 1 {
						t.Fatalf("packed onto %v", got)
					}
					continue
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
				}
			}
		})
	}
}

func TestPlace_Constraints(t *testing.T) {
	// Four hosts in two racks; host4 has no rack.
	agents := func() []Agent {
		list := []Agent{plenty(1), plenty(2), plenty(3), plenty(4)}
		for i, rack := range []string{"r1", "r1", "r2"} {
			list[i].Offers[0].Attributes = []mesos.Attribute{text("rack", rack), {Name: "gen", Type: mesos.SCALAR, Scalar: &mesos.Value_Scalar{Value: float64(i)}}}
			list[i].Offers[0].Domain = &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
				Region: mesos.DomainInfo_FaultDomain_RegionInfo{Name: "eu"}, Zone: mesos.DomainInfo_FaultDomain_ZoneInfo{Name: fmt.Sprint("z", i)}}}
		}
		return list
	}
	on := func(host, rack string) Placed {
		return Placed{AgentID: "S" + host[4:], Hostname: host, Attributes: map[string]string{"rack": rack}}
	}
	for name, test := range map[string]struct {
		field    string
		operator app.Operator
		value    string
		placed   []Placed
		count    int
		launches int
		allowed  []string // hosts that may be used
	}{
		"unique host":                 {"hostname", app.Unique, "", nil, 9, 4, nil},
		"unique host, one taken":      {"hostname", app.Unique, "", []Placed{on("host1", "r1")}, 9, 3, []string{"host2", "host3", "host4"}},
		"unique rack":                 {"rack", app.Unique, "", nil, 9, 2, []string{"host1", "host2", "host3"}},
		"cluster by value":            {"rack", app.Cluster, "r1", nil, 4, 4, []string{"host1", "host2"}},
		"cluster with what is there":  {"rack", app.Cluster, "", []Placed{on("host3", "r2")}, 4, 4, []string{"host3"}},
		"like":                        {"hostname", app.Like, "host[12]", nil, 4, 4, []string{"host1", "host2"}},
		"like matches the whole":      {"hostname", app.Like, "host", nil, 4, 0, nil},
		"unlike":                      {"hostname", app.Unlike, "host[12]", nil, 4, 4, []string{"host3", "host4"}},
		"like needs the attribute":    {"rack", app.Like, ".*", nil, 4, 4, []string{"host1", "host2", "host3"}},
		"unlike allows without":       {"rack", app.Unlike, "r1", nil, 4, 4, []string{"host3", "host4"}},
		"max per rack":                {"rack", app.MaxPer, "2", []Placed{on("host1", "r1")}, 9, 3, []string{"host1", "host2", "host3"}},
		"is":                          {"rack", app.Is, "r2", nil, 2, 2, []string{"host3"}},
		"is a number":                 {"gen", app.Is, "1.0", nil, 2, 2, []string{"host2"}},
		"group by keeps balance":      {"rack", app.GroupBy, "2", []Placed{on("host1", "r1"), on("host1", "r1")}, 2, 2, []string{"host3"}},
		"group by waits for a third":  {"rack", app.GroupBy, "3", nil, 9, 2, []string{"host1", "host2", "host3"}},
		"group by alternates":         {"rack", app.GroupBy, "2", nil, 6, 6, []string{"host1", "host2", "host3"}},
		"zone":                        {"@zone", app.Is, "z2", nil, 1, 1, []string{"host3"}},
		"region of agents without it": {"@region", app.Is, "eu", nil, 4, 4, []string{"host1", "host2", "host3"}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(10) {
				list := agents()
				a := service("/a", func(a *app.App) {
					a.CPUs, a.Mem = 100, app.Unit
					a.Constraints = []app.Constraint{{Field: test.field, Operator: test.operator, Value: test.value}}
				})
				got := Place(config(seed), list, []Request{{App: a, Count: test.count, Placed: test.placed, ExecutorKey: "k"}})
				hosts := hostsOf(got, list)
				if len(got.Launches) != test.launches {
					t.Fatalf("seed %d: %d launches, want %d: %v, %+v", seed, len(got.Launches), test.launches, hosts, got.Waiting["/a"])
				}
				for host := range hosts {
					if test.allowed != nil && !slices.Contains(test.allowed, host) {
						t.Errorf("seed %d: used %s", seed, host)
					}
				}
				if test.launches < test.count && !strings.Contains(got.Waiting["/a"].Text, string(test.operator)) {
					t.Errorf("reason does not name the constraint: %q", got.Waiting["/a"].Text)
				}
			}
		})
	}
}

func TestPlace_SaysWhyNot(t *testing.T) {
	later := plenty(1)
	later.Offers[0].Unavailability = &mesos.Unavailability{Start: mesos.TimeInfo{Nanoseconds: int64(2000 * time.Second)}}
	down := plenty(1)
	down.Offers[0].Unavailability = &mesos.Unavailability{Start: mesos.TimeInfo{Nanoseconds: int64(500 * time.Second)}}
	for name, test := range map[string]struct {
		agents []Agent
		change func(*app.App)
		reason Reason // empty: placed
		text   string
	}{
		"nothing offered":       {nil, func(*app.App) {}, "", "no offers yet"},
		"cpus":                  {[]Agent{plenty(1)}, func(a *app.App) { a.CPUs = 7950 }, InsufficientCPUs, "8.05 cpus"},
		"memory":                {[]Agent{plenty(1)}, func(a *app.App) { a.Mem = 9000 * app.Unit }, InsufficientMemory, "has 8192"},
		"disk":                  {[]Agent{plenty(1)}, func(a *app.App) { a.Disk = 9000 * app.Unit }, InsufficientDisk, "disk"},
		"gpus":                  {[]Agent{plenty(1)}, func(a *app.App) { a.GPUs = app.Unit }, InsufficientGPUs, "gpus"},
		"port taken":            {[]Agent{plenty(1)}, func(a *app.App) { a.RequirePorts, a.Ports = true, []app.Port{{Number: 80}} }, InsufficientPorts, "ports"},
		"role":                  {[]Agent{plenty(1)}, func(a *app.App) { a.AcceptedResourceRoles = []string{"web"} }, UnfulfilledRole, "web"},
		"maintenance":           {[]Agent{down}, func(*app.App) {}, AgentMaintenance, "maintenance"},
		"maintenance, tomorrow": {[]Agent{later}, func(*app.App) {}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Place(config(1), test.agents, []Request{{App: service("/a", test.change), Count: 1, ExecutorKey: "k"}})
			w := got.Waiting["/a"]
			if test.text == "" {
				if w != nil {
					t.Errorf("waits: %+v", w)
				}
				return
			}
			if w == nil || !strings.Contains(w.Text, test.text) {
				t.Fatalf("waiting = %+v, want %q", w, test.text)
			}
			if test.reason != "" && (len(w.Rejections) != 1 || w.Rejections[0] != (Rejection{test.reason, 1, 1})) {
				t.Errorf("rejections = %+v, want one %s", w.Rejections, test.reason)
			}
		})
	}
}

// TestPlace_NeverUsesMoreThanIsOffered sums up what random placements take.
func TestPlace_NeverUsesMoreThanIsOffered(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		var agents []Agent
		for n := range 1 + random.IntN(5) {
			a := agent(n, scalarOf("cpus", float64(random.IntN(4000))/1000), reserved("web", scalarOf("cpus", random.Float64()*3)),
				scalarOf("mem", float64(random.IntN(2000))), portsOf(100, 100+uint64(random.IntN(9)), 200, 205), reserved("web", portsOf(300, 302)))
			if random.IntN(2) == 0 { // a second offer of the same agent
				second := agent(n, scalarOf("cpus", random.Float64()), portsOf(400, 401)).Offers[0]
				a.Offers = append(a.Offers, second)
			}
			agents = append(agents, a)
		}
		var requests []Request
		for n := range 1 + random.IntN(5) {
			requests = append(requests, Request{
				Count: random.IntN(8), ExecutorKey: []string{"k", "k", ""}[random.IntN(3)],
				App: service(fmt.Sprint("/a", n), func(a *app.App) {
					a.CPUs, a.Mem = app.Milli(random.IntN(1500)), app.Milli(random.IntN(300_000))
					for range random.IntN(4) {
						a.Ports = append(a.Ports, app.Port{Number: uint16(100 + random.IntN(8))})
					}
					slices.SortFunc(a.Ports, func(x, y app.Port) int { return int(x.Number) - int(y.Number) })
					a.Ports = slices.CompactFunc(a.Ports, func(x, y app.Port) bool { return x.Number == y.Number })
					a.RequirePorts = random.IntN(2) == 0
					if random.IntN(3) == 0 {
						a.AcceptedResourceRoles = []string{"web"}
					}
				}),
			})
		}
		got := Place(config(seed), agents, requests)
		used := make([]mesos.Resources, len(agents))
		for _, l := range got.Launches {
			if len(l.Resources) == 0 {
				t.Fatalf("seed %d: a task without resources", seed)
			}
			if len(l.Ports) != len(l.App.Ports) || slices.Contains(l.Ports, 0) {
				t.Fatalf("seed %d: ports %v for %d", seed, l.Ports, len(l.App.Ports))
			}
			used[l.Agent] = append(used[l.Agent], l.Resources...)
		}
		for _, e := range got.Executors {
			used[e.Agent] = append(used[e.Agent], e.Resources...)
		}
		for i := range agents {
			checkWithin(t, seed, agents[i], used[i])
		}
		placed := len(got.Launches)
		for _, w := range got.Waiting {
			placed += w.Count
		}
		for _, r := range requests {
			placed -= r.Count
		}
		if placed != 0 {
			t.Fatalf("seed %d: %d instances neither launched nor waiting", seed, placed)
		}
	}
}

func checkWithin(t *testing.T, seed uint64, a Agent, used mesos.Resources) {
	t.Helper()
	key := func(r *mesos.Resource) string { return r.Name + "/" + role(r) }
	free := make(map[string]app.Milli)
	ports := make(map[string]bool)
	for _, o := range a.Offers {
		for i := range o.Resources {
			r := &o.Resources[i]
			if r.Scalar != nil {
				free[key(r)] += toMilli(r.Scalar.Value)
			}
			for _, span := range r.GetRanges().GetRange() {
				for p := span.Begin; p <= span.End; p++ {
					ports[fmt.Sprint(p, role(r))] = true
				}
			}
		}
	}
	for i := range used {
		r := &used[i]
		if r.AllocationInfo.GetRole() != "web" {
			t.Fatalf("seed %d: %s without the allocation", seed, r.Name)
		}
		if r.Scalar != nil {
			if r.Scalar.Value <= 0 {
				t.Fatalf("seed %d: %v of %s", seed, r.Scalar.Value, r.Name)
			}
			free[key(r)] -= toMilli(r.Scalar.Value)
			if free[key(r)] < 0 {
				t.Fatalf("seed %d: agent %s has too little %s", seed, a.ID(), key(r))
			}
		}
		for _, span := range r.GetRanges().GetRange() {
			for p := span.Begin; p <= span.End; p++ {
				name := fmt.Sprint(p, role(r))
				if !ports[name] {
					t.Fatalf("seed %d: port %s is not offered or used twice", seed, name)
				}
				delete(ports, name)
			}
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	agents := make([]Agent, 1000)
	for n := range agents {
		agents[n] = agent(n, scalarOf("cpus", 64), scalarOf("mem", 1<<18), portsOf(31000, 32000))
	}
	var requests []Request
	for n := range 100 {
		a := service(fmt.Sprint("/a", n), func(a *app.App) { a.CPUs, a.Ports = 100, []app.Port{{}} })
		requests = append(requests, Request{App: a, Count: 50, ExecutorKey: "k"})
	}
	c := config(1)
	for b.Loop() {
		if got := Place(c, agents, requests); len(got.Launches) != 5000 {
			b.Fatalf("%d launches", len(got.Launches))
		}
	}
	b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "launches/s")
}
