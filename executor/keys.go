package executor

// Names of the fields in log lines. Operators search for them.
const (
	keyTask      = "task_id"
	keyApp       = "app"
	keyState     = "state"
	keyFrom      = "from"
	keyReason    = "reason"
	keyMessage   = "message_text"
	keyHealthy   = "healthy"
	keyError     = "error"
	keyStack     = "stack"
	keyPID       = "pid"
	keyFramework = "framework_id"
	keyExecutor  = "executor_id"
	keyAgent     = "agent_id"
	keyWaitFor   = "wait_for"
	keyWithin    = "within"
	keyTasks     = "tasks"
	keyUser      = "user"
	keyTook      = "took"
	keyCheck     = "check"
)
