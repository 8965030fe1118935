package executor

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestGuard_Waits(t *testing.T) {
	const interval = 10 * time.Second
	start := time.Unix(1_000_000, 0)
	// at is when the tasks turn unhealthy, in order.
	every := func(pause time.Duration, n int) (at []time.Duration) {
		for i := range n {
			at = append(at, time.Duration(i)*pause)
		}
		return at
	}
	for _, tc := range []struct {
		name    string
		healthy int // tasks that stay so
		at      []time.Duration
		waits   int // how many of the last have to wait
	}{
		{"one of many", 9, every(0, 1), 0},
		{"half", 4, every(0, 4), 0},
		{"most, but few", 0, every(0, 3), 0},
		{"most", 3, every(0, 4), 1},
		{"all", 0, every(0, 20), 10},
		{"within an interval", 1, every(2*time.Second, 5), 2},
		{"one after the other", 1, every(5*time.Second, 8), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGuard(zerolog.Nop())
			for i := range tc.healthy + len(tc.at) {
				g.healthy(fmt.Sprint(i))
			}
			waits, last := 0, start
			for i, at := range tc.at {
				now := start.Add(at)
				wait := g.unhealthy(fmt.Sprint(i), now, interval)
				if wait == 0 {
					continue
				}
				waits++
				if turn := now.Add(wait); !turn.After(last) || wait > spreadOver {
					t.Errorf("task %d has its turn at %v, the one before at %v", i, turn.Sub(start), last.Sub(start))
				} else {
					last = turn
				}
			}
			if waits != tc.waits {
				t.Errorf("%d tasks have to wait, want %d", waits, tc.waits)
			}
			if g.suspects() != (tc.waits > 0) {
				t.Errorf("suspect: %v", g.suspects())
			}
		})
	}
}

func TestGuard_SuspicionIsLoggedOnceAndEnds(t *testing.T) {
	var log bytes.Buffer
	g := newGuard(zerolog.New(&log))
	now := time.Unix(1_000_000, 0)
	for i := range 6 {
		g.healthy(fmt.Sprint(i))
	}
	for i := range 6 {
		g.unhealthy(fmt.Sprint(i), now, time.Second)
	}
	if g.threshold("0", now) == 0 || g.threshold("stranger", now) != 0 {
		t.Error("kills have no turn, or those of tasks that were never healthy have")
	}
	g.healthy("0")
	g.leave("1")
	if !g.suspects() {
		t.Error("four of five are most")
	}
	g.healthy("2")
	if g.suspects() || g.threshold("3", now) != 0 {
		t.Error("three of five are few")
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines of log, want one for the begin and one for the end:\n%s", n, log.String())
	}
}
