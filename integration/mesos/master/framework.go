package master

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/wire"
)

// framework is one row of the framework table.
type framework struct {
	id    string
	info  mesos.FrameworkInfo // with id
	roles []string

	partitionAware, multiRole, refined, regionAware, revocable, gpus bool

	// stream and streamID belong to the current subscription; nil and "" when the
	// framework is not connected.
	stream   *wire.Stream
	streamID string
	// active is false while the framework is disconnected: no offers.
	active bool
	// recovered is true while the framework is known from agents only.
	recovered bool

	tasks       map[string]*task
	unreachable map[string]mesos.Task
	// unreachableOrder has the ids of unreachable, the oldest first; ids that have
	// left may still be in it.
	unreachableOrder []string
	completed        []mesos.Task // the oldest first, bounded
	offers           map[string]*offer

	suppressed map[string]bool
	filters    map[filterKey][]filter
	// used is what is allocated and offered to each role, for fairness.
	used map[string]quantities

	registered, reregistered, unregistered time.Time
	cancelFailover                         func()
}

func (c *core) newFramework(info mesos.FrameworkInfo) *framework {
	f := &framework{
		id:             info.GetID().Value,
		tasks:          make(map[string]*task),
		unreachable:    make(map[string]mesos.Task),
		offers:         make(map[string]*offer),
		suppressed:     make(map[string]bool),
		filters:        make(map[filterKey][]filter),
		used:           make(map[string]quantities),
		registered:     time.Now(),
		cancelFailover: func() {},
	}
	f.setInfo(info)
	c.frameworks[f.id] = f
	return f
}

func (f *framework) setInfo(info mesos.FrameworkInfo) {
	f.info = info
	f.partitionAware, f.multiRole, f.refined, f.regionAware, f.revocable, f.gpus = false, false, false, false, false, false
	for _, capability := range info.Capabilities {
		switch capability.Type {
		case mesos.FrameworkInfo_Capability_PARTITION_AWARE:
			f.partitionAware = true
		case mesos.FrameworkInfo_Capability_MULTI_ROLE:
			f.multiRole = true
		case mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT:
			f.refined = true
		case mesos.FrameworkInfo_Capability_REGION_AWARE:
			f.regionAware = true
		case mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES:
			f.revocable = true
		case mesos.FrameworkInfo_Capability_GPU_RESOURCES:
			f.gpus = true
		}
	}
	f.roles = rolesOf(info)
}

// rolesOf returns the roles a framework asks for.
func rolesOf(info mesos.FrameworkInfo) []string {
	if hasCapability(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		return info.Roles
	}
	return []string{info.GetRole()}
}

func hasCapability(info mesos.FrameworkInfo, kind mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(info.Capabilities, func(c mesos.FrameworkInfo_Capability) bool { return c.Type == kind })
}

// format is how the framework sees resources.
func (f *framework) format() resource.Format {
	return resource.Format{Refined: f.refined, Allocation: f.multiRole}
}

func (f *framework) connected() bool { return f.stream != nil }

// lost is the state in which a framework hears of a task's fate: the precise one
// if it is partition aware, else TASK_LOST.
func (f *framework) lost(precise mesos.TaskState) mesos.TaskState {
	if f.partitionAware {
		return precise
	}
	return mesos.TASK_LOST
}

func (c *core) isCompleted(id string) bool {
	return slices.ContainsFunc(c.completed, func(f *framework) bool { return f.id == id })
}

