package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/wire"
)

// Executor is a raw executor: one stream and calls on connections of their own. It
// does nothing by itself. It need not run where the agent has started a process:
// agents do not know who calls.
type Executor struct {
	t           testing.TB
	URL         string // of the agent
	FrameworkID string
	ID          string
	cancel      context.CancelFunc
	done        chan struct{}

	mu     sync.Mutex
	events []*execv1.Event // not taken yet
	err    error           // why the stream ended
	more   chan struct{}
}

// Idle makes a Task's executor a process that lives and does nothing, for an Executor
// to speak in its name.
func Idle(info *mesos.TaskInfo) {
	value := "/bin/sleep"
	info.Executor.Command.Value = &value
	info.Executor.Command.Arguments = []string{"sleep", "600"}
}

// SubscribeExecutor opens a stream. It tries again while the agent does not know the
// executor yet or recovers.
func SubscribeExecutor(t testing.TB, url, frameworkID, id string, known ...execv1.Call_Update) *Executor {
	t.Helper()
	e := &Executor{t: t, URL: url, FrameworkID: frameworkID, ID: id, done: make(chan struct{}), more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	call := &execv1.Call{Type: execv1.Call_SUBSCRIBE, Subscribe: &execv1.Call_Subscribe{UnacknowledgedUpdates: known}}
	for end := time.Now().Add(Patience); ; {
		response, err := e.send(ctx, call)
		if err == nil && response.StatusCode == http.StatusOK {
			go e.read(response)
			t.Cleanup(e.Close)
			return e
		}
		if err == nil {
			err = errors.New(response.Status)
			response.Body.Close()
		}
		if time.Now().After(end) {
			cancel()
			t.Fatalf("SUBSCRIBE of executor %s: %v", id, err)
		}
		time.Sleep(10 * time.Millisecond) // between attempts, as executors do
	}
}

func (e *Executor) send(ctx context.Context, call *execv1.Call) (*http.Response, error) {
	call.FrameworkID, call.ExecutorID = mesos.FrameworkID{Value: e.FrameworkID}, mesos.ExecutorID{Value: e.ID}
	body, err := wire.Protobuf.Marshal(call)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL+"/api/v1/executor", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", string(wire.Protobuf))
	request.Header.Set("Accept", string(wire.Protobuf))
	request.Close = true
	return client.Do(request)
}

func (e *Executor) read(response *http.Response) {
	defer close(e.done)
	defer response.Body.Close()
	records := wire.NewRecordReader(response.Body, 0)
	for {
		record, err := records.Next()
		event := new(execv1.Event)
		if err == nil {
			_, err = wire.Protobuf.Unmarshal(record, event)
		}
		e.mu.Lock()
		if err != nil {
			e.err = err
		} else {
			e.events = append(e.events, event)
		}
		e.mu.Unlock()
		select {
		case e.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// Close drops the connection, as an executor that dies does.
func (e *Executor) Close() {
	e.cancel()
	<-e.done
}

// Await takes the oldest event of a type. It fails after d, or when the stream has
// ended.
func (e *Executor) Await(kind execv1.Event_Type, d time.Duration) (*execv1.Event, error) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		e.mu.Lock()
		i := slices.IndexFunc(e.events, func(event *execv1.Event) bool { return event.Type == kind })
		if i >= 0 {
			event := e.events[i]
			e.events = slices.Delete(e.events, i, i+1)
			e.mu.Unlock()
			return event, nil
		}
		err := e.err
		e.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-e.more:
		case <-deadline.C:
			return nil, errors.New("deadline")
		}
	}
}

// Next takes the oldest event of a type; others stay where they are.
func (e *Executor) Next(kind execv1.Event_Type) *execv1.Event {
	e.t.Helper()
	event, err := e.Await(kind, Patience)
	if err != nil {
		e.t.Fatalf("executor %s: no %s: %v", e.ID, kind, err)
	}
	return event
}

// Ended waits for the end of the stream and returns its reason: io.EOF after a
// terminating chunk.
func (e *Executor) Ended() error {
	e.t.Helper()
	select {
	case <-e.done:
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.err
	case <-time.After(Patience):
		e.t.Fatalf("executor %s: the stream does not end", e.ID)
		return nil
	}
}

// Status makes an update with a fresh uuid.
func (e *Executor) Status(taskID string, state mesos.TaskState) mesos.TaskStatus {
	id, source, now := uuid.New(), mesos.SOURCE_EXECUTOR, float64(time.Now().UnixNano())/1e9
	return mesos.TaskStatus{
		TaskID: mesos.TaskID{Value: taskID}, State: &state, Source: &source, UUID: id[:], Timestamp: &now,
		ExecutorID: &mesos.ExecutorID{Value: e.ID},
	}
}

// TryUpdate sends an update and returns the answer's code; it fails without one
// within d.
func (e *Executor) TryUpdate(status mesos.TaskStatus, d time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	response, err := e.send(ctx, &execv1.Call{Type: execv1.Call_UPDATE, Update: &execv1.Call_Update{Status: status}})
	if err != nil {
		return 0, fmt.Errorf("UPDATE: %w", err)
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// Update reports a state, which has to be accepted, and returns what it sent.
func (e *Executor) Update(taskID string, state mesos.TaskState) mesos.TaskStatus {
	e.t.Helper()
	status := e.Status(taskID, state)
	if code, err := e.TryUpdate(status, Patience); err != nil || code != http.StatusAccepted {
		e.t.Fatalf("UPDATE %s of %s: %d, %v", state, taskID, code, err)
	}
	return status
}
