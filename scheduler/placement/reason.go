package placement

import (
	"fmt"
	"slices"

	"pacer/scheduler/app"
)

// Reason for which an offer does not fit, as Marathon names it.
type Reason string

// Reasons in the order in which they are tested.
const (
	AgentMaintenance      Reason = "AgentMaintenance"
	UnfulfilledRole       Reason = "UnfulfilledRole"
	UnfulfilledConstraint Reason = "UnfulfilledConstraint"
	InsufficientCPUs      Reason = "InsufficientCpus"
	InsufficientMemory    Reason = "InsufficientMemory"
	InsufficientDisk      Reason = "InsufficientDisk"
	InsufficientGPUs      Reason = "InsufficientGpus"
	InsufficientPorts     Reason = "InsufficientPorts"
)

// busy is the reason of agents that have got enough for one go.
const busy Reason = "Busy"

var order = []Reason{
	AgentMaintenance, UnfulfilledRole, UnfulfilledConstraint,
	InsufficientCPUs, InsufficientMemory, InsufficientDisk, InsufficientGPUs, InsufficientPorts,
}

// Waiting says why instances of an app could not be placed.
type Waiting struct {
	// Count of instances that wait.
	Count int
	// Offers that were looked at, by agent.
	Offers int
	// Rejections that declined at least one offer, in the order of testing.
	Rejections []Rejection
	// Constraints that declined at least one offer, those that declined most
	// first. An offer counts for the first of them that it does not meet.
	Constraints []ConstraintRejection
	// Samples are some of the offers that were not used.
	Samples []Sample
	// Text says it in one line.
	Text string
}

// Sample is an offer that was not used, and why.
type Sample struct {
	OfferID, AgentID, Hostname string
	Reason                     Reason
}

// maxSamples of one app.
const maxSamples = 5

// ConstraintRejection is how many offers one constraint declined.
type ConstraintRejection struct {
	app.Constraint
	Declined int
}

// Text is the constraint as it stands in a definition.
func (r ConstraintRejection) Text() string { return constraintText(r.Constraint) }

// Crowded is the constraint that declined most because of instances that
// exist already, if that is what declined most; else it is empty.
func (w *Waiting) Crowded() string {
	if len(w.Constraints) == 0 {
		return ""
	}
	switch worst := w.Constraints[0]; worst.Operator {
	case app.Unique, app.MaxPer, app.GroupBy, app.Cluster:
		return worst.Text()
	}
	return ""
}

// Rejection is how many offers one reason declined, of those that passed the
// tests before it.
type Rejection struct {
	Reason              Reason
	Declined, Processed int
}

// shortage is what an instance needs and the best that was offered.
type shortage struct{ need, have app.Milli }

// explain looks at every agent once more, as it is after all launches.
func (t *turn) explain(config Config) *Waiting {
	w := &Waiting{Count: t.wanted}
	declined := make(map[Reason]int)
	largest := make(map[Reason]shortage)
	failed := make([]ConstraintRejection, 0, len(t.constraints))
	for i := range t.constraints {
		failed = append(failed, ConstraintRejection{Constraint: t.constraints[i].Constraint})
	}
	for _, h := range t.all {
		w.Offers++
		reason := t.fits(config, h)
		if reason == "" {
			reason = t.missing(config, h, largest)
		}
		if reason == UnfulfilledConstraint {
			at := slices.IndexFunc(t.constraints, func(c constraint) bool { return !c.allows(h) })
			failed[at].Declined++
		}
		declined[reason]++
		if reason != busy && len(w.Samples) < maxSamples {
			offer := &h.agent.Offers[0]
			w.Samples = append(w.Samples, Sample{OfferID: offer.ID.Value, AgentID: h.agent.ID(), Hostname: offer.Hostname, Reason: reason})
		}
	}
	left := w.Offers
	for _, reason := range order {
		if declined[reason] == 0 {
			continue
		}
		w.Rejections = append(w.Rejections, Rejection{Reason: reason, Declined: declined[reason], Processed: left})
		left -= declined[reason]
	}
	w.Constraints = slices.DeleteFunc(failed, func(r ConstraintRejection) bool { return r.Declined == 0 })
	slices.SortStableFunc(w.Constraints, func(a, b ConstraintRejection) int { return b.Declined - a.Declined })
	w.Text = t.text(w, largest)
	return w
}

// missing tells what h has too little of, and keeps the largest amount seen.
func (t *turn) missing(config Config, h *host, largest map[Reason]shortage) Reason {
	need := wanted(t.App)
	if !t.hasExecutor(h) {
		need.CPUs += config.ExecutorCPUs
		need.Mem += config.ExecutorMem
	}
	for _, s := range need.scalars() {
		if have := h.pool.total(s.name, t.App.AcceptedResourceRoles); have < s.amount {
			if seen, ok := largest[s.reason]; !ok || have > seen.have {
				largest[s.reason] = shortage{need: s.amount, have: have}
			}
			return s.reason
		}
	}
	if len(t.App.Ports) > 0 {
		return InsufficientPorts
	}
	return busy
}

func (t *turn) hasExecutor(h *host) bool {
	if t.ExecutorKey == "" {
		return false
	}
	_, live := h.agent.Executors[t.ExecutorKey]
	_, started := h.executors[t.ExecutorKey]
	return live || started
}

func (t *turn) text(w *Waiting, largest map[Reason]shortage) string {
	if w.Offers == 0 {
		return "no offers yet"
	}
	if len(w.Rejections) == 0 {
		return "more offers are needed"
	}
	most := slices.MaxFunc(w.Rejections, func(a, b Rejection) int { return a.Declined - b.Declined })
	lacks := func(unit string) string {
		short := largest[most.Reason]
		return fmt.Sprintf("%d of %d offers have too little for %s %s, executor included; the largest of them has %s",
			most.Declined, w.Offers, short.need, unit, short.have)
	}
	switch most.Reason {
	case AgentMaintenance:
		return fmt.Sprintf("%d of %d offers are of agents in maintenance", most.Declined, w.Offers)
	case UnfulfilledRole:
		return fmt.Sprintf("%d of %d offers have no resources of the roles %q", most.Declined, w.Offers, t.App.AcceptedResourceRoles)
	case UnfulfilledConstraint:
		worst := w.Constraints[0]
		return fmt.Sprintf("%d of %d offers are of agents that the constraints do not allow, %d of them by %s", most.Declined, w.Offers, worst.Declined, worst.Text())
	case InsufficientCPUs:
		return lacks("cpus")
	case InsufficientMemory:
		return lacks("MiB of memory")
	case InsufficientDisk:
		return lacks("MiB of disk")
	case InsufficientGPUs:
		return lacks("gpus")
	default:
		return fmt.Sprintf("%d of %d offers lack the ports", most.Declined, w.Offers)
	}
}

func constraintText(c app.Constraint) string {
	if c.Value == "" {
		return fmt.Sprintf("[%s %s]", c.Field, c.Operator)
	}
	return fmt.Sprintf("[%s %s %s]", c.Field, c.Operator, c.Value)
}
