// Package agent is an emulated Mesos agent. It speaks the v1 executor API over
// real HTTP and runs executors as real processes in real sandboxes; towards the
// master it speaks package link.
//
// An [Agent] is one life of an agent process, from Start to Kill (as kill -9) or
// Shutdown (as SIGUSR1). Its executors are processes of their own and survive a
// Kill. The next life is another Agent with the same Config and WorkDir: it reads
// what the first one checkpointed, serves SUBSCRIBE at once, other calls after
// ExecutorReregistrationTimeout, destroys executors that missed it and then
// registers with the master, as Mesos does.
//
//	        link                      HTTP
//	master <----> Agent <----------------------------> executor process
//	                |  framework                           ^ child
//	                |    executor  (REGISTERING, RUNNING,  |
//	                |      task     TERMINATING,           |
//	                |               TERMINATED)            |
//	                `-- container: sandbox, fetcher, helper process
//
// # The helper process
//
// Each executor is the child of a helper, as under mesos-containerizer launch: the
// helper is leader of a session and a process group of its own, enters the
// sandbox, switches user, starts the executor, forwards signals to it, reaps and
// writes down the raw wait status, so that a restarted agent learns it too. The
// helper is this very program started again with mesos-containerizer as its
// argv[0]: package agent recognises that in its initialisation, before main or any
// test runs, and never returns from there. Programs and tests that import the
// package therefore need no call and no helper binary, and a program that is
// started again can never run its own main by accident.
//
// # What is not emulated
//
// Container images, nested containers, resource providers, operation feedback,
// disk limits, garbage collection of sandboxes, PID-based executors.
package agent
