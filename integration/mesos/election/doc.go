// Package election is how Mesos' masters find their leader in ZooKeeper, and how
// others see who it is.
//
// Each contender creates an ephemeral sequential node json.info_NNNNNNNNNN below the
// path of the group's URL, with its MasterInfo as JSON; the lowest number leads. Its
// death is seen by the others when ZooKeeper ends its session, not before. With a
// replicated registry there is also log_replicas with a node for each replica; it
// shares the group's counter, so that numbers have gaps.
//
//	Member --- Leader() ---> who leads, and a channel that closes when that changes
//
// A Member that hears nothing from ZooKeeper for the session's timeout knows no
// leader any more and begins anew, with a new session. Abandon and Freeze are what
// kill -9 and SIGSTOP do to a process with a session.
package election
