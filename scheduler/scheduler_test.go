package scheduler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	config := DefaultConfig()
	config.Framework.User = "nobody"
	config.Executor.URI = "http://scheduler:8081/executor/x/pacer-executor"
	config.Executor.SHA256 = strings.Repeat("ab", 32)
	return config
}

// life is one run of a scheduler.
type life struct {
	*Scheduler
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, config Config, memory *statetest.Memory, client Mesos) *life {
	t.Helper()
	log := zerolog.Nop()
	if testing.Verbose() {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "15:04:05.000"}).With().Timestamp().Logger()
	}
	store := memory.Open()
	s, err := Open(t.Context(), config, store, client, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{Scheduler: s, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { l.done <- s.Run(ctx) }()
	t.Cleanup(l.end)
	return l
}

// end stops the scheduler as SIGTERM does.
func (l *life) end() {
	l.stop()
	if err, running := <-l.done; running {
		close(l.done)
		if err != nil && !errors.Is(err, ErrFrameworkRemoved) && !errors.Is(err, state.ErrFenced) {
			l.t.Errorf("Run: %v", err)
		}
	}
}

// putOptions are those of a change of one app.
type putOptions struct {
	Replaces app.Version
	Force    bool
}

// Put is a change of one app.
func (l *life) Put(ctx context.Context, a *app.App, options putOptions) (api.Started, error) {
	return l.Change(ctx, []api.Edit{{ID: a.ID, Next: a, Replaces: options.Replaces}}, api.ChangeOptions{Force: options.Force})
}

// Restart is a restart of one app.
func (l *life) Restart(ctx context.Context, id string, force bool) (api.Started, error) {
	return l.Change(ctx, []api.Edit{{ID: id, Restart: true}}, api.ChangeOptions{Force: force})
}

// Delete is the deletion of one app.
func (l *life) Delete(ctx context.Context, id string, force bool) (api.Started, error) {
	return l.Change(ctx, []api.Edit{{ID: id, Delete: true}}, api.ChangeOptions{Force: force})
}

func (l *life) put(a *app.App) api.Started {
	l.t.Helper()
	options := putOptions{Force: true}
	if current, err := l.App(l.t.Context(), a.ID, api.Embed{}); err == nil {
		options.Replaces = current.App.Version
	}
	started, err := l.Put(l.t.Context(), a, options)
	if err != nil {
		l.t.Fatalf("put %s: %v", a.ID, err)
	}
	return started
}

func (l *life) status(id string) api.AppStatus {
	l.t.Helper()
	status, err := l.App(l.t.Context(), id, api.Embed{Tasks: true})
	if err != nil {
		l.t.Fatal(err)
	}
	return status
}

// settle waits until no deployment is under way, and then what follows.
func (l *life) settle() {
	l.t.Helper()
	for range 600 {
		time.Sleep(time.Second)
		synctest.Wait()
		list, err := l.Deployments(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		if len(list) == 0 {
			return
		}
	}
	list, _ := l.Deployments(l.t.Context())
	queue, _ := l.Queue(l.t.Context())
	for n := range queue {
		queue[n].JSON = nil
	}
	l.t.Fatalf("deployments do not end: %+v\nqueue: %+v", list, queue)
}

func web(id string, instances int, change ...func(*app.App)) *app.App {
	a := app.Default(id)
	a.Cmd = "serve"
	a.CPUs = 500
	a.Instances = instances
	a.HealthCheck = &app.HealthCheck{Protocol: app.CheckHTTP, Path: "/", Interval: time.Second, Timeout: time.Second, MaxConsecutiveFailures: 3}
	for _, f := range change {
		f(a)
	}
	return a
}

func version(n int) func(*app.App) {
	return func(a *app.App) { a.Env = map[string]string{"VERSION": fmt.Sprint(n)} }
}

func strategy(minimum, over float64) func(*app.App) {
	return func(a *app.App) {
		a.UpgradeStrategy = app.UpgradeStrategy{MinimumHealthCapacity: minimum, MaximumOverCapacity: over}
	}
}
