package conformance_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/payload"
	"pacer/integration/binaries"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// checks is about health checks and checks: what the master accepts, and what Pacer's
// executor makes of them. It reports transitions only, where Mesos' own executors
// repeat healthy=false for each failure.
var checks = []assertion{
	{number: 85, title: "health checks: what the master accepts", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		health := func(change func(*mesos.HealthCheck)) func(*mesos.TaskInfo) {
			return func(t *mesos.TaskInfo) {
				t.HealthCheck = &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 80}}
				change(t.HealthCheck)
			}
		}
		// In protobuf an enum of mesos-go cannot be left out, in JSON it can.
		typeless := func(h *mesos.HealthCheck) { h.Type = mesos.HealthCheck_UNKNOWN }
		f.launch(
			f.task("path", "e1", health(func(h *mesos.HealthCheck) { h.HTTP.Path = pointer("health") })),
			f.task("interval", "e1", health(func(h *mesos.HealthCheck) { h.IntervalSeconds = pointer(-1.0) })),
			f.task("typeless", "e1", health(typeless)),
			f.task("good", "e1", health(func(*mesos.HealthCheck) {})),
		)
		p := f.puppet("e1")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		refused := 3
		if w.kind == wire.JSON {
			refused = 2
			task := s.next(executor.Event_LAUNCH).Launch.Task
			w.equal("task", task.TaskID.Value, "typeless")
			w.equal("its type", task.HealthCheck.GetType(), mesos.HealthCheck_HTTP)
		}
		s.launched("good")
		for id, got := range f.outcome(refused) {
			w.equal(id, got, invalidTask)
		}
	}},
	{number: 86, title: "health over HTTP: what is healthy", test: func(w *world) {
		f := w.framework()
		want := map[string]bool{"302": true, "399": true, "400": false, "404": false, "refused": false}
		f.launchPacer(func() (tasks []mesos.TaskInfo) {
			for id := range want {
				tasks = append(tasks, f.pacerTask(id, sleeper, f.health("/"+id, func(h *mesos.HealthCheck) {
					h.ConsecutiveFailures = pointer(uint32(1000))
					if id == "refused" {
						h.HTTP.Port = w.closedPort()
					}
				})))
			}
			return tasks
		})
		got := make(map[string]bool)
		for len(got) < len(want) {
			s := f.acknowledged()
			if s.Healthy == nil {
				continue
			}
			if _, there := got[s.TaskID.Value]; there {
				w.Errorf("%s is reported twice", s.TaskID.Value)
			}
			got[s.TaskID.Value] = *s.Healthy
			w.equal("state", s.GetState(), mesos.TASK_RUNNING)
		}
		w.equal("healthy", got, want)
	}},
	{number: 87, title: "health: silence in the grace period, then unhealthy, then killed", test: func(w *world) {
		f := w.framework()
		const graceSeconds, interval = 2.0, 0.4
		f.launchPacer(func() []mesos.TaskInfo {
			return []mesos.TaskInfo{f.pacerTask("t1", sleeper, f.health("/500", func(h *mesos.HealthCheck) {
				h.GracePeriodSeconds, h.IntervalSeconds = pointer(graceSeconds), pointer(interval)
			}))}
		})
		f.got("t1 TASK_STARTING SOURCE_EXECUTOR -")
		f.got("t1 " + running)
		began := time.Now()
		unhealthy := f.got("t1 TASK_RUNNING SOURCE_EXECUTOR REASON_TASK_HEALTH_CHECK_STATUS_UPDATED")
		w.equal("healthy", unhealthy.GetHealthy(), false)
		w.between("the first unhealthy update", time.Since(began), graceSeconds*time.Second-500*time.Millisecond, graceSeconds*time.Second+soon)
		first := time.Now()
		f.state("t1", mesos.TASK_KILLING)
		// Two more failures, one at the end of each interval.
		w.between("the kill", time.Since(first), 600*time.Millisecond, soon)
		killed := f.state("t1", mesos.TASK_KILLED)
		if killed.Healthy == nil || *killed.Healthy {
			w.Errorf("TASK_KILLED with healthy %v", killed.Healthy)
		}
	}},
	{number: 88, title: "health: one update for the first success, none for more", test: func(w *world) {
		f := w.framework()
		f.launchPacer(func() []mesos.TaskInfo {
			return []mesos.TaskInfo{f.pacerTask("t1", sleeper, f.health("/200", func(*mesos.HealthCheck) {}))}
		})
		f.got("t1 TASK_STARTING SOURCE_EXECUTOR -")
		f.got("t1 " + running)
		s := f.got("t1 TASK_RUNNING SOURCE_EXECUTOR REASON_TASK_HEALTH_CHECK_STATUS_UPDATED")
		w.equal("healthy", s.GetHealthy(), true)
		before := w.asked("/200")
		f.None(scheduler.Event_UPDATE, 2*time.Second)
		if more := w.asked("/200") - before; more < 3 {
			w.Errorf("only %d more checks, which proves nothing", more)
		}
	}},
	{number: 89, title: "health checks and checks: reasons, state and uuids", test: func(w *world) {
		f := w.framework()
		f.launchPacer(func() []mesos.TaskInfo {
			return []mesos.TaskInfo{f.pacerTask("t1", sleeper, f.health("/200", func(*mesos.HealthCheck) {}), commandCheck("exit 3"))}
		})
		seen := make(map[string]bool)
		reasons := make(map[mesos.TaskStatus_Reason]bool)
		for len(reasons) < 2 {
			s := f.acknowledged()
			if seen[string(s.UUID)] {
				w.Error("a uuid was used twice")
			}
			seen[string(s.UUID)] = true
			if s.Reason == nil {
				continue
			}
			reasons[*s.Reason] = true
			w.equal("state", s.GetState(), mesos.TASK_RUNNING)
			switch *s.Reason {
			case mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED:
				w.equal("healthy", s.GetHealthy(), true)
			case mesos.REASON_TASK_CHECK_STATUS_UPDATED:
				w.equal("exit code", s.CheckStatus.GetCommand().GetExitCode(), 3)
			default:
				w.Errorf("reason %s", s.Reason)
			}
		}
	}},
	{number: 90, title: "checks: an update when the result changes, and a type from the start", test: func(w *world) {
		f := w.framework()
		flag := filepath.Join(w.dir, "flag")
		f.launchPacer(func() []mesos.TaskInfo {
			return []mesos.TaskInfo{f.pacerTask("t1", "sleep 1; touch "+flag+"; exec sleep 1000", commandCheck("test ! -e "+flag))}
		})
		f.got("t1 TASK_STARTING SOURCE_EXECUTOR -")
		s := f.got("t1 " + running)
		w.equal("type in the first RUNNING", s.CheckStatus.GetType(), mesos.CheckInfo_COMMAND)
		if s.CheckStatus == nil || s.CheckStatus.Command == nil || s.CheckStatus.Command.ExitCode != nil {
			w.Errorf("check_status of the first RUNNING: %v", s.CheckStatus)
		}
		for _, code := range []int{0, 1} {
			s := f.got("t1 TASK_RUNNING SOURCE_EXECUTOR REASON_TASK_CHECK_STATUS_UPDATED")
			w.equal("exit code", s.CheckStatus.GetCommand().GetExitCode(), code)
		}
		f.None(scheduler.Event_UPDATE, 2*time.Second)
	}},
	{number: 91, title: "health: no timeout when it is 0; one failure kills when 0 may follow each other", test: func(w *world) {
		f := w.framework()
		f.launchPacer(func() []mesos.TaskInfo {
			return []mesos.TaskInfo{
				f.pacerTask("patient", sleeper, f.health("/slow", func(h *mesos.HealthCheck) { h.TimeoutSeconds = pointer(0.0) })),
				f.pacerTask("strict", sleeper, f.health("/500", func(h *mesos.HealthCheck) { h.ConsecutiveFailures = pointer(uint32(0)) })),
			}
		})
		healthy := false
		var ended mesos.TaskState
		for !healthy || ended != mesos.TASK_KILLED {
			s := f.acknowledged()
			switch {
			case s.TaskID.Value == "strict":
				ended = s.GetState()
			case s.Healthy != nil:
				healthy = *s.Healthy
				w.equal("patient is healthy", healthy, true)
			}
		}
		if n := w.asked("/500"); n > 2 {
			w.Errorf("%d checks before the kill", n)
		}
	}},
	{number: 92, title: "kill: SIGTERM, grace, SIGKILL; never anything but KILLED", test: func(w *world) {
		const deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
		f := w.framework()
		f.launchPacer(func() []mesos.TaskInfo {
			return []mesos.TaskInfo{
				f.pacerTask("deaf", deaf), f.pacerTask("hurried", deaf),
				f.pacerTask("polite", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"),
			}
		})
		for n := 0; n < 3; {
			if s := f.acknowledged(); s.GetState() == mesos.TASK_RUNNING {
				n++
			}
		}
		w.until("tasks that are ready", func() bool {
			for _, id := range []string{"deaf", "hurried", "polite"} {
				if f.output(id) != "ready\n" {
					return false
				}
			}
			return true
		})
		end := func(id string) {
			f.state(id, mesos.TASK_KILLING)
			s := f.state(id, mesos.TASK_KILLED)
			w.equal("source", s.GetSource(), mesos.SOURCE_EXECUTOR)
		}
		began := time.Now()
		f.kill("polite", policy(10*time.Minute))
		end("polite")
		w.between("the end of the polite one", time.Since(began), 0, soon)
		began = time.Now()
		f.kill("deaf", policy(1500*time.Millisecond))
		end("deaf")
		w.between("the end of the deaf one", time.Since(began), 1500*time.Millisecond, 1500*time.Millisecond+soon)
		f.kill("hurried", policy(10*time.Minute))
		f.state("hurried", mesos.TASK_KILLING)
		f.None(scheduler.Event_UPDATE, 500*time.Millisecond)
		began = time.Now()
		f.kill("hurried", policy(200*time.Millisecond))
		f.state("hurried", mesos.TASK_KILLED)
		w.between("the end of the hurried one", time.Since(began), 0, soon)
	}},
}