// subscribe handles a SUBSCRIBE whose HTTP side has been accepted. A refusal is an
// ERROR event and the end of the stream.
func (c *core) subscribe(call *scheduler.Call_Subscribe, stream *wire.Stream, streamID string) (frameworkID string) {
	c.count("master/messages_register_framework")
	info := *call.FrameworkInfo
	refuse := func(reason string) string {
		c.log.Info().Str(keyFramework, info.GetID().GetValue()).Str(keyReason, reason).Msg("subscription refused")
		event := &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: reason}}
		c.trace("master", info.GetID().GetValue(), event)
		if err := stream.Send(event); err != nil {
			c.log.Error().Err(err).Msg("event not sent")
		}
		stream.Close()
		return ""
	}
	if err := validateFrameworkInfo(info); err != nil {
		return refuse(err.Error())
	}
	roles := rolesOf(info)
	if err := validateSuppressedRoles(roles, call.SuppressedRoles); err != nil {
		return refuse(err.Error())
	}
	id := info.GetID().GetValue()
	if id != "" && c.isCompleted(id) {
		return refuse("Framework has been removed")
	}
	f := c.frameworks[id]
	known := f != nil
	if known {
		if f.info.GetPrincipal() != info.GetPrincipal() || (f.info.Principal == nil) != (info.Principal == nil) {
			return refuse("Changing framework's principal is not allowed.")
		}
		info.User, info.Checkpoint = f.info.User, f.info.Checkpoint
	} else {
		if id == "" {
			info.ID = &mesos.FrameworkID{Value: fmt.Sprintf("%s-%04d", c.config.ID, c.frameworkCount)}
			c.frameworkCount++
		}
		f = c.newFramework(info)
	}
	f.cancelFailover()
	if f.stream != nil {
		c.emit(f, &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: "Framework failed over"}})
		f.stream.Close()
	}
	f.stream, f.streamID = stream, streamID
	f.recovered = false
	heartbeat := c.config.HeartbeatInterval.Seconds()
	c.emit(f, &scheduler.Event{
		Type: scheduler.Event_SUBSCRIBED,
		Subscribed: &scheduler.Event_Subscribed{
			FrameworkID:              info.ID,
			HeartbeatIntervalSeconds: &heartbeat,
			MasterInfo:               &c.m.info,
		},
	})
	c.heartbeat(f, stream)

	// Offers to the old subscription are gone, and nobody is told.
	for _, o := range f.offers {
		c.discard(o, nil)
	}
	c.updateFramework(f, info, call.SuppressedRoles)
	if known {
		f.reregistered = time.Now()
	} else {
		c.frameworkAdded(f)
	}
	c.broadcastFramework(f)
	if !f.active {
		f.active = true
		c.allocateAll()
	}
	c.log.Info().Str(keyFramework, f.id).Bool("known", known).Msg("framework subscribed")
	return f.id
}

// heartbeat sends HEARTBEAT now and then every interval as long as the stream is
// the framework's.
func (c *core) heartbeat(f *framework, stream *wire.Stream) {
	if f.stream != stream {
		return
	}
	c.emit(f, &scheduler.Event{Type: scheduler.Event_HEARTBEAT})
	c.m.after(c.config.HeartbeatInterval, func() { c.heartbeat(f, stream) })
}

// updateFramework replaces what may change of a framework. Offers for roles that
// it has left are rescinded.
func (c *core) updateFramework(f *framework, info mesos.FrameworkInfo, suppressed []string) {
	f.setInfo(info)
	for _, o := range f.offers {
		if !slices.Contains(f.roles, o.role) {
			c.rescind(o)
		}
	}
	f.suppressed = make(map[string]bool)
	for _, role := range suppressed {
		f.suppressed[role] = true
	}
}

// broadcastFramework tells all agents, which then repeat the framework's pending
// status updates.
func (c *core) broadcastFramework(f *framework) {
	c.watch(&watched{frameworkUpdated: f})
	for _, a := range c.agents {
		c.toAgent(a, link.UpdateFramework{Framework: f.info})
	}
}

// streamEnded is called when a scheduler's connection is gone.
func (c *core) streamEnded(frameworkID string, stream *wire.Stream) {
	f := c.frameworks[frameworkID]
	if f == nil || f.stream != stream {
		return
	}
	c.log.Info().Str(keyFramework, f.id).Msg("framework disconnected")
	f.stream, f.streamID, f.active = nil, "", false
	for _, o := range f.offers {
		c.discard(o, nil)
	}
	clear(f.filters)
	f.cancelFailover = c.m.after(failoverTimeout(f.info), func() {
		if c.frameworks[f.id] == f && !f.connected() {
			c.log.Info().Str(keyFramework, f.id).Msg("framework failover timeout")
			c.removeFramework(f)
		}
	})
}

// failoverTimeout converts FrameworkInfo's seconds, which validation has bounded.
func failoverTimeout(info mesos.FrameworkInfo) time.Duration {
	return time.Duration(math.Max(info.GetFailoverTimeout(), 0) * float64(time.Second))
}

