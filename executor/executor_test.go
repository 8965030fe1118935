package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/healthcheck"
)

// staged runs a body with an executor on a stage, and ends the executor.
func staged(t *testing.T, s *stage, change func(*Config), body func(t *testing.T, e *Executor)) {
	t.Helper()
	sandbox := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		ctx, stop := context.WithCancel(t.Context())
		e := newStaged(t, s, sandbox, change)
		over := make(chan error, 1)
		go func() { over <- e.Run(ctx) }()
		body(t, e)
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// trace is what happened so far, without what the check does.
func (s *stage) trace() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, h := range s.events {
		list = append(list, h.what)
	}
	return strings.Join(list, ", ")
}

func (s *stage) last(t *testing.T) *mesos.TaskStatus {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.statuses) == 0 {
		t.Fatal("no status")
	}
	return &s.statuses[len(s.statuses)-1]
}

// all is every status so far.
func (s *stage) all() []mesos.TaskStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses)
}

// statusesOf lists the states reported for one task.
func (s *stage) statusesOf(id string) (states []string) {
	for _, status := range s.all() {
		if status.TaskID.Value == id {
			states = append(states, status.GetState().String())
		}
	}
	return states
}

func TestLaunchAndKill_EachStepInOrder(t *testing.T) {
	s := &stage{found: time.Second, gone: time.Second, onTerm: time.Second, secretsAfter: time.Second}
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
			info.Labels = labelsFor("service.name", "cart", "drain", "2s", "secret.env.PASSWORD", "secret/db#password")
		}))
		time.Sleep(1500 * time.Millisecond)
		s.hear(healthcheck.Healthy)
		time.Sleep(2 * time.Second)
		e.Kill("t.1", nil)
		time.Sleep(10 * time.Second)
		want := "TASK_STARTING, login, start, started, TASK_RUNNING, register, registered, TASK_RUNNING healthy, " +
			"TASK_KILLING healthy, deregister, checks stopped, deregistered, signal terminated, kill, TASK_KILLED healthy"
		got := strings.Replace(s.trace(), "checks stopped, deregister, ", "deregister, checks stopped, ", 1)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if m := s.last(t).GetMessage(); !strings.Contains(m, "killed on request; exited with code 0 1s after SIGTERM; ran for ") {
			t.Errorf("message %q", m)
		}
	})
}

func TestP6_KillIsAnnouncedAtOnceWhateverHangs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stage *stage
		after time.Duration // of the kill
		end   time.Duration // within which the task is ended
	}{
		{"Vault", &stage{secretsAfter: time.Hour}, time.Second, 0},
		{"registry at registration", &stage{found: -1}, time.Second, 0},
		{"registry at deregistration", &stage{gone: -1}, time.Second, 7 * time.Second},
		{"start", &stage{startAfter: 3 * time.Second}, time.Second, 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tc.stage
			staged(t, s, nil, func(t *testing.T, e *Executor) {
				e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
					info.HealthCheck = nil
					info.Labels = labelsFor("service.name", "cart", "drain", "2s", "secret.env.PASSWORD", "secret/db#password")
				}))
				time.Sleep(tc.after)
				e.Kill("t.1", nil)
				killed := time.Now()
				synctest.Wait()
				if !strings.Contains(s.trace(), "TASK_KILLING") {
					t.Errorf("not announced: %s", s.trace())
				}
				// A registered process has its drain as well.
				time.Sleep(tc.end + 2*time.Second)
				synctest.Wait()
				if got := s.last(t).GetState(); got != mesos.TASK_KILLED {
					t.Errorf("%v %v after the kill: %s", got, time.Since(killed), s.trace())
				}
			})
		})
	}
}

func TestP2_ShutdownKeepsTheOrderAndTheTime(t *testing.T) {
	s := &stage{gone: -1, onTerm: -1}
	staged(t, s, func(c *Config) { c.ShutdownGrace = 8 * time.Second }, func(t *testing.T, e *Executor) {
		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
			info.HealthCheck = nil
			info.Labels = labelsFor("service.name", "cart", "drain", "1m")
			info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(time.Hour)}}
		}))
		synctest.Wait()
		e.Kill("t.1", nil)
		time.Sleep(time.Second)
		begin := time.Now()
		e.Shutdown()
		time.Sleep(7 * time.Second)
		if got := s.last(t).GetState(); got != mesos.TASK_KILLED {
			t.Errorf("%v %v after SHUTDOWN: %s", got, time.Since(begin), s.trace())
		}
		if !strings.HasSuffix(s.trace(), "deregister, deregister, signal terminated, kill, TASK_KILLED") &&
			!strings.HasSuffix(s.trace(), "deregister, signal terminated, kill, TASK_KILLED") {
			t.Error(s.trace())
		}
		for _, text := range []string{"killed on request", "not known to be deregistered", "drain cut by", "grace cut by"} {
			if m := s.last(t).GetMessage(); !strings.Contains(m, text) {
				t.Errorf("message %q lacks %q", m, text)
			}
		}
	})
}

