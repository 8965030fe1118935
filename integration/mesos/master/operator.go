package master

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	pb "github.com/mesos/mesos-go/api/v1/lib/master"

	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/wire"
)

// serveOperator is the operator API, POST /api/v1.
func (m *Master) serveOperator(w http.ResponseWriter, r *http.Request) *wire.Refusal {
	if refusal := m.notLeading(r, "/master/api/v1"); refusal != nil {
		return refusal
	}
	call := new(pb.Call)
	given, refusal := wire.ReadCall(w, r, call)
	if refusal != nil {
		return refusal
	}
	if problem := validateOperatorCall(call, given); problem != "" {
		return wire.Refuse(http.StatusBadRequest, "Failed to validate master::Call: %s", problem)
	}
	contentType, refusal := wire.Negotiate(r.Header.Values("Accept"))
	if refusal != nil {
		return refusal
	}
	if call.Type == pb.Call_SUBSCRIBE {
		m.serveWatcher(w, r, contentType)
		return nil
	}
	var answer *pb.Response
	m.locked(func(c *core) { answer, refusal = c.operate(call) })
	switch {
	case refusal != nil:
		return refusal
	case answer == nil:
		w.Header().Set("Content-Length", "0")
		w.Header()["Content-Type"] = nil // net/http would guess one
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if err := wire.Reply(w, contentType, answer); err != nil {
		m.config.Log.Error().Err(err).Stringer("call", call.Type).Msg("answer not sent")
	}
	return nil
}

func validateOperatorCall(call *pb.Call, given wire.Presence) string {
	if !given.Has("type") {
		return "Expecting 'type' to be present"
	}
	switch call.Type {
	case pb.Call_GET_METRICS, pb.Call_TEARDOWN, pb.Call_MARK_AGENT_GONE, pb.Call_DRAIN_AGENT,
		pb.Call_DEACTIVATE_AGENT, pb.Call_REACTIVATE_AGENT:
		if name := strings.ToLower(call.Type.String()); !given.Has(name) {
			return "Expecting '" + name + "' to be present"
		}
	}
	return ""
}

func (m *Master) serveWatcher(w http.ResponseWriter, r *http.Request, contentType wire.ContentType) {
	to := &watcher{stream: wire.NewStream(contentType)}
	m.locked(func(c *core) { c.subscribeOperator(to) })
	err := to.stream.Serve(w, r)
	if m.enter() == nil {
		m.core.unsubscribeOperator(to)
		m.mu.Unlock()
	}
	if errors.Is(err, wire.ErrAborted) {
		panic(http.ErrAbortHandler)
	}
}

// operate handles a call; an action that succeeded has neither answer nor refusal.
func (c *core) operate(call *pb.Call) (*pb.Response, *wire.Refusal) {
	switch call.Type {
	case pb.Call_GET_HEALTH:
		return &pb.Response{Type: pb.Response_GET_HEALTH, GetHealth: &pb.Response_GetHealth{Healthy: true}}, nil
	case pb.Call_GET_VERSION:
		return &pb.Response{Type: pb.Response_GET_VERSION, GetVersion: &pb.Response_GetVersion{
			VersionInfo: wire.Version(c.config.Version),
		}}, nil
	case pb.Call_GET_MASTER:
		since := seconds(c.m.started)
		return &pb.Response{Type: pb.Response_GET_MASTER, GetMaster: &pb.Response_GetMaster{
			MasterInfo: &c.m.info, StartTime: &since, ElectedTime: &since,
		}}, nil
	case pb.Call_GET_METRICS:
		answer := &pb.Response_GetMetrics{}
		for name, v := range c.metrics() {
			answer.Metrics = append(answer.Metrics, mesos.Metric{Name: name, Value: &v})
		}
		slices.SortFunc(answer.Metrics, func(a, b mesos.Metric) int { return cmp.Compare(a.Name, b.Name) })
		return &pb.Response{Type: pb.Response_GET_METRICS, GetMetrics: answer}, nil
	case pb.Call_GET_STATE:
		return &pb.Response{Type: pb.Response_GET_STATE, GetState: c.getState()}, nil
	case pb.Call_GET_TASKS:
		return &pb.Response{Type: pb.Response_GET_TASKS, GetTasks: c.getTasks()}, nil
	case pb.Call_GET_AGENTS:
		return &pb.Response{Type: pb.Response_GET_AGENTS, GetAgents: c.getAgents()}, nil
	case pb.Call_GET_FRAMEWORKS:
		return &pb.Response{Type: pb.Response_GET_FRAMEWORKS, GetFrameworks: c.getFrameworks()}, nil
	case pb.Call_GET_EXECUTORS:
		return &pb.Response{Type: pb.Response_GET_EXECUTORS, GetExecutors: c.getExecutors()}, nil
	case pb.Call_TEARDOWN:
		return nil, c.teardown(call.Teardown.FrameworkID.Value)
	case pb.Call_MARK_AGENT_GONE:
		id := call.MarkAgentGone.AgentID.Value
		if !c.registry.isGone(id) && !c.markGone(id) {
			return nil, wire.Refuse(http.StatusNotFound, "Agent '%s' not found", id)
		}
		return nil, nil
	case pb.Call_DRAIN_AGENT:
		return nil, c.drainAgent(call.DrainAgent)
	case pb.Call_DEACTIVATE_AGENT:
		id := call.DeactivateAgent.AgentID.Value
		a := c.agents[id]
		if a == nil {
			return nil, wire.Refuse(http.StatusBadRequest, "Unknown agent")
		}
		c.deactivateAgent(a)
		return nil, nil
	case pb.Call_REACTIVATE_AGENT:
		return nil, c.reactivateAgent(call.ReactivateAgent.AgentID.Value)
	case pb.Call_UNKNOWN:
		return nil, wire.NotImplemented()
	}
	return nil, wire.Refuse(http.StatusNotImplemented, "%s is not emulated", call.Type)
}

func (c *core) teardown(id string) *wire.Refusal {
	f := c.frameworks[id]
	if f == nil {
		return wire.Refuse(http.StatusBadRequest, "No framework found with specified ID")
	}
	c.removeFramework(f)
	return nil
}

// serveTeardown is the older form of TEARDOWN, POST /master/teardown.
func (m *Master) serveTeardown(w http.ResponseWriter, r *http.Request) *wire.Refusal {
	if refusal := m.notLeading(r, "/master/teardown"); refusal != nil {
		return refusal
	}
	if r.Method != http.MethodPost {
		return wire.MethodNotAllowed(r.Method, http.MethodPost)
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("frameworkId") == "" {
		return wire.Refuse(http.StatusBadRequest, "Missing 'frameworkId' query parameter in the request body")
	}
	var refusal *wire.Refusal
	m.locked(func(c *core) { refusal = c.teardown(r.PostForm.Get("frameworkId")) })
	if refusal == nil {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	}
	return refusal
}

func (c *core) drainAgent(call *pb.Call_DrainAgent) *wire.Refusal {
	id := call.AgentID.Value
	config := mesos.DrainConfig{MarkGone: call.MarkGone}
	if config.MarkGone == nil {
		no := false
		config.MarkGone = &no
	}
	if d := call.MaxGracePeriod; d != nil {
		config.MaxGracePeriod = &mesos.DurationInfo{Nanoseconds: d.Seconds*int64(time.Second) + int64(d.Nanos)}
	}
	a := c.agents[id]
	_, unreachable := c.registry.unreachableSince(id)
	_, recovered := c.recovered[id]
	switch {
	case a != nil:
		c.startDrain(a, config)
	case unreachable || recovered:
		c.registry.setDrain(id, mesos.DrainInfo{State: mesos.DrainState_DRAINING, Config: config})
	default:
		return wire.Refuse(http.StatusBadRequest, "Unknown agent")
	}
	return nil
}

func (c *core) reactivateAgent(id string) *wire.Refusal {
	if !c.registry.isDeactivated(id) {
		return wire.Refuse(http.StatusBadRequest, "Agent is not deactivated")
	}
	if drain, draining := c.registry.drain(id); draining && drain.State == mesos.DrainState_DRAINING {
		return wire.Refuse(http.StatusBadRequest, "Agent is still in the DRAINING state")
	}
	c.registry.reactivate(id)
	// Offers follow in the next allocation cycle.
	if a := c.agents[id]; a != nil && a.connected {
		a.active = true
	}
	return nil
}

func (c *core) getState() *pb.Response_GetState {
	return &pb.Response_GetState{
		GetTasks:      c.getTasks(),
		GetExecutors:  c.getExecutors(),
		GetFrameworks: c.getFrameworks(),
		GetAgents:     c.getAgents(),
	}
}

func (c *core) getTasks() *pb.Response_GetTasks {
	out := &pb.Response_GetTasks{}
	for _, f := range c.frameworks {
		for _, t := range f.tasks {
			out.Tasks = append(out.Tasks, t.proto)
		}
		for _, t := range f.unreachable {
			out.UnreachableTasks = append(out.UnreachableTasks, t)
		}
		out.CompletedTasks = append(out.CompletedTasks, f.completed...)
	}
	for _, f := range c.completed {
		out.CompletedTasks = append(out.CompletedTasks, f.completed...)
	}
	return out
}

func (c *core) getExecutors() *pb.Response_GetExecutors {
	out := &pb.Response_GetExecutors{}
	for _, a := range c.agents {
		for _, e := range a.executors {
			out.Executors = append(out.Executors, pb.Response_GetExecutors_Executor{
				ExecutorInfo: e.info, AgentID: mesos.AgentID{Value: a.id},
			})
		}
	}
	return out
}

func (c *core) getAgents() *pb.Response_GetAgents {
	out := &pb.Response_GetAgents{}
	for _, a := range c.agents {
		out.Agents = append(out.Agents, c.describeAgent(a))
	}
	slices.SortFunc(out.Agents, func(x, y pb.Response_GetAgents_Agent) int {
		return cmp.Or(cmp.Compare(x.RegisteredTime.Nanoseconds, y.RegisteredTime.Nanoseconds), cmp.Compare(x.GetPID(), y.GetPID()))
	})
	for _, info := range c.recovered {
		out.RecoveredAgents = append(out.RecoveredAgents, info)
	}
	return out
}

func (c *core) describeAgent(a *agent) pb.Response_GetAgents_Agent {
	deactivated := c.registry.isDeactivated(a.id)
	out := pb.Response_GetAgents_Agent{
		AgentInfo:          a.info,
		Active:             a.active,
		Deactivated:        &deactivated,
		Version:            a.endpoint.Version,
		PID:                &a.endpoint.PID,
		RegisteredTime:     timeInfo(a.registered),
		TotalResources:     a.total.Proto(resource.Operator),
		AllocatedResources: a.allocated.Proto(resource.Operator),
	}
	var offered resource.Set
	for _, o := range a.offers {
		offered = offered.Plus(o.resources)
	}
	out.OfferedResources = offered.Proto(resource.Operator)
	if !a.reregistered.IsZero() {
		out.ReregisteredTime = timeInfo(a.reregistered)
	}
	for _, kind := range []mesos.AgentInfo_Capability_Type{
		mesos.AgentInfo_Capability_MULTI_ROLE, mesos.AgentInfo_Capability_HIERARCHICAL_ROLE,
		mesos.AgentInfo_Capability_RESERVATION_REFINEMENT, mesos.AgentInfo_Capability_RESOURCE_PROVIDER,
		mesos.AgentInfo_Capability_RESIZE_VOLUME, mesos.AgentInfo_Capability_AGENT_OPERATION_FEEDBACK,
		mesos.AgentInfo_Capability_AGENT_DRAINING, mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS,
	} {
		out.Capabilities = append(out.Capabilities, mesos.AgentInfo_Capability{Type: kind})
	}
	if drain, draining := c.registry.drain(a.id); draining {
		out.DrainInfo = &drain
		if !a.drainStarted.IsZero() {
			out.EstimatedDrainStartTime = timeInfo(a.drainStarted)
		}
	}
	return out
}

func (c *core) getFrameworks() *pb.Response_GetFrameworks {
	out := &pb.Response_GetFrameworks{}
	for _, f := range c.frameworks {
		out.Frameworks = append(out.Frameworks, c.describeFramework(f))
	}
	slices.SortFunc(out.Frameworks, func(x, y pb.Response_GetFrameworks_Framework) int {
		return cmp.Compare(x.FrameworkInfo.GetID().Value, y.FrameworkInfo.GetID().Value)
	})
	for _, f := range c.completed {
		out.CompletedFrameworks = append(out.CompletedFrameworks, c.describeFramework(f))
	}
	return out
}

func (c *core) describeFramework(f *framework) pb.Response_GetFrameworks_Framework {
	out := pb.Response_GetFrameworks_Framework{
		FrameworkInfo:  f.info,
		Active:         f.active,
		Connected:      f.connected(),
		Recovered:      f.recovered,
		RegisteredTime: timeInfo(f.registered),
	}
	// As Mesos has it: equal to the first until there is a second.
	out.ReregisteredTime = out.RegisteredTime
	if !f.reregistered.IsZero() {
		out.ReregisteredTime = timeInfo(f.reregistered)
	}
	if !f.unregistered.IsZero() {
		out.UnregisteredTime = timeInfo(f.unregistered)
	}
	var offered resource.Set
	for _, o := range f.offers {
		out.Offers = append(out.Offers, o.proto())
		offered = offered.Plus(o.resources)
	}
	out.OfferedResources = offered.Proto(resource.Operator)
	out.AllocatedResources = c.allocatedTo(f).Proto(resource.Operator)
	return out
}

// allocatedTo is what a framework's tasks and executors use.
func (c *core) allocatedTo(f *framework) resource.Set {
	var sum resource.Set
	for _, t := range f.tasks {
		if t.charged {
			sum = sum.Plus(t.resources)
		}
	}
	for _, a := range c.agents {
		for key, e := range a.executors {
			if key.framework == f.id {
				sum = sum.Plus(e.resources)
			}
		}
	}
	return sum
}
