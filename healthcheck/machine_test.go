package healthcheck

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answers writes a history in letters, one probe per second: s is a success,
// f a failure, i a failure to be ignored.
func answers(s string) []Answer {
	var list []Answer
	for i, c := range s {
		list = append(list, Answer{OK: c == 's', Ignore: c == 'i', Age: time.Duration(i+1) * time.Second})
	}
	return list
}

func TestMachine(t *testing.T) {
	const (
		h = string(Healthy)
		u = string(Unhealthy)
		f = string(Failure)
		x = string(Threshold)
	)
	rules := func(grace, failures, successes int) Rules {
		return Rules{Grace: time.Duration(grace) * time.Second, Interval: 10 * time.Second, Failures: failures, Successes: successes}
	}
	for _, c := range []struct {
		name    string
		rules   Rules
		answers string
		want    string // events by probe
	}{
		{"healthy once, not again and again", rules(0, 3, 1), "sss", h + ",,"},
		{"no grace: the first failure counts", rules(0, 3, 1), "f", u},
		{"no grace: threshold", rules(0, 3, 1), "fff", u + "," + f + "," + x},
		{"threshold 1 follows at once", rules(0, 1, 1), "f", u + "+" + x},
		{"threshold is said once", rules(0, 2, 1), "fffff", u + "," + x + "," + f + "," + f + "," + f},
		{"never", rules(0, Never, 1), "ffff", u + "," + f + "," + f + "," + f},
		{"failures in grace do not count", rules(3, 2, 1), "fff", ",,"},
		{"after grace they do", rules(3, 2, 1), "fffff", ",,," + u + "," + x},
		{"a failure at the very end of grace does not count", rules(1, 2, 1), "ff", "," + u},
		{"success ends grace", rules(100, 2, 1), "fsfff", "," + h + ",," + u + "," + x},
		{"a single failure of a healthy task is forgotten", rules(0, 3, 1), "sfsfsf", h + ",,,,,"},
		{"the repeat does not count", rules(0, 3, 1), "sffff", h + ",," + u + "," + f + "," + x},
		{"threshold 1: the repeat decides", rules(0, 1, 1), "sff", h + ",," + u + "+" + x},
		{"a success sets failures to zero", rules(0, 3, 1), "sfffsffff", h + ",," + u + "," + f + "," + h + ",," + u + "," + f + "," + x},
		{"ignored failures change nothing", rules(0, 1, 1), "sifiif", h + ",,,,," + u + "+" + x},
		{"two successes to be healthy", rules(0, 3, 2), "sfss", "," + u + ",," + h},
		{"too few successes still set failures to zero", rules(0, 2, 2), "ffsff", u + "," + x + ",," + f + "," + f},
		{"threshold is said again after being healthy", rules(0, 1, 1), "fsff", u + "+" + x + "," + h + ",," + u + "+" + x},
		{"grace lasts until healthy, not until a success", rules(100, 1, 2), "sfssff", ",,," + h + ",," + u + "+" + x},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Machine
			var got []string
			for _, a := range answers(c.answers) {
				got = append(got, join(m.Next(c.rules, a)))
			}
			if diff := cmp.Diff(strings.Split(c.want, ","), got); diff != "" {
				t.Errorf("events after %s (-want +got):\n%s", c.answers, diff)
			}
		})
	}
}

func join(kinds []EventKind) string {
	var s []string
	for _, k := range kinds {
		s = append(s, string(k))
	}
	return strings.Join(s, "+")
}

// naive says what the machine must say, from the whole history and with no
// state: slow, and plain from the text of the package comment.
type naive struct {
	rules   Rules
	history []Answer // without ignored failures
}

func (n naive) state(i int) EventKind {
	if i == 0 {
		return ""
	}
	before, last := n.state(i-1), n.history[i-1]
	switch {
	case last.OK && (before == Healthy || n.run(i, true) >= n.rules.Successes):
		return Healthy
	case last.OK:
		return before
	case before == Healthy:
		if i >= 2 && !n.history[i-2].OK {
			return Unhealthy // confirmed
		}
		return Healthy
	case before == "" && n.rules.Grace > 0 && last.Age <= n.rules.Grace:
		return ""
	default:
		return Unhealthy
	}
}

