// Package registry makes healthy tasks findable, synchronously: Register
// returns when clients can find the instance, Deregister when they cannot.
//
// [Instances] makes the [Instance] values of one task of what its labels ask
// for (package labels). A [Registry] takes them. [Reconciler] is the Registry
// over one [Backend] (packages registry/zookeeper and registry/consul); [All]
// combines several.
//
//	healthy -> Register -> found -> "healthy=true"
//	kill    -> Deregister -> gone -> drain delay -> SIGTERM
//
// Each call states a wish that stands until the opposite one. The Reconciler
// makes the world match the table of wishes: at once when a wish changes, when
// the backend says that its session is new or an entry has vanished, and every
// 30 s. So a registry that is away delays a caller by no more than its own
// deadline, and repairs itself beside the running tasks.
//
// # What it does not do
//
// It does not check whether an instance is healthy; its callers do. It does
// not look services up. Entries of an executor that died are removed by the
// registry itself: with the end of the session in ZooKeeper, after the TTL in
// Consul.
package registry
