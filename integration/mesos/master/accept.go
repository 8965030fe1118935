package master

import (
	"fmt"
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/wire"
)

// launch is a task of an ACCEPT on its way through validation.
type launch struct {
	info      mesos.TaskInfo
	resources resource.Set
	executor  resource.Set // resources of info.Executor
	// Enums that mesos-go cannot hold as unset.
	untypedExecutor, untypedHealthCheck, untypedCheck bool
}

// accept handles ACCEPT. Presence belongs to the whole call.
func (c *core) accept(f *framework, call *scheduler.Call_Accept, given wire.Presence) {
	launches := false
	for i := range call.Operations {
		launches = launches || len(tasksOf(&call.Operations[i])) > 0
	}
	if launches {
		c.count("master/messages_launch_tasks")
	} else {
		c.count("master/messages_decline_offers")
	}
	a, role, offered, err := c.takeOffers(f, call.OfferIDs)
	if err != nil {
		for i := range call.Operations {
			for _, t := range tasksOf(&call.Operations[i]) {
				c.refuseTask(f, &t, f.lost(mesos.TASK_DROPPED), mesos.REASON_INVALID_OFFERS,
					"Task launched with invalid offers: "+err.Error())
			}
		}
		return
	}
	left := offered
	for i := range call.Operations {
		operation := &call.Operations[i]
		switch operation.Type {
		case mesos.Offer_Operation_LAUNCH:
			if operation.Launch != nil {
				left = c.launchTasks(f, a, role, left, operation, given, i)
			}
		case mesos.Offer_Operation_LAUNCH_GROUP:
			if operation.LaunchGroup != nil {
				left = c.launchGroup(f, a, role, left, operation, given, i)
			}
		default:
			c.log.Warn().Str(keyFramework, f.id).Stringer("operation", operation.Type).Msg("operation not emulated")
		}
	}
	filters := call.Filters
	if filters == nil {
		filters = &mesos.Filters{}
	}
	c.refuse(f, a, role, left, filters)
}

func tasksOf(operation *mesos.Offer_Operation) []mesos.TaskInfo {
	switch {
	case operation.Type == mesos.Offer_Operation_LAUNCH && operation.Launch != nil:
		return operation.Launch.TaskInfos
	case operation.Type == mesos.Offer_Operation_LAUNCH_GROUP && operation.LaunchGroup != nil:
		return operation.LaunchGroup.TaskGroup.Tasks
	}
	return nil
}

// refuseTask sends a status for a task that never came to be.
func (c *core) refuseTask(f *framework, t *mesos.TaskInfo, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) {
	status := c.newStatus(t.TaskID.Value, t.AgentID.Value, state, reason, message)
	c.countTask(status)
	c.forward(f, status)
}

// takeOffers checks the offers that an ACCEPT names and takes them. If one is
// wrong, those that exist are discarded.
func (c *core) takeOffers(f *framework, ids []mesos.OfferID) (a *agent, role string, offered resource.Set, err error) {
	if err = c.checkOffers(f, ids); err != nil {
		for _, id := range ids {
			// Foreign offers go as well, as in Mesos.
			if o := c.offers[id.Value]; o != nil {
				c.discard(o, nil)
			}
		}
		return nil, "", nil, err
	}
	for _, id := range ids {
		o := c.offers[id.Value]
		a, role = o.agent, o.role
		offered = offered.Plus(o.resources)
		c.take(o)
	}
	return a, role, offered, nil
}

func (c *core) checkOffers(f *framework, ids []mesos.OfferID) error {
	if len(ids) == 0 {
		return errorf("No offers specified")
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			return errorf("Duplicate offer %s in offer list", id.Value)
		}
	}
	for _, id := range ids {
		if c.offers[id.Value] == nil {
			return errorf("Offer %s is no longer valid", id.Value)
		}
	}
	for _, id := range ids {
		if o := c.offers[id.Value]; o.framework != f {
			return errorf("Offer %s has invalid framework %s while framework %s is expected", id.Value, o.framework.id, f.id)
		}
	}
	first := c.offers[ids[0].Value]
	for _, id := range ids {
		if o := c.offers[id.Value]; o.role != first.role {
			return errorf("Aggregated offers must be allocated to the same role. Offer %s uses role '%s but another is using role '%s",
				id.Value, o.role, first.role)
		}
	}
	for _, id := range ids {
		if o := c.offers[id.Value]; o.agent != first.agent {
			return errorf("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s",
				id.Value, o.agent.id, first.agent.id)
		}
	}
	return nil
}

