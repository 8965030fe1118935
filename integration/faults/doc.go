// Package faults holds tests that order the emulator's faults, one by one, while
// Pacer's executor or scheduler is at work, and look whether the promises hold:
// nothing is lost, nothing is doubled, every task ends exactly once.
//
// The executor is the real program under a raw scheduler; the scheduler runs in the
// test over simulated agents, whose sums show what really happened.
package faults
