package deploy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"pacer/scheduler/app"
)

// Target is what is wanted of an app.
type Target struct {
	Instances int
	// Upgrade bounds the number of instances.
	Upgrade app.UpgradeStrategy
	// Selection decides by age who goes when there are too many.
	Selection app.KillSelection
	// Checked is set for apps with a health check. In others whatever runs
	// counts as healthy.
	Checked bool
	// Replace is set while a deployment replaces instances that are not
	// current. Otherwise they count as if they were.
	Replace bool
}

// Phase of an instance.
type Phase uint8

// Phases.
const (
	// Unknown: known from the store alone, nothing heard since the restart.
	Unknown Phase = iota
	// Staging: to be launched, launched or starting.
	Staging
	// Running.
	Running
	// Unreachable, but waited for.
	Unreachable
	// Inactive: unreachable for so long that it is replaced.
	Inactive
)

// Health as the executor last said.
type Health uint8

// Healths.
const (
	// Pending: not yet found healthy since it was launched.
	Pending Health = iota
	Passing
	Failing
)

// Instance is one that exists as far as is known: its task has not ended.
type Instance struct {
	ID     string
	Phase  Phase
	Health Health
	// Current is set if the instance was made from the wanted version.
	Current bool
	// Restart is set if it is to be replaced although it may be healthy.
	Restart bool
	// Doomed is set if its health check has failed for good.
	Doomed bool
	// Killing is set if it is already to be killed.
	Killing  bool
	Launched time.Time
	// Group is the value of the field that the app spreads over, or empty.
	Group string
}

// Decision is what to do now.
type Decision struct {
	// Launch so many new instances.
	Launch int
	Kill   []Kill
	// Done is set when everything is as wanted: as many healthy instances as
	// wanted, all current, and none dying.
	Done bool
	// Healthy of the wanted version, Starting of it that are not healthy yet,
	// Old that are to be replaced, and Dying.
	Healthy, Starting, Old, Dying int
}

// Kill of one instance.
type Kill struct {
	ID     string
	Reason Reason
}

// Reason for which an instance is killed.
type Reason string

// Reasons.
const (
	Replaced   Reason = "replaced by a newer version"
	ScaledDown Reason = "scaled down"
	Unhealthy  Reason = "health check failed"
)

// Bounds returns the least number of healthy and the greatest number of
// existing instances while a target is being reached.
func Bounds(t Target) (minimum, maximum int) {
	n := float64(t.Instances)
	// Fractions are decimal in definitions: 0.15 of 20 is 3, not a bit less.
	const rounding = 1e-9
	minimum = int(math.Ceil(n*t.Upgrade.MinimumHealthCapacity - rounding))
	maximum = int(math.Floor(n*(1+t.Upgrade.MaximumOverCapacity) + rounding))
	return min(max(minimum, 0), t.Instances), max(maximum, t.Instances)
}

// Decide says what is to be done next for an app.
func Decide(t Target, instances []Instance) Decision {
	s := survey(t, instances)
	minimum, maximum := Bounds(t)
	if len(s.old) > 0 && minimum == maximum && s.healthy >= minimum {
		maximum++
	}
	d := Decision{Healthy: s.healthyCurrent, Starting: len(s.current) - s.healthyCurrent, Old: len(s.old), Dying: s.dying}

	// Replacements for doomed instances come first where there is room.
	missing := max(0, t.Instances-len(s.current))
	room := max(0, maximum-s.existing)
	d.Launch = min(missing, room)

	// Those that are dying make room, too.
	crowded := max(0, missing-d.Launch-s.dying)

	k := killer{target: t, minimum: minimum, healthy: s.healthy}
	k.surplus(s)
	k.doomed(s, crowded)
	k.old(s, crowded)
	d.Kill = k.kills

	d.Done = len(s.old) == 0 && len(s.doomed) == 0 && s.dying == 0 && len(d.Kill) == 0 &&
		len(s.current) == t.Instances && s.healthyCurrent == t.Instances
	return d
}

// Progress is one line for people.
func (d Decision) Progress(t Target) string {
	text := fmt.Sprintf("%d of %d instances are healthy", d.Healthy, t.Instances)
	if d.Old > 0 {
		text += fmt.Sprintf(", %d to be replaced", d.Old)
	}
	if d.Dying > 0 {
		text += fmt.Sprintf(", %d ending", d.Dying)
	}
	return text
}

// view sorts instances by what they are good for.
type view struct {
	// current ones that count towards the target; doomed current ones; old
	// ones. None of them is dying.
	current, doomed, old []Instance
	// healthy of any version, and of the current.
	healthy, healthyCurrent int
	// existing use capacity; dying are those among them that are being killed.
	existing, dying int
}