// readResources converts a task's or executor's resources and gives those without
// allocation to the offer's role. listed is what the agent is told: the same, with
// empty and repeated ones.
func readResources(in []mesos.Resource, role string) (set resource.Set, listed []mesos.Resource, err error) {
	named := make([]mesos.Resource, len(in))
	for i, r := range in {
		// Checked before the injection, as its text shows.
		if _, err := resource.From(in[i : i+1]); err != nil {
			return nil, nil, err
		}
		if r.AllocationInfo == nil {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
		}
		named[i] = r
	}
	set, err = resource.From(named)
	return set, resource.Refine(named), err
}

// prepare reads all tasks of an operation. An invalid Resource anywhere in it is an
// error for all.
func prepare(tasks []mesos.TaskInfo, group *mesos.ExecutorInfo, role string, unset func(task int, path ...any) bool) ([]launch, error) {
	out := make([]launch, len(tasks))
	for i := range tasks {
		l := launch{info: tasks[i]}
		var err error
		if l.resources, l.info.Resources, err = readResources(l.info.Resources, role); err != nil {
			return nil, err
		}
		if l.info.Executor == nil && group != nil {
			l.info.Executor = group
			l.untypedExecutor = group.Type == mesos.ExecutorInfo_UNKNOWN && unset(-1, "type")
		} else if e := l.info.Executor; e != nil {
			l.untypedExecutor = e.Type == mesos.ExecutorInfo_UNKNOWN && unset(i, "executor", "type")
		}
		if l.info.Executor != nil {
			own := *l.info.Executor
			if l.executor, own.Resources, err = readResources(own.Resources, role); err != nil {
				return nil, err
			}
			l.info.Executor = &own
		}
		if h := l.info.HealthCheck; h != nil && h.Type == mesos.HealthCheck_UNKNOWN && unset(i, "health_check", "type") {
			own := *h
			switch {
			case group != nil:
				l.untypedHealthCheck = true
			case h.Command != nil && h.HTTP == nil:
				own.Type = mesos.HealthCheck_COMMAND
			case h.HTTP != nil && h.Command == nil:
				own.Type = mesos.HealthCheck_HTTP
			default:
				l.untypedHealthCheck = true
			}
			l.info.HealthCheck = &own
		}
		if k := l.info.Check; k != nil && k.Type == mesos.CheckInfo_UNKNOWN {
			l.untypedCheck = unset(i, "check", "type")
		}
		out[i] = l
	}
	return out, nil
}

// launchTasks handles LAUNCH and returns what is left of the offers.
func (c *core) launchTasks(f *framework, a *agent, role string, left resource.Set, operation *mesos.Offer_Operation, given wire.Presence, index int) resource.Set {
	tasks := operation.Launch.TaskInfos
	refuseAll := func(message string) resource.Set {
		for i := range tasks {
			c.refuseTask(f, &tasks[i], mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, message)
		}
		return left
	}
	launches, err := prepare(tasks, nil, role, func(task int, path ...any) bool {
		return !given.Has(append([]any{"accept", "operations", index, "launch", "task_infos", task}, path...)...)
	})
	if err != nil {
		return refuseAll(err.Error())
	}
	if operation.ID != nil {
		return refuseAll("The `id` field cannot be set on LAUNCH operations")
	}
	for i := range launches {
		l := &launches[i]
		if l.info.Executor != nil && l.info.Executor.FrameworkID == nil {
			l.info.Executor.FrameworkID = &mesos.FrameworkID{Value: f.id}
		}
		if err := validateTask(l, f, a, left); err != nil {
			c.refuseTask(f, &l.info, mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, err.Error())
			continue
		}
		newExecutor := true
		if e := l.info.Executor; e != nil {
			newExecutor = a.executors[executorKey{f.id, e.ExecutorID.Value}] == nil
			if newExecutor {
				c.addExecutor(a, f, *e, l.untypedExecutor)
				left = left.Minus(l.executor)
			}
		}
		c.addTask(f, a, &l.info, l.resources)
		left = left.Minus(l.resources)
		c.toAgent(a, link.RunTask{Framework: f.info, Task: l.info, LaunchExecutor: newExecutor})
	}
	return left
}