// sleeper is a task that does nothing.
const sleeper = "exec sleep 1000"

// pacerExecutor is the ExecutorID of Pacer's executor in these tests.
const pacerExecutor = "pacer"

// pacer is the executor's program.
var pacer program

// program is built when it is needed for the first time.
type program struct {
	mu    sync.Mutex
	built *binaries.Built
}

func (p *program) path() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.built == nil {
		built, err := binaries.Build(binaries.Executor)
		if err != nil {
			return "", err
		}
		p.built = &built
	}
	return p.built.Path(binaries.Executor), nil
}

func (p *program) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.built != nil {
		p.built.Remove()
		p.built = nil
	}
}

// pacerTask is a shell command as a task of Pacer's executor.
func (f *framework) pacerTask(id, command string, changes ...func(*mesos.TaskInfo)) mesos.TaskInfo {
	w := f.world
	w.Helper()
	path, err := pacer.path()
	w.must(err)
	data, err := payload.Encode(&payload.Task{App: "/conformance", Command: &payload.Command{Shell: command}})
	w.must(err)
	return f.task(id, pacerExecutor, append([]func(*mesos.TaskInfo){func(t *mesos.TaskInfo) {
		t.Data = data
		quick(t)
		c := t.Executor.Command
		if w.real() {
			w.serve(binaries.Executor, path)
			c.URIs = []mesos.CommandInfo_URI{{Value: w.web.URL + "/" + binaries.Executor, Executable: pointer(true)}}
			path = "./" + binaries.Executor
		}
		c.Value, c.Arguments = &path, []string{path}
		c.Environment = variables("PACER_ALLOWED_USERS", w.user, "PACER_LOG_LEVEL", "debug")
	}}, changes...)...)
}

