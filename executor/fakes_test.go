package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"sync"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"pacer/executor/agent"
	"pacer/executor/labels"
	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/executor/registry"
	"pacer/healthcheck"
	"pacer/secrets"
)

// stage is a whole world for one executor: an agent, processes, a registry, a
// secret store and health checks, all in memory and in the bubble's time. What
// happens is written down in one order.
type stage struct {
	t  *testing.T
	mu sync.Mutex

	statuses []mesos.TaskStatus
	events   []happening

	// What the parts do; all may be changed before the launch.
	secretsAfter time.Duration
	secretsErr   error
	secretsWait  func() string // says for ever why it waits
	lease        secrets.Lease // that each secret comes with
	reads        int
	startAfter   time.Duration
	startErr     error
	found, gone  time.Duration // how long the registry takes; negative is for ever
	registryErr  error
	onTerm       time.Duration // how long the process lives after SIGTERM; negative is for ever
	leaves       bool          // the process leaves another one behind
	killTakes    time.Duration
	panicOn      string

	entry entry // as clients of the registry see it
	proc  *fakeProcess
	tell  func(healthcheck.Event)
}

// happening is one thing that happened to the task, and when.
type happening struct {
	at   time.Time
	what string
	// As it was at that moment.
	entry     entry
	treeAlive bool
	rootAlive bool
}

var (
	_ Agent             = (*stage)(nil)
	_ Processes         = (*stage)(nil)
	_ Output            = outputStage{}
	_ registry.Registry = registryStage{}
	_ secrets.Source    = (*stage)(nil)
	_ secrets.Session   = (*stage)(nil)
	_ Checks            = (*stage)(nil)
	_ Process           = (*fakeProcess)(nil)
)

func (s *stage) parts() Parts {
	return Parts{Agent: s, Processes: s, Output: outputStage{}, Registry: registryStage{s}, Secrets: secrets.NewKeeper(s, zerolog.Nop()), Checks: s}
}

// note writes something down, and panics where the test wants it to.
func (s *stage) note(what string) {
	s.mu.Lock()
	h := happening{at: time.Now(), what: what, entry: s.entry}
	if s.proc != nil {
		h.treeAlive, h.rootAlive = s.proc.left > 0, s.proc.rootAlive
	}
	s.events = append(s.events, h)
	bang := s.panicOn == what
	if bang {
		s.panicOn = ""
	}
	s.mu.Unlock()
	if bang {
		panic("bang: " + what)
	}
}

func (s *stage) Update(status mesos.TaskStatus) error {
	s.mu.Lock()
	s.statuses = append(s.statuses, status)
	s.mu.Unlock()
	what := status.GetState().String()
	if status.Healthy != nil && *status.Healthy {
		what += " healthy"
	}
	s.note(what)
	return nil
}

func (s *stage) Drain(context.Context) error { return nil }

func (s *stage) Open(ctx context.Context, _ secrets.Identity, waiting func(string)) (secrets.Session, error) {
	s.note("login")
	for s.secretsWait != nil {
		waiting(s.secretsWait())
		if !sleep(ctx, 7*time.Second) {
			return nil, ctx.Err()
		}
	}
	if !sleep(ctx, s.secretsAfter) {
		return nil, ctx.Err()
	}
	return s, s.secretsErr
}

func (s *stage) Read(context.Context, string, int) (secrets.Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := "canary"
	if s.reads++; s.reads > 1 {
		value = fmt.Sprint("canary-", s.reads)
	}
	return secrets.Content{Keys: map[string]secrets.Secret{"password": secrets.NewSecret([]byte(value))}, Lease: s.lease}, nil
}

func (s *stage) Login() secrets.Lease                              { return secrets.Lease{} }
func (s *stage) RenewLogin(context.Context) (secrets.Lease, error) { return secrets.Lease{}, nil }
func (s *stage) Relogin(context.Context) error                     { return nil }
func (s *stage) Revoke(context.Context, secrets.Lease) error       { s.note("revoke"); return nil }

func (s *stage) Renew(_ context.Context, l secrets.Lease) (secrets.Lease, error) {
	s.note("renew")
	return l, nil
}

func (s *stage) Close(context.Context) error { return nil }

