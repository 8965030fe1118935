// Package mesosapi is the transport of Mesos' v1 HTTP APIs as a client sees it:
// calls are POSTed protobufs that are answered by 202, SUBSCRIBE is a POST whose
// answer is a stream of length-prefixed protobufs (RecordIO) that never ends.
// The executor's client (executor/agent) and the scheduler's (scheduler/master)
// share it. It knows the messages only as things that marshal themselves.
//
// A [Client] speaks to one address. Calls share a pool of kept-alive
// connections; each stream has a connection of its own, because Mesos answers
// the requests of one connection strictly in order, and a request behind a
// SUBSCRIBE would never be answered.
//
// Every call has a deadline. A stream has deadlines for dialing and for the
// response header, none for its life; [Stream.SetIdleLimit] ends one that has
// gone silent, and TCP keep-alive one whose peer host has gone.
//
// Errors carry what a caller decides by: [StatusError] has the HTTP status,
// [ErrNotSent] says that no byte of the call left this process, [Refused] that
// nobody listens at the address, [ErrIdle], [ErrFraming] and [ErrResponseTimeout]
// speak for themselves. Bodies of error answers are cut to 1 KiB.
//
// Proxy variables of the environment are ignored, and redirects are not
// followed but reported as a StatusError with a Location.
package mesosapi
