package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain makes this binary the program itself when a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("PACER_TEST_MAIN") != "" {
		os.Args = append(os.Args[:1], strings.Fields(os.Getenv("PACER_TEST_ARGS"))...)
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program runs the program with an environment and nothing else.
func program(t *testing.T, args string, env ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(env, "PACER_TEST_MAIN=1", "PACER_TEST_ARGS="+args)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.String(), errs.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, out.String(), errs.String()
}

// mesosEnv is what an agent sets.
func mesosEnv(sandbox string) []string {
	return []string{
		"MESOS_FRAMEWORK_ID=f", "MESOS_EXECUTOR_ID=e", "MESOS_SLAVE_ID=a", "MESOS_SLAVE_PID=slave(1)@127.0.0.1:1",
		"MESOS_AGENT_ENDPOINT=127.0.0.1:1", "MESOS_DIRECTORY=" + sandbox, "MESOS_SANDBOX=" + sandbox,
		"MESOS_CHECKPOINT=0", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs",
	}
}

func TestMain_PrintsItsVersion(t *testing.T) {
	code, out, _ := program(t, "--version")
	if code != 0 || strings.TrimSpace(out) != version {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestMain_RefusesBadSettingsBeforeAnythingElse(t *testing.T) {
	sandbox := filepath.Join(t.TempDir(), "sandbox")
	if err := os.Mkdir(sandbox, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		args  string
		env   []string
		lines []string // a text in each line of stderr, in any order
	}{
		{"nothing of Mesos", "", nil, []string{"MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID", "MESOS_AGENT_ENDPOINT"}},
		{"several", "", append(mesosEnv(sandbox), "PACER_KILL_GRACE=soon", "PACER_LOG_LEVEL=loud", "PACER_CGROUP_PARENT=relative", "PACER_ZK=http://x", "PACER_CONSUL=x:8500", "VAULT_ADDR=vault"),
			[]string{"PACER_KILL_GRACE", "PACER_LOG_LEVEL", "PACER_CGROUP_PARENT", "PACER_ZK", "PACER_CONSUL", "VAULT_ADDR"}},
		{"an argument", "serve", nil, []string{"serve"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := program(t, tc.args, tc.env...)
			if code != exitSettings || out != "" {
				t.Errorf("code %d, stdout %q", code, out)
			}
			for _, text := range tc.lines {
				n := 0
				for line := range strings.Lines(errs) {
					if strings.Contains(line, text) && strings.HasPrefix(line, "pacer-executor: ") {
						n++
					}
				}
				if n == 0 {
					t.Errorf("no line about %s in\n%s", text, errs)
				}
			}
			if info, err := os.Stat(sandbox); err != nil || info.Mode().Perm() != 0o750 {
				t.Errorf("the sandbox was touched: %v, %v", info, err)
			}
		})
	}
}
