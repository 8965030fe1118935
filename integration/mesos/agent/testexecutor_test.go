package agent

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/wire"
)

// testExecutor is what the test binary does when an agent starts it as an executor:
// it runs tasks that do nothing until they are killed.
func testExecutor() int {
	kind := wire.ContentType(os.Getenv("AGENT_TEST_EXECUTOR"))
	endpoint := "http://" + os.Getenv("MESOS_AGENT_ENDPOINT") + "/api/v1/executor"
	post := func(call *execv1.Call) (*http.Response, error) {
		call.FrameworkID.Value = os.Getenv("MESOS_FRAMEWORK_ID")
		call.ExecutorID.Value = os.Getenv("MESOS_EXECUTOR_ID")
		body, err := kind.Marshal(call)
		if err != nil {
			return nil, err
		}
		request, err := http.NewRequest(http.MethodPost, endpoint, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", string(kind))
		request.Header.Set("Accept", string(kind))
		if token := os.Getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"); token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		return http.DefaultClient.Do(request)
	}
	update := func(task mesos.TaskID, state mesos.TaskState) error {
		source := mesos.SOURCE_EXECUTOR
		id := uuid.New()
		response, err := post(&execv1.Call{Type: execv1.Call_UPDATE, Update: &execv1.Call_Update{Status: mesos.TaskStatus{
			TaskID: task, State: &state, Source: &source, UUID: id[:],
			ExecutorID: &mesos.ExecutorID{Value: os.Getenv("MESOS_EXECUTOR_ID")},
		}}})
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusAccepted {
			text, err := io.ReadAll(response.Body)
			return fmt.Errorf("UPDATE: %d %s %v", response.StatusCode, text, err)
		}
		return nil
	}
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	response, err := post(&execv1.Call{Type: execv1.Call_SUBSCRIBE, Subscribe: &execv1.Call_Subscribe{}})
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	records := wire.NewRecordReader(response.Body, 0)
	for {
		record, err := records.Next()
		if err != nil {
			return fail(err)
		}
		var event execv1.Event
		if _, err := kind.Unmarshal(record, &event); err != nil {
			return fail(err)
		}
		fmt.Println(event.Type)
		switch event.Type {
		case execv1.Event_LAUNCH:
			err = update(event.Launch.Task.TaskID, mesos.TASK_RUNNING)
		case execv1.Event_KILL:
			err = update(event.Kill.TaskID, mesos.TASK_KILLED)
		case execv1.Event_SHUTDOWN:
			return 7
		}
		if err != nil {
			return fail(err)
		}
	}
}
