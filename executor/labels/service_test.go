package labels

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func ports(names ...string) []Port {
	var list []Port
	for _, n := range names {
		list = append(list, Port{Name: n})
	}
	return list
}

var both = Limits{ZooKeeper: true, Consul: true}

func TestParse_ServicesGood(t *testing.T) {
	for _, c := range []struct {
		name string
		app  App
		want Declaration
	}{
		{"none", App{Labels: map[string]string{"team": "shop", "x.service.name": "y"}}, Declaration{Required: true}},
		{"name takes the first port", App{Labels: map[string]string{"service.name": "web"}, Ports: ports("", "admin")},
			Declaration{Required: true, Services: []Service{{Name: "web", Endpoints: true}}}},
		{"by port name and index", App{Labels: map[string]string{"service.admin.name": "web-admin", "service.0.name": "web"}, Ports: ports("http", "admin")},
			Declaration{Required: true, Services: []Service{{Name: "web"}, {Name: "web-admin", Port: 1}}}},
		{"a port's name goes before an index", App{Labels: map[string]string{"service.0.name": "x"}, Ports: ports("a", "0")},
			Declaration{Required: true, Services: []Service{{Name: "x", Port: 1}}}},
		{"two names for a port", App{Labels: map[string]string{"service.name": "a", "service.http.name": "b"}, Ports: ports("http")},
			Declaration{Required: true, Services: []Service{{Name: "b"}, {Name: "a", Endpoints: true}}}},
		{"port with dots in its name", App{Labels: map[string]string{"service.a.b.name": "x"}, Ports: ports("a.b")},
			Declaration{Required: true, Services: []Service{{Name: "x"}}}},
		{"everything else", App{Labels: map[string]string{"service.name": "web", "service.tags": " a, b,a", "service.required": "false", "drain": "2s"}, Ports: ports("")},
			Declaration{Drain: 2 * time.Second, Services: []Service{{Name: "web", Endpoints: true, Tags: []string{"a", "b"}}}}},
		{"drain without a name", App{Labels: map[string]string{"drain": "5m"}}, Declaration{Required: true, Drain: 5 * time.Minute}},

		{"consul", App{Labels: map[string]string{"consul": "cart", "blue": "tag", "x": "y"}, Ports: ports("")},
			Declaration{Required: true, Services: []Service{{Name: "cart", Tags: []string{"blue"}, Only: Consul}}}},
		{"consul, name from the app", App{Path: "/shop/cart", Labels: map[string]string{"consul": "true"}, Ports: ports("")},
			Declaration{Required: true, Services: []Service{{Name: "shop-cart", Only: Consul}}}},
		{"consul, several names", App{Labels: map[string]string{"consul": "a, b"}, Ports: ports("")},
			Declaration{Required: true, Services: []Service{{Name: "a", Only: Consul}, {Name: "b", Only: Consul}}}},
		{"consul by port", App{Path: "/cart", Labels: map[string]string{"consul": "ignored", "all": "tag"}, Ports: []Port{
			{}, {Labels: map[string]string{"consul": "a,b", "p": "tag", "q": "tag:b"}}, {Labels: map[string]string{"consul": ""}}}},
			Declaration{Required: true, Services: []Service{
				{Name: "a", Port: 1, Tags: []string{"all", "p"}, Only: Consul},
				{Name: "b", Port: 1, Tags: []string{"all", "p", "q"}, Only: Consul},
				{Name: "cart", Port: 2, Tags: []string{"all"}, Only: Consul},
			}}},
		{"the same name in both", App{Labels: map[string]string{"consul": "web, shop", "service.name": "web", "service.tags": "a", "a": "tag", "b": "tag"}, Ports: ports("")},
			Declaration{Required: true, Services: []Service{{Name: "web", Endpoints: true, Tags: []string{"a", "b"}}, {Name: "shop", Tags: []string{"a", "b"}, Only: Consul}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse(c.app, both)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&c.want, got, cmpopts.IgnoreFields(Declaration{}, "Ports"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("declaration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse_ServicesBad(t *testing.T) {
	zk := Limits{ZooKeeper: true}
	for _, c := range []struct {
		name   string
		app    App
		limits Limits
		want   []string // "label: part of the message"
	}{
		{"no such port", App{Labels: map[string]string{"service.htp.name": "x"}, Ports: ports("http", "")}, zk, []string{`service.htp.name: the app has no port "htp": want an index from 0 to 1 or one of "http"`}},
		{"index too high", App{Labels: map[string]string{"service.2.name": "x"}, Ports: ports("http", "")}, zk, []string{"service.2.name: the app has no port"}},
		{"negative index", App{Labels: map[string]string{"service.-1.name": "x"}, Ports: ports("")}, zk, []string{"service.-1.name: "}},
		{"odd index", App{Labels: map[string]string{"service.+0.name": "x", "service.00.name": "y"}, Ports: ports("")}, zk, []string{"service.+0.name: ", "service.00.name: "}},
		{"empty port", App{Labels: map[string]string{"service..name": "x"}, Ports: ports("")}, zk, []string{"service..name: "}},
		{"no ports", App{Labels: map[string]string{"service.name": "x"}}, zk, []string{"service.name: the app has no ports"}},
		{"empty name", App{Labels: map[string]string{"service.name": ""}, Ports: ports("")}, zk, []string{`service.name: "" is no service name`}},
		{"slash in a name", App{Labels: map[string]string{"service.name": "a/b"}, Ports: ports("")}, zk, []string{`service.name: "a/b" is no`}},
		{"dots", App{Labels: map[string]string{"service.name": ".."}, Ports: ports("")}, zk, []string{`service.name: ".." is no`}},
		{"long name", App{Labels: map[string]string{"service.name": strings.Repeat("x", 10_000)}, Ports: ports("")}, zk, []string{`service.name: "xxx`}},
		{"a name twice", App{Labels: map[string]string{"service.name": "x", "service.1.name": "x"}, Ports: ports("", "")}, zk, []string{"service.name: \"x\" is the name of another port already (label service.1.name)"}},
		{"unknown", App{Labels: map[string]string{"service.tag": "x", "service.name": "y"}, Ports: ports("")}, zk, []string{"service.tag: is unknown: want service.name"}},
		{"required", App{Labels: map[string]string{"service.name": "x", "service.required": "yes"}, Ports: ports("")}, zk, []string{`service.required: "yes" is neither true nor false`}},
		{"tags", App{Labels: map[string]string{"service.name": "x", "service.tags": "a,,b"}, Ports: ports("")}, zk, []string{"service.tags: "}},
		{"tags for nothing", App{Labels: map[string]string{"service.tags": "a", "service.required": "true"}}, zk, []string{"service.required: has no effect", "service.tags: has no effect"}},
		{"drain without unit", App{Labels: map[string]string{"drain": "5"}}, zk, []string{`drain: "5" is not a duration from 0s to 5m0s`}},
		{"drain too long", App{Labels: map[string]string{"drain": "11s"}}, Limits{MaxDrain: 10 * time.Second}, []string{"drain: \"11s\" is not a duration from 0s to 10s"}},
		{"negative drain", App{Labels: map[string]string{"drain": "-1s"}}, zk, []string{"drain: "}},
		{"consul without Consul", App{Labels: map[string]string{"consul": "x"}, Ports: ports("")}, zk, []string{"consul: no Consul is configured here"}},
		{"consul without Consul, by port", App{Ports: []Port{{Labels: map[string]string{"consul": "x"}}}}, zk, []string{"consul: no Consul"}},
		{"consul without ports", App{Labels: map[string]string{"consul": "x"}}, both, []string{"consul: the app has no ports"}},
		{"consul, bad name", App{Labels: map[string]string{"consul": "a,,b"}, Ports: ports("")}, both, []string{`consul: "" is no service name`}},
		{"consul, the name of another port", App{Labels: map[string]string{"service.1.name": "x", "consul": "x"}, Ports: ports("", "")}, both, []string{`consul: "x" is the name of another port already (label service.1.name)`}},
		{"nothing configured", App{Labels: map[string]string{"service.name": "x"}, Ports: ports("")}, Limits{}, []string{"service.name: no registry is configured here: the operator has to set PACER_ZK"}},
		{"all at once", App{Labels: map[string]string{"drain": "x", "service.name": "-", "service.required": "", "service.x.name": "y"}}, zk,
			[]string{"drain: ", "service.name: ", "service.required: ", "service.x.name: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Parse(c.app, c.limits)
			var errs Errors
			if !errors.As(err, &errs) || d != nil {
				t.Fatalf("declaration %+v, error %v, want Errors", d, err)
			}
			slices.SortFunc(errs, func(a, b Error) int { return strings.Compare(a.Label, b.Label) })
			if len(errs) != len(c.want) {
				t.Fatalf("%d mistakes, want %d: %v", len(errs), len(c.want), err)
			}
			for i, e := range errs {
				if got := e.Label + ": " + e.Message; !strings.HasPrefix(got, c.want[i]) || len(got) > 400 {
					t.Errorf("mistake %q, want %q...", got, c.want[i])
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("service.name", "web", "service.http.name", "x", "http", true)
	f.Add("consul", "true", "drain", "1h", "", true)
	f.Add("service.0.name", "..", "service.tags", ",", "0", false)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, port string, consul bool) {
		app := App{Path: v2, Labels: map[string]string{k1: v1, k2: v2}, Ports: []Port{{Name: port, Labels: map[string]string{k2: v1}}}}
		d, err := Parse(app, Limits{ZooKeeper: true, Consul: consul})
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, s := range d.Services {
			if seen[s.Name] {
				t.Errorf("%s is registered twice", s.Name)
			}
			seen[s.Name] = true
			if !validName(s.Name) || s.Port != 0 || s.Only != "" && !consul {
				t.Errorf("service %+v", s)
			}
		}
	})
}
