package api

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"pacer/scheduler/app"
)

// Types of events, Marathon's.
const (
	EventStatusUpdate          = "status_update_event"
	EventHealthChanged         = "health_status_changed_event"
	EventAppTerminated         = "app_terminated_event"
	EventAPIPost               = "api_post_event"
	EventGroupChangeSuccess    = "group_change_success"
	EventDeploymentInfo        = "deployment_info"
	EventDeploymentSuccess     = "deployment_success"
	EventDeploymentFailed      = "deployment_failed"
	EventDeploymentStepSuccess = "deployment_step_success"
	EventDeploymentStepFailure = "deployment_step_failure"
	EventStreamAttached        = "event_stream_attached"
	EventStreamDetached        = "event_stream_detached"
)

const (
	// keptEvents is how many events a reader can be behind, or miss while it
	// reconnects.
	keptEvents = 10_000
	// maxEvent is the size of an event's data in bytes. Readers have lines of
	// 4096 bytes.
	maxEvent = 4000
	// maxEventMessage is how much of a text an event has, in bytes.
	maxEventMessage = 1000
	// maxEventPorts is how many ports of a task.
	maxEventPorts = 200
)

// Events hands out what happens to readers, each of which has its place in one
// ring: however many there are and however slowly they read, nothing is kept
// twice, and whoever falls behind the ring is cut off. Every event is rendered
// once. Its methods may be called from any goroutine, and none of them waits
// for a reader.
type Events struct {
	// life distinguishes the numbers of one scheduler from another's.
	life string
	now  func() time.Time

	mu      sync.Mutex
	ring    []event // event n is at n % keptEvents
	next    uint64  // number of the next event
	closed  bool
	waiting bool          // someone waits for wake
	wake    chan struct{} // closed by the next event
}

type event struct {
	kind string
	app  string // that the event is about, or empty
	// apps that it is about, if they are several.
	apps  []string
	frame []byte // as it is sent
}

// NewEvents has none yet.
func NewEvents() *Events {
	return &Events{life: uuid.NewString()[:8], now: time.Now, wake: make(chan struct{})}
}

// Close ends all streams, now and later.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.wakeLocked()
}

func (e *Events) wakeLocked() {
	if e.waiting {
		e.waiting = false
		close(e.wake)
		e.wake = make(chan struct{})
	}
}

// publish numbers and keeps an event. data is a JSON object without its
// closing brace, which type and time are added to.
func (e *Events) publish(kind, about string, apps []string, data []byte) {
	data = appendMember(data, "eventType", kind)
	data = appendTime(data, "timestamp", e.now())
	data = append(data, '}')
	e.mu.Lock()
	defer e.mu.Unlock()
	frame := make([]byte, 0, len(data)+len(kind)+64)
	frame = append(append(frame, "event: "...), kind...)
	frame = append(append(frame, "\nid: "...), e.life...)
	frame = strconv.AppendUint(append(frame, '-'), e.next, 10)
	frame = append(append(frame, "\ndata: "...), data...)
	frame = append(frame, "\n\n"...)
	next := event{kind: kind, app: about, apps: apps, frame: frame}
	if len(e.ring) < keptEvents {
		e.ring = append(e.ring, next)
	} else {
		e.ring[e.next%keptEvents] = next
	}
	e.next++
	e.wakeLocked()
}

