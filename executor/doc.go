// Package executor is the life of tasks on one Mesos agent: many tasks in one
// process, each with its secrets, its process tree, its health check and its
// registry entries, and each with statuses that Mesos can rely on.
//
// [Executor] takes what the agent asks for ([agent.Handler]) and has one task
// for each LAUNCH. A task is one goroutine that owns a state and executes
// actions; whatever takes time (secrets, the start, the registry, kills) runs
// beside it and comes back as an event, so that KILL and SHUTDOWN act at once.
//
//	agent --Launch/Kill/Shutdown--> Executor --events--> task --actions--> workers
//	  ^                                                   |  ^                |
//	  '----------------- statuses ------------------------'  '----events------'
//
// # The states of a task
//
// The state machine is one pure function, (state, event) -> (state, actions),
// in state.go; events and actions are in event.go. What is done, in which
// order, are the three lists of steps in order.go.
//
//	staging --launch--> starting --spawned--> started --in service--> running
//	   |                   |   '------(nothing to wait for)----------->  |
//	   |                   |                     |                       |
//	   |                   |                     +-------rootEnded-------+
//	   |                   |                     |                       |
//	   | refuse      kill, | failed        kill, shutdown, health,       |
//	   |          shutdown |               time limits                   |
//	   v                   v                     v                       v
//	killing <--------------+---------------------'                    exited
//	   |                                                                 |
//	   '---------nothing is left--------> ended <----nothing is left-----'
//
//	launch: STARTING -> secrets -> spawn -> RUNNING -> first healthy -> register
//	        -> RUNNING healthy=true
//	        (without a health check: spawn -> register -> RUNNING)
//	kill:   KILLING -> stop checks -> deregister -> drain -> SIGTERM -> grace
//	        -> SIGKILL to the tree -> empty -> KILLED (or FAILED)
//	exit:   stop checks -> deregister -> kill what is left -> FINISHED | FAILED
//
// In started and running, readiness and registration are one switch: an
// instance that is not healthy is deregistered, one that is healthy again is
// registered, and healthy=true is reported when it can be found.
//
// # Guarantees
//
//   - Exactly one terminal status for each task, whatever happens at the same
//     time, and none before its last process is gone; no RUNNING after KILLING.
//   - No signal before the registry entry is gone, or its deadline has passed,
//     and the drain delay is over. SHUTDOWN and max_completion_time shorten the
//     times, never the order, and the message says what was cut short.
//   - The cause of an end is the first one: a kill that is under way makes
//     KILLED of exit code 0, an exit that came first makes FINISHED of a KILL.
//   - The grace of a KILL event wins over the TaskInfo's, that over the
//     configuration's; later ones may only shorten. Negative ones do not count.
//   - A panic costs the one task it happened for.
//
// # Under Marathon
//
// A scheduler that starts one executor for each task, and passes its command as
// arguments, its environment as the executor's and its definition as JSON in
// TaskInfo.data, finds the same behaviour: cmd runs in a shell of its own, with
// all its operators, args without one, in the executor's sandbox, as the
// executor's user; the executor ends with its task.
//
// # What a status says
//
//	cause                   state         reason                        pacer.failure
//	exit code 0             FINISHED
//	exit code               FAILED                                      exit
//	signal                  FAILED                                      signal
//	out of memory           FAILED        CONTAINER_LIMITATION_MEMORY   oom
//	KILL, SHUTDOWN          KILLED
//	health check            KILLED        TASK_HEALTH_CHECK_STATUS_...  health
//	max_completion_time     FAILED        MAX_COMPLETION_TIME_REACHED   max-completion-time
//	not registered in time  FAILED                                      registration
//	TaskInfo, labels        FAILED        TASK_INVALID                  invalid
//	URIs                    FAILED        CONTAINER_LAUNCH_FAILED       fetch
//	secrets                 FAILED        CONTAINER_LAUNCH_FAILED       secrets
//	start                   FAILED        CONTAINER_LAUNCH_FAILED       start
//
// # What it does not do
//
// It does not survive its own crash: tasks are then found and killed by Mesos'
// containerizer.
package executor
