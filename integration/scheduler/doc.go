// Package scheduler holds the tests of Pacer's scheduler on the emulated
// cluster: real executors, real services, real HTTP to masters and agents.
package scheduler
