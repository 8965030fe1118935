// Package simulated is Mesos agents whose tasks exist in memory only: for benchmarks
// of schedulers, thousands of agents with 100,000 and more tasks in one process.
//
// A [Fleet] is the agent side of package link without processes, sandboxes, HTTP and
// checkpoints. Each [Agent] registers, answers pings, launches and kills, keeps a
// status update until it is acknowledged, repeats it, sends the next one only then,
// and registers again after a failover, as real agents do. What tasks and executors
// do meanwhile is a [Life]: how long they take, how many fail, how often their health
// changes.
//
//	master <--link--> Agent (one goroutine each)
//	                    ^
//	                  clock (one goroutine for all that takes time)
//
// An agent's Line has the switches for partitions and delays. Agents do not die and
// come back; their addresses, 127.x.y.z:5051, differ, and nobody listens there.
package simulated
