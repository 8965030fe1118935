package executor

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// An event is something that happened to a task.
type event any

type (
	// launch begins the task.
	launch struct{}
	// refuse ends a task before it begins.
	refuse struct{ problem problem }
	// waiting says what keeps the launch waiting.
	waiting struct{ reason string }
	// prepared: secrets and files are there.
	prepared struct{}
	// spawned: the process exists.
	spawned struct{}
	// failed: preparing or spawning came to nothing; no process is left.
	failed struct{ problem problem }
	// rootEnded: the first process ended.
	rootEnded struct{ exit exit }
	// treeQuiet: the first process has ended and no other is seen.
	treeQuiet struct{}
	// treeEnded: no process of the task is left. Its exit is the final one,
	// with what only shows at the end (memory).
	treeEnded struct{ exit exit }
	// becameHealthy and becameUnhealthy are transitions of the health check;
	// reachedThreshold says that its failures are no longer tolerated.
	becameHealthy    struct{}
	becameUnhealthy  struct{ reason string }
	reachedThreshold struct{ reason string }
	// failedAgain is a counted failure that changes nothing.
	failedAgain struct{ reason string }
	// checkChanged is a new result of TaskInfo.check.
	checkChanged struct{ status *mesos.CheckStatusInfo }
	// registered: the entry can be found.
	registered struct{}
	// registryFailed: the registry refused or did not answer; it is asked again.
	registryFailed struct{ reason string }
	// deregistered: the entry is gone.
	deregistered struct{}
	// rotated: these secrets have other values than the task was started with,
	// and it wants to be replaced for that.
	rotated struct{ names string }
	// kill asks for the end. Without a grace the task's own holds.
	kill struct {
		grace    time.Duration
		hasGrace bool
	}
	// shutdown asks for an end within a time.
	shutdown struct {
		within time.Duration
		why    string
	}
	// broke: handling this task panicked.
	broke struct{}
	// stuck names the processes that SIGKILL has not ended.
	stuck struct{ processes string }
	// tick: a moment that wake named has come.
	tick struct{}
)

// An action is something to be done. None of them blocks; what takes time runs
// beside the task and comes back as an event.
type action any

type (
	// report sends a status.
	report struct {
		state   mesos.TaskState
		reason  *mesos.TaskStatus_Reason
		message string
		healthy health
		check   *mesos.CheckStatusInfo
		labels  [][2]string
	}
	prepare      struct{}
	spawn        struct{}
	cancelLaunch struct{}
	startChecks  struct{}
	stopChecks   struct{}
	register     struct{}
	// deregister is tried until it succeeds; by is when the task goes on
	// without it, zero while the task lives.
	deregister struct{ by time.Time }
	// terminate sends SIGTERM to every process.
	terminate struct{}
	// killTree sends SIGKILL to every process until none is left, and comes
	// back as treeEnded, before that perhaps as stuck.
	killTree struct{}
	// release gives back everything the task had.
	release struct{}
)
