package master

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/resource"
)

// Below this an executor is refused in a group, and only frowned upon otherwise.
const (
	minExecutorCPUs = 10    // thousandths
	minExecutorMem  = 32000 // thousandths of MiB
)

// validateTask checks a task of a LAUNCH against what is left of the offers.
func validateTask(l *launch, f *framework, a *agent, left resource.Set) error {
	if err := validateAlone(l, f, a); err != nil {
		return err
	}
	e := l.info.Executor
	if (e != nil) == (l.info.Command != nil) {
		return errorf("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
	}
	total := l.resources
	if e != nil {
		if err := validateExecutor(e, l.untypedExecutor, l.executor, f, a); err != nil {
			return err
		}
		switch {
		case !l.untypedExecutor && e.Type != mesos.ExecutorInfo_CUSTOM:
			return errorf("'ExecutorInfo.type' must be 'CUSTOM'")
		case e.Command == nil:
			return errorf("'ExecutorInfo.command' must be set")
		case l.executor.Shared():
			return errorf("Executor resources %s should not contain any shared resources", l.executor)
		}
		if a.executors[executorKey{f.id, e.ExecutorID.Value}] == nil {
			total = total.Plus(l.executor)
		}
		if l.resources.Intersects(l.executor) {
			return errorf("There are overlapping resources in the task resources %s and executor resources %s", l.resources, l.executor)
		}
		if name, mixed := l.resources.Plus(l.executor).Mixed(); mixed {
			return errorf("Task and its executor mix revocable and non-revocable resources: Cannot use both revocable and non-revocable '%s' at the same time", name)
		}
	}
	if !left.Contains(total) {
		return errorf("Total resources %s required by task and its executor is more than available %s", total, left)
	}
	if shared := shareCgroups(l.info.Container); shared != nil && !*shared {
		return errorf("Only tasks in a task group may have 'share_cgroups' set to 'false'")
	}
	return nil
}

// validateAlone checks what concerns the task itself.
func validateAlone(l *launch, f *framework, a *agent) error {
	t := &l.info
	id := t.TaskID.Value
	if reason := invalidID(id); reason != "" {
		return errorf("%s", reason)
	}
	if f.tasks[id] != nil {
		return errorf("Task has duplicate ID: %s", id)
	}
	if _, unreachable := f.unreachable[id]; unreachable {
		return errorf("Task reuses the ID of an unreachable task: %s", id)
	}
	if t.AgentID.Value != a.id {
		return errorf("Task uses invalid agent %s while agent %s is expected", t.AgentID.Value, a.id)
	}
	if t.KillPolicy != nil && t.KillPolicy.GracePeriod != nil && t.KillPolicy.GracePeriod.Nanoseconds < 0 {
		return errorf("Task's 'kill_policy.grace_period' must be non-negative")
	}
	if t.MaxCompletionTime != nil && t.MaxCompletionTime.Nanoseconds < 0 {
		return errorf("Task's `max_completion_time` must be non-negative")
	}
	if t.Check != nil {
		if reason := invalidCheck(t.Check, l.untypedCheck); reason != "" {
			return errorf("Task uses invalid check: %s", reason)
		}
	}
	if t.HealthCheck != nil {
		if reason := invalidHealthCheck(t.HealthCheck, l.untypedHealthCheck); reason != "" {
			return errorf("Task uses invalid health check: %s", reason)
		}
	}
	if len(t.Resources) == 0 {
		return errorf("Task uses no resources")
	}
	if reason := severalRoles(l.resources); reason != "" {
		return errorf("Invalid task resources: %s", reason)
	}
	if name, mixed := l.resources.Mixed(); mixed {
		return errorf("Task mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable '%s' at the same time", name)
	}
	if t.Command != nil {
		if reason := invalidEnvironment(t.Command); reason != "" {
			return errorf("Task's `CommandInfo` is invalid: %s", reason)
		}
	}
	return validateLimits(l)
}

func severalRoles(s resource.Set) string {
	if roles := s.Roles(); len(roles) > 1 {
		return fmt.Sprintf("The resources have multiple allocation roles ('%s' and '%s') but only one allocation role is allowed", roles[1], roles[0])
	}
	return ""
}

func validateLimits(l *launch) error {
	for name := range l.info.Limits {
		if name != "cpus" && name != "mem" {
			return errorf("Only cpus and mem may be included in a task's resource limits")
		}
	}
	if limit, ok := l.info.Limits["cpus"]; ok {
		if !l.resources.Has("cpus") {
			return errorf("When a CPU limit is specified, a CPU request must also be specified")
		}
		if below(limit.Value, l.resources.Scalar("cpus")) {
			return errorf("The cpu limit must be greater than or equal to the cpu request")
		}
	}
	if limit, ok := l.info.Limits["mem"]; ok {
		if !l.resources.Has("mem") {
			return errorf("When a memory limit is specified, a memory request must also be specified")
		}
		if below(limit.Value, l.resources.Scalar("mem")) {
			return errorf("The memory limit must be greater than or equal to the memory request")
		}
	}
	return nil
}

// below reports whether a limit, which may be infinite, is less than a request.
func below(limit float64, request int64) bool {
	return !math.IsInf(limit, 1) && resource.Milli(limit) < request
}

// validateExecutor checks what LAUNCH and LAUNCH_GROUP demand of an executor alike.
func validateExecutor(e *mesos.ExecutorInfo, untyped bool, resources resource.Set, f *framework, a *agent) error {
	switch e.Type {
	case mesos.ExecutorInfo_DEFAULT:
		if e.Command != nil {
			return errorf("'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
		}
		if e.Container != nil && e.Container.GetType() != mesos.ContainerInfo_MESOS {
			return errorf("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor")
		}
		if e.Container != nil && e.Container.Mesos != nil && e.Container.Mesos.Image != nil {
			return errorf("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor")
		}
	case mesos.ExecutorInfo_CUSTOM:
		if e.Command == nil {
			return errorf("'ExecutorInfo.command' must be set for 'CUSTOM' executor")
		}
	}
	if reason := invalidID(e.ExecutorID.Value); reason != "" {
		return errorf("%s", reason)
	}
	if e.ShutdownGracePeriod != nil && e.ShutdownGracePeriod.Nanoseconds < 0 {
		return errorf("ExecutorInfo's 'shutdown_grace_period' must be non-negative")
	}
	if e.Command != nil {
		if reason := invalidEnvironment(e.Command); reason != "" {
			return errorf("Executor's `CommandInfo` is invalid: %s", reason)
		}
	}
	if e.FrameworkID == nil {
		return errorf("'ExecutorInfo.framework_id' must be set")
	}
	if e.FrameworkID.Value != f.id {
		return errorf("ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)", e.FrameworkID.Value, f.id)
	}
	if reason := severalRoles(resources); reason != "" {
		return errorf("Invalid executor resources: %s", reason)
	}
	if name, mixed := resources.Mixed(); mixed {
		return errorf("Executor mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable '%s' at the same time", name)
	}
	known := a.executors[executorKey{f.id, e.ExecutorID.Value}]
	if known != nil && !(sameExecutor(known, e, resources) && known.untyped == untyped) {
		const rule = "------------------------------------------------------------\n"
		return errorf("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n%sExisting ExecutorInfo:\n%s\n%sExecutorInfo:\n%s\n%s",
			rule, executorText(&known.info, known.untyped), rule, executorText(e, untyped), rule)
	}
	return nil
}

// validateGroup checks a LAUNCH_GROUP as a whole.
func validateGroup(launches []launch, e *mesos.ExecutorInfo, untyped bool, resources resource.Set, f *framework, a *agent, left resource.Set) error {
	for i := range launches {
		l := &launches[i]
		err := validateAlone(l, f, a)
		if err == nil {
			err = validateMember(l)
		}
		if err != nil {
			return errorf("Task '%s' is invalid: %s", l.info.TaskID.Value, err)
		}
	}
	if err := validateExecutor(e, untyped, resources, f, a); err != nil {
		return err
	}
	switch {
	case untyped:
		return errorf("'ExecutorInfo.type' must be set")
	case e.Type == mesos.ExecutorInfo_UNKNOWN:
		return errorf("Unknown executor type")
	case e.Container != nil && e.Container.GetType() == mesos.ContainerInfo_DOCKER:
		return errorf("Docker ContainerInfo is not supported on the executor")
	}
	whole := &executor{info: *e, resources: resources}
	for i := range launches {
		l := &launches[i]
		if !(sameExecutor(whole, l.info.Executor, l.executor) && l.untypedExecutor == untyped) {
			return errorf("The `ExecutorInfo` of task '%s' is different from executor '%s'", l.info.TaskID.Value, e.ExecutorID.Value)
		}
	}
	if cpus := resources.Scalar("cpus"); cpus < minExecutorCPUs {
		return errorf("Executor '%s' uses less CPUs (%s) than the minimum required (0.01)", e.ExecutorID.Value, orNone(resources, "cpus", ""))
	}
	if mem := resources.Scalar("mem"); mem < minExecutorMem {
		return errorf("Executor '%s' uses less memory (%s) than the minimum required (32MB)", e.ExecutorID.Value, orNone(resources, "mem", "MB"))
	}
	if !resources.Has("disk") {
		return errorf("Executor '%s' uses no disk", e.ExecutorID.Value)
	}
	total := resource.Set(nil)
	sum := resources
	for i := range launches {
		if sum.Intersects(launches[i].resources) {
			return errorf("There are overlapping resources in the task group's task resources and/or executor resources %s", resources)
		}
		total = total.Plus(launches[i].resources)
		sum = sum.Plus(launches[i].resources)
	}
	if name, mixed := sum.Mixed(); mixed {
		return errorf("Task group and executor mix revocable and non-revocable resources: Cannot use both revocable and non-revocable '%s' at the same time", name)
	}
	if a.executors[executorKey{f.id, e.ExecutorID.Value}] == nil {
		total = total.Plus(resources)
	}
	if !left.Contains(total) {
		return errorf("Total resources %s required by task group and its executor are more than available %s", total, left)
	}
	return nil
}

// validateMember checks what only tasks of groups have to observe.
func validateMember(l *launch) error {
	t := &l.info
	if t.Container != nil {
		if len(t.Container.NetworkInfos) > 0 && t.HealthCheck != nil &&
			(t.HealthCheck.Type == mesos.HealthCheck_HTTP || t.HealthCheck.Type == mesos.HealthCheck_TCP) {
			return errorf("HTTP and TCP health checks are not supported for nested containers not joining parent's network")
		}
		if t.Container.GetType() == mesos.ContainerInfo_DOCKER {
			return errorf("Docker ContainerInfo is not supported on the task")
		}
	}
	if shared := shareCgroups(t.Container); len(t.Limits) > 0 && (shared == nil || *shared) {
		return errorf("Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is set to 'false'.")
	}
	return nil
}

func shareCgroups(container *mesos.ContainerInfo) *bool {
	if container == nil || container.LinuxInfo == nil {
		return nil
	}
	return container.LinuxInfo.ShareCgroups
}

func orNone(s resource.Set, name, unit string) string {
	if !s.Has(name) {
		return "None"
	}
	return strconv.FormatFloat(float64(s.Scalar(name))/1000, 'f', -1, 64) + unit
}

func invalidEnvironment(command *mesos.CommandInfo) string {
	if command.Environment == nil {
		return ""
	}
	for _, v := range command.Environment.Variables {
		switch v.GetType() {
		case mesos.Environment_Variable_SECRET:
			if v.Secret == nil {
				return fmt.Sprintf("Environment variable '%s' of type 'SECRET' must have a secret set", v.Name)
			}
			if v.Value != nil {
				return fmt.Sprintf("Environment variable '%s' of type 'SECRET' must not have a value set", v.Name)
			}
		case mesos.Environment_Variable_VALUE:
			if v.Value == nil {
				return fmt.Sprintf("Environment variable '%s' of type 'VALUE' must have a value set", v.Name)
			}
			if v.Secret != nil {
				return fmt.Sprintf("Environment variable '%s' of type 'VALUE' must not have a secret set", v.Name)
			}
		default:
			return "Environment variable of type 'UNKNOWN' is not allowed"
		}
	}
	return ""
}

func invalidHealthCheck(h *mesos.HealthCheck, untyped bool) string {
	if untyped {
		return "HealthCheck must specify 'type'"
	}
	switch h.Type {
	case mesos.HealthCheck_COMMAND:
		if reason := invalidCheckCommand(h.Command, "Health check", "Command health check"); reason != "" {
			return reason
		}
	case mesos.HealthCheck_HTTP:
		switch {
		case h.HTTP == nil:
			return "Expecting 'http' to be set for HTTP health check"
		case h.HTTP.Scheme != nil && *h.HTTP.Scheme != "http" && *h.HTTP.Scheme != "https":
			return fmt.Sprintf("Unsupported HTTP health check scheme: '%s'", *h.HTTP.Scheme)
		case h.HTTP.Path != nil && !strings.HasPrefix(*h.HTTP.Path, "/"):
			return fmt.Sprintf("The path '%s' of HTTP health check must start with '/'", *h.HTTP.Path)
		}
	case mesos.HealthCheck_TCP:
		if h.TCP == nil {
			return "Expecting 'tcp' to be set for TCP health check"
		}
	default:
		return fmt.Sprintf("'%s' is not a valid health check type", h.Type)
	}
	return negative([]period{
		{"delay_seconds", h.DelaySeconds},
		{"grace_period_seconds", h.GracePeriodSeconds},
		{"interval_seconds", h.IntervalSeconds},
		{"timeout_seconds", h.TimeoutSeconds},
	})
}

func invalidCheck(k *mesos.CheckInfo, untyped bool) string {
	if untyped {
		return "CheckInfo must specify 'type'"
	}
	switch k.Type {
	case mesos.CheckInfo_COMMAND:
		var command *mesos.CommandInfo
		if k.Command != nil {
			command = &k.Command.Command
		}
		if reason := invalidCheckCommand(command, "Check", "Command check"); reason != "" {
			return reason
		}
	case mesos.CheckInfo_HTTP:
		switch {
		case k.HTTP == nil:
			return "Expecting 'http' to be set for HTTP check"
		case k.HTTP.Path != nil && !strings.HasPrefix(*k.HTTP.Path, "/"):
			return fmt.Sprintf("The path '%s' of HTTP check must start with '/'", *k.HTTP.Path)
		}
	case mesos.CheckInfo_TCP:
		if k.TCP == nil {
			return "Expecting 'tcp' to be set for TCP check"
		}
	default:
		return fmt.Sprintf("'%s' is not a valid check type", k.Type)
	}
	return negative([]period{
		{"delay_seconds", k.DelaySeconds},
		{"interval_seconds", k.IntervalSeconds},
		{"timeout_seconds", k.TimeoutSeconds},
	})
}

// invalidCheckCommand checks the command of a check; whose and what begin the
// messages.
func invalidCheckCommand(command *mesos.CommandInfo, whose, what string) string {
	if command == nil {
		return fmt.Sprintf("Expecting 'command' to be set for COMMAND %s", strings.ToLower(whose))
	}
	if command.Value == nil {
		if command.GetShell() {
			return what + " must contain 'shell command'"
		}
		return what + " must contain 'executable path'"
	}
	if reason := invalidEnvironment(command); reason != "" {
		return fmt.Sprintf("%s's `CommandInfo` is invalid: %s", whose, reason)
	}
	return ""
}

type period struct {
	name  string
	value *float64
}

func negative(fields []period) string {
	for _, f := range fields {
		if f.value != nil && *f.value < 0 {
			return fmt.Sprintf("Expecting '%s' to be non-negative", f.name)
		}
	}
	return ""
}
