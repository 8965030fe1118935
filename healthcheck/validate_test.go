package healthcheck

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefault_IsWhatMesosSays(t *testing.T) {
	d := Default()
	want := Check{Delay: 15 * time.Second, Interval: 10 * time.Second, Timeout: 20 * time.Second, Grace: 10 * time.Second, Failures: 3, Successes: 1}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	valid := func(set func(*Check)) Check {
		c := Default()
		set(&c)
		return c
	}
	for _, c := range []struct {
		name  string
		check Check
		want  []string // fields
	}{
		{"http", valid(func(c *Check) { c.HTTP = &HTTP{Port: 80} }), nil},
		{"http with everything", valid(func(c *Check) {
			c.HTTP = &HTTP{Scheme: "https", Address: "fe80::1", Port: 65535, Path: "/a?b=c", Host: "h:1", Header: map[string]string{"X-A": "b c"},
				Statuses: []StatusRange{{100, 599}}, Body: "ok", Redirects: -1, Verify: true}
		}), nil},
		{"tcp", valid(func(c *Check) { c.TCP = &TCP{Port: 1, Address: "localhost"} }), nil},
		{"command", valid(func(c *Check) { c.Command = &Command{Argv: []string{"true"}} }), nil},
		{"never", valid(func(c *Check) { c.TCP, c.Failures = &TCP{Port: 1}, Never }), nil},
		{"zeros that Mesos allows", valid(func(c *Check) {
			c.TCP = &TCP{Port: 1}
			c.Delay, c.Interval, c.Timeout, c.Grace = 0, 0, 0, 0
		}), nil},

		{"nothing asked", valid(func(*Check) {}), []string{"type"}},
		{"two things asked", valid(func(c *Check) { c.TCP, c.HTTP = &TCP{Port: 1}, &HTTP{Port: 1} }), []string{"type"}},
		{"every number wrong", Check{TCP: &TCP{}, Delay: -1, Interval: -1, Timeout: -1, Grace: -1, Failures: -1},
			[]string{"delay", "interval", "timeout", "grace", "failures", "successes", "tcp.port"}},
		{"timeout too long", valid(func(c *Check) { c.TCP, c.Timeout = &TCP{Port: 1}, time.Hour }), []string{"timeout"}},
		{"every http field wrong", valid(func(c *Check) {
			c.HTTP = &HTTP{Scheme: "ftp", Address: "a b", Port: 65536, Path: "health", Host: "a/b", Header: map[string]string{"A B": "c", "host": "x", "Z": "a\r\nb"},
				Statuses: []StatusRange{{200, 100}, {99, 200}, {200, 600}}, Body: strings.Repeat("x", MaxBody+1), Verify: true}
		}), []string{"http.scheme", "http.port", "http.address", "http.path", "http.host", "http.header", "http.header", "http.header",
			"http.statuses[0]", "http.statuses[1]", "http.statuses[2]", "http.body", "http.verify"}},
		{"request splitting", valid(func(c *Check) { c.HTTP = &HTTP{Port: 1, Path: "/ HTTP/1.1\r\nX: y"} }), []string{"http.path"}},
		{"empty command", valid(func(c *Check) { c.Command = &Command{} }), []string{"command"}},
		{"shell and argv", valid(func(c *Check) { c.Command = &Command{Shell: "x", Argv: []string{"y"}} }), []string{"command"}},
		{"empty program", valid(func(c *Check) { c.Command = &Command{Argv: []string{""}} }), []string{"command.argv"}},
		{"bad variables", valid(func(c *Check) { c.Command = &Command{Shell: "x\x00", Env: map[string]string{"A=": "x", "B": "\x00"}} }),
			[]string{"command", "command.env", "command.env"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.check.Validate()
			var problems Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatalf("error of type %T", err)
			}
			var got []string
			for _, p := range problems {
				got = append(got, p.Field)
				if p.Message == "" || !strings.Contains(err.Error(), p.Field+": "+p.Message) {
					t.Errorf("problem %+v is not in the error %q", p, err)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s\nerror: %v", diff, err)
			}
		})
	}
}

func TestSeconds(t *testing.T) {
	for _, c := range []struct {
		in   float64
		want time.Duration
		bad  bool
	}{
		{0, 0, false}, {1.5, 1500 * time.Millisecond, false}, {15, 15 * time.Second, false},
		{-1, 0, true}, {math.NaN(), 0, true}, {math.Inf(1), 0, true}, {1e18, 0, true},
	} {
		got, err := Seconds("delay_seconds", c.in)
		if got != c.want || (err != nil) != c.bad || err != nil && !strings.Contains(err.Error(), "delay_seconds: ") {
			t.Errorf("Seconds(%v) = %v, %v", c.in, got, err)
		}
	}
}

func TestNewMonitor_CommandNeedsARunner(t *testing.T) {
	c := Default()
	c.Command = &Command{Shell: "true"}
	if _, err := NewMonitor(NewProber(0), c, Task{}); err == nil {
		t.Error("no error without a runner")
	}
}

// Whatever is accepted as a target stays one line of a request.
func FuzzHTTPRequest(f *testing.F) {
	f.Add("/health", "host", "X-A", "b")
	f.Add("/ HTTP/1.1\r\nA: b", "h\r\n", "A: b\r\nC", "d\r\n\r\n")
	f.Fuzz(func(t *testing.T, path, host, name, value string) {
		c := Default()
		c.HTTP = &HTTP{Port: 80, Path: path, Host: host, Header: map[string]string{name: value}}
		if c.Validate() != nil {
			return
		}
		req := string(c.HTTP.request(c.HTTP.first()))
		if n := strings.Count(req, "\n"); n != 7 || strings.Count(req, "\r") != 7 {
			t.Errorf("%d lines in %q, want 7", n, req)
		}
	})
}
