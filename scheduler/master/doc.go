// Package master is the scheduler's side of Mesos' v1 scheduler API: it finds
// the leading master, keeps the framework subscribed, hands events to a
// [Handler] and sends calls on the current subscription.
//
// The leader is found through ZooKeeper (zk://h:p,h:p/mesos) or by asking plain
// addresses (http://h:p,h:p), whose redirects are followed.
//
// # What it guarantees
//
//   - At most one subscription is current. Events of an old one, its ERROR
//     "Framework failed over" among them, are never delivered.
//   - A call returns nil only after the master's 202: a RECONCILE made after an
//     Accept has returned cannot overtake it.
//   - A call carries the stream id of the current subscription; 400 and 403
//     mean that the master no longer honours it, end the subscription and lead
//     to a new SUBSCRIBE, as do 307 and five heartbeats that did not come.
//   - Everything has a deadline; attempts back off with jitter.
//
// What it does not do: it does not repeat an ACCEPT whose outcome is unknown,
// does not persist the framework ID and does not acknowledge by itself.
package master
