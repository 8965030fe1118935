package placement

import (
	"maps"
	"slices"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/app"
)

// An app that says nothing about regions stays in the master's.
func TestPlace_StaysInTheHomeRegion(t *testing.T) {
	in := func(n int, region string) Agent {
		a := plenty(n)
		if region != "" {
			a.Offers[0].Domain = &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
				Region: mesos.DomainInfo_FaultDomain_RegionInfo{Name: region}, Zone: mesos.DomainInfo_FaultDomain_ZoneInfo{Name: "z"}}}
		}
		return a
	}
	for name, test := range map[string]struct {
		home       string
		constraint []app.Constraint
		hosts      []string // that get something
	}{
		"at home, or nowhere":        {"eu", nil, []string{"host1", "host3"}},
		"master without region":      {"", nil, []string{"host1", "host2", "host3"}},
		"asks for another":           {"eu", []app.Constraint{{Field: "@region", Operator: app.Is, Value: "us"}}, []string{"host2"}},
		"asks for any":               {"eu", []app.Constraint{{Field: "@region", Operator: app.Like, Value: ".*"}}, []string{"host1", "host2"}},
		"spreads over regions":       {"eu", []app.Constraint{{Field: "@region", Operator: app.GroupBy}}, []string{"host1", "host2"}},
		"zone does not open regions": {"eu", []app.Constraint{{Field: "@zone", Operator: app.Is, Value: "z"}}, []string{"host1"}},
	} {
		t.Run(name, func(t *testing.T) {
			agents := []Agent{in(1, "eu"), in(2, "us"), in(3, "")}
			c := config(1)
			c.HomeRegion = test.home
			a := service("/a", func(a *app.App) { a.CPUs, a.Mem, a.Constraints = 100, app.Unit, test.constraint })
			got := slices.Sorted(maps.Keys(hostsOf(Place(c, agents, []Request{{App: a, Count: 12, ExecutorKey: "k"}}), agents)))
			if !slices.Equal(got, test.hosts) {
				t.Errorf("placed on %v, want %v", got, test.hosts)
			}
		})
	}
	c := config(1)
	c.HomeRegion = "eu"
	got := Place(c, []Agent{in(2, "us")}, []Request{{App: service("/a"), Count: 1}})
	if w := got.Waiting["/a"]; w == nil || w.Constraints[0].Text() != "[@region IS eu]" || !strings.Contains(w.Text, "[@region IS eu]") {
		t.Errorf("waiting: %+v", w)
	}
}
