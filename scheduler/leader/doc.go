// Package leader decides which of several schedulers leads, and passes
// requests that reach another one on to it.
//
// # Election
//
// Every scheduler has an ephemeral, sequential node below <root>/election,
// whose value is its [Member] in JSON; the lowest number leads:
//
//	<root>/election/<member id>-0000000007
//
// [Election.Run] leads once and then returns: a scheduler that has lost the
// lead ends, and is started again as a standby by whatever supervises it. It
// has lost the lead when its session has ended, and learns of it when it
// reaches ZooKeeper again. What it does until then is harmless:
//
//   - Its writes to the state fail, because the next leader has raised the
//     epoch. Everything that matters is written before it is done.
//   - Its calls to Mesos fail, because the next leader has subscribed. It
//     subscribes again itself only after the state has said that it leads.
//   - It suspends kills, launches and shutdowns as soon as it has no connection
//     to ZooKeeper, which is before its session can have ended there.
//
// # Standbys
//
// A standby answers /ping, /health, /ready and /metrics itself and passes
// everything else on to the leader, reads and writes: [Standby]. A proxy and
// not a redirect, because clients drop credentials, and some drop bodies, when
// they follow one. A request is passed on once: a standby that is handed a
// request by another one answers 503.
package leader
