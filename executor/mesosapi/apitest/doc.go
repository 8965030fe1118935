// Package apitest is for tests of clients of Mesos' HTTP APIs: a network in
// memory, which works inside a testing/synctest bubble, with servers that can
// be frozen, killed and restarted, and the writing of RecordIO.
package apitest
