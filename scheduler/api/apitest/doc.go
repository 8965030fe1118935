// Package apitest has a [Backend] in memory, for tests of the API and of its
// clients. It keeps the rules for writes that api.Backend states, and leaves
// everything else to the test: deployments run until the test ends them, and
// tasks, queue and failures are what the test says.
package apitest