func (s *stage) LookupUser(_ context.Context, name string) (process.User, error) {
	return process.User{Name: name, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, nil
}

func (s *stage) Start(ctx context.Context, _ process.Spec) (Process, error) {
	s.note("start")
	time.Sleep(s.startAfter)
	if s.startErr != nil {
		return nil, s.startErr
	}
	p := &fakeProcess{stage: s, done: make(chan struct{}), left: 1, rootAlive: true}
	if s.leaves {
		p.left = 2
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	s.note("started")
	return p, nil
}

type outputStage struct{}

func (outputStage) Open(string) (Streams, error) {
	return Streams{Close: func() error { return nil }}, nil
}

// registryStage is the registry of a stage.
type registryStage struct{ *stage }

func (s registryStage) Register(ctx context.Context, _ []registry.Instance) error {
	s.note("register")
	if s.registryErr != nil {
		sleep(ctx, time.Second)
		return s.registryErr
	}
	if s.found < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	if !sleep(ctx, s.found) {
		return ctx.Err()
	}
	s.set(present)
	s.note("registered")
	return nil
}

func (s registryStage) Deregister(ctx context.Context, _ []registry.Instance) error {
	s.note("deregister")
	if s.gone < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	if !sleep(ctx, s.gone) {
		return ctx.Err()
	}
	s.set(absent)
	s.note("deregistered")
	return nil
}

func (s *stage) set(e entry) {
	s.mu.Lock()
	s.entry = e
	s.mu.Unlock()
}

func (s *stage) Run(ctx context.Context, _ healthcheck.Check, _ healthcheck.Task, tell func(healthcheck.Event)) error {
	s.mu.Lock()
	s.tell = tell
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.tell = nil
	s.mu.Unlock()
	s.note("checks stopped")
	return ctx.Err()
}

func (s *stage) Probe(context.Context, healthcheck.Check, healthcheck.Task) healthcheck.Result {
	return healthcheck.Result{}
}

// hear says something about the task's health, if checks run.
func (s *stage) hear(kind healthcheck.EventKind) {
	s.mu.Lock()
	tell := s.tell
	s.mu.Unlock()
	if tell != nil {
		tell(healthcheck.Event{Kind: kind, Result: healthcheck.Result{Message: "HTTP 503"}})
	}
}

// fakeProcess is a tree of one or two processes.
type fakeProcess struct {
	stage     *stage
	done      chan struct{}
	left      int
	rootAlive bool
	exit      process.Exit
}

func (p *fakeProcess) SignalMain(sig syscall.Signal) error {
	p.stage.note("signal " + unix.SignalName(sig))
	return nil
}

func (p *fakeProcess) ReplaceSecretFiles(files []process.SecretFile) error {
	for _, f := range files {
		p.stage.note("file " + f.Name)
	}
	return nil
}

func (p *fakeProcess) PID() int              { return 4711 }
func (p *fakeProcess) Done() <-chan struct{} { return p.done }

func (p *fakeProcess) Exit() process.Exit {
	p.stage.mu.Lock()
	defer p.stage.mu.Unlock()
	return p.exit
}

func (p *fakeProcess) Usage() (process.Usage, error) {
	p.stage.mu.Lock()
	defer p.stage.mu.Unlock()
	return process.Usage{Processes: p.left}, nil
}

func (p *fakeProcess) Exec(context.Context, process.Command) (process.Result, error) {
	return process.Result{}, errors.ErrUnsupported
}

// end ends the first process, if it lives.
func (p *fakeProcess) end(e process.Exit) {
	p.stage.mu.Lock()
	defer p.stage.mu.Unlock()
	if p.rootAlive {
		p.rootAlive = false
		p.left--
		p.exit = e
		close(p.done)
	}
}

func (p *fakeProcess) Signal(sig os.Signal) error {
	p.stage.note("signal " + sig.String())
	if p.stage.onTerm >= 0 {
		go func() {
			time.Sleep(p.stage.onTerm)
			p.end(process.Exit{})
			p.stage.mu.Lock()
			p.left = 0
			p.stage.mu.Unlock()
		}()
	}
	return nil
}

func (p *fakeProcess) Kill(ctx context.Context) error {
	p.stage.note("kill")
	if !sleep(ctx, p.stage.killTakes) {
		return errors.New("pid 4711 (sh) in state D")
	}
	p.end(process.Exit{Signal: int(syscall.SIGKILL), Code: -1})
	p.stage.mu.Lock()
	p.left = 0
	p.stage.mu.Unlock()
	return nil
}

// currentUser is somebody whom tasks may run as.
func currentUser(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// newStaged makes an executor on a stage, subscribed.
func newStaged(t testing.TB, s *stage, sandbox string, change func(*Config)) *Executor {
	t.Helper()
	config := DefaultConfig()
	config.Sandbox = sandbox
	config.AllowedUsers = []string{currentUser(t)}
	if change != nil {
		change(&config)
	}
	e, err := New(config, s.parts(), labels.Limits{ZooKeeper: true}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	hostname := "agent-1"
	framework := mesos.FrameworkInfo{User: currentUser(t), Capabilities: []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE}}}
	e.Subscribed(agent.Subscription{Framework: framework, Agent: mesos.AgentInfo{Hostname: hostname}})
	return e
}

// taskInfo is a task with a port, a health check and a service.
func taskInfo(t testing.TB, id string, change func(*mesos.TaskInfo, *payload.Task)) mesos.TaskInfo {
	t.Helper()
	name := "http"
	task := &payload.Task{App: "/shop/cart", AppVersion: "2026-01-01T00:00:00.000Z", Command: &payload.Command{Shell: "exec ./cart"}, Shard: -1}
	info := mesos.TaskInfo{
		Name: "cart", TaskID: mesos.TaskID{Value: id},
		Resources: []mesos.Resource{
			{Name: "cpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 0.1}},
			{Name: "mem", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 32}},
		},
		HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 31000}},
		Discovery:   &mesos.DiscoveryInfo{Ports: &mesos.Ports{Ports: []mesos.Port{{Number: 31000, Name: &name}}}},
		Labels:      labelsFor("service.name", "cart", "drain", "2s"),
	}
	if change != nil {
		change(&info, task)
	}
	data, err := payload.Encode(task)
	if err != nil {
		t.Fatal(err)
	}
	info.Data = data
	return info
}

func labelsFor(pairs ...string) *mesos.Labels {
	l := new(mesos.Labels)
	for i := 0; i < len(pairs); i += 2 {
		value := pairs[i+1]
		l.Labels = append(l.Labels, mesos.Label{Key: pairs[i], Value: &value})
	}
	return l
}
