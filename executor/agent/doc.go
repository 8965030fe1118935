// Package agent is the executor's side of Mesos' v1 executor API: it keeps the
// executor subscribed to the agent on its host, hands events to a [Handler]
// and delivers status updates until the agent has acknowledged them.
//
// # What it guarantees
//
//   - Updates of one task reach the agent in the order in which they were
//     given to [Client.Update]; an update is "in flight" until the agent's 202,
//     and one that stays unacknowledged for 10 s is sent again with the same
//     UUID and timestamp, backing off. Nothing but an acknowledgement (or a
//     repeated 400, which is logged with its body) removes an update.
//   - After a lost connection it subscribes again: at once, then with jitter of
//     at most min(1 s, MESOS_SUBSCRIPTION_BACKOFF_MAX), listing the tasks and
//     updates that the agent has not acknowledged, in order of creation.
//   - While the agent is away, attempts and log lines per second are bounded.
//   - It never blocks its caller: Update queues, the Handler is called from one
//     goroutine.
//
// What it does not do: it does not persist anything, and it does not judge
// whether a sequence of states makes sense (that is the task's own machine).
//
// # States of the subscription
//
//	connecting --SUBSCRIBED--> subscribed --stream ended--> connecting
//	    |  \                        |
//	    |   `--SHUTDOWN-------------+--SHUTDOWN--> ending
//	    |                                            | stream ended
//	    `--recovery timeout, 400, 401, 403,          v
//	       no checkpointing -----------------> detached (updates only)
//
// In the detached state there is no stream, so that acknowledgements cannot
// arrive; updates are then done with the agent's 202.
//
// # How a dead stream is found
//
// An agent writes into the stream that it has stored and never notices that
// nobody reads it; events written then are lost for good. Besides EOF and TCP
// keep-alive, three observations end a stream and lead to a new SUBSCRIBE,
// which Mesos allows at any time:
//
//   - nobody listens at the agent's address, a call is answered 401 or 403, or
//     a HEARTBEAT 503, although a subscription is believed to exist: the agent
//     has been restarted. A HEARTBEAT call asks every 30 s when there is nothing
//     else to send, and 1 s after a call that failed otherwise;
//   - an update was accepted (202) twice, at least 10 s apart, and not one
//     event has arrived since the first of the two. Where other events do
//     arrive the stream is alive, and Mesos never acknowledges this update
//     (a task it no longer knows), so that subscribing again would not help;
//   - no event for 65 minutes although agents send a HEARTBEAT every 30.
//
// Each such suspicion doubles the time until the next one may be acted upon,
// because a SUBSCRIBE makes the agent drop a LAUNCH that was on its way.
// The old stream is closed, and what has not been read from it forgotten,
// before the new SUBSCRIBE is composed: a task that the agent declares dropped
// is never started.
package agent
