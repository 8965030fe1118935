// Package link is what an emulated Mesos master and its agents say to each
// other, and the connection on which they say it.
//
// The messages carry what Mesos' own internal messages carry (RegisterAgent,
// RunTask, StatusUpdate with latest_state and so on), in v1 types. A message
// and everything it points to is immutable once it has been sent: receivers
// that want to change something copy it first.
//
// An agent owns a Line. It asks the Line to Dial, which waits for a leading
// master and returns the agent's End of a fresh connection; the master gets the
// other End through its Attach method:
//
//	agent                    Line                 master
//	  | Dial(ctx) ----------->| Attach(end) -------->|
//	  |<-------------- End ---|                      |
//	  | Send ------------------------------> Next    |
//	  | Next <------------------------------ Send    |
//
// Each direction keeps its order. Send never blocks and never fails: what is
// sent on a broken connection is lost, as a message to a dead peer is. Next is
// called by one goroutine of the receiver, so the package itself starts no
// goroutines and a connection costs two queues.
//
// Faults are switches on the Line. Cut breaks the connection, both ends see
// ErrBroken, and Dial waits until Restore. Freeze stops delivery in both
// directions without any error (a stopped process, a partition); what was sent
// meanwhile arrives after Thaw. SetDelay holds every message back.
package link
