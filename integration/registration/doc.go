// Package registration shows that healthy means findable: real scheduler and
// executor on the emulated cluster, with a real ZooKeeper and a real Consul,
// through rolling restarts, outages of the registries and dead executors.
package registration
