package executor

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
)

// environment is a task's environment. It is made from nothing: no variable of
// the executor's own environment, where settings and tokens are, gets into it.
//
// Of two values for one name the later in this list wins:
//
//	PATH                                     below
//	HOST, PORT, PORT0, PORTS, PORT_<NAME>,   where the task is
//	PORT_<number>
//	MARATHON_APP_*                           what the task is
//	the app's own variables                  payload or TaskInfo.command
//	MESOS_TASK_ID, MESOS_SANDBOX             facts that nobody overrides
//	secrets                                  labels
type environment map[string]string

// defaultPath is what Mesos gives an executor without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Marathon drops labels whose name or value would make a variable longer.
const maxLabelVariable = 512

// marathonEnvironment is what Marathon gives a task, from Mesos' own fields.
func marathonEnvironment(info mesos.TaskInfo, task *payload.Task, host string, ports []port) environment {
	env := environment{
		"PATH":                       defaultPath,
		"MARATHON_APP_ID":            task.App,
		"MARATHON_APP_VERSION":       task.AppVersion,
		"MARATHON_APP_RESOURCE_CPUS": decimal(scalar(info.Resources, "cpus")),
		"MARATHON_APP_RESOURCE_MEM":  decimal(scalar(info.Resources, "mem")),
		"MARATHON_APP_RESOURCE_DISK": decimal(scalar(info.Resources, "disk")),
		"MARATHON_APP_RESOURCE_GPUS": strconv.Itoa(int(scalar(info.Resources, "gpus"))),
	}
	if host != "" {
		env["HOST"] = host
	}
	numbers := make([]string, len(ports))
	for i, p := range ports {
		numbers[i] = strconv.Itoa(p.number)
		env["PORT"+strconv.Itoa(i)] = numbers[i]
		env["PORT_"+numbers[i]] = numbers[i]
		if p.name != "" {
			env["PORT_"+variableName(p.name)] = numbers[i]
		}
	}
	if len(ports) > 0 {
		env["PORT"] = numbers[0]
		env["PORTS"] = strings.Join(numbers, ",")
	}
	var names []string
	for key, value := range labelsOf(info.Labels) {
		const prefix = "MARATHON_APP_LABEL_"
		if len(prefix)+len(key) >= maxLabelVariable || len(value) >= maxLabelVariable || strings.ContainsRune(value, 0) {
			continue
		}
		name := variableName(key)
		names = append(names, name)
		env[prefix+name] = value
	}
	slices.Sort(names)
	env["MARATHON_APP_LABELS"] = strings.Join(slices.Compact(names), " ")
	return env
}

// add puts the app's own variables in.
func (e environment) add(variables []*payload.Variable) error {
	var problems []error
	for _, v := range variables {
		switch {
		case v.Name == "" || strings.ContainsAny(v.Name, "=\x00"):
			problems = append(problems, fmt.Errorf("environment: %q cannot be a variable's name: it must not be empty or hold '=' or NUL", v.Name))
		case strings.ContainsRune(v.Value, 0):
			problems = append(problems, fmt.Errorf("environment: the value of %s has a NUL byte, which an environment cannot hold", v.Name))
		default:
			e[v.Name] = v.Value
		}
	}
	return errors.Join(problems...)
}

// with returns a copy that has one more variable, or another value for it.
func (e environment) with(name, value string) environment {
	next := maps.Clone(e)
	next[name] = value
	return next
}

// list is the environment as exec takes it, sorted.
func (e environment) list() []string {
	list := make([]string, 0, len(e))
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// variableName makes a variable's name of any name, as Marathon does.
func variableName(name string) string {
	var b strings.Builder
	replaced := false
	for _, c := range strings.ToUpper(name) {
		ok := c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		switch {
		case ok:
			b.WriteRune(c)
		case !replaced:
			b.WriteByte('_')
		}
		replaced = !ok
	}
	return b.String()
}

// decimal prints a number as Marathon does, with a decimal point always.
func decimal(f float64) string {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if f == math.Trunc(f) {
		text += ".0"
	}
	return text
}
