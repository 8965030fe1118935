// Package status lets operators look into a running executor: over HTTP on a
// unix socket in its sandbox, and on TCP where [EnvListen] asks for it.
//
//	GET /         a [Report] as JSON
//	GET /metrics  the same for Prometheus, with labels that do not grow
//
// It shows tasks, their states and what they wait for, and never an
// environment, a command, a label or a secret; nothing can be changed through
// it. The socket admits the executor's own user and root; TCP admits everyone
// who reaches it. An endpoint that cannot be opened costs a log line and no
// task.
//
// [Read] asks the socket of a sandbox; [Report.Print] writes the answer as
// people read it.
package status
