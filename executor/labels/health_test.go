package labels

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pacer/healthcheck"
)

// overHTTP is an app's own check, as it is known when the app is submitted.
func overHTTP() *healthcheck.Check {
	c := healthcheck.Default()
	c.HTTP = &healthcheck.HTTP{Scheme: "http", Path: "/health"}
	return &c
}

func TestParse_HealthGood(t *testing.T) {
	with := func(change func(*healthcheck.Check)) healthcheck.Check {
		c := *overHTTP()
		change(&c)
		return c
	}
	for _, c := range []struct {
		name   string
		labels map[string]string
		want   []Check
	}{
		{"none", map[string]string{"team": "x", "healthy": "y"}, []Check{{*overHTTP(), -1}}},
		{"what a definition cannot say", map[string]string{
			"health.success-threshold": "3", "health.host": "shop.example", "health.header.X-Key": "s3cr3t", "health.body": "ok",
			"health.statuses": "200-299, 401", "health.redirects": "0", "health.verify": "false",
		}, []Check{{with(func(c *healthcheck.Check) {
			c.Successes = 3
			c.HTTP = &healthcheck.HTTP{Scheme: "http", Path: "/health", Host: "shop.example", Body: "ok", Redirects: -1, Header: map[string]string{"X-Key": "s3cr3t"},
				Statuses: []healthcheck.StatusRange{{First: 200, Last: 299}, {First: 401, Last: 401}}}
		}), -1}}},
		{"further checks, by name", map[string]string{
			"health.db.command": "pg_isready", "health.db.failures": "0", "health.db.interval": "30s", "health.db.timeout": "2s", "health.db.delay": "0s", "health.db.grace": "1m",
			"health.admin.port": "admin", "health.admin.path": "/ready", "health.admin.protocol": "https", "health.admin.statuses": "200", "health.admin.ip": "6",
			"health.raw.protocol": "tcp", "health.raw.port": "1",
		}, []Check{
			{*overHTTP(), -1},
			{with(func(c *healthcheck.Check) {
				c.Name = "admin"
				c.HTTP = &healthcheck.HTTP{Scheme: "https", Path: "/ready", IPv6: true, Statuses: []healthcheck.StatusRange{{First: 200, Last: 200}}}
			}), 1},
			{with(func(c *healthcheck.Check) {
				c.Name, c.HTTP, c.Command = "db", nil, &healthcheck.Command{Shell: "pg_isready"}
				c.Failures, c.Interval, c.Timeout, c.Delay, c.Grace = healthcheck.Never, 30*time.Second, 2*time.Second, 0, time.Minute
			}), -1},
			{with(func(c *healthcheck.Check) { c.Name, c.HTTP, c.TCP = "raw", nil, new(healthcheck.TCP) }), 1},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := overHTTP()
			got, err := Parse(App{Labels: c.labels, Ports: ports("http", "admin"), Check: own}, both)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Checks); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(overHTTP(), own); diff != "" {
				t.Errorf("the app's own check was changed:\n%s", diff)
			}
			for _, check := range got.Checks[1:] {
				at := check.At([]int{31000, 31001})
				if err := at.Validate(); err != nil {
					t.Errorf("%s: %v", check.Name, err)
				}
				if at.HTTP != nil && at.HTTP.Port != 31001 || at.TCP != nil && at.TCP.Port != 31001 {
					t.Errorf("%s asks %+v, %+v", check.Name, at.HTTP, at.TCP)
				}
			}
		})
	}
}

