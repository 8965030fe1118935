// Package conformance holds the emulated Mesos cluster to what real Mesos was
// recorded to do, and Pacer's clients and executor to what Mesos expects of them. It
// consists of tests only.
//
// # Recordings
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
// # Assertions
//
// 95 numbered statements (assertion_test.go and the tables in assertion_*_test.go) say
// what schedulers, executors and operators may rely on. Each is tried on an emulated
// cluster of its own, many at a time, and some in both encodings. With
// PACER_TEST_MASTER=http://host:port they are tried on a real cluster, one after the
// other; PACER_TEST_AGENT=http://host:port chooses the agent. What needs switches that
// only the emulator has is skipped there. The agent must run executors as the user who
// runs the test, and reach this machine. Flags like those that Mesos' own tests use
// keep waits short: --executor_registration_timeout=5secs,
// --executor_shutdown_grace_period=2secs for the agent, --allocation_interval=100ms for
// the master.
//
// # The count
//
// The last line that the test prints says how many assertions passed, were skipped and
// are pending; lines before it say why. Recordings are not counted. go test shows none
// of this when all is well, so it is also written to the file that the environment
// variable PACER_CONFORMANCE_SUMMARY names.
package conformance