func TestLaunch_OfALivingTaskIsIgnored(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Launch(taskInfo(t, "t.1", nil))
		synctest.Wait()
		before := s.trace()
		e.Launch(taskInfo(t, "t.1", nil))
		synctest.Wait()
		if got := s.trace(); got != before {
			t.Errorf("the second launch did something: %s", got)
		}
	})
}

func TestKill_OfAnUnknownTaskIsHarmless(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Kill("nobody", nil)
		e.Message([]byte("hello"))
		e.Disconnected(time.Now())
		synctest.Wait()
		if got := s.trace(); got != "" {
			t.Errorf("got %s", got)
		}
	})
}

func TestLaunch_AMistakeFailsThatTaskAlone(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Launch(mesos.TaskInfo{TaskID: mesos.TaskID{Value: "bad"}, Data: []byte("nonsense"), Labels: labelsFor("secret.env.A", "x")})
		e.Launch(taskInfo(t, "good", nil))
		synctest.Wait()
		if got := fmt.Sprint(s.statusesOf("bad")); got != "[TASK_FAILED]" {
			t.Errorf("bad: %v", got)
		}
		if got := fmt.Sprint(s.statusesOf("good")); got != "[TASK_STARTING TASK_RUNNING]" {
			t.Errorf("good: %v", got)
		}
		var bad *mesos.TaskStatus
		for _, status := range s.all() {
			if status.TaskID.Value == "bad" {
				bad = &status
			}
		}
		if bad.GetReason() != mesos.REASON_TASK_INVALID || bad.Reason == nil {
			t.Errorf("reason %v", bad.Reason)
		}
		for _, text := range []string{"not a Pacer payload", "label secret.env.A"} {
			if !strings.Contains(bad.GetMessage(), text) {
				t.Errorf("message %q lacks %q", bad.GetMessage(), text)
			}
		}
	})
}

func TestPanic_CostsOneTask(t *testing.T) {
	for _, where := range []string{"start", "register", "TASK_RUNNING", "kill"} {
		t.Run(where, func(t *testing.T) {
			s := &stage{panicOn: where}
			staged(t, s, nil, func(t *testing.T, e *Executor) {
				e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) { info.HealthCheck = nil }))
				synctest.Wait()
				if where == "kill" {
					e.Kill("t.1", &mesos.KillPolicy{GracePeriod: new(mesos.DurationInfo)})
				}
				time.Sleep(time.Minute)
				e.Launch(taskInfo(t, "t.2", nil))
				synctest.Wait()
				states := fmt.Sprint(s.statusesOf("t.1"))
				if want := map[bool]string{true: "TASK_KILLED]", false: "TASK_FAILED]"}[where == "kill"]; !strings.HasSuffix(states, want) {
					t.Errorf("the task with the panic: %s", states)
				}
				if got := fmt.Sprint(s.statusesOf("t.2")); got != "[TASK_STARTING TASK_RUNNING]" {
					t.Errorf("the other: %s", got)
				}
			})
		})
	}
}

// brokenAgent panics at every TASK_KILLING.
type brokenAgent struct{ *stage }

func (b brokenAgent) Update(status mesos.TaskStatus) error {
	if status.GetState() == mesos.TASK_KILLING {
		panic("bang")
	}
	return b.stage.Update(status)
}

func TestPanic_TwiceStillEndsTheTaskWithNothingLeft(t *testing.T) {
	// The first at KILL, the second when the process resists.
	s := &stage{onTerm: -1, killTakes: 7 * time.Second}
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.parts.Agent = brokenAgent{s}
		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) { info.HealthCheck = nil }))
		synctest.Wait()
		e.Kill("t.1", &mesos.KillPolicy{GracePeriod: new(mesos.DurationInfo)})
		time.Sleep(time.Minute)
		if got := fmt.Sprint(s.statusesOf("t.1")); got != "[TASK_STARTING TASK_RUNNING TASK_FAILED]" {
			t.Errorf("statuses %s; %s", got, s.trace())
		}
		if m := s.last(t).GetMessage(); !strings.Contains(m, "failed twice") {
			t.Errorf("message %q", m)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.proc.left > 0 || s.entry != absent {
			t.Errorf("%d processes and entry %v are left", s.proc.left, s.entry)
		}
	})
}

func TestLaunchGroup_LivesAndDiesTogether(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.LaunchGroup([]mesos.TaskInfo{taskInfo(t, "a", nil), {TaskID: mesos.TaskID{Value: "bad"}}, taskInfo(t, "b", nil)})
		e.Launch(taskInfo(t, "alone", nil))
		time.Sleep(time.Minute)
		for _, id := range []string{"a", "b"} {
			if states := fmt.Sprint(s.statusesOf(id)); !strings.HasSuffix(states, "TASK_KILLED]") {
				t.Errorf("%s: %s", id, states)
			}
		}
		if states := fmt.Sprint(s.statusesOf("alone")); states != "[TASK_STARTING TASK_RUNNING]" {
			t.Errorf("alone: %s", states)
		}
	})
}

