// Package executor has the tests of the executor as a whole: the real binary
// under an emulated Mesos agent, with a real ZooKeeper where one is installed.
// Nothing imports it.
package executor
