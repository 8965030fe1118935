package executor_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/payload"
	"pacer/integration/mesos/probe"
)

// app is a Marathon app as far as these tests go.
type app struct {
	cmd    string
	args   []string
	env    map[string]string
	labels map[string]string
	data   bool // older versions of Marathon put the definition into TaskInfo.data
}

// marathon builds a TaskInfo the way Marathon does for an app whose executor is
// a path: a fresh executor, whose command line the app's cmd is a part of, and
// whose environment is the task's.
func (c *cluster) marathon(id string, a app, health *mesos.HealthCheck) mesos.TaskInfo {
	c.t.Helper()
	info := probe.Task(c.offers[0].AgentID.Value, id, "marathon-"+id)
	info.Name = "cart.shop"
	port, name, kind := c.port(0), "http", mesos.RANGES
	info.Resources = append(probe.Scalars(0.1, 64, 0), mesos.Resource{Name: "ports", Type: &kind,
		Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: uint64(port), End: uint64(port)}}}})
	info.Discovery = &mesos.DiscoveryInfo{Visibility: mesos.FRAMEWORK, Name: &info.Name,
		Ports: &mesos.Ports{Ports: []mesos.Port{{Number: port, Name: &name}}}}
	info.Labels = new(mesos.Labels)
	for _, key := range slices.Sorted(maps.Keys(a.labels)) {
		value := a.labels[key]
		info.Labels.Labels = append(info.Labels.Labels, mesos.Label{Key: key, Value: &value})
	}
	info.HealthCheck = health
	grace := mesos.DurationInfo{Nanoseconds: 5e9}
	info.KillPolicy = &mesos.KillPolicy{GracePeriod: &grace}

	variables := map[string]string{
		"MESOS_TASK_ID": id, "MARATHON_APP_ID": "/shop/cart", "MARATHON_APP_VERSION": "2026-01-02T03:04:05.678Z",
		"MARATHON_APP_RESOURCE_CPUS": "0.1", "MARATHON_APP_RESOURCE_MEM": "64.0", "MARATHON_APP_LABELS": "",
		"HOST": "host-1", "PORT": "31000", "PORT0": "31000", "PORTS": "31000", "PORT_HTTP": "31000", "PORT_10000": "31000",
		// Whoever may set root as the user is Mesos' matter here.
		"PACER_ALLOWED_USERS": c.user,
	}
	maps.Copy(variables, a.env)
	environment := new(mesos.Environment)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := variables[name]
		environment.Variables = append(environment.Variables, mesos.Environment_Variable{Name: name, Value: &value})
	}
	words := a.cmd
	if words == "" {
		words = strings.Join(a.args, " ")
	}
	line := "chmod ug+rx './pacer-executor' && exec './pacer-executor' " + words
	shell, yes := true, true
	info.Executor.Command = &mesos.CommandInfo{Value: &line, Shell: &shell, Environment: environment,
		URIs: []mesos.CommandInfo_URI{{Value: binary, Executable: &yes}}}
	info.Executor.Resources = nil
	if a.data {
		definition := map[string]any{"id": "/shop/cart", "cmd": nil, "args": nil, "env": a.env, "instances": 1, "cpus": 0.1, "mem": 64,
			"user": c.user, "labels": a.labels, "version": "2026-01-02T03:04:05.678Z", "executor": "./pacer-executor"}
		if a.cmd != "" {
			definition["cmd"] = a.cmd
		} else {
			definition["args"] = a.args
		}
		data, err := json.Marshal(definition)
		if err != nil {
			c.t.Fatal(err)
		}
		info.Data = data
	}
	return info
}

// output is what a task of Marathon's has written; its executor is its own.
func (c *cluster) output(id string) string {
	c.t.Helper()
	pattern := filepath.Join(c.mesos.Node(0).WorkDir(), "slaves/*-S*/frameworks/*/executors/marathon-"+id+"/runs/latest")
	matches, err := filepath.Glob(pattern)
	if err != nil || len(matches) != 1 {
		c.t.Fatalf("%v, %v", matches, err)
	}
	return read(c.t, filepath.Join(matches[0], "tasks", id, "stdout"))
}

