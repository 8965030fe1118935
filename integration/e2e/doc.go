// Package e2e has the tests of Pacer as a whole: an app definition goes in
// over HTTP, the real scheduler and executor binaries run it on an emulated
// Mesos with a real ZooKeeper, and what comes out is looked at from outside:
// processes, znodes, files, statuses.
package e2e
