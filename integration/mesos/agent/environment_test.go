package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"
)

func TestEnvironment_IsWhatMesosGives(t *testing.T) {
	t.Setenv("AGENT_ENV_MARKER", "must not be inherited")
	h := newHarness(t, nil)
	end := h.register()
	shell := false
	for _, c := range []struct {
		name       string
		checkpoint bool
		want       func(sandbox string) []string
	}{
		{"e1", true, func(sandbox string) []string {
			return []string{
				"LIBPROCESS_IP=127.0.0.1", "LIBPROCESS_PORT=0", "MESOS_AGENT_ENDPOINT=" + h.agent.Addr(), "MESOS_CHECKPOINT=1",
				"MESOS_DIRECTORY=" + sandbox, "MESOS_EXECUTOR_ID=e1", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=7500ms",
				"MESOS_FRAMEWORK_ID=F1", "MESOS_HTTP_COMMAND_EXECUTOR=0", "MESOS_RECOVERY_TIMEOUT=15mins", "MESOS_SANDBOX=" + sandbox,
				"MESOS_SLAVE_ID=A-S0", "MESOS_SLAVE_PID=slave(1)@" + h.agent.Addr(), "MESOS_SUBSCRIPTION_BACKOFF_MAX=300ms",
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PROBE_VAR=from ExecutorInfo",
			}
		}},
		{"e2", false, func(sandbox string) []string {
			return []string{
				"LIBPROCESS_IP=127.0.0.1", "LIBPROCESS_PORT=0", "MESOS_AGENT_ENDPOINT=" + h.agent.Addr(), "MESOS_CHECKPOINT=0",
				"MESOS_DIRECTORY=" + sandbox, "MESOS_EXECUTOR_ID=e2", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=7500ms",
				"MESOS_FRAMEWORK_ID=F2", "MESOS_HTTP_COMMAND_EXECUTOR=0", "MESOS_SANDBOX=" + sandbox,
				"MESOS_SLAVE_ID=A-S0", "MESOS_SLAVE_PID=slave(1)@" + h.agent.Addr(),
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PROBE_VAR=from ExecutorInfo",
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.checkpoint {
				h.fw.ID = &mesos.FrameworkID{Value: "F2"}
			}
			h.fw.Checkpoint = &c.checkpoint
			e := sleeper(c.name)
			e.FrameworkID = h.fw.ID
			e.ShutdownGracePeriod = &mesos.DurationInfo{Nanoseconds: int64(7500 * time.Millisecond)}
			e.Command = &mesos.CommandInfo{
				Value: text("env"), Shell: &shell, Arguments: []string{"env", "-0"},
				Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: "PROBE_VAR", Value: text("from ExecutorInfo")}}},
			}
			h.launch(end, true, e, "t-"+c.name)
			h.until("exit", func() bool {
				h.agent.mu.Lock()
				defer h.agent.mu.Unlock()
				f := h.agent.frameworks[h.fw.GetID().GetValue()]
				return f != nil && f.executors[c.name] != nil && f.executors[c.name].state == executorTerminated
			})
			latest := filepath.Join(h.agent.cfg.WorkDir, "slaves", "latest", "frameworks", h.fw.GetID().GetValue(), "executors", c.name, "runs", "latest")
			sandbox, err := filepath.EvalSymlinks(latest)
			if err != nil {
				t.Fatal(err)
			}
			output, err := os.ReadFile(filepath.Join(sandbox, "stdout"))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSuffix(string(output), "\x00"), "\x00")
			if diff := cmp.Diff(c.want(sandbox), got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

// What the recordings show of an executor's process.
func TestProcess_LooksAsUnderMesos(t *testing.T) {
	h := newHarness(t, nil)
	end := h.register()
	e := shellExecutor("e1", `pwd; umask; ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; cut -d' ' -f4-6 /proc/$$/stat; echo $PPID; tr '\0' ' ' < /proc/$PPID/cmdline; echo; echo warning >&2; exec sleep 1000`)
	h.launch(end, true, e, "t1")
	h.until("output", func() bool {
		text, err := os.ReadFile(filepath.Join(sandboxOf(h, "e1"), "stderr"))
		return err == nil && string(text) == "warning\n"
	})
	lines := strings.Split(readSandbox(h, "e1", "stdout"), "\n")
	if len(lines) != 7 {
		t.Fatalf("output: %q", lines)
	}
	sandbox, err := filepath.EvalSymlinks(sandboxOf(h, "e1"))
	if err != nil {
		t.Fatal(err)
	}
	helper := lines[5]
	want := []string{
		sandbox, "0022",
		"4", // 0, 1, 2 and the directory that ls reads
		"/dev/null",
		helper + " " + helper + " " + helper, // parent, group and session
		helper, "mesos-containerizer launch",
	}
	for i := range want {
		if strings.TrimSpace(lines[i]) != want[i] {
			t.Errorf("line %d: %q, want %q", i, lines[i], want[i])
		}
	}
}

func TestStoutDuration(t *testing.T) {
	for _, c := range []struct {
		value time.Duration
		want  string
	}{
		{0, "0ns"}, {time.Nanosecond, "1ns"}, {1500 * time.Nanosecond, "1500ns"}, {2 * time.Microsecond, "2us"},
		{time.Second, "1secs"}, {1500 * time.Millisecond, "1500ms"}, {3500 * time.Millisecond, "3500ms"}, {90 * time.Second, "90secs"},
		{15 * time.Minute, "15mins"}, {61500 * time.Millisecond, "1.025mins"}, {90 * time.Minute, "90mins"},
		{36 * time.Hour, "36hrs"}, {14 * 24 * time.Hour, "2weeks"}, {8 * 24 * time.Hour, "8days"},
	} {
		if got := stoutDuration(c.value); got != c.want {
			t.Errorf("%v: %s, want %s", c.value, got, c.want)
		}
	}
}

func TestToken_OnlyTheExecutorsOwn(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.JWTSecret = []byte("secret of the agent")
		c.AuthenticateExecutors = true
		c.DomainSocket = filepath.Join(os.TempDir(), "agent-test.sock")
	})
	t.Cleanup(func() { _ = os.Remove(h.agent.cfg.DomainSocket) })
	end := h.register()
	h.launch(end, true, shellExecutor("e1", "env > environment.new; mv environment.new environment; exec sleep 1000"), "t1")
	h.until("environment", func() bool {
		_, err := os.Stat(filepath.Join(sandboxOf(h, "e1"), "environment"))
		return err == nil
	})
	token := ""
	socket := false
	for _, line := range strings.Split(readSandbox(h, "e1", "environment"), "\n") {
		if value, ok := strings.CutPrefix(line, "MESOS_EXECUTOR_AUTHENTICATION_TOKEN="); ok {
			token = value
		}
		socket = socket || line == "MESOS_DOMAIN_SOCKET="+h.agent.cfg.DomainSocket
	}
	if !socket {
		t.Error("MESOS_DOMAIN_SOCKET is not set")
	}
	other := h.agent.token(claims{Framework: "F1", Executor: "e1", Container: "another"})
	forged := &Agent{cfg: Config{JWTSecret: []byte("another secret")}}
	c, err := h.agent.verify(token)
	if err != nil {
		t.Fatal(err)
	}
	call := h.newCall(execv1.Call_SUBSCRIBE, "e1")
	call.Subscribe = &execv1.Call_Subscribe{}
	for _, c := range []struct {
		name, authorization, challenge string
		status                         int
	}{
		{"none", "", `Bearer realm="mesos-agent-executor"`, 401},
		{"basic", "Basic b3A6cHc=", `Bearer realm="mesos-agent-executor"`, 401},
		{"no token", "Bearer x", `Bearer realm="mesos-agent-executor", error="invalid_token", error_description="Invalid JWT: token has 1 components, not 3"`, 401},
		{"forged", "Bearer " + forged.token(c), `Bearer realm="mesos-agent-executor", error="invalid_token", error_description="Invalid JWT: token signature does not match"`, 401},
		{"of another container", "Bearer " + other, "", 403},
		{"own", "Bearer " + token, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.authorization = c.authorization
			response := h.post(call)
			if response.StatusCode != c.status || response.Header.Get("WWW-Authenticate") != c.challenge {
				t.Errorf("%d %q, want %d %q", response.StatusCode, response.Header.Get("WWW-Authenticate"), c.status, c.challenge)
			}
		})
	}
}
