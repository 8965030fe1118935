package healthcheck

import "time"

// EventKind is what changed.
type EventKind string

// Events of a check, in the order in which they can happen.
const (
	// Healthy: for the first time, or again after Unhealthy.
	Healthy EventKind = "healthy"
	// Unhealthy: the first counted failure of a healthy task, confirmed by a
	// repeat; or of a task that has not been healthy when its grace ended.
	Unhealthy EventKind = "unhealthy"
	// Failure: a counted failure after Unhealthy that does not reach the
	// threshold.
	Failure EventKind = "failure"
	// Threshold: the counted failure with which the threshold is reached. It
	// follows Unhealthy at once where the threshold is 1. Sent once for each
	// time the task turns unhealthy.
	Threshold EventKind = "threshold"
	// Snoozed: a failure was not counted because of the snooze file. Sent
	// once for each time the file is found.
	Snoozed EventKind = "snoozed"
)

// Event tells of a change. Probes that change nothing make no event.
type Event struct {
	Kind EventKind
	// Check is [Check.Name].
	Check string
	// First is true for the first Healthy of the task.
	First bool
	// Failures in a row that were counted so far, and the number of them that
	// reaches the threshold ([Never] if none does).
	Failures, Limit int
	// Result is the probe that led to the event.
	Result Result
	// Until is when a snooze ends.
	Until time.Time
}

// Reason tells failures apart. The values are shown to operators and used as
// metric labels.
type Reason string

// Reasons why a probe did not succeed.
const (
	ReasonNone     Reason = ""          // it succeeded
	ReasonRefused  Reason = "refused"   // nobody listens
	ReasonTimeout  Reason = "timeout"   // no complete answer in time
	ReasonConnect  Reason = "connect"   // the connection failed in another way, or broke
	ReasonTLS      Reason = "tls"       // handshake or certificate
	ReasonProtocol Reason = "protocol"  // the answer is not HTTP
	ReasonStatus   Reason = "status"    // HTTP status not accepted
	ReasonRedirect Reason = "redirect"  // too many redirects, or one without a usable Location
	ReasonBody     Reason = "body"      // the body does not contain what it must
	ReasonExitCode Reason = "exit-code" // the command exited with another code than 0
	ReasonSignal   Reason = "signal"    // the command was ended by a signal
	ReasonRun      Reason = "run"       // the command could not be run
)

// Result is what one probe found.
type Result struct {
	// Reason is empty if the probe succeeded.
	Reason Reason
	// Message says in a few words what was found and where, e.g.
	// "HTTP 503 from 127.0.0.1:31002/health after 12ms". It never holds
	// anything of a response body.
	Message string
	// Status is the final HTTP status, 0 if there was none.
	Status int
	// ExitCode of a command, -1 if it did not exit by itself.
	ExitCode int
	// Started and Duration are the probe's, without the wait for its turn.
	Started  time.Time
	Duration time.Duration
	// Late is true when this process, not the task, was too slow to judge:
	// the probe began, or its clock ran, more than a quarter of the timeout
	// late. A failure is then not counted.
	Late bool
	// Confirm is true for the repeat that confirms a failure.
	Confirm bool
}

// OK reports whether the probe succeeded.
func (r Result) OK() bool { return r.Reason == ReasonNone }
