// Package zookeeper runs a real ZooKeeper server for tests, benchmarks and the
// demo, from the jars of the Debian package "zookeeper" and with a
// configuration of its own: a free port on loopback, a data directory of its
// own, no admin server, a small heap. It needs no root and no system service.
//
// A test asks for a server of its own with [Start], or shares one with the
// other tests of its binary with [Shared]. Whatever is not a test uses [Run].
// Both skip or refuse with a reason where java or the jars are missing.
package zookeeper
