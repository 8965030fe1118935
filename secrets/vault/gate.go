package vault

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses between probes while Vault cannot answer.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// gate lets requests through while Vault answers. After a failure that may
// pass it lets a single request through at a time, with growing pauses, so
// that a Vault that comes back is not met by every task of the cluster.
type gate struct {
	mu       sync.Mutex
	failures int           // in a row; 0 means open
	reason   string        // of the last failure
	next     time.Time     // of the next probe
	probing  bool          // a probe is under way
	changed  chan struct{} // closed whenever the above changes
}

func newGate() *gate { return &gate{changed: make(chan struct{})} }

// enter waits until a request may be made. Every enter that returns nil needs
// one leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.failures == 0 {
			g.mu.Unlock()
			return ctx.Err()
		}
		pause := time.Until(g.next)
		if !g.probing && pause <= 0 {
			g.probing = true
			g.mu.Unlock()
			return nil
		}
		changed := g.changed
		var timer <-chan time.Time
		if !g.probing {
			timer = time.After(pause)
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer:
		}
	}
}

// state says why the gate is shut, or nothing, and when to ask again.
func (g *gate) state() (reason string, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures > 0 {
		reason = g.reason
	}
	return reason, g.changed
}

// leave says how the request ended: answered (no reason), or failed in a way
// that may pass, with the pause that Vault asked for, or 0.
func (g *gate) leave(reason string, retryAfter time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if reason == "" && g.failures == 0 {
		return
	}
	if reason == "" {
		g.failures, g.probing = 0, false
	} else {
		g.reason = reason
		// Requests that were under way together count once: only the first
		// failure, and then the probe's.
		if g.failures == 0 || g.probing {
			g.failures++
			g.next = time.Now().Add(max(retryAfter, jitter(pauseAfter(g.failures))))
		}
		g.probing = false
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// abandon is leave for a request whose caller went away: it says nothing about
// Vault.
func (g *gate) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probing {
		g.probing = false
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// pauseAfter doubles from firstPause to maxPause.
func pauseAfter(failures int) time.Duration {
	return min(maxPause, firstPause<<min(max(failures, 1)-1, 16))
}

// jitter spreads a pause over its upper half.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2+1)
}
