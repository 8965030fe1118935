package agent

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"pacer/executor/mesosapi"
)

func status(code int) error { return &mesosapi.StatusError{Code: code} }

func TestRetry_GivesUp(t *testing.T) {
	refused := errors.New("refused")
	tests := []struct {
		name       string
		checkpoint bool
		ever       bool
		// errors of successive attempts, one a second
		attempts []error
		want     error
	}{
		{"away for long", true, true, repeat(refused, 899), nil},
		{"away for too long", true, true, repeat(refused, 900), ErrRecoveryTimeout},
		{"503 for long", true, true, repeat(status(503), 899), nil},
		{"routes appear late", true, false, repeat(status(404), 100), nil},
		{"400 twice", true, true, repeat(status(400), 2), nil},
		{"400 three times", true, true, repeat(status(400), 3), ErrUnknownToAgent},
		{"400 with others between", true, true, []error{status(400), status(400), status(503), status(400), status(400), io.EOF, status(400)}, nil},
		{"something that is no agent", true, false, repeat(status(405), 3), ErrUnknownToAgent},
		{"401", true, true, []error{refused, status(401)}, ErrUnauthorized},
		{"403", true, false, []error{status(403)}, ErrUnauthorized},
		{"not checkpointing", false, true, []error{refused}, ErrNotCheckpointing},
		{"not checkpointing, agent is late", false, false, repeat(refused, 59), nil},
		{"not checkpointing, agent never comes", false, false, repeat(refused, 60), ErrRecoveryTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			r := newRetry(Config{Checkpoint: tt.checkpoint}.withDefaults())
			r.ever = tt.ever
			r.disconnected(now, 0)
			if !r.next.Equal(now) {
				t.Errorf("the first attempt waits %v", r.next.Sub(now))
			}
			for n, err := range tt.attempts {
				now = now.Add(time.Second)
				got := r.failed(err, now, 0.5)
				if last := n == len(tt.attempts)-1; !last && got != nil || last && !errors.Is(got, tt.want) {
					t.Fatalf("attempt %d: %v", n+1, got)
				}
			}
		})
	}
}

func repeat(err error, n int) (all []error) {
	for range n {
		all = append(all, err)
	}
	return all
}

func TestRetry_Pauses(t *testing.T) {
	for window, want := range map[time.Duration][2]time.Duration{
		15 * time.Second:       {250 * time.Millisecond, time.Second},
		2 * time.Second:        {250 * time.Millisecond, time.Second},
		400 * time.Millisecond: {100 * time.Millisecond, 400 * time.Millisecond},
		100 * time.Millisecond: {50 * time.Millisecond, 100 * time.Millisecond},
		20 * time.Millisecond:  {20 * time.Millisecond, 20 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			r := newRetry(Config{SubscriptionBackoffMax: window}.withDefaults())
			for n := range 100 {
				if got := r.pause(float64(n) / 100); got < want[0] || got > want[1] {
					t.Fatalf("pause of %v, want %v", got, want)
				}
			}
		})
	}
}

func TestRetry_AConnectionLostAtOnceIsNotRetriedAtOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRetry(testConfig().withDefaults())
	for n := range 5 {
		r.disconnected(now, 0)
		if wait := r.next.Sub(now); (n == 0) != (wait == 0) {
			t.Errorf("loss %d: next attempt after %v", n+1, wait)
		}
		r.connected()
		now = now.Add(time.Millisecond)
	}
	now = now.Add(time.Second)
	if r.disconnected(now, 0); !r.next.Equal(now) {
		t.Error("a loss after a while is not retried at once")
	}
}

func TestGate(t *testing.T) {
	now := time.Unix(1000, 0)
	var g gate
	if n := g.limit(now, 16); n != 16 {
		t.Errorf("open: %d", n)
	}
	for n, pause := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		g.failed(now)
		g.failed(now) // in flight at the same time
		if n := g.limit(now, 16); n != 0 {
			t.Errorf("after a failure: %d", n)
		}
		now = now.Add(pause*time.Millisecond - 1)
		if g.limit(now, 16) != 0 {
			t.Errorf("failure %d: opens before %v ms", n+1, int(pause))
		}
		now = now.Add(1)
		if g.limit(now, 16) != 1 {
			t.Errorf("failure %d: not open after %v ms", n+1, int(pause))
		}
	}
	if g.passed(); g.limit(now, 16) != 16 {
		t.Error("a success does not open it")
	}
}

func TestSuspicion(t *testing.T) {
	now := time.Unix(1000, 0)
	var s suspicion
	acted := 0
	for range 24 * 60 {
		if s.act(now) {
			acted++
		}
		now = now.Add(time.Minute)
	}
	if acted < 48 || acted > 60 {
		t.Errorf("%d times a day, want about 50", acted)
	}
	s.unfounded()
	now = now.Add(time.Hour)
	if !s.act(now) || s.act(now.Add(29*time.Second)) || !s.act(now.Add(30*time.Second)) {
		t.Error("an acknowledgement does not reset the pause")
	}
}