func TestOneTask_EndsWithItsTask(t *testing.T) {
	s := new(stage)
	sandbox := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := newStaged(t, s, sandbox, func(c *Config) { c.OneTask = true })
		over := make(chan error, 1)
		go func() { over <- e.Run(t.Context()) }()
		e.Launch(taskInfo(t, "t.1", nil))
		e.Launch(taskInfo(t, "t.2", nil))
		synctest.Wait()
		if got := fmt.Sprint(s.statusesOf("t.2")); got != "[TASK_FAILED]" {
			t.Errorf("the second task: %s", got)
		}
		s.proc.end(process.Exit{})
		if err := <-over; err != nil {
			t.Error(err)
		}
		if got := s.last(t).GetState(); got != mesos.TASK_FINISHED {
			t.Errorf("ended with %v", got)
		}
	})
}

func TestOneTask_EndsWhenNoneComes(t *testing.T) {
	sandbox := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := newStaged(t, new(stage), sandbox, func(c *Config) { c.OneTask = true })
		begin := time.Now()
		if err := e.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != oneTaskWait {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestSharedExecutor_NeverEndsBecauseItIsIdle(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Launch(taskInfo(t, "t.1", nil))
		synctest.Wait()
		s.proc.end(process.Exit{})
		time.Sleep(48 * time.Hour)
		select {
		case <-e.ending:
			t.Error("it ends")
		default:
		}
		e.Launch(taskInfo(t, "t.2", nil))
		synctest.Wait()
		if got := fmt.Sprint(s.statusesOf("t.2")); got != "[TASK_STARTING TASK_RUNNING]" {
			t.Errorf("after two days: %s", got)
		}
	})
}

func TestLost_DeregistersKillsAndEnds(t *testing.T) {
	s := new(stage)
	sandbox := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := newStaged(t, s, sandbox, nil)
		over := make(chan error, 1)
		go func() { over <- e.Run(t.Context()) }()
		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) { info.HealthCheck = nil }))
		synctest.Wait()
		e.Lost(errors.New("agent did not come back in time"))
		synctest.Wait()
		e.Launch(taskInfo(t, "t.2", nil))
		if err := <-over; err != nil {
			t.Error(err)
		}
		if !strings.Contains(strings.ReplaceAll(s.trace(), "TASK_FAILED, ", ""), "deregister, deregistered, signal terminated, kill, TASK_KILLED") {
			t.Error(s.trace())
		}
		var message string
		for _, status := range s.all() {
			if status.TaskID.Value == "t.1" {
				message = status.GetMessage()
			}
		}
		if !strings.Contains(message, "killed: agent did not come back in time") {
			t.Errorf("message %q", message)
		}
		if got := fmt.Sprint(s.statusesOf("t.2")); got != "[TASK_FAILED]" {
			t.Errorf("launched while ending: %s", got)
		}
	})
}

func TestHealthy_IsCarriedOnAndFailuresAreToldOnce(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Launch(taskInfo(t, "t.1", nil))
		synctest.Wait()
		for _, kind := range []healthcheck.EventKind{healthcheck.Healthy, healthcheck.Unhealthy, healthcheck.Failure, healthcheck.Threshold} {
			s.hear(kind)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		var got []string
		for _, status := range s.all() {
			text := strings.TrimPrefix(status.GetState().String(), "TASK_")
			if status.Healthy != nil {
				text += fmt.Sprintf(" %v", *status.Healthy)
			}
			got = append(got, text)
		}
		want := "STARTING, RUNNING, RUNNING true, RUNNING false, KILLING false, KILLED false"
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
		if m := s.last(t).GetMessage(); !strings.Contains(m, "last health check: HTTP 503") {
			t.Errorf("message %q", m)
		}
	})
}

func TestSandbox_GivesEachTaskADirectoryOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	box := sandbox(dir)
	if err := box.prepare(); err != nil {
		t.Fatal(err)
	}
	me := process.User{Name: "me", UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	task := dir + "/tasks/t.1"
	for range 2 { // a second launch of an id finds the first one's directory
		if err := box.makeTaskDir(task, me); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{dir: 0o711, dir + "/tasks": 0o711, task: 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), mode)
		}
	}
	if err := os.Symlink(t.TempDir(), dir+"/tasks/link"); err != nil {
		t.Fatal(err)
	}
	if err := box.makeTaskDir(dir+"/tasks/link", me); err == nil {
		t.Error("a symbolic link was taken for a task's directory")
	}
}

func TestConfigFromEnv_NamesEveryProblem(t *testing.T) {
	env := map[string]string{EnvKillGrace: "-1s", EnvMaxDrain: "long", EnvOneTask: "perhaps", EnvTaskPids: "-5", EnvAllowedUsers: " www , ,db"}
	c, err := ConfigFromEnv(func(name string) string { return env[name] })
	if err == nil {
		t.Fatal("accepted")
	}
	for _, text := range []string{EnvKillGrace, EnvMaxDrain, EnvOneTask, EnvTaskPids} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error lacks %s: %v", text, err)
		}
	}
	if fmt.Sprint(c.AllowedUsers) != "[www db]" {
		t.Errorf("users %v", c.AllowedUsers)
	}
}
