package scheduler

// Keys of log lines.
const (
	keyApp         = "app"
	keyTask        = "task_id"
	keyAgent       = "agent_id"
	keyHost        = "host"
	keyExecutor    = "executor_id"
	keyFramework   = "framework_id"
	keyDeployment  = "deployment"
	keyVersion     = "version"
	keyEpoch       = "epoch"
	keyState       = "state"
	keyReason      = "reason"
	keyMessage     = "detail"
	keyCount       = "count"
	keyTasks       = "tasks"
	keyApps        = "apps"
	keyMaster      = "master"
	keyNode        = "node"
	keyError       = "error"
	keyUntil       = "until"
	keyUnavailable = "wait_for"
)