// launchGroup handles LAUNCH_GROUP and returns what is left of the offers.
func (c *core) launchGroup(f *framework, a *agent, role string, left resource.Set, operation *mesos.Offer_Operation, given wire.Presence, index int) resource.Set {
	group := operation.LaunchGroup
	tasks := group.TaskGroup.Tasks
	refuseAll := func(message string) resource.Set {
		for i := range tasks {
			c.refuseTask(f, &tasks[i], mesos.TASK_ERROR, mesos.REASON_TASK_GROUP_INVALID, message)
		}
		return left
	}
	launches, err := prepare(tasks, &group.Executor, role, func(task int, path ...any) bool {
		at := []any{"accept", "operations", index, "launch_group"}
		if task < 0 {
			at = append(at, "executor")
		} else {
			at = append(at, "task_group", "tasks", task)
		}
		return !given.Has(append(at, path...)...)
	})
	if err != nil {
		return refuseAll(err.Error())
	}
	info := group.Executor
	executor, listed, err := readResources(info.Resources, role)
	if err != nil {
		return refuseAll(err.Error())
	}
	if operation.ID != nil {
		return refuseAll("The `id` field cannot be set on LAUNCH_GROUP operations")
	}
	info.Resources = listed
	untyped := info.Type == mesos.ExecutorInfo_UNKNOWN && !given.Has("accept", "operations", index, "launch_group", "executor", "type")
	if err := validateGroup(launches, &info, untyped, executor, f, a, left); err != nil {
		return refuseAll(err.Error())
	}
	newExecutor := a.executors[executorKey{f.id, info.ExecutorID.Value}] == nil
	if newExecutor {
		c.addExecutor(a, f, info, untyped)
		left = left.Minus(executor)
	}
	message := link.RunTaskGroup{Framework: f.info, Executor: info, LaunchExecutor: newExecutor}
	for i := range launches {
		l := &launches[i]
		c.addTask(f, a, &l.info, l.resources)
		left = left.Minus(l.resources)
		message.Group.Tasks = append(message.Group.Tasks, l.info)
	}
	c.toAgent(a, message)
	return left
}

// shutdown handles SHUTDOWN of an executor.
func (c *core) shutdown(f *framework, call *scheduler.Call_Shutdown) {
	c.count("master/messages_shutdown_executor")
	if a := c.agents[call.AgentID.Value]; a != nil {
		c.toAgent(a, link.ShutdownExecutor{FrameworkID: f.id, ExecutorID: call.ExecutorID.Value})
	}
}

// message handles MESSAGE to an executor.
func (c *core) message(f *framework, call *scheduler.Call_Message) {
	c.count("master/messages_framework_to_executor")
	if a := c.agents[call.AgentID.Value]; a != nil && a.connected {
		c.toAgent(a, link.FrameworkMessage{FrameworkID: f.id, ExecutorID: call.ExecutorID.Value, Data: call.Data})
	}
}

// change handles UPDATE_FRAMEWORK.
func (c *core) change(f *framework, call *scheduler.Call_UpdateFramework) *wire.Refusal {
	invalid := func(reason string) *wire.Refusal {
		return wire.Refuse(400, "FrameworkInfo update is not valid: %s", reason)
	}
	info := call.FrameworkInfo
	if err := validateFrameworkInfo(info); err != nil {
		return wire.Refuse(400, "Supplied FrameworkInfo is not valid: %s", err)
	}
	switch {
	case f.info.GetPrincipal() != info.GetPrincipal() || (f.info.Principal == nil) != (info.Principal == nil):
		return invalid("Changing framework's principal is not allowed.")
	case f.info.User != info.User:
		return invalid(fmt.Sprintf("Updating 'FrameworkInfo.user' is unsupported; attempted to update from '%s' to '%s'", f.info.User, info.User))
	case f.info.GetCheckpoint() != info.GetCheckpoint():
		return invalid(fmt.Sprintf("Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '%t' to '%t'",
			f.info.GetCheckpoint(), info.GetCheckpoint()))
	}
	if err := validateSuppressedRoles(rolesOf(info), call.SuppressedRoles); err != nil {
		return wire.Refuse(400, "'UpdateFramework.suppressed_roles' field is not valid: %s", err)
	}
	c.updateFramework(f, info, call.SuppressedRoles)
	c.broadcastFramework(f)
	return nil
}
