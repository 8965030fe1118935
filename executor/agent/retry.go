package agent

import (
	"fmt"
	"net/http"
	"time"

	"pacer/executor/mesosapi"
)

const (
	// firstSubscribeTimeout is how long a non-checkpointing executor tries to
	// subscribe at all; agents kill one that has not after a minute by default.
	firstSubscribeTimeout = time.Minute
	// maxRefusals is how many answers in a row must say that the agent does not
	// know this executor before it is believed: what follows kills every task.
	maxRefusals = 3
	// minRetryPause bounds attempts per second where the agent's window is tiny.
	minRetryPause = 50 * time.Millisecond
)

// retry decides when to subscribe again and when to give up. It knows no clock.
type retry struct {
	checkpoint bool
	recovery   time.Duration // MESOS_RECOVERY_TIMEOUT
	pauseMax   time.Duration // min(1 s, MESOS_SUBSCRIPTION_BACKOFF_MAX)

	// since is when the agent went away, or the first attempt's time.
	since time.Time
	// ever is set from the first subscription on.
	ever bool
	// next is when the next attempt is due.
	next time.Time
	// refusals counts successive answers of maxRefusals' kind.
	refusals int
	// quick is the last time at which a lost connection was followed by an
	// attempt without pause.
	quick time.Time
}

func newRetry(config Config) *retry {
	return &retry{
		checkpoint: config.Checkpoint,
		recovery:   config.RecoveryTimeout,
		pauseMax:   min(time.Second, config.SubscriptionBackoffMax),
	}
}

// start starts the clock of the first attempts.
func (r *retry) start(now time.Time) { r.since, r.next = now, now }

// disconnected starts the clock. The first attempt is made at once, unless the
// last connection was lost just before: two executors with one ID, each of
// which ends the other's stream, must not do so a thousand times a second.
func (r *retry) disconnected(now time.Time, random float64) {
	r.since, r.refusals = now, 0
	r.next = now
	if now.Sub(r.quick) < time.Second {
		r.next = now.Add(r.pause(random))
	} else {
		r.quick = now
	}
}

// connected stops the clock.
func (r *retry) connected() { r.ever, r.refusals = true, 0 }

// pause is the time to wait after a failed attempt, for a random in [0, 1).
func (r *retry) pause(random float64) time.Duration {
	low := min(max(r.pauseMax/4, minRetryPause), r.pauseMax)
	return low + time.Duration(random*float64(r.pauseMax-low))
}

// deadline is when to give up, counted from the disconnect whatever failed
// attempts there were.
func (r *retry) deadline() time.Time {
	if r.checkpoint {
		return r.since.Add(r.recovery)
	}
	return r.since.Add(firstSubscribeTimeout)
}

// failed takes note of an attempt that failed at now and returns the reason to
// give up, or nil after having set next.
func (r *retry) failed(err error, now time.Time, random float64) error {
	r.next = now.Add(r.pause(random))
	switch code := mesosapi.StatusCode(err); code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: subscribe: %w", ErrUnauthorized, err)
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		if r.refusals++; r.refusals >= maxRefusals {
			return fmt.Errorf("%w: subscribe, %d times: %w", ErrUnknownToAgent, r.refusals, err)
		}
	default:
		r.refusals = 0
	}
	if !r.checkpoint && r.ever {
		return fmt.Errorf("%w: %w", ErrNotCheckpointing, err)
	}
	return r.expired(now, err)
}

// expired returns the reason to give up if it is too late at now.
func (r *retry) expired(now time.Time, last error) error {
	if now.Before(r.deadline()) {
		return nil
	}
	if last == nil {
		last = mesosapi.ErrResponseTimeout
	}
	return fmt.Errorf("%w (%v): %w", ErrRecoveryTimeout, now.Sub(r.since).Round(time.Millisecond), last)
}
