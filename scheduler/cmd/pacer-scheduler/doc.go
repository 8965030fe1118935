// Command pacer-scheduler runs apps on a Mesos cluster.
//
// It keeps its state in a file or in ZooKeeper, subscribes to the Mesos master
// as a framework, and serves two addresses: the API, on loopback,
// and a public one from which agents fetch the executor's binary and Vault the
// keys that tasks' tokens are checked with.
//
// With a state in ZooKeeper there can be several: one leads, and the others
// pass requests on to it (package leader). A scheduler that loses the lead
// ends with code 1; whatever supervises it starts it again.
//
//	pacer-scheduler state size|export|import
//
// measures, backs up and restores a state.
//
// SIGTERM and SIGINT stop it. Tasks go on, and the next start finds them.
//
// Exit codes: 0 stopped, 1 could not start or go on, 2 bad flags.
package main
