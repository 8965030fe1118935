package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/conformance"
)

// marker is a variable of the emulated agent's own environment. Executors are found by
// the environment that their process began with, which has no marker.
const marker = "CONFORMANCE_MARKER"

func init() { os.Setenv(marker, "of the agent") }

// environment is about what an executor finds when it starts.
var environment = []assertion{
	{number: 13, title: "environment: all of Mesos' variables, none of the agent's", test: func(w *world) {
		for _, checkpoints := range []bool{true, false} {
			f := w.framework(checkpoint(checkpoints))
			f.launch(f.task("t1", "e1"))
			p := f.puppet("e1")
			f.leave()
			set := p.environment()
			host, _, _ := strings.Cut(set["MESOS_AGENT_ENDPOINT"], ":")
			flag := map[bool]string{true: "1", false: "0"}[checkpoints]
			for name, want := range map[string]string{
				"LIBPROCESS_PORT":    "0",
				"MESOS_FRAMEWORK_ID": f.ID,
				"MESOS_EXECUTOR_ID":  "e1",
				"MESOS_SLAVE_ID":     w.agentID,
				"MESOS_SANDBOX":      set["MESOS_DIRECTORY"],
				"MESOS_SLAVE_PID":    "slave(1)@" + set["MESOS_AGENT_ENDPOINT"],
				"MESOS_CHECKPOINT":   flag,
			} {
				w.equal(name, set[name], want)
			}
			for _, name := range []string{"MESOS_DIRECTORY", "MESOS_HTTP_COMMAND_EXECUTOR", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "PATH"} {
				if set[name] == "" {
					w.Errorf("%s is missing", name)
				}
			}
			for _, name := range []string{"MESOS_RECOVERY_TIMEOUT", "MESOS_SUBSCRIPTION_BACKOFF_MAX"} {
				if _, there := set[name]; there != checkpoints {
					w.Errorf("%s is there: %v; checkpoint: %v", name, there, checkpoints)
				}
			}
			if w.real() {
				continue // its flags, its names and its environment are unknown
			}
			for name, want := range map[string]string{
				"MESOS_AGENT_ENDPOINT":                 strings.TrimPrefix(w.agent, "http://"),
				"LIBPROCESS_IP":                        host,
				"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
				"PATH":                                 "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			} {
				w.equal(name, set[name], want)
			}
			if checkpoints {
				w.equal("MESOS_RECOVERY_TIMEOUT", set["MESOS_RECOVERY_TIMEOUT"], "15mins")
				w.equal("MESOS_SUBSCRIPTION_BACKOFF_MAX", set["MESOS_SUBSCRIPTION_BACKOFF_MAX"], "2secs")
			}
			for name := range set {
				if !strings.HasPrefix(name, "MESOS_") && !strings.HasPrefix(name, "LIBPROCESS_") && name != "PATH" {
					w.Errorf("%s has got through", name)
				}
			}
			if os.Getenv(marker) == "" {
				w.Error("the agent's own environment has no marker, so this proves nothing")
			}
		}
	}},
	{number: 14, title: "environment: the command's wins; the executor's own grace period", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", func(t *mesos.TaskInfo) {
			t.Executor.ShutdownGracePeriod = &mesos.DurationInfo{Nanoseconds: int64(7 * time.Second)}
			t.Executor.Command.Environment = variables("MESOS_HTTP_COMMAND_EXECUTOR", "mine", "PATH", "/bin:/usr/bin:/mine", "OWN", "a=b c")
		}))
		set := f.puppet("e1").environment()
		for name, want := range map[string]string{
			"MESOS_HTTP_COMMAND_EXECUTOR": "mine", "PATH": "/bin:/usr/bin:/mine", "OWN": "a=b c",
			"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "7secs",
		} {
			w.equal(name, set[name], want)
		}
	}},
	{number: 15, title: "argv is exactly the arguments; a shell ignores them", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", func(t *mesos.TaskInfo) {
			t.Executor.Command.Arguments[0] = "any name of a " + conformance.ProbeName
		}))
		p := f.puppet("e1")
		w.equal("argv", fmt.Sprintf("%q", p.list("argv")), fmt.Sprintf("%q", []string{"any name of a probe", "exec", w.control.Addr().String()}))
		f.launch(f.task("t2", "e2", func(t *mesos.TaskInfo) {
			shell := true
			command := t.Executor.Command
			line := fmt.Sprintf(`echo "$0,$#" > asked; exec %s exec %s`, *command.Value, command.Arguments[2])
			command.Shell, command.Value, command.Arguments = &shell, &line, []string{"these", "are", "ignored"}
		}))
		w.equal("$0 and $# of the shell", f.puppet("e2").sh("cat asked"), "sh,0")
	}},
	{number: 16, title: "sandbox: where it is and what leads to it", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		p := f.puppet("e1")
		container := p.subscribe().next(executor.Event_SUBSCRIBED).Subscribed.ContainerID.GetValue()
		directory := p.environment()["MESOS_DIRECTORY"]
		w.equal("MESOS_SANDBOX", p.environment()["MESOS_SANDBOX"], directory)
		w.equal("working directory", p.text("cwd"), directory)
		if suffix := fmt.Sprintf("/slaves/%s/frameworks/%s/executors/e1/runs/%s", w.agentID, f.ID, container); container == "" || !strings.HasSuffix(directory, suffix) {
			w.Errorf("sandbox %s, want it to end with %s", directory, suffix)
		}
		w.equal("latest", p.sh("readlink -f "+filepath.Join(filepath.Dir(directory), "latest")), p.sh("readlink -f "+directory))
	}},
	{number: 17, title: "stdout and stderr are files of the sandbox", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", func(t *mesos.TaskInfo) {
			shell := true
			command := t.Executor.Command
			line := fmt.Sprintf(`echo from stdout; echo from stderr >&2; exec %s exec %s`, *command.Value, command.Arguments[2])
			command.Shell, command.Value, command.Arguments = &shell, &line, nil
		}))
		p := f.puppet("e1")
		for _, name := range []string{"stdout", "stderr"} {
			if got := p.sh("cat " + name); !strings.Contains(got, "from "+name) {
				w.Errorf("%s in the sandbox: %q", name, got)
			}
			path := p.environment()["MESOS_DIRECTORY"] + "/" + name
			var read struct{ Data string }
			answer := w.get(w.agentURL(), "/files/read?offset=0&path="+url.QueryEscape(path), nil)
			if err := json.Unmarshal(answer.Body, &read); err != nil || !strings.Contains(read.Data, "from "+name) {
				w.Errorf("%s by HTTP: %d %s", name, answer.Status, answer.Body)
			}
		}
	}},
}

// variables makes an environment of names and values in turn.
func variables(list ...string) *mesos.Environment {
	e := &mesos.Environment{}
	for i := 0; i < len(list); i += 2 {
		e.Variables = append(e.Variables, mesos.Environment_Variable{Name: list[i], Value: &list[i+1]})
	}
	return e
}
