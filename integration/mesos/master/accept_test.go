package master_test

import (
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/wire"
)

func parse(t *testing.T, text string) []mesos.Resource {
	t.Helper()
	s, err := resource.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Proto(resource.Internal)
}

func raw(name string, value float64) []mesos.Resource {
	kind := mesos.SCALAR
	return append(probe.Scalars(0, 32, 0), mesos.Resource{Name: name, Type: &kind, Scalar: &mesos.Value_Scalar{Value: value}})
}

func ptr[V any](v V) *V { return &v }

// Each case is one defect of a task or executor with the text recorded for it; ""
// means that the task launches.
func TestTaskValidation(t *testing.T) {
	duration := func(ns int64) *mesos.DurationInfo { return &mesos.DurationInfo{Nanoseconds: ns} }
	other := func(change func(*mesos.TaskInfo)) func(*mesos.TaskInfo) {
		return func(t *mesos.TaskInfo) {
			t.Executor.ExecutorID.Value = "e9"
			change(t)
		}
	}
	health := func(h mesos.HealthCheck) func(*mesos.TaskInfo) {
		return func(t *mesos.TaskInfo) { t.HealthCheck = &h }
	}
	check := func(k mesos.CheckInfo) func(*mesos.TaskInfo) {
		return func(t *mesos.TaskInfo) { t.Check = &k }
	}
	of := func(text string) func(*mesos.TaskInfo) {
		return func(info *mesos.TaskInfo) { info.Resources = parse(t, text) }
	}
	const compatible = "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n" +
		"------------------------------------------------------------\nExisting ExecutorInfo:\nexecutor_id {\n  value: \"e1\"\n}\n" +
		"resources {\n  name: \"cpus\"\n  type: SCALAR\n  scalar {\n    value: 0.1\n  }\n  allocation_info {\n    role: \"r1\"\n  }\n}\n*"
	for _, c := range []struct {
		name   string
		change func(*mesos.TaskInfo)
		text   string // a * at the end stands for the rest
	}{
		{"too many resources", of("cpus:99;mem:32"), "Total resources cpus(allocated: r1):99; mem(allocated: r1):32 required by task and its" +
			" executor is more than available ports(allocated: r1):[31000-32000]; cpus(allocated: r1):3.8; mem(allocated: r1):4032; disk(allocated: r1):4094"},
		{"duplicate task id", func(t *mesos.TaskInfo) { t.TaskID.Value = "t1" }, "Task has duplicate ID: t1"},
		{"other argument", func(t *mesos.TaskInfo) { t.Executor.Command.Arguments = []string{"x"} }, compatible},
		{"other resources of the executor", func(t *mesos.TaskInfo) { t.Executor.Resources = probe.Scalars(0.2, 32, 1) }, compatible},
		{"other environment", func(t *mesos.TaskInfo) {
			t.Executor.Command.Environment = &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: "A", Value: ptr("b")}}}
		}, compatible},
		{"other name of the executor", func(t *mesos.TaskInfo) { t.Executor.Name = ptr("x") }, compatible},
		{"other labels and grace period", func(t *mesos.TaskInfo) {
			t.Executor.Labels = &mesos.Labels{Labels: []mesos.Label{{Key: "k"}}}
			t.Executor.ShutdownGracePeriod = duration(1e9)
		}, ""},
		{"command and executor", func(t *mesos.TaskInfo) { t.Command = &mesos.CommandInfo{Value: ptr("true")} },
			"Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		{"neither", func(t *mesos.TaskInfo) { t.Executor = nil },
			"Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		{"no executor command", other(func(t *mesos.TaskInfo) { t.Executor.Command = nil }), "'ExecutorInfo.command' must be set for 'CUSTOM' executor"},
		{"executor type DEFAULT", other(func(t *mesos.TaskInfo) { t.Executor.Type, t.Executor.Command = mesos.ExecutorInfo_DEFAULT, nil }),
			"'ExecutorInfo.type' must be 'CUSTOM'"},
		{"executor type UNKNOWN", other(func(t *mesos.TaskInfo) { t.Executor.Type = mesos.ExecutorInfo_UNKNOWN }),
			"'ExecutorInfo.type' must be 'CUSTOM'"},
		{"foreign framework_id", other(func(t *mesos.TaskInfo) { t.Executor.FrameworkID = &mesos.FrameworkID{Value: "other"} }),
			"ExecutorInfo has an invalid FrameworkID (Actual: other vs Expected: *"},
		{"negative grace period", other(func(t *mesos.TaskInfo) { t.Executor.ShutdownGracePeriod = duration(-1) }),
			"ExecutorInfo's 'shutdown_grace_period' must be non-negative"},
		{"executor_id with a slash", func(t *mesos.TaskInfo) { t.Executor.ExecutorID.Value = "a/b" }, "'a/b' contains invalid characters"},
		{"executor_id empty", func(t *mesos.TaskInfo) { t.Executor.ExecutorID.Value = "" }, "ID must not be empty"},
		{"task_id with a slash", func(t *mesos.TaskInfo) { t.TaskID.Value = "x/y" }, "'x/y' contains invalid characters"},
		{"task_id of 256 bytes", func(t *mesos.TaskInfo) { t.TaskID.Value = strings.Repeat("i", 256) }, "ID must not be greater than 255 characters"},
		{"task_id with a space and a dot", func(t *mesos.TaskInfo) { t.TaskID.Value = "a b.c" }, ""},
		{"wrong agent_id", func(t *mesos.TaskInfo) { t.AgentID.Value = "x-S1" }, "Task uses invalid agent x-S1 while agent *"},
		{"no resources", func(t *mesos.TaskInfo) { t.Resources = nil }, "Task uses no resources"},
		{"zero cpus", func(t *mesos.TaskInfo) { t.Resources = raw("cpus", 0) }, ""},
		{"negative cpus", func(t *mesos.TaskInfo) { t.Resources = raw("cpus", -1) }, "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"},
		{"cpus 0.0004", func(t *mesos.TaskInfo) { t.Resources = raw("cpus", 0.0004) }, "Resource 'cpus:0' is invalid: Invalid scalar resource: value <= 0"},
		{"cpus 0.001", of("cpus:0.001;mem:1"), ""},
		{"reserved although the offer is not", of("cpus(r1):0.1;mem:32"),
			"Total resources cpus(allocated: r1)(reservations: [(STATIC,r1)]):0.1; mem(allocated: r1):32 required by task and its executor is more than available *"},
		{"role *", func(t *mesos.TaskInfo) { t.Resources[0].Role = ptr("*") }, ""},
		{"the same resource twice", func(t *mesos.TaskInfo) { t.Resources = append(t.Resources, probe.Scalars(0.1, 0, 0)...) }, ""},
		{"allocation_info of another role", func(t *mesos.TaskInfo) {
			t.Resources[0].AllocationInfo = &mesos.Resource_AllocationInfo{Role: ptr("r2")}
		}, "Invalid task resources: The resources have multiple allocation roles ('r1' and 'r2') but only one allocation role is allowed"},
		{"allocation_info echoed", func(t *mesos.TaskInfo) {
			for i := range t.Resources {
				t.Resources[i].AllocationInfo = &mesos.Resource_AllocationInfo{Role: ptr("r1")}
			}
		}, ""},
		{"port not in the offer", of("cpus:0.1;mem:32;ports:[80-80]"),
			"Total resources cpus(allocated: r1):0.1; mem(allocated: r1):32; ports(allocated: r1):[80-80] required by task and its executor is more than available *"},
		{"the same port in task and executor", other(func(info *mesos.TaskInfo) {
			info.Resources = parse(t, "cpus:0.1;ports:[31000-31001]")
			info.Executor.Resources = parse(t, "cpus:0.1;mem:32;ports:[31001-31001]")
		}), "There are overlapping resources in the task resources *"},
		{"empty health check", health(mesos.HealthCheck{}), "Task uses invalid health check: 'UNKNOWN' is not a valid health check type"},
		{"HTTP without http", health(mesos.HealthCheck{Type: mesos.HealthCheck_HTTP}), "Task uses invalid health check: Expecting 'http' to be set for HTTP health check"},
		{"path without slash", health(mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 80, Path: ptr("x")}}),
			"Task uses invalid health check: The path 'x' of HTTP health check must start with '/'"},
		{"scheme ftp", health(mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 80, Scheme: ptr("ftp")}}),
			"Task uses invalid health check: Unsupported HTTP health check scheme: 'ftp'"},
		{"COMMAND without value", health(mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND, Command: &mesos.CommandInfo{Shell: ptr(true)}}),
			"Task uses invalid health check: Command health check must contain 'shell command'"},
		{"negative delay", health(mesos.HealthCheck{Type: mesos.HealthCheck_TCP, TCP: &mesos.HealthCheck_TCPCheckInfo{Port: 80}, DelaySeconds: ptr(-1.0)}),
			"Task uses invalid health check: Expecting 'delay_seconds' to be non-negative"},
		{"TCP port 0", health(mesos.HealthCheck{Type: mesos.HealthCheck_TCP, TCP: &mesos.HealthCheck_TCPCheckInfo{}, ConsecutiveFailures: ptr(uint32(0))}), ""},
		{"check HTTP without http", check(mesos.CheckInfo{Type: mesos.CheckInfo_HTTP}), "Task uses invalid check: Expecting 'http' to be set for HTTP check"},
		{"negative kill grace", func(t *mesos.TaskInfo) { t.KillPolicy = &mesos.KillPolicy{GracePeriod: duration(-1)} },
			"Task's 'kill_policy.grace_period' must be non-negative"},
		{"negative max_completion_time", func(t *mesos.TaskInfo) { t.MaxCompletionTime = duration(-1) }, "Task's `max_completion_time` must be non-negative"},
		{"SECRET without secret", other(func(t *mesos.TaskInfo) {
			kind := mesos.Environment_Variable_SECRET
			t.Executor.Command.Environment = &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: "A", Type: &kind}}}
		}), "Executor's `CommandInfo` is invalid: Environment variable 'A' of type 'SECRET' must have a secret set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := start(t, quick)
			agent := newPuppet(t, l)
			s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
			s.Accept(0, s.Offers(), probe.Launch(probe.Task(agent.id, "t1", "e1")))
			expect[link.RunTask](agent)
			s.Accept(0, s.Offers(), probe.Launch(probe.Task(agent.id, "x", "e1", c.change)))
			if c.text == "" {
				expect[link.RunTask](agent)
				return
			}
			status := s.Status()
			if got := probe.Describe(status); !strings.HasSuffix(got, " TASK_ERROR SOURCE_MASTER REASON_TASK_INVALID") {
				t.Error(got)
			}
			prefix, open := strings.CutSuffix(c.text, "*")
			if got := status.GetMessage(); got != c.text && !(open && strings.HasPrefix(got, prefix)) {
				t.Errorf("got  %s\nwant %s", got, c.text)
			}
			if status.UUID != nil || status.ExecutorID != nil || status.AgentID == nil {
				t.Errorf("uuid %x, executor %v, agent %v", status.UUID, status.ExecutorID, status.AgentID)
			}
		})
	}
}

