package agent

import (
	"encoding/json"
	"net/http"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	agentv1 "github.com/mesos/mesos-go/api/v1/lib/agent"

	"pacer/integration/mesos/wire"
)

// serveOperator answers one call of the operator API.
func (a *Agent) serveOperator(w http.ResponseWriter, r *http.Request) {
	if a.phaseIs(starting) || a.phaseIs(recovering) {
		errRecovering.Write(w)
		return
	}
	call := new(agentv1.Call)
	present, refusal := wire.ReadCall(w, r, call)
	if refusal == nil {
		refusal = validateOperatorCall(call, present)
	}
	var accept wire.ContentType
	if refusal == nil {
		accept, refusal = wire.Negotiate(r.Header["Accept"])
	}
	var response *agentv1.Response
	if refusal == nil {
		response, refusal = a.operatorCall(call)
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	if err := wire.Reply(w, accept, response); err != nil {
		a.log.Error().Err(err).Msg("answer cannot be sent")
	}
}

func validateOperatorCall(call *agentv1.Call, present wire.Presence) *wire.Refusal {
	refuse := func(field string) *wire.Refusal {
		return wire.Refuse(http.StatusBadRequest, "Failed to validate agent::Call: Expecting '%s' to be present", field)
	}
	switch {
	case !present.Has("type"):
		return refuse("type")
	case call.Type == agentv1.Call_LIST_FILES && call.ListFiles == nil:
		return refuse("list_files")
	case call.Type == agentv1.Call_READ_FILE && call.ReadFile == nil:
		return refuse("read_file")
	case call.Type == agentv1.Call_GET_METRICS && call.GetMetrics == nil:
		return refuse("get_metrics")
	}
	return nil
}

func (a *Agent) operatorCall(call *agentv1.Call) (*agentv1.Response, *wire.Refusal) {
	switch call.Type {
	case agentv1.Call_LIST_FILES:
		list, refusal := a.browse(call.ListFiles.Path)
		if refusal != nil {
			return nil, refusal
		}
		return &agentv1.Response{Type: agentv1.Response_LIST_FILES, ListFiles: &agentv1.Response_ListFiles{FileInfos: list}}, nil
	case agentv1.Call_READ_FILE:
		offset := int64(min(call.ReadFile.Offset, 1<<62))
		var length *int64
		if call.ReadFile.Length != nil {
			n := int64(min(*call.ReadFile.Length, 1<<62))
			length = &n
		}
		data, size, refusal := a.read(call.ReadFile.Path, &offset, length)
		if refusal != nil {
			return nil, refusal
		}
		return &agentv1.Response{Type: agentv1.Response_READ_FILE, ReadFile: &agentv1.Response_ReadFile{Data: data, Size_: uint64(size)}}, nil
	case agentv1.Call_GET_CONTAINERS:
		return &agentv1.Response{Type: agentv1.Response_GET_CONTAINERS, GetContainers: a.getContainers()}, nil
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	switch call.Type {
	case agentv1.Call_GET_HEALTH:
		return &agentv1.Response{Type: agentv1.Response_GET_HEALTH, GetHealth: &agentv1.Response_GetHealth{Healthy: true}}, nil
	case agentv1.Call_GET_VERSION:
		return &agentv1.Response{Type: agentv1.Response_GET_VERSION, GetVersion: &agentv1.Response_GetVersion{
			VersionInfo: wire.Version(a.cfg.Version),
		}}, nil
	case agentv1.Call_GET_METRICS:
		out := &agentv1.Response_GetMetrics{}
		for _, m := range a.metricsLocked() {
			out.Metrics = append(out.Metrics, mesos.Metric{Name: m.name, Value: &m.value})
		}
		return &agentv1.Response{Type: agentv1.Response_GET_METRICS, GetMetrics: out}, nil
	case agentv1.Call_GET_AGENT:
		info := a.info
		return &agentv1.Response{Type: agentv1.Response_GET_AGENT, GetAgent: &agentv1.Response_GetAgent{
			AgentInfo: &info, DrainConfig: a.drain,
		}}, nil
	case agentv1.Call_GET_TASKS:
		return &agentv1.Response{Type: agentv1.Response_GET_TASKS, GetTasks: a.getTasksLocked()}, nil
	case agentv1.Call_GET_EXECUTORS:
		return &agentv1.Response{Type: agentv1.Response_GET_EXECUTORS, GetExecutors: a.getExecutorsLocked()}, nil
	case agentv1.Call_GET_FRAMEWORKS:
		return &agentv1.Response{Type: agentv1.Response_GET_FRAMEWORKS, GetFrameworks: a.getFrameworksLocked()}, nil
	case agentv1.Call_GET_STATE:
		return &agentv1.Response{Type: agentv1.Response_GET_STATE, GetState: &agentv1.Response_GetState{
			GetTasks: a.getTasksLocked(), GetExecutors: a.getExecutorsLocked(), GetFrameworks: a.getFrameworksLocked(),
		}}, nil
	}
	return nil, wire.NotImplemented()
}

func (a *Agent) getTasksLocked() *agentv1.Response_GetTasks {
	out := &agentv1.Response_GetTasks{}
	for _, f := range a.frameworks {
		for _, e := range f.order {
			for _, t := range e.order {
				switch t.stage {
				case queued:
					out.QueuedTasks = append(out.QueuedTasks, t.state)
				case launched:
					out.LaunchedTasks = append(out.LaunchedTasks, t.state)
				case ended:
					out.TerminatedTasks = append(out.TerminatedTasks, t.state)
				}
			}
			for _, t := range e.completed {
				out.CompletedTasks = append(out.CompletedTasks, t.state)
			}
		}
	}
	for _, e := range a.completed {
		for _, t := range e.completed {
			out.CompletedTasks = append(out.CompletedTasks, t.state)
		}
	}
	return out
}

func (a *Agent) getExecutorsLocked() *agentv1.Response_GetExecutors {
	out := &agentv1.Response_GetExecutors{}
	for _, f := range a.frameworks {
		for _, e := range f.order {
			out.Executors = append(out.Executors, agentv1.Response_GetExecutors_Executor{ExecutorInfo: e.info})
		}
	}
	for _, e := range a.completed {
		out.CompletedExecutors = append(out.CompletedExecutors, agentv1.Response_GetExecutors_Executor{ExecutorInfo: e.info})
	}
	return out
}

func (a *Agent) getFrameworksLocked() *agentv1.Response_GetFrameworks {
	out := &agentv1.Response_GetFrameworks{}
	for _, f := range a.frameworks {
		out.Frameworks = append(out.Frameworks, agentv1.Response_GetFrameworks_Framework{FrameworkInfo: f.info})
	}
	told := make(map[string]bool)
	for _, e := range a.completed {
		if a.frameworks[e.framework.id] == nil && !told[e.framework.id] {
			told[e.framework.id] = true
			out.CompletedFrameworks = append(out.CompletedFrameworks, agentv1.Response_GetFrameworks_Framework{FrameworkInfo: e.framework.info})
		}
	}
	return out
}

func (a *Agent) serveVersion(w http.ResponseWriter, _ *http.Request) {
	version := wire.Version(a.cfg.Version)
	body, err := wire.JSON.Marshal(&version)
	if err != nil {
		wire.Refuse(http.StatusInternalServerError, "%v", err).Write(w)
		return
	}
	a.replyJSON(w, json.RawMessage(body))
}
