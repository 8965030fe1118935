package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

func mesosEnvironment() map[string]string {
	return map[string]string{
		"MESOS_FRAMEWORK_ID":                   "F",
		"MESOS_EXECUTOR_ID":                    "E",
		"MESOS_SLAVE_ID":                       "A",
		"MESOS_SLAVE_PID":                      "slave(1)@127.0.0.1:5051",
		"MESOS_AGENT_ENDPOINT":                 "127.0.0.1:5051",
		"MESOS_DIRECTORY":                      "/var/sandbox",
		"MESOS_CHECKPOINT":                     "1",
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "1.5mins",
		"MESOS_RECOVERY_TIMEOUT":               "90secs",
		"MESOS_SUBSCRIPTION_BACKOFF_MAX":       "3500ms",
		"MESOS_EXECUTOR_AUTHENTICATION_TOKEN":  "hunter2",
	}
}

func read(env map[string]string) (Config, error) {
	return ConfigFromEnv(func(name string) string { return env[name] }, func(name string) error {
		delete(env, name)
		return nil
	})
}

func TestConfigFromEnv(t *testing.T) {
	env := mesosEnvironment()
	got, err := read(env)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		FrameworkID: "F", ExecutorID: "E", AgentID: "A", Endpoint: "127.0.0.1:5051", ProcessID: "slave(1)",
		Directory: "/var/sandbox", Sandbox: "/var/sandbox", Checkpoint: true,
		ShutdownGrace: 90 * time.Second, RecoveryTimeout: 90 * time.Second, SubscriptionBackoffMax: 3500 * time.Millisecond,
		Token: "hunter2",
	}
	if got != want {
		t.Errorf("got %+v", got)
	}
	if _, there := env["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"]; there {
		t.Error("the token is left in the environment")
	}
	for _, text := range []string{fmt.Sprint(got), fmt.Sprintf("%+v %#v", got, got), got.Token.String()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the token is printed: %s", text)
		}
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigFromEnv_Defaults(t *testing.T) {
	env := mesosEnvironment()
	for _, name := range []string{"MESOS_CHECKPOINT", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "MESOS_RECOVERY_TIMEOUT", "MESOS_SUBSCRIPTION_BACKOFF_MAX", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"} {
		delete(env, name)
	}
	got, err := read(env)
	if err != nil {
		t.Fatal(err)
	}
	if got.Checkpoint || got.ShutdownGrace != 5*time.Second || got.RecoveryTimeout != 15*time.Minute || got.SubscriptionBackoffMax != 2*time.Second || got.TLS != nil {
		t.Errorf("got %+v", got)
	}
}

func TestConfigFromEnv_ReportsEveryProblem(t *testing.T) {
	_, err := read(nil)
	for _, name := range []string{"MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID", "MESOS_SLAVE_ID", "MESOS_AGENT_ENDPOINT", "MESOS_DIRECTORY"} {
		if err == nil || !strings.Contains(err.Error(), name+" is not set") {
			t.Errorf("empty environment: %s is missing in %v", name, err)
		}
	}
	dir := t.TempDir()
	noPEM := filepath.Join(dir, "no.pem")
	os.WriteFile(noPEM, []byte("hello"), 0o600)
	tests := []struct{ name, variable, value string }{
		{"word for a flag", "MESOS_CHECKPOINT", "yes"},
		{"Go duration", "MESOS_RECOVERY_TIMEOUT", "15m"},
		{"no unit", "MESOS_RECOVERY_TIMEOUT", "15"},
		{"negative", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "-5secs"},
		{"zero", "MESOS_SUBSCRIPTION_BACKOFF_MAX", "0ns"},
		{"too long", "MESOS_SUBSCRIPTION_BACKOFF_MAX", "99999999weeks"},
		{"two numbers", "MESOS_SUBSCRIPTION_BACKOFF_MAX", "1.2.3secs"},
		{"URL for an endpoint", "MESOS_AGENT_ENDPOINT", "http://127.0.0.1:5051"},
		{"no port", "MESOS_AGENT_ENDPOINT", "127.0.0.1"},
		{"port too large", "MESOS_AGENT_ENDPOINT", "127.0.0.1:70000"},
		{"bare IPv6", "MESOS_AGENT_ENDPOINT", "::1:5051"},
		{"no process", "MESOS_SLAVE_PID", "127.0.0.1:5051"},
		{"path in the process", "MESOS_SLAVE_PID", "a/b@127.0.0.1:5051"},
		{"relative socket", "MESOS_DOMAIN_SOCKET", "agent.sock"},
		{"TLS mode", "PACER_AGENT_TLS", "maybe"},
		{"libprocess flag", "LIBPROCESS_SSL_ENABLED", "perhaps"},
		{"no such CA", "PACER_AGENT_CA", filepath.Join(dir, "missing.pem")},
		{"CA is no PEM", "PACER_AGENT_CA", noPEM},
		{"certificate without key", "PACER_AGENT_CERT", noPEM},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := mesosEnvironment()
			if strings.HasPrefix(tt.variable, "PACER_AGENT_C") {
				env["PACER_AGENT_TLS"] = "on"
			}
			env[tt.variable] = tt.value
			_, err := read(env)
			if err == nil || !strings.Contains(err.Error(), tt.variable) {
				t.Fatalf("error %v does not name %s", err, tt.variable)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the token is in the error")
			}
			env = mesosEnvironment()
			env[tt.variable], env["MESOS_SLAVE_ID"] = tt.value, ""
			if _, err := read(env); err == nil || !strings.Contains(err.Error(), "MESOS_SLAVE_ID") {
				t.Errorf("a second problem is not reported: %v", err)
			}
		})
	}
}

