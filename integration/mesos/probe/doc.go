// Package probe is a raw Mesos scheduler and a raw executor for tests: they send calls
// and hand out events exactly as they are, so that a test sees what a master or an
// agent does and not what a client library makes of it.
package probe
