package mesos_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/goleak"

	"pacer/integration/mesos/wire"
	"pacer/integration/zookeeper"
)

// executorName is the argv[0] under which the test binary is the executor.
const executorName = "test-executor"

func TestMain(m *testing.M) {
	if os.Args[0] == executorName {
		if err := runExecutor(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(binary{m})
}

// binary runs the tests with the ZooKeeper that they share.
type binary struct{ m *testing.M }

func (b binary) Run() int { return zookeeper.Main(b.m) }

// testExecutor runs every task at once and for ever, ends tasks at KILL and itself
// at SHUTDOWN, and comes back when the agent does.
type testExecutor struct {
	url       string
	framework mesos.FrameworkID
	id        mesos.ExecutorID
	agent     mesos.AgentID
	updates   []executor.Call_Update // not acknowledged
	tasks     []mesos.TaskInfo       // none of whose updates is acknowledged
}

func runExecutor() error {
	e := &testExecutor{
		url:       "http://" + os.Getenv("MESOS_AGENT_ENDPOINT") + "/api/v1/executor",
		framework: mesos.FrameworkID{Value: os.Getenv("MESOS_FRAMEWORK_ID")},
		id:        mesos.ExecutorID{Value: os.Getenv("MESOS_EXECUTOR_ID")},
		agent:     mesos.AgentID{Value: os.Getenv("MESOS_SLAVE_ID")},
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		over, err := e.connect()
		if over {
			return err
		}
		time.Sleep(20 * time.Millisecond) // the agent is away
	}
	return fmt.Errorf("the agent did not come back")
}

// connect subscribes and handles events until the stream ends.
func (e *testExecutor) connect() (over bool, err error) {
	response, err := e.post(&executor.Call{Type: executor.Call_SUBSCRIBE, Subscribe: &executor.Call_Subscribe{
		UnacknowledgedTasks: e.tasks, UnacknowledgedUpdates: e.updates,
	}})
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.StatusCode == http.StatusBadRequest, fmt.Errorf("SUBSCRIBE: %s", response.Status)
	}
	records := wire.NewRecordReader(response.Body, 0)
	for {
		record, err := records.Next()
		if err != nil {
			return false, err
		}
		var event executor.Event
		if _, err := wire.Protobuf.Unmarshal(record, &event); err != nil {
			return true, err
		}
		switch event.Type {
		case executor.Event_LAUNCH:
			e.tasks = append(e.tasks, event.Launch.Task)
			e.update(event.Launch.Task.TaskID, mesos.TASK_RUNNING)
		case executor.Event_LAUNCH_GROUP:
			for _, t := range event.LaunchGroup.TaskGroup.Tasks {
				e.tasks = append(e.tasks, t)
				e.update(t.TaskID, mesos.TASK_RUNNING)
			}
		case executor.Event_KILL:
			e.update(event.Kill.TaskID, mesos.TASK_KILLED)
		case executor.Event_MESSAGE:
			e.call(&executor.Call{Type: executor.Call_MESSAGE, Message: &executor.Call_Message{Data: event.Message.Data}})
		case executor.Event_ACKNOWLEDGED:
			e.acknowledged(event.Acknowledged)
		case executor.Event_SHUTDOWN:
			return true, nil
		}
	}
}

func (e *testExecutor) acknowledged(ack *executor.Event_Acknowledged) {
	for i, u := range e.updates {
		if bytes.Equal(u.Status.UUID, ack.UUID) {
			e.updates = append(e.updates[:i:i], e.updates[i+1:]...)
			break
		}
	}
	for i, t := range e.tasks {
		if t.TaskID == ack.TaskID {
			e.tasks = append(e.tasks[:i:i], e.tasks[i+1:]...)
			break
		}
	}
}

func (e *testExecutor) update(task mesos.TaskID, state mesos.TaskState) {
	id, source, now := uuid.New(), mesos.SOURCE_EXECUTOR, float64(time.Now().UnixNano())/1e9
	u := executor.Call_Update{Status: mesos.TaskStatus{
		TaskID: task, State: &state, Source: &source, UUID: id[:], Timestamp: &now, ExecutorID: &e.id, AgentID: &e.agent,
	}}
	e.updates = append(e.updates, u)
	e.call(&executor.Call{Type: executor.Call_UPDATE, Update: &u})
}

// call sends what is repeated by the next SUBSCRIBE, or need not arrive.
func (e *testExecutor) call(c *executor.Call) {
	if response, err := e.post(c); err == nil {
		response.Body.Close()
	}
}

func (e *testExecutor) post(c *executor.Call) (*http.Response, error) {
	c.FrameworkID, c.ExecutorID = e.framework, e.id
	body, err := wire.Protobuf.Marshal(c)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", string(wire.Protobuf))
	request.Header.Set("Accept", string(wire.Protobuf))
	return http.DefaultClient.Do(request)
}