func TestConfig_URL(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{"plain", nil, "http://127.0.0.1:5051/api/v1/executor"},
		{"IPv6", map[string]string{"MESOS_AGENT_ENDPOINT": "[::1]:5051"}, "http://[::1]:5051/api/v1/executor"},
		{"TLS as libprocess says", map[string]string{"LIBPROCESS_SSL_ENABLED": "1"}, "https://127.0.0.1:5051/api/v1/executor"},
		{"TLS", map[string]string{"PACER_AGENT_TLS": "insecure"}, "https://127.0.0.1:5051/api/v1/executor"},
		{"not TLS", map[string]string{"LIBPROCESS_SSL_ENABLED": "1", "PACER_AGENT_TLS": "off"}, "http://127.0.0.1:5051/api/v1/executor"},
		{"socket", map[string]string{"MESOS_DOMAIN_SOCKET": "/run/mesos.sock", "PACER_AGENT_TLS": "on"}, "http://agent/slave(1)/api/v1/executor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := mesosEnvironment()
			for name, value := range tt.env {
				env[name] = value
			}
			config, err := read(env)
			if err != nil {
				t.Fatal(err)
			}
			if got := config.url(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	err := Config{DomainSocket: "/x", ShutdownGrace: -1}.Validate()
	for _, part := range []string{"FrameworkID", "ExecutorID", "AgentID", "endpoint", "ProcessID", "negative"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s is missing in %v", part, err)
		}
	}
}

func TestUpdate_RefusesWhatNoAgentTakes(t *testing.T) {
	command := mesos.CheckInfo_COMMAND
	running := mesos.TASK_RUNNING
	id := mesos.TaskID{Value: "t"}
	tests := map[string]mesos.TaskStatus{
		"no task":               {State: &running},
		"no state":              {TaskID: id},
		"staging":               {TaskID: id, State: mesos.TASK_STAGING.Enum()},
		"unreachable":           {TaskID: id, State: mesos.TASK_UNREACHABLE.Enum()},
		"unknown":               {TaskID: id, State: mesos.TASK_UNKNOWN.Enum()},
		"gone by operator":      {TaskID: id, State: mesos.TASK_GONE_BY_OPERATOR.Enum()},
		"a state of the future": {TaskID: id, State: mesos.TaskState(99).Enum()},
		"check without type":    {TaskID: id, State: &running, CheckStatus: &mesos.CheckStatusInfo{}},
		"check without message": {TaskID: id, State: &running, CheckStatus: &mesos.CheckStatusInfo{Type: &command}},
	}
	for name, status := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := testConfig().complete(status, time.Now()); err == nil {
				t.Error("accepted")
			}
		})
	}
}
