// Package deploy decides what an app's instances need next: how many to
// launch and which to kill. [Decide] is a pure function of what is wanted and
// what is there. It keeps no plan, so that a scheduler that has been restarted
// goes on where it was by asking it again.
//
// # Arithmetic
//
// Of n wanted instances, while one version replaces another:
//
//	minimum = ceil(n x minimumHealthCapacity)      stay healthy
//	maximum = floor(n x (1 + maximumOverCapacity)) exist, dying ones included
//
// A healthy instance is killed only if the minimum is left; an instance is
// launched only if the maximum allows. Where minimum equals maximum nothing
// could ever move, so that one instance more is allowed as long as the minimum
// is healthy. Each new instance that is healthy permits one old one to go;
// old ones that are of least use go first.
//
// What is not known counts for neither side: after a restart of the scheduler
// an instance that nobody has told us about yet is neither healthy, which
// would permit kills, nor gone, which would ask for launches.
//
// # Who goes first
//
// When there are too many: those not reachable, then not yet running, then
// unhealthy, then not yet healthy, then unknown; among equals those of the largest group
// (so that GROUP_BY stays balanced), then by age as the app says.
package deploy
