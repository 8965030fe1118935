package agent

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// complete checks what Mesos would answer 400 to, or worse take and stumble
// over, and fills in what every update needs.
func (c Config) complete(status mesos.TaskStatus, now time.Time) (mesos.TaskStatus, error) {
	if status.TaskID.Value == "" {
		return status, fmt.Errorf("%w: no task ID", ErrInvalidUpdate)
	}
	if status.State == nil {
		return status, fmt.Errorf("%w of task %q: no state", ErrInvalidUpdate, status.TaskID.Value)
	}
	switch *status.State {
	case mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_KILLING, mesos.TASK_FINISHED, mesos.TASK_FAILED,
		mesos.TASK_KILLED, mesos.TASK_ERROR, mesos.TASK_LOST, mesos.TASK_DROPPED, mesos.TASK_GONE:
	default:
		// STAGING is refused; UNREACHABLE, UNKNOWN and GONE_BY_OPERATOR upset
		// the master's accounting.
		return status, fmt.Errorf("%w of task %q: %v is not an executor's to report", ErrInvalidUpdate, status.TaskID.Value, *status.State)
	}
	if check := status.CheckStatus; check != nil {
		if check.Type == nil ||
			*check.Type == mesos.CheckInfo_COMMAND && check.Command == nil ||
			*check.Type == mesos.CheckInfo_HTTP && check.HTTP == nil ||
			*check.Type == mesos.CheckInfo_TCP && check.TCP == nil {
			return status, fmt.Errorf("%w of task %q: check_status needs a type and the message of that type", ErrInvalidUpdate, status.TaskID.Value)
		}
	}
	// Mesos wants a version in the version nibble; and a UUID that was used
	// before would be acknowledged and lost.
	id := uuid.New()
	status.UUID = id[:]
	source := mesos.SOURCE_EXECUTOR
	status.Source = &source
	status.ExecutorID = &mesos.ExecutorID{Value: c.ExecutorID}
	status.AgentID = &mesos.AgentID{Value: c.AgentID}
	if status.Timestamp == nil {
		seconds := float64(now.UnixNano()) / float64(time.Second)
		status.Timestamp = &seconds
	}
	return status, nil
}
