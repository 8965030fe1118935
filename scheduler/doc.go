// Package scheduler runs apps on Mesos: it keeps as many instances of each app
// running as its definition wants, and changes them from one version to the
// next within the bounds that the definition sets.
//
// # Parts
//
//	api ----> Scheduler (backend.go) --------\
//	master -> handler (mesos.go) -------------+-> inbox -> core --+-> state.Journal
//	state, master: answers to writes, calls -/                    +-> calls -> master
//
// One goroutine, the core's, owns everything that changes; everything else
// sends it events. It never waits: writes to the store and calls to the master
// are started, and their outcome is an event, too. After each bunch of events
// it does what has become necessary, in this order: decide for each app that
// was touched (package deploy), send kills, place instances on offers (package
// placement), show readers what has changed, answer the API.
//
// Readers never enter the core: they read views that it publishes.
//
// # What comes before what
//
//   - The framework id is stored before anything is launched under it.
//   - A task's record is stored before its ACCEPT is sent; the ACCEPT is
//     answered before the task is asked about in a reconciliation.
//   - A kill is stored before it is sent, and sent until its task has ended.
//   - The end of a task is stored before it is acknowledged.
//   - A write of the API is stored before it is answered.
//   - Nothing is launched or shut down before the first reconciliation is
//     complete: a barrier, a task that does not exist, has been answered.
//
// # Deployments
//
// A change of the API is a deployment of one part per app. Parts wait for
// nothing but the app's dependencies in the same deployment, and end, fail and
// go back each by itself. Only the cursor is stored, with the app: what is to
// be done is decided anew from live instances, also by the next leader. A part
// whose app sets a deadline or a number of failures stops where it is, or goes
// back once. Going back keeps instances of the former definition that still
// run.
//
// # What is not known
//
// A task from the store is unknown until a status has arrived. It is then
// neither replaced nor counted as healthy. A task that nobody here has a
// record of is a stray, and the master is asked what it is: it is adopted
// where its app lacks instances, killed where its app was deleted after it was
// launched, and otherwise left alone, however many there are (strays.go).
//
// # Failovers and outages
//
// Another scheduler may take the lead of the state at any time. So the store
// is asked before each SUBSCRIBE whether this one still leads, and while the
// store cannot be reached nothing is launched, killed or shut down: reads go
// on, writes of the API are refused, statuses are acknowledged (core.suspend).
// A write whose outcome is unknown is settled before the next one: see package
// state.
//
// A master that has failed over does not know yet what its agents run, and
// does not say anything about tasks on agents that come back late. A second
// barrier, a task without an agent, is answered when it waits for no agent any
// more; then everything is asked about once more.
//
// # Executors
//
// All tasks of an agent share an executor, unless Executor.Scope says
// otherwise. Its ID is pacer-<hash>-<suffix>: 12 digits of the SHA-256 of the
// serialised ExecutorInfo without executor_id and framework_id, and 8 random
// ones. The info is stored under its hash, because Mesos takes a task for a
// live executor only with exactly the info that it was started with. A live
// executor whose info differs from what is wanted now gets no new tasks, and a
// SHUTDOWN when its last one has ended.
package scheduler
