// Package failover tests several pacer-scheduler processes on one state in a
// real ZooKeeper, above an emulated cluster with real executors: leaders are
// killed, paused and cut off, and no task may notice.
package failover