// position finds where a reader goes on whose last event had this ID. It is
// false if that is not known here, or has been forgotten; then the reader
// begins with what comes next.
func (e *Events) position(lastID string) (next uint64, resumed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	life, number, _ := strings.Cut(lastID, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if life != e.life || err != nil || n >= e.next || n+1 < e.oldestLocked() {
		return e.next, false
	}
	return n + 1, true
}

func (e *Events) oldestLocked() uint64 { return e.next - uint64(len(e.ring)) }

// take returns up to most events from number on, and how many there were
// before the oldest that is left, i.e. how many the reader has missed.
func (e *Events) take(number uint64, most int) (events []event, missed uint64, closed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if oldest := e.oldestLocked(); number < oldest {
		return nil, oldest - number, e.closed
	}
	n := min(uint64(most), e.next-number)
	events = make([]event, 0, n)
	for i := range n {
		events = append(events, e.ring[(number+i)%keptEvents])
	}
	return events, 0, e.closed
}

// wait returns when there may be an event of that number, after the time, or
// when ctx ends.
func (e *Events) wait(ctx context.Context, number uint64, most time.Duration) {
	e.mu.Lock()
	if number < e.next || e.closed {
		e.mu.Unlock()
		return
	}
	e.waiting = true
	wake := e.wake
	e.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// StatusUpdate tells that a task has changed its state.
func (e *Events) StatusUpdate(t *Task, message string) {
	b := appendString(append(make([]byte, 0, 600), `{"slaveId":`...), t.AgentID)
	b = appendMember(b, "taskId", t.ID)
	b = appendMember(b, "taskStatus", t.State)
	b = appendMember(b, "appId", t.AppID)
	b = appendMember(b, "host", t.Host)
	b = appendPorts(b, "ports", t.Ports[:min(len(t.Ports), maxEventPorts)])
	b = appendIP(b, t.IP)
	b = appendMember(b, "version", t.Version.String())
	e.publish(EventStatusUpdate, t.AppID, nil, appendClipped(b, "message", message))
}

// HealthChanged tells that a task has become healthy or unhealthy.
func (e *Events) HealthChanged(t *Task) {
	b := append(make([]byte, 0, 400), `{"appId":`...)
	b = appendString(b, t.AppID)
	b = appendMember(b, "taskId", t.ID)
	b = appendMember(b, "instanceId", instanceID(t.ID))
	b = appendMember(b, "version", t.Version.String())
	b = strconv.AppendBool(appendName(b, "alive"), t.Health != nil && t.Health.Alive)
	e.publish(EventHealthChanged, t.AppID, nil, b)
}

// instanceID is a task's ID in the form that Marathon gives instances, which
// readers of health events look for: <app>.instance-<rest>.
func instanceID(taskID string) string {
	if dot := strings.LastIndexByte(taskID, '.'); dot >= 0 {
		return taskID[:dot] + ".instance-" + taskID[dot+1:]
	}
	return taskID
}

// AppTerminated tells that the last task of a deleted app has ended.
func (e *Events) AppTerminated(appID string) {
	e.publish(EventAppTerminated, appID, nil, appendString([]byte(`{"appId":`), appID))
}

// Deployment tells of a deployment as a whole, or of one of its parts, by one
// of the types of events that are about them.
func (e *Events) Deployment(kind string, d *Deployment) {
	b := append(make([]byte, 0, 600), `{"id":`...)
	b = appendString(b, d.ID)
	b = append(b, `,"plan":{"id":`...)
	b = appendString(b, d.ID)
	b = appendMember(b, "version", d.Version.String())
	b = append(b, `,"steps":[{"actions":[`...)
	apps := make([]string, 0, len(d.Actions))
	shown := 0
	for _, a := range d.Actions {
		apps = append(apps, a.AppID)
		// The rest is in GET /v2/deployments.
		if len(b) > maxEvent-1000 {
			continue
		}
		if shown++; shown > 1 {
			b = append(b, ',')
		}
		b = append(b, `{"action":`...)
		b = appendString(b, string(a.Kind))
		b = appendMember(b, "app", a.AppID)
		if a.Stalled != "" && shown == 1 {
			b = appendClipped(b, "stalled", a.Stalled)
		}
		b = append(b, '}')
	}
	b = append(b, `]}]}`...)
	b = strconv.AppendInt(appendName(b, "affectedAppsCount"), int64(len(d.Actions)), 10)
	e.publish(kind, "", apps, b)
}

// posted tells that somebody has changed an app through the API.
func (e *Events) posted(client, uri, appID string, version app.Version) {
	b := append(make([]byte, 0, 300), `{"clientIp":`...)
	b = appendString(b, client)
	b = append(b, `,"appDefinition":{"id":`...)
	b = appendString(b, appID)
	b = append(appendMember(b, "version", version.String()), '}')
	e.publish(EventAPIPost, appID, nil, appendClipped(b, "uri", uri))
}

func (e *Events) groupChanged(group string, version app.Version) {
	b := appendString([]byte(`{"groupId":`), group)
	e.publish(EventGroupChangeSuccess, group, nil, appendMember(b, "version", version.String()))
}

// appendClipped writes a text of any length so that the event stays below
// maxEvent, with room for what publish adds.
func appendClipped(b []byte, name, text string) []byte {
	const room = 300
	for most := maxEventMessage; ; most /= 2 {
		longer := appendMember(b, name, clip(text, most))
		if len(longer) <= maxEvent-room || most == 0 {
			return longer
		}
	}
}

// clip shortens a text to most bytes and an ellipsis.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
