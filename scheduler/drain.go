package scheduler

import (
	"fmt"
	"time"

	"pacer/executor/labels"
	"pacer/scheduler/app"
)

// maxDrain is the executor's setting for the longest drain delay.
const maxDrain = "PACER_MAX_DRAIN"

// mayDrain applies the executor's limit on drain delays early, as [core.mayRunAs]
// does its rule about users.
func (c *core) mayDrain(a *app.App) error {
	delay, err := time.ParseDuration(a.Labels[labels.Drain])
	if err != nil {
		return nil // there is none: others have been refused
	}
	limit, err := time.ParseDuration(c.config.Executor.Environment[maxDrain])
	if err != nil || limit <= 0 {
		limit = labels.MaxDrain
	}
	if delay <= limit {
		return nil
	}
	return app.Refuse("/labels/"+labels.Drain, fmt.Sprintf("is %v, at most %v are allowed: ask for less, or have the operator raise %s by --executor-env", delay, limit, maxDrain))
}
