package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pacer/executor/mesosapi"
)

// taskStatus is what the tests read of a status, in the form of Mesos' v1
// JSON.
type taskStatus struct {
	TaskID struct {
		Value string `json:"value"`
	} `json:"task_id"`
	State     string  `json:"state"`
	Reason    string  `json:"reason"`
	Message   string  `json:"message"`
	Healthy   *bool   `json:"healthy"`
	Timestamp float64 `json:"timestamp"` // seconds
}

// time is when the executor made the status.
func (s taskStatus) time() time.Time { return time.UnixMicro(int64(s.Timestamp * 1e6)) }

// watcher follows the master's own event stream, which emulated and real
// masters have alike. It tells a change of state or of health, not a repeated
// state.
type watcher struct {
	mu       sync.Mutex
	statuses []taskStatus
	raw      bytes.Buffer // the whole stream
	changed  chan struct{}
	ended    error
}

func watch(t *testing.T, masterURL string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, masterURL+"/api/v1", strings.NewReader(`{"type":"SUBSCRIBE"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("subscribe to the events of %s: %v", masterURL, err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("subscribe to the events of %s: %s", masterURL, response.Status)
	}
	w := &watcher{changed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer response.Body.Close()
		w.followLoop(mesosapi.NewRecordReader(response.Body))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *watcher) followLoop(records *mesosapi.RecordReader) {
	for {
		record, err := records.Next()
		w.mu.Lock()
		if err != nil {
			w.ended = err
		} else {
			w.raw.Write(record)
			var event struct {
				TaskUpdated struct {
					Status taskStatus `json:"status"`
				} `json:"task_updated"`
			}
			if json.Unmarshal(record, &event) == nil && event.TaskUpdated.Status.State != "" {
				w.statuses = append(w.statuses, event.TaskUpdated.Status)
			}
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await returns the first status of a task that is as wanted.
func (w *watcher) await(t *testing.T, what, taskID string, wanted func(taskStatus) bool) taskStatus {
	t.Helper()
	timeout := time.After(eventualLimit)
	for {
		w.mu.Lock()
		statuses, changed, ended := w.statuses, w.changed, w.ended
		w.mu.Unlock()
		for _, s := range statuses {
			if s.TaskID.Value == taskID && wanted(s) {
				return s
			}
		}
		if ended != nil {
			t.Fatalf("the master's events ended before %s of %s: %v", what, taskID, ended)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not within %s: %s of %s; seen %s", eventualLimit, what, taskID, describe(statuses, taskID))
		}
	}
}

func describe(statuses []taskStatus, taskID string) string {
	var list []string
	for _, s := range statuses {
		if s.TaskID.Value == taskID {
			list = append(list, fmt.Sprintf("%s %q", s.State, s.Message))
		}
	}
	return strings.Join(list, ", ")
}

// bytes is everything that the stream has carried.
func (w *watcher) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.raw.Bytes())
}
