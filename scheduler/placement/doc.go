// Package placement decides which instances are launched on which offers. It
// is a pure function, [Place]: it sends nothing and remembers nothing.
//
// Offers of one agent are used together, in one ACCEPT. Amounts are counted in
// thousandths, as Mesos does, and are carved out of the offer's own Resource
// objects, so that reservations and allocation stay as they are. The executor
// is charged once for each agent, and not where one that fits is alive.
//
// Apps take turns, one instance each, so that an app that fits nowhere, or
// wants thousands, delays nobody. What could not be placed comes back with the
// reason for every offer that was looked at.
package placement
