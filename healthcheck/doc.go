// Package healthcheck asks running tasks how they are: over HTTP, HTTPS and
// TCP, or by a command. It knows nothing of Mesos, and starts no processes.
//
// A [Check] says what is asked and how many answers make a verdict. A
// [Prober], one per process, performs probes. A [Monitor], one per check of a
// task, repeats them in one goroutine and reports an [Event] when something
// changes; what follows from it (statuses, registration, kills) is the
// caller's business.
//
// # From answers to verdicts
//
// The rules are in one pure state machine ([Machine]):
//
//	             success x Successes
//	+---------+ ---------------------> +---------+
//	| unknown |                        | healthy | <---------------+
//	+---------+                        +---------+                 |
//	     |                                  | failure,             |
//	     | failure after grace              | confirmed by a       | success
//	     | (those before do not count)      | repeat within 1 s    | x Successes
//	     v                                  v                      |
//	+------------------------------------------------------+       |
//	| unhealthy: 1, 2, ... Failures counted -> threshold   | ------+
//	+------------------------------------------------------+
//
// Any success sets the number of failures in a row to zero. Grace ends when
// the task becomes healthy for the first time. The repeat that confirms a
// failure does not count towards the threshold; where it succeeds, the
// failure is forgotten.
//
// # When probes happen
//
// The first probe starts Delay after the task. Until the task is healthy or
// its grace is over the pause between probes is min(Interval, 1 s), then it is
// Interval, always from the end of one probe to the start of the next. The
// first pause of a healthy task is shortened to a part of Interval that
// follows from a hash of the task's ID, so that tasks started together are
// not probed together.
//
// # What does not count
//
// A failure does not count when this process was too slow to judge: its timer
// fired, or its clock ran, more than a quarter of the timeout late, or the
// limit on bursts of probes held it up as long ([Result.Late]).
//
// A failure does not count while the task is snoozed: the file
// [Task.SnoozeFile] (by convention [SnoozeFile] in the task's folder) exists
// and has not expired. It holds a Go duration counted from its modification
// time ("30m") or a time in RFC 3339; an empty file means an hour. More than
// [MaxSnooze] from now is cut. A file that says something else has no effect,
// and messages say so.
//
// # What a probe is
//
// Connections are fresh each time, since accepting them is a part of being
// healthy, and never use a proxy. One timeout spans connecting, all redirects
// and the body, of which [MaxBody] bytes are read. Certificates are not
// verified unless asked: the peer is a loopback address. Messages tell what
// failed, and where, but hold nothing of a body, which may be confidential.
package healthcheck