func TestParse_HealthBad(t *testing.T) {
	never := overHTTP()
	never.Failures = healthcheck.Never
	command := healthcheck.Default()
	command.Command = &healthcheck.Command{Shell: "true"}
	many := map[string]string{}
	for i := range 30 {
		many[fmt.Sprintf("health.n%d.command", i)] = "true"
	}
	for _, c := range []struct {
		name   string
		check  *healthcheck.Check
		labels map[string]string
		want   []string // labels that are named
	}{
		{"without a check", nil, map[string]string{"health.host": "x", "health.db.command": "true"}, []string{"health.host", "health.db"}},
		{"unknown", overHTTP(), map[string]string{"health.hots": "x", "health.db.hots": "x", "health..path": "/", "health.": ""}, []string{"health.hots", "health.db.hots", "health..path", "health."}},
		{"numbers", overHTTP(), map[string]string{"health.success-threshold": "0", "health.redirects": "many", "health.x.failures": "-1"}, []string{"health.success-threshold", "health.redirects", "health.x.failures"}},
		{"durations", overHTTP(), map[string]string{"health.x.delay": "5", "health.x.interval": "-1s", "health.x.timeout": "11m", "health.x.grace": "1e9h"}, []string{"health.x.delay", "health.x.interval", "health.x.timeout", "health.x.grace"}},
		{"statuses", overHTTP(), map[string]string{"health.statuses": "2xx", "health.x.statuses": "200-100"}, []string{"health.statuses", "health.x.statuses"}},
		{"a header without a name", overHTTP(), map[string]string{"health.header.": "x", "health.header.a b": "x"}, []string{"health.header.", "health.header.<Name>"}},
		{"a path that is none", overHTTP(), map[string]string{"health.x.path": "ready"}, []string{"health.x.path"}},
		{"no such port", overHTTP(), map[string]string{"health.x.port": "amdin"}, []string{"health.x.port"}},
		{"a protocol that is none", overHTTP(), map[string]string{"health.x.protocol": "udp"}, []string{"health.x.protocol"}},
		{"HTTP fields of a command", overHTTP(), map[string]string{"health.x.command": "true", "health.x.path": "/", "health.x.host": "h", "health.x.port": "0", "health.x.ip": "4"}, []string{"health.x.path", "health.x.host", "health.x.port", "health.x.ip"}},
		{"a command over HTTP", overHTTP(), map[string]string{"health.x.command": "true", "health.x.protocol": "http"}, []string{"health.x.command"}},
		{"no command", overHTTP(), map[string]string{"health.x.protocol": "command"}, []string{"health.x.command"}},
		{"HTTP fields for the app's own command", &command, map[string]string{"health.host": "x", "health.body": "y"}, []string{"health.host", "health.body"}},
		{"neither true nor false", overHTTP(), map[string]string{"health.verify": "1"}, []string{"health.verify"}},
		{"verify without TLS", overHTTP(), map[string]string{"health.verify": "true"}, []string{"health.verify"}},
		{"nobody would kill", never, map[string]string{"health.x.failures": "3"}, []string{"health.x.failures"}},
		{"IP version 5", overHTTP(), map[string]string{"health.x.ip": "5"}, []string{"health.x.ip"}},
		{"too many", overHTTP(), many, []string{"health.<name>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(App{Labels: c.labels, Ports: ports("http", "admin"), Check: c.check}, both)
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error %v, want Errors", err)
			}
			missing := map[string]bool{}
			for _, label := range c.want {
				missing[label] = true
			}
			for _, e := range errs {
				if !missing[e.Label] {
					t.Errorf("%s is named, or named twice: %s", e.Label, e.Message)
				}
				delete(missing, e.Label)
			}
			for label := range missing {
				t.Errorf("%s is not named in: %v", label, err)
			}
		})
	}
}

func TestParse_HealthNeedsItsOwnMistakesOnly(t *testing.T) {
	// What is wrong with the definition is reported by whoever read it.
	broken := overHTTP()
	broken.HTTP.Path, broken.Delay = "health", -time.Second
	if _, err := Parse(App{Labels: map[string]string{"health.host": "h"}, Check: broken}, both); err != nil {
		t.Error(err)
	}
}

func TestErrors_ShowNoHeader(t *testing.T) {
	_, err := Parse(App{Labels: map[string]string{"health.header.X-Key": "s3cr3t\n"}, Check: overHTTP()}, both)
	if err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error %v, want one without the header's value", err)
	}
}

func FuzzParse_Health(f *testing.F) {
	f.Add("host", "h", "x.path", "/")
	f.Add("x.command", "true", "x.failures", "3")
	f.Add("statuses", "200-299,", "header.", "")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		app := App{Labels: map[string]string{HealthPrefix + k1: v1, HealthPrefix + k2: v2}, Ports: ports("http"), Check: overHTTP()}
		d, err := Parse(app, both)
		if err != nil {
			return
		}
		for _, check := range d.Checks {
			at := check.At([]int{31000})
			if at.HTTP != nil && at.HTTP.Port == 0 {
				at.HTTP.Port = 1
			}
			if err := at.Validate(); err != nil {
				t.Errorf("%+v: %v", app.Labels, err)
			}
		}
	})
}