// removeFramework ends a framework for good: TEARDOWN, or it did not come back.
func (c *core) removeFramework(f *framework) {
	f.cancelFailover()
	if f.stream != nil {
		f.stream.Close()
		f.stream, f.streamID = nil, ""
	}
	f.active = false
	for _, o := range f.offers {
		c.discard(o, nil)
	}
	for _, a := range c.agents {
		c.toAgent(a, link.ShutdownFramework{FrameworkID: f.id})
	}
	for _, t := range f.tasks {
		status := c.newStatus(t.proto.TaskID.Value, t.agent.id, mesos.TASK_KILLED,
			mesos.REASON_FRAMEWORK_REMOVED, fmt.Sprintf("Framework %s removed", f.id))
		c.updateTask(t, status, nil)
		c.removeTask(t, false)
	}
	for _, a := range c.agents {
		for key := range a.executors {
			if key.framework == f.id {
				c.removeExecutor(a, key)
			}
		}
	}
	f.unregistered = time.Now()
	delete(c.frameworks, f.id)
	c.completed = append(c.completed, f)
	if over := len(c.completed) - c.config.MaxCompletedFrameworks; over > 0 {
		c.completed = slices.Delete(c.completed, 0, over)
	}
	c.watch(&watched{frameworkRemoved: f})
	c.log.Info().Str(keyFramework, f.id).Msg("framework removed")
}

// validateFrameworkInfo returns what Mesos says of a FrameworkInfo that it refuses.
func validateFrameworkInfo(info mesos.FrameworkInfo) error {
	multi := hasCapability(info, mesos.FrameworkInfo_Capability_MULTI_ROLE)
	switch {
	case multi && info.Role != nil:
		return errorf("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable")
	case !multi && len(info.Roles) > 0:
		return errorf("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable")
	}
	if multi {
		var twice []string
		for i, role := range info.Roles {
			if slices.Contains(info.Roles[:i], role) && !slices.Contains(twice, role) {
				twice = append(twice, role)
			}
		}
		if len(twice) > 0 {
			return errorf("'FrameworkInfo.roles' contains duplicate items: { %s }", strings.Join(twice, ", "))
		}
		for _, role := range info.Roles {
			if reason := invalidRole(role); reason != "" {
				return errorf("'FrameworkInfo.roles' contains invalid role: %s", reason)
			}
		}
	} else if reason := invalidRole(info.GetRole()); reason != "" {
		return errorf("'FrameworkInfo.role' is not a valid role: %s", reason)
	}
	if id := info.GetID().GetValue(); id != "" {
		if reason := invalidID(id); reason != "" {
			return errorf("%s", reason)
		}
	}
	// What fits a signed 64-bit count of nanoseconds.
	if t := info.GetFailoverTimeout() * 1e9; !(t < math.MaxInt64 && t > math.MinInt64) {
		return errorf("The framework failover_timeout (%g) is invalid", info.GetFailoverTimeout())
	}
	return nil
}

func validateSuppressedRoles(roles, suppressed []string) error {
	var foreign []string
	for _, role := range suppressed {
		if !slices.Contains(roles, role) && !slices.Contains(foreign, role) {
			foreign = append(foreign, role)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	slices.Sort(foreign)
	return errorf("Suppressed roles { %s } are not contained in the set of roles", strings.Join(foreign, ", "))
}

func invalidRole(role string) string {
	switch {
	case role == "*":
		return ""
	case role == "":
		return "Role names cannot be the empty string"
	case strings.HasPrefix(role, "/"):
		return fmt.Sprintf("Role '%s' cannot start with a slash", role)
	case strings.HasSuffix(role, "/"):
		return fmt.Sprintf("Role '%s' cannot end with a slash", role)
	case strings.Contains(role, "//"):
		return fmt.Sprintf("Role '%s' cannot contain two adjacent slashes", role)
	}
	for _, part := range strings.Split(role, "/") {
		switch {
		case part == "." || part == ".." || part == "*":
			return fmt.Sprintf("Role '%s' cannot include '%s' as a component", role, part)
		case strings.HasPrefix(part, "-"):
			return fmt.Sprintf("Role component '%s' is invalid because it starts with a dash", part)
		case strings.ContainsAny(part, "\b \t\n\v\f\r"):
			return fmt.Sprintf("Role component '%s' is invalid because it contains backspace or whitespace", part)
		}
	}
	return ""
}

// invalidID says why a string cannot be part of a sandbox's path, "" if it can.
func invalidID(id string) string {
	switch {
	case id == "":
		return "ID must not be empty"
	case len(id) > 255:
		return "ID must not be greater than 255 characters"
	case id == "." || id == "..":
		return fmt.Sprintf("'%s' is disallowed", id)
	}
	for i := range len(id) {
		if ch := id[i]; ch < 0x20 || ch == 0x7f || ch == '/' || ch == '\\' {
			return fmt.Sprintf("'%s' contains invalid characters", id)
		}
	}
	return ""
}

// refusal is an error whose text a scheduler sees, in Mesos' words.
type refusal string

func (r refusal) Error() string { return string(r) }

func errorf(format string, arguments ...any) error {
	return refusal(fmt.Sprintf(format, arguments...))
}
