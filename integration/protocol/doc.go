// Package protocol tests Pacer's two Mesos clients, executor/agent and
// scheduler/master, with each other: the scheduler's against the emulated
// master and a real ZooKeeper, the executor's in a process of its own that the
// emulated agent starts.
package protocol
