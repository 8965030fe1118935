package protocol_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor/agent"
)

// executorName is the argv[0] under which the test binary is the executor.
const executorName = "protocol-executor"

func TestMain(m *testing.M) {
	if os.Args[0] == executorName {
		if err := runExecutor(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// tasks is an executor without processes: a task starts, runs until a message
// with its ID comes, and then finishes, or is killed.
type tasks struct {
	client *agent.Client
	end    chan struct{}
	ids    map[string]bool
}

func runExecutor() error {
	config, err := agent.ConfigFromEnv(os.Getenv, os.Unsetenv)
	if err != nil {
		return err
	}
	client, err := agent.New(config, zerolog.New(os.Stderr).With().Timestamp().Logger())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &tasks{client: client, end: make(chan struct{}, 2), ids: map[string]bool{}}
	go func() {
		<-t.end
		drain, done := context.WithTimeout(ctx, 3*time.Second)
		defer done()
		client.Drain(drain)
		cancel()
	}()
	return client.Run(ctx, t)
}

func (t *tasks) report(id string, states ...mesos.TaskState) {
	for _, state := range states {
		if err := t.client.Update(mesos.TaskStatus{TaskID: mesos.TaskID{Value: id}, State: &state}); err != nil {
			panic(err)
		}
	}
}

func (t *tasks) finish(id string, state mesos.TaskState) {
	if t.ids[id] {
		delete(t.ids, id)
		t.report(id, state)
	}
}

func (t *tasks) Subscribed(agent.Subscription) {}
func (t *tasks) Launch(task mesos.TaskInfo) {
	t.ids[task.TaskID.Value] = true
	t.report(task.TaskID.Value, mesos.TASK_STARTING, mesos.TASK_RUNNING)
}
func (t *tasks) LaunchGroup(group []mesos.TaskInfo) {
	for _, task := range group {
		t.Launch(task)
	}
}
func (t *tasks) Kill(id string, _ *mesos.KillPolicy) { t.finish(id, mesos.TASK_KILLED) }
func (t *tasks) Message(data []byte)                 { t.finish(string(data), mesos.TASK_FINISHED) }
func (t *tasks) Disconnected(time.Time)              {}
func (t *tasks) Lost(error)                          { t.Shutdown() }
func (t *tasks) Shutdown() {
	for id := range t.ids {
		t.finish(id, mesos.TASK_KILLED)
	}
	t.end <- struct{}{}
}
