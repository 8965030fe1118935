// Package bolt keeps a scheduler's state in one local file, for a single
// scheduler without ZooKeeper.
//
// The file is locked while it is open: a second process gets
// [state.ErrLocked]. Every transaction is synced to disk before it counts. The
// file may hold the key that signs task identities, so it is made with mode
// 0600.
package bolt
