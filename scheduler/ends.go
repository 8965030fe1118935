package scheduler

import (
	"fmt"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/state"
)

// maxEnds are stored together. Each may be in a chunk of its own, and all have
// to fit into one transaction beside a launch.
const maxEnds = 50

// ends are tasks that have ended in memory, and still have to in the store.
// In a rolling change they wait a little: the launch of the next instance
// follows, and one write carries both.
type ends struct{ waiting []ending }

// ending is an instance with the status that says so, to be acknowledged.
type ending struct {
	instance *instance
	status   mesos.TaskStatus
}

func (e *ends) add(c *core, last ...ending) {
	if len(e.waiting) == 0 {
		c.after(c.config.Times.EndDelay, c.storeEnds)
	}
	e.waiting = append(e.waiting, last...)
	if len(e.waiting) >= maxEnds {
		c.storeEnds()
	}
}

// take makes those that wait part of a change.
func (e *ends) take(change *state.Change) []ending {
	taken := e.waiting
	e.waiting = nil
	for _, end := range taken {
		change.DropTask(end.instance.record.ID)
	}
	return taken
}

func (c *core) storeEnds() {
	var change state.Change
	taken := c.ends.take(&change)
	if len(taken) > 0 {
		c.submit(&change, func(err error) { c.endsStored(taken, err) })
	}
}

// endsStored acknowledges what is stored, and tries the rest again.
func (c *core) endsStored(taken []ending, err error) {
	if len(taken) == 0 {
		return
	}
	if err != nil {
		c.log.Warn().Int(keyCount, len(taken)).AnErr(keyError, fmt.Errorf("end of tasks: %w", err)).Msg("not stored; trying again")
		c.after(c.config.Times.StoreRetry, func() { c.ends.add(c, taken...) })
		return
	}
	for _, end := range taken {
		delete(c.instances, end.instance.record.ID)
		c.acknowledge(end.status)
	}
}