// What mesos-go cannot leave unset is left out in JSON.
func TestUnsetTypes(t *testing.T) {
	m, l := start(t, quick)
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.JSON, probe.FrameworkInfo())
	run := func(id, executorType, more string) {
		t.Helper()
		offer := s.Offers()[0].ID.Value
		resources := `"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}]`
		body := `{"type":"ACCEPT","framework_id":{"value":"` + s.ID + `"},"accept":{"filters":{"refuse_seconds":0},"offer_ids":[{"value":"` + offer +
			`"}],"operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"x","task_id":{"value":"` + id + `"},"agent_id":{"value":"` + agent.id +
			`"},` + resources + more + `,"executor":{` + executorType + `"executor_id":{"value":"` + id + `"},"command":{"value":"x"}}}]}}]}}`
		response, text := probe.Post(t, m.URL()+"/api/v1/scheduler", map[string][]string{
			"Content-Type": {"application/json"}, "Mesos-Stream-Id": {s.StreamID},
		}, []byte(body))
		if response.StatusCode != 202 {
			t.Fatal(text)
		}
	}
	for id, kind := range map[string]string{"unset": "", "unknown name": `"type":"NO_SUCH",`} {
		run(id, kind, "")
		expect[link.RunTask](agent)
	}
	run("inferred", "", `,"health_check":{"http":{"port":80}}`)
	if got := expect[link.RunTask](agent).Task.HealthCheck.Type; got != mesos.HealthCheck_HTTP {
		t.Errorf("health check type %v, want it inferred", got)
	}
	for more, want := range map[string]string{
		`,"health_check":{}`: "Task uses invalid health check: HealthCheck must specify 'type'",
		`,"health_check":{"type":"UNKNOWN","http":{"port":1}}`: "Task uses invalid health check: 'UNKNOWN' is not a valid health check type",
		`,"check":{"http":{"port":80}}`:                        "Task uses invalid check: CheckInfo must specify 'type'",
	} {
		run("bad", "", more)
		if got := s.StatusMessage(); got != want {
			t.Errorf("%s: got %s, want %s", more, got, want)
		}
	}
}

