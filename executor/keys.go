package executor

// Names of the fields in log lines. Operators search for them.
const (
	keyTask      = "task_id"
	keyApp       = "app"
	keyState     = "state"
	keyFrom      = "from"
	keyReason    = "reason"
	keyMessage   = "detail"
	keySecrets   = "secrets"
	keySignal    = "signal"
	keyHealthy   = "healthy"
	keyError     = "error"
	keyStack     = "stack"
	keyPID       = "pid"
	keyWaitFor   = "wait_for"
	keyWithin    = "within"
	keyTasks     = "tasks"
	keyUser      = "user"
	keyFiles     = "files"
	keyTook      = "took"
	keyCheck     = "check"
	keyName      = "name"
	keyUnhealthy = "unhealthy"
	keySpread    = "spread_over"
)
