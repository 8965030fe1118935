// Package api holds the tests of Pacer's API over a real scheduler on an
// emulated cluster whose agents simulate their tasks: clients of Marathon,
// bounds of rolling changes, two schedulers side by side, and load.
package api
