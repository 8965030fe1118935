package scheduler

import (
	"strings"
	"testing"

	"pacer/scheduler/app"
	"pacer/scheduler/state"
)

func TestDescribePayload_NamesPortsAsTheDefinitionNumbersThem(t *testing.T) {
	a := &app.App{ID: "/shop/cart", Ports: []app.Port{{Number: 10000}, {Number: 0}, {Number: 31002}}, Env: map[string]string{"A": "1"}}
	p := describePayload(a, &state.Task{Ports: []uint32{31000, 31001, 31002}}, "")
	var got []string
	for _, v := range p.Environment {
		got = append(got, v.Name+"="+v.Value)
	}
	if text := strings.Join(got, " "); text != "PORT_10000=31000 A=1" {
		t.Errorf("environment %s", text)
	}
}