func TestInvalidOffers(t *testing.T) {
	m, l := start(t, quick)
	first := newPuppet(t, l)
	newPuppet(t, l, func(info *mesos.AgentInfo) { info.Hostname = "127.0.0.2" })
	for _, c := range []struct {
		name  string
		info  mesos.FrameworkInfo
		state string
	}{
		{"partition aware", probe.FrameworkInfo(), "TASK_DROPPED"},
		{"not partition aware", mesos.FrameworkInfo{Name: "s2", User: "root", FailoverTimeout: ptr(60.0)}, "TASK_LOST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := probe.Connect(t, m.URL(), wire.Protobuf, c.info)
			offers := s.Offers()
			if len(offers) != 2 {
				t.Fatalf("%d offers", len(offers))
			}
			check := func(name, text string, named ...mesos.Offer) {
				t.Helper()
				s.Accept(0, named, probe.Launch(probe.Task(first.id, "x", "e1")))
				status := s.Status()
				if got, want := probe.Describe(status), "x "+c.state+" SOURCE_MASTER REASON_INVALID_OFFERS"; got != want {
					t.Errorf("%s: got %s, want %s", name, got, want)
				}
				if got := status.GetMessage(); got != "Task launched with invalid offers: "+text {
					t.Errorf("%s: %s", name, got)
				}
			}
			check("none", "No offers specified")
			check("made up", "Offer made-up is no longer valid", mesos.Offer{ID: mesos.OfferID{Value: "made-up"}})
			check("of two agents", "Aggregated offers must belong to one single agent. Offer "+offers[1].ID.Value+" uses agent "+
				offers[1].AgentID.Value+" and agent "+offers[0].AgentID.Value, offers[0], offers[1])
			// Both are gone now, and new ones come.
			fresh := s.Offers()[0]
			check("stale beside a good one", "Offer "+offers[0].ID.Value+" is no longer valid", fresh, offers[0])
			check("lost with the stale one", "Offer "+fresh.ID.Value+" is no longer valid", fresh)
			s.Must(teardown())
		})
	}
}

