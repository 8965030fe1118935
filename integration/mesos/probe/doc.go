// Package probe is a raw Mesos scheduler for tests: it sends calls and hands out
// events exactly as they are, in either content type, so that a test sees what a
// master does and not what a client library makes of it.
package probe
