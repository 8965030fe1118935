// Command pacer-scheduler runs apps on a Mesos cluster.
//
// It keeps its state in a file (or, later, in ZooKeeper), subscribes to the
// Mesos master as a framework, and serves two addresses: the API, on loopback,
// and a public one from which agents fetch the executor's binary and Vault the
// keys that tasks' tokens are checked with.
//
// SIGTERM and SIGINT stop it. Tasks go on, and the next start finds them.
//
// Exit codes: 0 stopped, 1 could not start or go on, 2 bad flags.
package main