// launchPacer launches tasks that are made when the agent is known.
func (f *framework) launchPacer(tasks func() []mesos.TaskInfo) {
	w := f.world
	w.Helper()
	offer := f.offer()
	if w.real() {
		w.needNeighbour()
	}
	f.Accept(3600, []mesos.Offer{offer}, probe.Launch(tasks()...))
}

// needNeighbour skips the assertion unless the agent is on this machine, because
// checks ask services on loopback, and these are the test's.
func (w *world) needNeighbour() {
	w.Helper()
	u, err := url.Parse(w.agent)
	w.must(err)
	addresses, err := net.InterfaceAddrs()
	w.must(err)
	if !slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.String() == u.Hostname()
	}) {
		w.skip("checks ask services on the agent's loopback, which this test cannot provide from another machine")
	}
}

// acknowledged takes the next UPDATE, whatever it is.
func (f *framework) acknowledged() mesos.TaskStatus {
	f.world.Helper()
	s := f.Status()
	if s.UUID != nil {
		f.Acknowledge(s)
	}
	f.world.Log(probe.Describe(s), s.GetMessage(), s.Healthy)
	return s
}

// state takes the next UPDATE, which has to be of this task and state.
func (f *framework) state(id string, state mesos.TaskState) mesos.TaskStatus {
	f.world.Helper()
	s := f.acknowledged()
	if s.TaskID.Value != id || s.GetState() != state {
		f.world.Fatalf("UPDATE %s (%s), want %s %s", probe.Describe(s), s.GetMessage(), id, state)
	}
	return s
}

