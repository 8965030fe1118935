package link

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// A Message travels from a master to an agent or back. The types below are the
// whole set.
type Message interface{ message() }

// From an agent to the master.
type (
	// RegisterAgent is an agent's first registration; Agent.ID is unset.
	RegisterAgent struct {
		Agent mesos.AgentInfo
		Endpoint
	}

	// ReregisterAgent is sent by an agent that has an id: after a restart, after
	// a broken connection, after the master has lost sight of it, or to a new
	// leader.
	ReregisterAgent struct {
		Agent mesos.AgentInfo
		Endpoint
		// Tasks are all tasks that are not completed: queued, running, and
		// terminated with updates that the scheduler has not acknowledged. State
		// is the latest state; StatusUpdateState and StatusUpdateUUID are those
		// of the update at the front of the task's queue, if any.
		Tasks []mesos.Task
		// Executors are the executors that are not terminated. FrameworkID is
		// set in each.
		Executors []mesos.ExecutorInfo
		// Frameworks are those of Tasks and Executors, with their ids.
		Frameworks []mesos.FrameworkInfo
		// Drain is set while the agent is draining.
		Drain *mesos.DrainConfig
	}

	// UnregisterAgent says that the agent is shutting down for good.
	UnregisterAgent struct{ AgentID string }

	// StatusUpdate is a task's status on its way to the scheduler: first time or
	// repetition. LatestState is the newest state that the agent knows, which can
	// be later than Status.State; nil for a task that the agent does not know.
	// Status.UUID is always set.
	StatusUpdate struct {
		FrameworkID string
		Status      mesos.TaskStatus
		LatestState *mesos.TaskState
	}

	// ExitedExecutor says that an executor's container has ended, or that the
	// launch for which the master had counted a new executor was refused. Status
	// is the raw wait status, -1 when there is none.
	ExitedExecutor struct {
		AgentID, FrameworkID, ExecutorID string
		Status                           int32
	}

	// ExecutorMessage is an executor's message to its scheduler.
	ExecutorMessage struct {
		AgentID, FrameworkID, ExecutorID string
		Data                             []byte
	}

	// Pong answers a Ping.
	Pong struct{}
)

// Endpoint says how others reach an agent, and what it is.
type Endpoint struct {
	// PID is "slave(1)@ip:port".
	PID string
	// Version is the agent's Mesos version, e.g. "1.12.0".
	Version string
}

// From the master to an agent.
type (
	// Registered answers RegisterAgent.
	Registered struct {
		AgentID string
		// TotalPingTimeout is how long the agent may go without a Ping before it
		// has to assume that the master no longer holds it as registered, and
		// re-registers.
		TotalPingTimeout time.Duration
	}

	// Reregistered answers ReregisterAgent.
	Reregistered struct {
		AgentID          string
		TotalPingTimeout time.Duration
		// Reconciliations name, per framework, tasks that the master holds for
		// this agent and that ReregisterAgent did not list. The agent answers
		// those that it does not know with TASK_DROPPED (TASK_LOST for frameworks
		// without PARTITION_AWARE), REASON_RECONCILIATION.
		Reconciliations []Reconciliation
	}

	// RunTask launches one task. LaunchExecutor is the master's belief that the
	// executor does not exist yet; the agent drops the task if it finds
	// otherwise. Task.Executor.FrameworkID is set.
	RunTask struct {
		Framework      mesos.FrameworkInfo
		Task           mesos.TaskInfo
		LaunchExecutor bool
	}

	// RunTaskGroup launches all tasks of a group on Executor; Executor is also
	// set in each task.
	RunTaskGroup struct {
		Framework      mesos.FrameworkInfo
		Executor       mesos.ExecutorInfo
		Group          mesos.TaskGroupInfo
		LaunchExecutor bool
	}

	// KillTask passes the scheduler's kill on; KillPolicy as the scheduler gave it.
	KillTask struct {
		FrameworkID, TaskID string
		KillPolicy          *mesos.KillPolicy
	}

	// Acknowledge is the scheduler's acknowledgement of a StatusUpdate.
	Acknowledge struct {
		FrameworkID, TaskID string
		UUID                []byte
	}

	// ShutdownExecutor asks for the end of one executor.
	ShutdownExecutor struct{ FrameworkID, ExecutorID string }

	// ShutdownFramework asks for the end of all executors of a framework that has
	// been removed.
	ShutdownFramework struct{ FrameworkID string }

	// FrameworkMessage is a scheduler's message to an executor.
	FrameworkMessage struct {
		FrameworkID, ExecutorID string
		Data                    []byte
	}

	// UpdateFramework tells agents of a framework's new FrameworkInfo; they
	// re-send the front status update of each of its tasks.
	UpdateFramework struct{ Framework mesos.FrameworkInfo }

	// Drain starts draining the agent.
	Drain struct{ Config mesos.DrainConfig }

	// Shutdown tells an agent that it has been removed or marked gone: it shuts
	// its executors down and ends.
	Shutdown struct{ Message string }

	// Ping probes an agent. Connected is false when the master does not hold the
	// agent as connected; the agent then re-registers.
	Ping struct{ Connected bool }
)

// Reconciliation is the part of Reregistered that concerns one framework.
type Reconciliation struct {
	Framework mesos.FrameworkInfo
	// Tasks are what the master believes; TaskID and State are set.
	Tasks []mesos.TaskStatus
}

func (RegisterAgent) message()   {}
func (ReregisterAgent) message() {}
func (UnregisterAgent) message() {}
func (StatusUpdate) message()    {}
func (ExitedExecutor) message()  {}
func (ExecutorMessage) message() {}
func (Pong) message()            {}

func (Registered) message()        {}
func (Reregistered) message()      {}
func (RunTask) message()           {}
func (RunTaskGroup) message()      {}
func (KillTask) message()          {}
func (Acknowledge) message()       {}
func (ShutdownExecutor) message()  {}
func (ShutdownFramework) message() {}
func (FrameworkMessage) message()  {}
func (UpdateFramework) message()   {}
func (Drain) message()             {}
func (Shutdown) message()          {}
func (Ping) message()              {}
