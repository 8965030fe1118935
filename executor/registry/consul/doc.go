// Package consul registers instances with a Consul agent, in the way of
// marathon-consul, so that what reads its entries reads ours.
//
// # Format
//
// An instance is a service of the agent:
//
//	ID       <task id>_<service name>_<port>
//	Name     the service's name
//	Address  the advertised host, never empty
//	Tags     marathon, marathon-task:<task id>, then the app's own
//	Meta     pacer-task, pacer-app, pacer-shard, pacer-port-<name> for each
//	         further port, pacer-framework and pacer-lock (see below)
//	Check    TTL [DefaultTTL], DeregisterCriticalServiceAfter 1m
//
// The tag marathon can be replaced by PACER_CONSUL_TAG: a marathon-consul that
// sweeps what Marathon does not know would otherwise sweep our entries too.
//
// Entries are made with the agent and not in the catalog: the agent repeats
// them to the servers, where others would be removed as unknown. An instance
// counts as registered when /v1/health/service/<name>?passing lists it, and as
// deregistered when that does not, so both include what the agent tells the
// servers.
//
// # The check
//
// The only health checks of a task are the executor's; Consul asks nobody. An
// unhealthy instance is deregistered, so a registered one is a healthy one, and
// the executor says so three times in each TTL ([Services]' beatLoop). When it
// dies the entries stop passing within the TTL, and the agent removes them a
// minute after that (it looks every 30 s).
//
// # Leftovers
//
// An executor holds a lock on a file in its sandbox and names the file in each
// entry. At its start, after each outage and once a minute, an executor
// deregisters the entries of its own framework whose lock nobody holds any
// more. A file that cannot be opened proves nothing: its entry may be another
// machine's, and is left to the TTL.
//
// # Outages
//
// An agent that restarts may have forgotten its services, and servers without
// a leader list nothing. Either is noticed within half a second, logged once,
// and everything is verified again as soon as there is a leader.
package consul
