// Package conformance holds the emulated Mesos cluster to what real Mesos was
// recorded to do. It consists of tests only.
//
// The recordings are in ../testdata; the README there describes their format and the
// rules of comparison. A recording is a script and an expectation at once: the player
// (trace_player_test.go) goes through it line by line, sends what was sent, does what
// notes say was done (trace_notes_test.go), and waits for what was received, with the
// recorded pauses between. Executors are real processes: the test binary, started by
// the emulated agent, does the HTTP requests that the player tells it to
// (trace_puppet_test.go).
//
// What differs is an error, unless trace_tolerance_test.go lists and explains it. An
// entry of that table that is never needed is an error, too, so that the table does
// not rot; only those that name what varies from run to run may stay unused.
//
// When the environment variable PACER_CONFORMANCE_SUMMARY names a file, the number of
// assertions that passed, were skipped and are pending is written there.
package conformance