func TestOneLaunchWithGoodAndBadTasks(t *testing.T) {
	m, l := start(t, quick)
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	s.Accept(0, s.Offers(), probe.Launch(
		probe.Task(agent.id, "good", "e1"),
		probe.Task(agent.id, "big", "e1", func(info *mesos.TaskInfo) { info.Resources = parse(t, "cpus:99") }),
		probe.Task(agent.id, "good too", "e1"),
	))
	if got := probe.Describe(s.Status()); got != "big TASK_ERROR SOURCE_MASTER REASON_TASK_INVALID" {
		t.Error(got)
	}
	for _, want := range []string{"good", "good too"} {
		if got := expect[link.RunTask](agent).Task.TaskID.Value; got != want {
			t.Errorf("launched %s, want %s", got, want)
		}
	}

	// One malformed Resource spoils the operation.
	s.Accept(0, s.Offers(), probe.Launch(
		probe.Task(agent.id, "a", "e1"),
		probe.Task(agent.id, "b", "e1", func(info *mesos.TaskInfo) { info.Resources = raw("cpus", -1) }),
	))
	for _, id := range []string{"a", "b"} {
		if got := probe.Describe(s.Status()); got != id+" TASK_ERROR SOURCE_MASTER REASON_TASK_INVALID" {
			t.Error(got)
		}
	}

	// As does an operation id.
	operation := probe.Launch(probe.Task(agent.id, "c", "e1"))
	operation.ID = &mesos.OperationID{Value: "op"}
	s.Accept(0, s.Offers(), operation)
	if got := s.StatusMessage(); got != "The `id` field cannot be set on LAUNCH operations" {
		t.Error(got)
	}
}

