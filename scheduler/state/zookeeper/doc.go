// Package zookeeper keeps a scheduler's state in ZooKeeper, so that several
// schedulers can share it and one of them leads.
//
// A [Client] is one session with the ensemble. [Store] keeps the nodes of a
// state through it; package leader elects through it who may lead.
//
// # Layout
//
//	<root>/epoch     its version is the number of the leadership; its value
//	                 names the scheduler that raised it last
//	<root>/commit    "<epoch> <n>": the last transaction
//	<root>/election  see package leader
//	<root>/state     a node per key of package state, e.g.
//	                 <root>/state/apps/0f/shop_cart
//
// Buckets are made when they are needed, in the transaction that needs them,
// and stay: there are 256 of each kind at most.
//
// # Transactions
//
// Each is one multi that also checks the version of epoch and replaces commit,
// whose version it checks, too. The first fences off old leaders. The second
// makes a repetition harmless: where a connection broke before the answer
// came, the same multi is sent again, and fails if the first one counted;
// commit then tells so. Nothing else is written before that is known. So
// [state.Session.Apply] waits for a store that cannot be reached, and returns
// an unknown outcome only when its context or the client ends.
//
// # Access
//
// With credentials (see [ReadAuthFile]) every node that is made belongs to
// them alone, because a state may hold the key that signs task identities.
// Without credentials everybody who reaches ZooKeeper may read and change it.
package zookeeper
