// Package registry makes healthy tasks findable, synchronously: Register
// returns when clients can find the instance, Deregister when they cannot.
//
// [ParseLabels] reads what an app's labels ask for into a [Declaration], and
// [Declaration.Instances] makes the [Instance] values of one task of it. A
// [Registry] takes them. [Reconciler] is the Registry over one [Backend]
// (package registry/zookeeper); [All] combines several.
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
// # Labels
//
//	service.name         name under which the first port is registered, with
//	                     all named ports beside it as further endpoints
//	service.<port>.name  name for one port, given by its name or its index
//	                     (from 0)
//	service.tags         comma-separated tags, for Consul
//	service.required     true (default): failing to register in time fails the
//	                     launch; false: keep trying beside the running task
//	drain                Go duration between deregistration and SIGTERM, from 0
//	                     (default) to the operator's limit, 5m
//
// Where Consul is configured, the labels of marathon-consul work as well, for
// Consul alone: the label "consul" has the names, comma-separated; empty or
// "true" means the app's path with "/" as "-". Labels with the value "tag"
// are tags. As soon as one port definition has the label "consul", names are
// taken from the ports only; a port's labels with the value "tag" are tags of
// its services, those with "tag:<name>" of one of them.
//
// A name has 1 to 63 letters, digits, "-", "_" and "."; it begins and ends
// with a letter or a digit. An app registers a name once.
//
// # What it does not do
//
// It does not check whether an instance is healthy; its callers do. It does
// not look services up. Entries of an executor that died are removed by the
// registry itself: with the end of the session in ZooKeeper.
package registry
