package app

import (
	"maps"
	"slices"
)

// Effect is what a change of a definition means for running instances.
type Effect int

// Effects, the strongest last.
const (
	// NoChange: the definitions are the same.
	NoChange Effect = iota
	// SchedulerOnly: only the scheduler reads what changed; instances stay.
	SchedulerOnly
	// Scale: the number of instances changed, and perhaps what only the
	// scheduler reads; those that exist stay, as far as they are wanted.
	Scale
	// Replace: every instance is replaced by a new one.
	Replace
)

// Change is what differs between two definitions of an app.
type Change struct {
	// Replacing fields, by their JSON names: instances have to be replaced.
	Replacing []string
	// Scheduling fields, by their JSON names: instances stay.
	Scheduling []string
	// Scaled is set if the number of instances differs.
	Scaled bool
}

// Effect is the strongest thing that the change does.
func (c Change) Effect() Effect {
	switch {
	case len(c.Replacing) > 0:
		return Replace
	case c.Scaled:
		return Scale
	case len(c.Scheduling) > 0:
		return SchedulerOnly
	}
	return NoChange
}

// Compare says what differs between two definitions. Versions do not count.
func Compare(from, to *App) Change {
	var c Change
	replacing := func(name string, same bool) {
		if !same {
			c.Replacing = append(c.Replacing, name)
		}
	}
	scheduling := func(name string, same bool) {
		if !same {
			c.Scheduling = append(c.Scheduling, name)
		}
	}
	replacing("cmd", from.Cmd == to.Cmd)
	replacing("args", slices.Equal(from.Args, to.Args))
	replacing("user", from.User == to.User)
	replacing("env", maps.Equal(from.Env, to.Env))
	replacing("labels", maps.Equal(from.Labels, to.Labels))
	replacing("cpus", from.CPUs == to.CPUs)
	replacing("mem", from.Mem == to.Mem)
	replacing("disk", from.Disk == to.Disk)
	replacing("gpus", from.GPUs == to.GPUs)
	replacing("portDefinitions", slices.EqualFunc(from.Ports, to.Ports, equalPorts))
	replacing("requirePorts", from.RequirePorts == to.RequirePorts)
	replacing("fetch", slices.Equal(from.Fetch, to.Fetch))
	replacing("healthChecks", equalPointers(from.HealthCheck, to.HealthCheck))
	replacing("taskKillGracePeriodSeconds", equalPointers(from.KillGrace, to.KillGrace))

	scheduling("constraints", slices.Equal(from.Constraints, to.Constraints))
	scheduling("acceptedResourceRoles", slices.Equal(from.AcceptedResourceRoles, to.AcceptedResourceRoles))
	scheduling("upgradeStrategy", from.UpgradeStrategy == to.UpgradeStrategy)
	scheduling("backoffSeconds", from.Backoff.Initial == to.Backoff.Initial)
	scheduling("backoffFactor", from.Backoff.Factor == to.Backoff.Factor)
	scheduling("maxLaunchDelaySeconds", from.Backoff.Max == to.Backoff.Max)
	scheduling("killSelection", from.KillSelection == to.KillSelection)
	scheduling("unreachableStrategy", from.Unreachable == to.Unreachable)
	scheduling("dependencies", slices.Equal(from.Dependencies, to.Dependencies))
	scheduling("deployment", from.Deployment == to.Deployment)

	c.Scaled = from.Instances != to.Instances
	return c
}

func equalPorts(a, b Port) bool {
	return a.Number == b.Number && a.Protocol == b.Protocol && a.Name == b.Name && maps.Equal(a.Labels, b.Labels)
}

func equalPointers[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Stamp is a copy of to with version v, as the successor of from, which is
// nil for a new app: LastConfigChange moves unless only the scheduler is
// concerned, LastScaling moves with the number of instances.
func Stamp(from, to *App, v Version) *App {
	stamped := *to
	stamped.Version, stamped.LastConfigChange, stamped.LastScaling = v, v, v
	if from == nil {
		return &stamped
	}
	change := Compare(from, to)
	if len(change.Replacing) == 0 {
		stamped.LastConfigChange = from.LastConfigChange
	}
	if !change.Scaled {
		stamped.LastScaling = from.LastScaling
	}
	return &stamped
}

// Restore is a copy of former, an older definition of the app that from
// defines now, with version v. LastConfigChange stays what it was: instances
// of the former definition that still run are not replaced by their like.
func Restore(from, former *App, v Version) *App {
	restored := *former
	restored.Version, restored.LastScaling = v, v
	if restored.LastConfigChange == 0 {
		restored.LastConfigChange = former.Version
	}
	if from.Instances == former.Instances {
		restored.LastScaling = from.LastScaling
	}
	return &restored
}
