// Package master emulates a leading Mesos master: the v1 scheduler API and the
// useful part of the operator API over real HTTP, the framework and task tables,
// the allocator, and the life of agents that connect through package link.
//
// A Master is one process' life of a master. Close ends it as a kill would;
// master failover is another Master, with the same Registry if the registry is
// persisted, to which agents re-register.
//
//	scheduler --HTTP--> Master --link.End--> agents
//	                     | mu
//	                     core: frameworks, agents, tasks, offers, timers
//
// Everything that Mesos keeps in its master actor is in core, whose methods are
// called with Master.mu held; each HTTP call, message of an agent and timer takes
// the lock once. Events leave through wire.Stream queues, so that a slow scheduler
// holds nobody up.
//
// It is meant to be as unfriendly as the real thing: offers vanish without RESCIND
// when a framework fails over, events for a disconnected framework are lost,
// failover_timeout 0 removes a framework at once, a call of type UNKNOWN ends the
// process. Not modelled: quota, maintenance, volumes and dynamic reservations as
// operations, authorisation.
package master