// TestMarathon_ShellOperatorsReachTheTask has a cmd that the shell around the
// executor takes apart, and the definition that has it whole.
func TestMarathon_ShellOperatorsReachTheTask(t *testing.T) {
	c := newCluster(t, nil)
	cmd := `echo one two | sed 's/one/"1"/' && echo $((6*7)) "$GREETING" > file; cat file; test -x ./pacer-executor || echo not in the sandbox; ` +
		`pwd | grep -q /runs/ && echo in the sandbox; env | grep -c -e ALLOWED_USERS -e KILL_GRACE -e MESOS_EXECUTOR_ID; echo $PORT_10000 $HOST; (exit 3) || exit 4 & wait $!`
	c.Accept(0, c.offers, probe.Launch(c.marathon("shop_cart.1", app{cmd: cmd, data: true, env: map[string]string{"GREETING": "good  day", "PACER_KILL_GRACE": "2s"}}, nil)))
	c.want(mesos.TASK_STARTING)
	c.want(mesos.TASK_RUNNING)
	s := c.want(mesos.TASK_FAILED)
	if !strings.Contains(s.GetMessage(), "exited with code 4") {
		t.Errorf("message %q", s.GetMessage())
	}
	want := "\"1\" two\n42 good  day\nin the sandbox\n0\n31000 host-1\n"
	if got := c.output("shop_cart.1"); got != want {
		t.Errorf("output\n%swant\n%s", got, want)
	}
	c.Next(scheduler.Event_FAILURE) // the executor has ended with its task
}

// TestMarathon_LifeOfATask runs a service with arguments in place of a shell,
// with data and without, through its health check to its kill.
func TestMarathon_LifeOfATask(t *testing.T) {
	for name, data := range map[string]bool{"definition in data": true, "arguments only": false} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nil)
			self := executable(t)
			health := &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: c.port(0)},
				DelaySeconds: seconds(0), IntervalSeconds: seconds(0.2), GracePeriodSeconds: seconds(20)}
			a := app{args: []string{self}, data: data, env: map[string]string{serviceRole: "1", "PORT": portText(c.port(0))}}
			c.Accept(0, c.offers, probe.Launch(c.marathon("shop_cart.1", a, health)))
			c.want(mesos.TASK_STARTING)
			c.want(mesos.TASK_RUNNING)
			if s := c.want(mesos.TASK_RUNNING); !s.GetHealthy() {
				t.Errorf("not healthy: %s", probe.Describe(s))
			}
			c.kill("shop_cart.1")
			c.want(mesos.TASK_KILLING)
			if s := c.want(mesos.TASK_KILLED); !strings.Contains(s.GetMessage(), "exited with code 0") {
				t.Errorf("message %q", s.GetMessage())
			}
			if out := c.output("shop_cart.1"); !strings.HasSuffix(out, "bye\n") {
				t.Errorf("output %q", out)
			}
			if f := c.Next(scheduler.Event_FAILURE).Failure; f.GetStatus() != 0 {
				t.Errorf("the executor ended with %d", f.GetStatus())
			}
		})
	}
}

// TestLaunchGroup_TasksWithCommandsLiveAndDieTogether launches what any framework
// may: a group with TaskInfo.command and no data.
func TestLaunchGroup_TasksWithCommandsLiveAndDieTogether(t *testing.T) {
	c := newCluster(t, nil)
	member := func(id, line string) mesos.TaskInfo {
		info := c.task(id, &payload.Task{Command: &payload.Command{Shell: "unused"}}, small)
		info.Data, info.Command = nil, &mesos.CommandInfo{Value: &line}
		return info
	}
	stays, fails := member("stays", "echo here; exec sleep 600"), member("fails", "sleep 0.5; exit 3")
	executor := *stays.Executor
	executor.FrameworkID = &mesos.FrameworkID{Value: c.ID}
	stays.Executor, fails.Executor = nil, nil
	executor.Resources = probe.Scalars(0.1, 32, 32)
	c.Accept(0, c.offers, mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH_GROUP, LaunchGroup: &mesos.Offer_Operation_LaunchGroup{
		Executor: executor, TaskGroup: mesos.TaskGroupInfo{Tasks: []mesos.TaskInfo{stays, fails}},
	}})
	last := map[string]mesos.TaskState{}
	for last["stays"] != mesos.TASK_KILLED || last["fails"] != mesos.TASK_FAILED {
		s := c.next()
		last[s.TaskID.Value] = s.GetState()
		if s.GetState() == mesos.TASK_ERROR || s.GetState() == mesos.TASK_FINISHED {
			t.Fatal(probe.Describe(s))
		}
	}
	if out := c.file("stays", "stdout"); out != "here\n" {
		t.Errorf("output %q", out)
	}
}
