package agent

import (
	"container/list"
	"slices"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

const (
	// ackTimeout is how long an accepted update may stay unacknowledged before
	// it is sent again; it doubles with each repetition up to maxAckTimeout.
	ackTimeout    = 10 * time.Second
	maxAckTimeout = 5 * time.Minute
	// maxRejections is how often an update may be answered 400 before it is
	// given up; the pause between doubles from rejectionPause.
	maxRejections  = 4
	rejectionPause = 500 * time.Millisecond
)

// ledger holds what the agent has not acknowledged: tasks none of whose updates
// was, and updates, both in order of creation. It decides what to send next and
// what a SUBSCRIBE lists; it does no input or output and knows no clock.
//
// An update is waiting until the agent's 202 (accepted), and leaves with its
// acknowledgement. Per task one update is in flight at a time, and none is sent
// before those created earlier are accepted.
type ledger struct {
	tasks map[string]mesos.TaskInfo
	// launched has the keys of tasks in order of their launch.
	launched []string

	updates *list.List // of *update, in order of creation
	byUUID  map[uuid.UUID]*list.Element
	// flying has the tasks of which an update is in flight.
	flying map[string]*update

	// due is when sendable may have something new; zero: at once.
	due time.Time
	// detached: there is no stream to acknowledge on, 202 has to do.
	detached bool
}

// update is one status on its way.
type update struct {
	status mesos.TaskStatus
	uuid   uuid.UUID
	task   string

	// accepted is when the current subscription's first 202 came (or the
	// SUBSCRIBED that follows its replay); zero while waiting.
	accepted time.Time
	// accepts counts the 202s of the current subscription.
	accepts int
	// rejections counts answers that will not get better.
	rejections int
	// due is when it may be sent, again or for the first time.
	due time.Time
}

func newLedger() *ledger {
	return &ledger{
		tasks:   make(map[string]mesos.TaskInfo),
		updates: list.New(),
		byUUID:  make(map[uuid.UUID]*list.Element),
		flying:  make(map[string]*update),
	}
}

// launch remembers a task until the agent acknowledges one of its updates.
func (l *ledger) launch(task mesos.TaskInfo) {
	id := task.TaskID.Value
	if _, known := l.tasks[id]; !known {
		l.launched = append(l.launched, id)
	}
	l.tasks[id] = task
}

// add appends an update whose UUID is set.
func (l *ledger) add(status mesos.TaskStatus) {
	u := &update{status: status, task: status.TaskID.Value, uuid: uuid.UUID(status.UUID)}
	l.byUUID[u.uuid] = l.updates.PushBack(u)
	l.due = time.Time{}
}

// len is the number of updates not yet done with.
func (l *ledger) len() int { return l.updates.Len() }

// acknowledge takes note of an ACKNOWLEDGED event. Unknown and repeated ones
// are harmless.
func (l *ledger) acknowledge(taskID string, id []byte) {
	if _, waiting := l.tasks[taskID]; waiting {
		delete(l.tasks, taskID)
		l.launched = slices.DeleteFunc(l.launched, func(other string) bool { return other == taskID })
	}
	if parsed, err := uuid.FromBytes(id); err == nil {
		l.remove(parsed)
	}
}

func (l *ledger) remove(id uuid.UUID) bool {
	element, known := l.byUUID[id]
	if !known {
		return false
	}
	if u := l.updates.Remove(element).(*update); u.accepted.IsZero() {
		l.due = time.Time{} // the task's next has waited for this one
	}
	delete(l.byUUID, id)
	return true
}

// sendable marks at most limit updates as in flight and returns them. The
// caller reports each outcome to settle.
func (l *ledger) sendable(now time.Time, limit int) []*update {
	if now.Before(l.due) {
		return nil
	}
	var out []*update
	l.due = now.Add(maxAckTimeout)
	blocked := make(map[string]bool)
	for e := l.updates.Front(); e != nil; e = e.Next() {
		u := e.Value.(*update)
		if l.flying[u.task] != nil || blocked[u.task] {
			continue
		}
		if u.accepted.IsZero() {
			blocked[u.task] = true // later ones wait for this one's 202
		}
		if now.Before(u.due) {
			if u.due.Before(l.due) {
				l.due = u.due
			}
			continue
		}
		if len(out) == limit {
			l.due = time.Time{}
			break
		}
		l.flying[u.task] = u
		out = append(out, u)
	}
	return out
}

// outcome is what an answer means for an update.
type outcome int

const (
	accepted outcome = iota
	// postponed: the agent is away or not ready; nothing is known of the update.
	postponed
	// rejected: the agent says that the call is wrong.
	rejected
)

// settle ends the flight of u. It returns true when u has been given up.
func (l *ledger) settle(u *update, result outcome, now time.Time) (dropped bool) {
	delete(l.flying, u.task)
	l.due = time.Time{}
	if l.byUUID[u.uuid] == nil {
		return false // acknowledged while in flight
	}
	switch result {
	case accepted:
		if l.detached {
			l.remove(u.uuid)
			return false
		}
		u.accept(now)
	case postponed:
	case rejected:
		u.rejections++
		if u.rejections >= maxRejections {
			return l.remove(u.uuid)
		}
		u.due = now.Add(rejectionPause << (u.rejections - 1))
	}
	return false
}

func (u *update) accept(now time.Time) {
	if u.accepted.IsZero() {
		u.accepted = now
	}
	u.due = now.Add(min(ackTimeout<<min(u.accepts, 10), maxAckTimeout))
	u.accepts++
}

// subscribe composes a SUBSCRIBE's lists. included is to be given to
// subscribed when the agent has answered.
func (l *ledger) subscribe() (call *executor.Call_Subscribe, included []*update) {
	call = &executor.Call_Subscribe{}
	for _, id := range l.launched {
		call.UnacknowledgedTasks = append(call.UnacknowledgedTasks, l.tasks[id])
	}
	for e := l.updates.Front(); e != nil; e = e.Next() {
		u := e.Value.(*update)
		call.UnacknowledgedUpdates = append(call.UnacknowledgedUpdates, executor.Call_Update{Status: u.status})
		included = append(included, u)
	}
	return call, included
}

// subscribed counts the updates of an answered SUBSCRIBE as accepted now, and
// forgets what an earlier subscription's answers had said of them.
func (l *ledger) subscribed(included []*update, now time.Time) {
	for _, u := range included {
		u.accepted, u.accepts = time.Time{}, 0
		u.accept(now)
	}
	l.due = time.Time{}
}

// detach says that no acknowledgement will come any more: everything is sent
// once more, and 202 is the end of it.
func (l *ledger) detach() {
	l.detached = true
	l.due = time.Time{}
	for e := l.updates.Front(); e != nil; e = e.Next() {
		u := e.Value.(*update)
		u.accepted, u.accepts, u.due = time.Time{}, 0, time.Time{}
	}
}

// clear forgets all updates and returns how many there were.
func (l *ledger) clear() int {
	n := l.updates.Len()
	l.updates.Init()
	clear(l.byUUID)
	return n
}

// unheard tells whether an update has been accepted twice, at least ackTimeout
// apart, without any event since the first time: events are being lost.
func (l *ledger) unheard(lastEvent, now time.Time) bool {
	for e := l.updates.Front(); e != nil; e = e.Next() {
		u := e.Value.(*update)
		if u.accepts >= 2 && now.Sub(u.accepted) >= ackTimeout && !lastEvent.After(u.accepted) {
			return true
		}
	}
	return false
}