// output is the stdout of a task of Pacer's executor.
func (f *framework) output(id string) string {
	w := f.world
	w.Helper()
	var read struct{ Data string }
	path := fmt.Sprintf("/frameworks/%s/executors/%s/runs/latest/tasks/%s/stdout", f.ID, pacerExecutor, id)
	w.get(w.agentURL(), "/files/read?offset=0&path="+url.QueryEscape(path), &read)
	return read.Data
}

// health gives a task a health check that asks the test's service.
func (f *framework) health(path string, change func(*mesos.HealthCheck)) func(*mesos.TaskInfo) {
	return func(t *mesos.TaskInfo) {
		t.HealthCheck = &mesos.HealthCheck{
			Type:         mesos.HealthCheck_HTTP,
			HTTP:         &mesos.HealthCheck_HTTPCheckInfo{Port: f.world.service(), Path: &path},
			DelaySeconds: pointer(0.0), IntervalSeconds: pointer(0.2), GracePeriodSeconds: pointer(0.0),
			ConsecutiveFailures: pointer(uint32(3)),
		}
		change(t.HealthCheck)
	}
}

// commandCheck gives a task a check.
func commandCheck(command string) func(*mesos.TaskInfo) {
	return func(t *mesos.TaskInfo) {
		t.Check = &mesos.CheckInfo{
			Type:         mesos.CheckInfo_COMMAND,
			Command:      &mesos.CheckInfo_Command{Command: mesos.CommandInfo{Value: &command}},
			DelaySeconds: pointer(0.0), IntervalSeconds: pointer(0.2),
		}
	}
}

// service is the port of a web server that answers /<code> with that status. It counts
// what it is asked.
func (w *world) service() uint32 {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.servicePort != 0 {
		return w.servicePort
	}
	w.questions = make(map[string]*atomic.Int32)
	for _, path := range []string{"/200", "/302", "/399", "/400", "/404", "/500", "/slow"} {
		w.questions[path] = new(atomic.Int32)
	}
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		if counter := w.questions[r.URL.Path]; counter != nil {
			counter.Add(1)
		}
		if r.URL.Path == "/slow" {
			select {
			case <-time.After(1500 * time.Millisecond):
			case <-r.Context().Done():
			}
			return
		}
		code, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil {
			code = http.StatusBadRequest
		}
		if code == http.StatusFound {
			answer.Header().Set("Location", "/200")
		}
		answer.WriteHeader(code)
	}))
	w.Cleanup(server.Close)
	w.servicePort = uint32(server.Listener.Addr().(*net.TCPAddr).Port)
	return w.servicePort
}

// asked is how often the service was asked for a path.
func (w *world) asked(path string) int { return int(w.questions[path].Load()) }

// closedPort is a port where nobody listens, which nobody else gets meanwhile.
func (w *world) closedPort() uint32 {
	w.Helper()
	// A connection's own port is in use, and nobody listens there.
	connection, err := net.Dial("tcp", w.web.Listener.Addr().String())
	w.must(err)
	w.Cleanup(func() { connection.Close() })
	return uint32(connection.LocalAddr().(*net.TCPAddr).Port)
}