func TestTaskGroups(t *testing.T) {
	m, l := start(t, quick)
	agent := newPuppet(t, l)
	s := probe.Connect(t, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	group := func(executorID string, changes ...func(*mesos.Offer_Operation_LaunchGroup)) mesos.Offer_Operation {
		task := probe.Task(agent.id, executorID+".1", executorID)
		g := &mesos.Offer_Operation_LaunchGroup{Executor: *task.Executor}
		g.Executor.FrameworkID = &mesos.FrameworkID{Value: s.ID}
		for _, n := range []string{".1", ".2"} {
			member := probe.Task(agent.id, executorID+n, executorID)
			member.Executor = nil
			g.TaskGroup.Tasks = append(g.TaskGroup.Tasks, member)
		}
		for _, change := range changes {
			change(g)
		}
		return mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH_GROUP, LaunchGroup: g}
	}
	s.Accept(0, s.Offers(), group("e1"))
	got := expect[link.RunTaskGroup](agent)
	if len(got.Group.Tasks) != 2 || !got.LaunchExecutor || got.Group.Tasks[0].Executor == nil {
		t.Errorf("delivered: %+v", got)
	}
	for _, c := range []struct {
		name, text string
		change     func(*mesos.Offer_Operation_LaunchGroup)
	}{
		{"no framework_id", "'ExecutorInfo.framework_id' must be set", func(g *mesos.Offer_Operation_LaunchGroup) { g.Executor.FrameworkID = nil }},
		{"no disk", "Executor 'e2' uses no disk", func(g *mesos.Offer_Operation_LaunchGroup) { g.Executor.Resources = probe.Scalars(0.1, 32, 0) }},
		{"little memory", "Executor 'e2' uses less memory (16MB) than the minimum required (32MB)", func(g *mesos.Offer_Operation_LaunchGroup) {
			g.Executor.Resources = probe.Scalars(0.1, 16, 1)
		}},
		{"bad member", "Task 'a/b' is invalid: 'a/b' contains invalid characters", func(g *mesos.Offer_Operation_LaunchGroup) {
			g.TaskGroup.Tasks[1].TaskID.Value = "a/b"
		}},
		{"too much together", "Total resources * required by task group and its executor are more than available *", func(g *mesos.Offer_Operation_LaunchGroup) {
			g.TaskGroup.Tasks[0].Resources, g.TaskGroup.Tasks[1].Resources = probe.Scalars(2, 32, 1), probe.Scalars(2, 32, 1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Accept(0, s.Offers(), group("e2", c.change))
			for range 2 {
				status := s.Status()
				if got := probe.Describe(status); !strings.HasSuffix(got, " TASK_ERROR SOURCE_MASTER REASON_TASK_GROUP_INVALID") {
					t.Error(got)
				}
				first, _, _ := strings.Cut(c.text, "*")
				if !strings.HasPrefix(status.GetMessage(), first) {
					t.Errorf("got %s, want %s", status.GetMessage(), c.text)
				}
			}
		})
	}
}
