package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
)

// Marathon starts an executor for each task, in whose command line the app's cmd
// has gone through a shell, and puts the app's definition as JSON into
// TaskInfo.data (older versions) or nothing (later ones). Its environment is
// the task's, settings of the executor mixed in, and Mesos' fetcher has put the
// app's files into the executor's sandbox.

// marathonApp is what of an app's definition Mesos has no field for.
type marathonApp struct {
	ID      string   `json:"id"`
	Cmd     string   `json:"cmd"`
	Args    []string `json:"args"`
	User    string   `json:"user"`
	Version string   `json:"version"`
}

// isMarathons reports whether a TaskInfo is one of Marathon's: a definition in
// JSON, or nothing although this executor has arguments. Data of Pacer's own
// scheduler begins with another byte.
func isMarathons(info mesos.TaskInfo, argv []string) bool {
	data := bytes.TrimLeft(info.Data, " \t\r\n")
	return info.Command == nil && (len(data) > 0 && data[0] == '{' || len(data) == 0 && len(argv) > 0)
}

// readMarathon finds the command: cmd or args of the definition, else the
// arguments of this executor, which a shell has divided into words.
func readMarathon(info mesos.TaskInfo, argv []string) (*payload.Task, error) {
	task := &payload.Task{App: "/" + info.Name, Command: &payload.Command{Argv: argv}, Shard: -1}
	if len(bytes.TrimSpace(info.Data)) == 0 {
		return task, nil
	}
	var app marathonApp
	if err := json.Unmarshal(info.Data, &app); err != nil {
		return nil, fmt.Errorf("TaskInfo.data is not the definition of a Marathon app: %w", plainJSON(err))
	}
	if app.ID != "" {
		task.App = "/" + strings.TrimPrefix(app.ID, "/")
	}
	task.AppVersion, task.User = app.Version, app.User
	switch {
	case app.Cmd != "" && len(app.Args) > 0:
		return nil, errors.New("the app in TaskInfo.data has both cmd and args: set one")
	case app.Cmd != "":
		task.Command = &payload.Command{Shell: app.Cmd}
	case len(app.Args) > 0:
		task.Command = &payload.Command{Argv: app.Args}
	case len(argv) == 0:
		return nil, errors.New("the app in TaskInfo.data has no cmd and no args: set one")
	}
	return task, nil
}

// plainJSON says where a definition is wrong without Go's types.
func plainJSON(err error) error {
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		want := "a text"
		if strings.HasPrefix(wrong.Field, "args") && wrong.Type.Kind().String() == "slice" {
			want = "a list of texts"
		}
		return fmt.Errorf("%s is a %s: write %s", wrong.Field, wrong.Value, want)
	}
	return err
}

// settingPrefixes begin the names of variables that are for the executor, and
// not for the task, where both get the same environment.
var settingPrefixes = []string{"PACER_", "VAULT_", "MESOS_", "LIBPROCESS_"}

// inherit adds what this process was given and is meant for the task.
func (e environment) inherit(variables []string) {
next:
	for _, v := range variables {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			continue
		}
		for _, prefix := range settingPrefixes {
			if strings.HasPrefix(name, prefix) {
				continue next
			}
		}
		e[name] = value
	}
}