// run is how many equal answers end the first i.
func (n naive) run(i int, ok bool) int {
	k := 0
	for k < i && n.history[i-1-k].OK == ok {
		k++
	}
	return k
}

// failures in a row that count among the first i: those after which the task
// is unhealthy.
func (n naive) failures(i int) int {
	count := 0
	for k := range n.run(i, false) {
		if n.state(i-k) == Unhealthy {
			count++
		}
	}
	return count
}

func (n naive) reached(i int) bool {
	return n.rules.Failures != Never && n.failures(i) >= n.rules.Failures
}

func (n naive) events(i int) []EventKind {
	before, now := n.state(i-1), n.state(i)
	if n.history[i-1].OK {
		if before != Healthy && now == Healthy {
			return []EventKind{Healthy}
		}
		return nil
	}
	if now != Unhealthy {
		return nil
	}
	earlier := false // reached before, since the task was last healthy
	for k := i - 1; k > 0 && n.state(k) != Healthy; k-- {
		earlier = earlier || n.reached(k)
	}
	var events []EventKind
	if before != Unhealthy {
		events = append(events, Unhealthy)
	}
	if n.reached(i) && !earlier {
		return append(events, Threshold)
	}
	if before == Unhealthy {
		events = append(events, Failure)
	}
	return events
}

func TestMachine_AgreesWithNaiveModel(t *testing.T) {
	const histories, length = 3000, 14
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range histories {
		n := naive{rules: Rules{
			Grace:     time.Duration(rng.IntN(8)) * time.Second,
			Failures:  rng.IntN(5),
			Successes: 1 + rng.IntN(3),
		}}
		var m Machine
		var text strings.Builder
		for i := range length {
			a := Answer{OK: rng.IntN(2) == 0, Age: time.Duration(i) * time.Second}
			a.Ignore = !a.OK && rng.IntN(5) == 0
			fmt.Fprintf(&text, "%+v ", a)
			got := m.Next(n.rules, a)
			var want []EventKind
			if !a.Ignore {
				n.history = append(n.history, a)
				want = n.events(len(n.history))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, rules %+v, history %s: events %v, want %v", seed, n.rules, text.String(), got, want)
			}
			if state := n.state(len(n.history)); m.State != state {
				t.Fatalf("seed %d, rules %+v, history %s: state %q, want %q", seed, n.rules, text.String(), m.State, state)
			}
		}
	}
}

func TestMachine_Pause(t *testing.T) {
	const s = time.Second
	healthy := Machine{State: Healthy, wasHealthy: true}
	for _, c := range []struct {
		name     string
		machine  Machine
		interval time.Duration
		age      time.Duration
		want     time.Duration
	}{
		{"starting", Machine{}, 10 * s, 5 * s, s},
		{"starting, short interval", Machine{}, s / 2, 5 * s, s / 2},
		{"grace is over", Machine{}, 10 * s, 20 * s, 10 * s},
		{"healthy in grace", healthy, 10 * s, 5 * s, 10 * s},
		{"to be confirmed", Machine{State: Healthy, wasHealthy: true, Confirming: true}, 10 * s, 99 * s, s},
		{"no interval", healthy, 0, 99 * s, MinInterval},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.machine.Pause(Rules{Grace: 20 * s, Interval: c.interval}, c.age); got != c.want {
				t.Errorf("pause %v, want %v", got, c.want)
			}
		})
	}
}

func TestSpread_CoversTheIntervalEvenly(t *testing.T) {
	const n, parts = 1000, 10
	var count [parts]int
	for i := range n {
		id := fmt.Sprintf("shop_cart.%08d-0000-4000-8000-000000000000", i)
		d := spread(id, 10*time.Second)
		if d != spread(id, 10*time.Second) {
			t.Fatal("depends on chance")
		}
		if d < MinInterval || d > 10*time.Second {
			t.Fatalf("%v is not between %v and the interval", d, MinInterval)
		}
		count[min(int(d/time.Second), parts-1)]++
	}
	for i, c := range count {
		if c < n/parts/2 || c > n/parts*2 {
			t.Errorf("%d of %d tasks in part %d of %d: %v", c, n, i, parts, count)
		}
	}
}
