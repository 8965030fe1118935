package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pacer/executor/labels"
)

func TestInstances(t *testing.T) {
	d, err := labels.Parse(labels.App{Labels: map[string]string{"service.name": "web", "service.admin.name": "web-admin"}, Ports: []labels.Port{{Name: "http"}, {}, {Name: "admin"}}}, labels.Limits{ZooKeeper: true})
	if err != nil {
		t.Fatal(err)
	}
	task := Task{ID: "shop_web.1", App: "/shop/web", Host: "10.0.0.7", Ports: []int{31000, 31001, 31002}, Shard: 4}
	got, err := Instances(d, task)
	if err != nil {
		t.Fatal(err)
	}
	want := []Instance{
		{TaskID: "shop_web.1", Name: "web-admin", App: "shop/web", Host: "10.0.0.7", Port: 31002, Shard: 4},
		{TaskID: "shop_web.1", Name: "web", App: "shop/web", Host: "10.0.0.7", Port: 31000, Shard: 4, Endpoints: map[string]int{"http": 31000, "admin": 31002}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	for name, c := range map[string]func(*Task){
		"too few ports": func(t *Task) { t.Ports = t.Ports[:2] },
		"port 0":        func(t *Task) { t.Ports = []int{1, 0, 3} },
		"port too high": func(t *Task) { t.Ports = []int{1, 2, 65536} },
		"no host":       func(t *Task) { t.Host = "" },
		"<nil>":         func(t *Task) { t.Host = "<nil>" },
		"0.0.0.0":       func(t *Task) { t.Host = "0.0.0.0" },
	} {
		bad := task
		c(&bad)
		if got, err := Instances(d, bad); err == nil || got != nil {
			t.Errorf("%s: %+v, no error", name, got)
		}
	}
	if got, err := Instances(new(labels.Declaration), Task{}); got != nil || err != nil {
		t.Errorf("no services: %v, %v", got, err)
	}
}

func TestAdvertisedHost(t *testing.T) {
	for _, c := range []struct {
		name, setting, agent string
		want, problem        string
	}{
		{"setting first", "public.example", "agent-1", "public.example", ""},
		{"else the agent's", "", "agent-1", "agent-1", ""},
		{"address", "", "10.0.0.7", "10.0.0.7", ""},
		{"IPv6", "2001:db8::1", "", "2001:db8::1", ""},
		{"nothing", "", "", "", "or set PACER_ADVERTISE_HOST"},
		{"unspecified", "::", "agent-1", "", "PACER_ADVERTISE_HOST: \"::\" is no address of one machine"},
		{"with port", "host:80", "", "", "without port"},
		{"brackets", "[::1]", "", "", "without port or brackets"},
		{"URL", "http://x", "", "", "PACER_ADVERTISE_HOST"},
		{"blank", " ", "agent-1", "", "PACER_ADVERTISE_HOST"},
		{"dots", "", "..", "", "hostname of the agent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AdvertisedHost(c.setting, c.agent)
			if got != c.want || (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%q, error %v; want %q, %q", got, err, c.want, c.problem)
			}
		})
	}
}