func survey(t Target, instances []Instance) view {
	var v view
	for _, i := range instances {
		reachable := i.Phase != Inactive && i.Phase != Unreachable
		if i.Killing {
			if reachable {
				v.existing++
				v.dying++
			}
			continue
		}
		if i.Phase != Inactive {
			v.existing++
		}
		if t.healthy(i) {
			v.healthy++
		}
		switch {
		case t.Replace && !i.Current || i.Restart:
			v.old = append(v.old, i)
		case i.Doomed:
			v.doomed = append(v.doomed, i)
		case i.Phase == Inactive:
			// Replaced, but neither healthy nor to be killed until it returns.
		default:
			v.current = append(v.current, i)
			if t.healthy(i) {
				v.healthyCurrent++
			}
		}
	}
	return v
}

func (t Target) healthy(i Instance) bool {
	return i.Phase == Running && (i.Health == Passing || !t.Checked && i.Health != Failing) && !i.Doomed
}

// killer chooses whom to kill and keeps the minimum alive.
type killer struct {
	target  Target
	minimum int
	healthy int // that are left
	kills   []Kill
}

// kill kills i if the minimum allows it.
func (k *killer) kill(i Instance, reason Reason) bool {
	switch {
	case k.target.healthy(i):
		if k.healthy <= k.minimum {
			return false
		}
		k.healthy--
	case i.Phase == Unknown:
		// It may be healthy. Not needed, if enough others are.
		if k.healthy < k.minimum {
			return false
		}
	}
	k.kills = append(k.kills, Kill{i.ID, reason})
	return true
}

// surplus kills current instances beyond the target.
func (k *killer) surplus(s view) {
	n := len(s.current) - k.target.Instances
	for _, i := range k.target.leastUseful(s.current) {
		if n > 0 && k.kill(i, ScaledDown) {
			n--
		}
	}
}

// doomed kills instances whose health check has failed for good: as many as
// have a healthy replacement, or as make room for one.
func (k *killer) doomed(s view, crowded int) {
	n := max(crowded, len(s.doomed)-max(0, k.target.Instances-s.healthyCurrent))
	for _, i := range k.target.leastUseful(s.doomed) {
		if n > 0 && k.kill(i, Unhealthy) {
			n--
		}
	}
}

// old kills instances of former versions: those that the minimum can spare,
// one for each healthy new one, and what is not healthy to make room.
func (k *killer) old(s view, crowded int) {
	for _, done := range k.kills {
		if done.Reason == Unhealthy {
			crowded--
		}
	}
	replaced := len(s.old) - max(0, k.target.Instances-s.healthyCurrent)
	n := max(k.healthy-k.minimum, replaced, crowded)
	for _, i := range k.target.leastUseful(s.old) {
		if n > 0 && k.kill(i, Replaced) {
			n--
		}
	}
}

// leastUseful orders instances by who goes first.
func (t Target) leastUseful(instances []Instance) []Instance {
	rest := slices.Clone(instances)
	age := func(a, b Instance) int {
		byAge := cmp.Or(b.Launched.Compare(a.Launched), cmp.Compare(a.ID, b.ID))
		if t.Selection == app.OldestFirst {
			return -byAge
		}
		return byAge
	}
	slices.SortFunc(rest, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(t.use(a), t.use(b)), age(a, b))
	})
	// Within one degree of usefulness take from the largest group in turn.
	sizes := make(map[string]int)
	for _, i := range rest {
		sizes[i.Group]++
	}
	if len(sizes) < 2 {
		return rest
	}
	ordered := make([]Instance, 0, len(rest))
	for len(rest) > 0 {
		best := 0
		for k := 1; k < len(rest) && t.use(rest[k]) == t.use(rest[0]); k++ {
			if sizes[rest[k].Group] > sizes[rest[best].Group] {
				best = k
			}
		}
		sizes[rest[best].Group]--
		ordered = append(ordered, rest[best])
		rest = slices.Delete(rest, best, best+1)
	}
	return ordered
}

// use is larger the more an instance is worth keeping.
func (t Target) use(i Instance) int {
	switch {
	case i.Phase == Inactive:
		return 0
	case i.Phase == Unreachable:
		return 1
	case i.Phase == Staging:
		return 2
	case t.healthy(i):
		return 6
	case i.Phase == Unknown:
		return 5
	case i.Health == Failing:
		return 3
	default:
		return 4
	}
}
