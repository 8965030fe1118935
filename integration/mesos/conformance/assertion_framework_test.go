package conformance_test

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
)

// framework is a subscribed scheduler.
type framework struct {
	*probe.Scheduler
	world *world
	info  mesos.FrameworkInfo
	acked map[string]bool // uuids
}

// framework subscribes a new framework, which is torn down when the test ends.
func (w *world) framework(changes ...func(*mesos.FrameworkInfo)) *framework {
	w.Helper()
	info := w.info(changes...)
	f := &framework{Scheduler: probe.Connect(w.T, w.master, w.kind, info), world: w, info: info, acked: make(map[string]bool)}
	f.info.ID = &mesos.FrameworkID{Value: f.ID}
	if w.real() {
		w.Cleanup(func() { f.Call(&scheduler.Call{Type: scheduler.Call_TEARDOWN}) })
	}
	return f
}

// leave tears the framework down, so that another one of the same test gets offers.
func (f *framework) leave() {
	f.world.Helper()
	f.Must(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
}

// again subscribes with the framework's id once more.
func (f *framework) again(changes ...func(*mesos.FrameworkInfo)) *framework {
	f.world.Helper()
	info := f.info
	for _, change := range changes {
		change(&info)
	}
	return &framework{Scheduler: probe.Connect(f.world.T, f.world.master, f.world.kind, info), world: f.world, info: info, acked: f.acked}
}

// capabilities replaces a framework's capabilities.
func capabilities(list ...mesos.FrameworkInfo_Capability_Type) func(*mesos.FrameworkInfo) {
	return func(info *mesos.FrameworkInfo) {
		info.Capabilities = nil
		for _, c := range list {
			info.Capabilities = append(info.Capabilities, mesos.FrameworkInfo_Capability{Type: c})
		}
	}
}

// ignorant takes PARTITION_AWARE away from a framework.
func ignorant(info *mesos.FrameworkInfo) {
	info.Capabilities = slices.DeleteFunc(slices.Clone(info.Capabilities), func(c mesos.FrameworkInfo_Capability) bool {
		return c.Type == mesos.FrameworkInfo_Capability_PARTITION_AWARE
	})
}

// checkpoint sets whether the framework's executors outlive their agent.
func checkpoint(on bool) func(*mesos.FrameworkInfo) {
	return func(info *mesos.FrameworkInfo) { info.Checkpoint = &on }
}

// failover sets the framework's failover timeout in seconds.
func failover(seconds float64) func(*mesos.FrameworkInfo) {
	return func(info *mesos.FrameworkInfo) { info.FailoverTimeout = &seconds }
}

// enough is what an offer has to have for a few tasks, in cpus.
const enough = 1

// offer takes the next offer of the world's agent that has room, and declines others.
func (f *framework) offer() mesos.Offer {
	w := f.world
	w.Helper()
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); {
		for _, offer := range f.Offers() {
			if !w.chosen(offer) {
				f.decline(3600, offer)
				continue
			}
			if amount(offer.Resources, "cpus") >= enough {
				return offer
			}
			f.decline(0, offer)
		}
	}
	w.Fatalf("no offer of %d cpus from agent %s %s within %v", enough, w.agentID, w.agent, probe.Patience)
	return mesos.Offer{}
}

// noOffer checks that none of the world's agent comes for a while.
func (f *framework) noOffer(d time.Duration) {
	w := f.world
	w.Helper()
	for end := time.Now().Add(d); ; {
		event, err := f.Poll(time.Until(end))
		if err != nil {
			return
		}
		for _, offer := range event.GetOffers().GetOffers() {
			if w.chosen(offer) {
				w.Fatalf("unexpected offer of %v", offer.Resources)
			}
		}
	}
}

// chosen tells whether an offer is one of the world's agent; the first decides which
// that is when nothing else has.
func (w *world) chosen(offer mesos.Offer) bool {
	address := offer.URL.Address
	host := address.GetIP()
	if host == "" {
		host = address.GetHostname()
	}
	offered := "http://" + host + ":" + strconv.Itoa(int(address.Port))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.agentID != "":
		return offer.AgentID.Value == w.agentID
	case w.agent == "":
		w.agent = offered
	case offered != w.agent:
		named, err := url.Parse(w.agent)
		if err != nil || named.Hostname() != address.GetHostname() || named.Port() != strconv.Itoa(int(address.Port)) {
			return false
		}
	}
	w.agentID = offer.AgentID.Value
	return true
}

// amount is how much of a scalar there is.
func amount(resources []mesos.Resource, name string) float64 {
	total := 0.0
	for _, r := range resources {
		if r.Name == name {
			total += r.GetScalar().GetValue()
		}
	}
	return total
}

// decline gives an offer back for a number of seconds.
func (f *framework) decline(seconds float64, offers ...mesos.Offer) {
	f.world.Helper()
	call := &scheduler.Call{Type: scheduler.Call_DECLINE, Decline: &scheduler.Call_Decline{Filters: &mesos.Filters{RefuseSeconds: &seconds}}}
	for _, offer := range offers {
		call.Decline.OfferIDs = append(call.Decline.OfferIDs, offer.ID)
	}
	f.Must(call)
}

// task is a small task of an executor that is a puppet.
func (f *framework) task(id, executorID string, changes ...func(*mesos.TaskInfo)) mesos.TaskInfo {
	return f.world.task(id, executorID, changes...)
}

func (w *world) task(id, executorID string, changes ...func(*mesos.TaskInfo)) mesos.TaskInfo {
	return probe.Task(w.agentID, id, executorID, append([]func(*mesos.TaskInfo){func(t *mesos.TaskInfo) {
		command := t.Executor.Command
		program := w.program()
		if w.real() {
			// The agent need not be on this machine.
			program = "./" + conformance.ProbeName
			yes := true
			command.URIs = []mesos.CommandInfo_URI{{Value: w.web.URL + "/" + conformance.ProbeName, Executable: &yes, Cache: &yes}}
		}
		command.Value = &program
		command.Arguments = []string{conformance.ProbeName, "exec", w.control.Addr().String()}
	}}, changes...)...)
}

// launch launches tasks on an offer.
func (f *framework) launch(tasks ...mesos.TaskInfo) {
	f.world.Helper()
	offer := f.offer()
	for i := range tasks {
		// The agent may have become known by this offer.
		tasks[i].AgentID = offer.AgentID
	}
	f.Accept(0, []mesos.Offer{offer}, probe.Launch(tasks...))
}

// puppet waits for a new process of an executor.
func (f *framework) puppet(executorID string) *puppet {
	f.world.Helper()
	return f.world.puppet(f.ID, executorID)
}

func (w *world) puppet(frameworkID, executorID string) *puppet {
	w.Helper()
	var found *puppet
	w.await("process of executor "+executorID, probe.Patience, func() bool {
		for i, p := range w.arrived {
			if p.text("executor_id") == executorID && p.text("framework_id") == frameworkID {
				found = p
				w.arrived = slices.Delete(w.arrived, i, i+1)
				return true
			}
		}
		return false
	})
	return found
}

// start launches tasks on a new executor, which subscribes and has got them.
func (f *framework) start(executorID string, ids ...string) (*puppet, *feed) {
	f.world.Helper()
	var tasks []mesos.TaskInfo
	for _, id := range ids {
		tasks = append(tasks, f.task(id, executorID))
	}
	f.launch(tasks...)
	p := f.puppet(executorID)
	s := p.subscribe()
	s.next(executor.Event_SUBSCRIBED)
	s.launched(ids...)
	return p, s
}

// run is start with all tasks RUNNING and acknowledged on both sides.
func (f *framework) run(executorID string, ids ...string) (*puppet, *feed) {
	f.world.Helper()
	p, s := f.start(executorID, ids...)
	for _, id := range ids {
		s.acknowledged(p.report(id, mesos.TASK_RUNNING))
		f.got(id + " TASK_RUNNING SOURCE_EXECUTOR -")
	}
	return p, s
}

// update takes the next UPDATE, which has to be this task, state, source and reason.
func (f *framework) update(want string) mesos.TaskStatus {
	f.world.Helper()
	return f.within(probe.Patience, want)
}

// got is update with an acknowledgement.
func (f *framework) got(want string) mesos.TaskStatus {
	f.world.Helper()
	s := f.update(want)
	if s.UUID != nil {
		f.Acknowledge(s)
		f.acked[string(s.UUID)] = true
	}
	return s
}

// gotAfterRestart is got after the agent was killed, which may have happened before it
// heard of the latest acknowledgement: then it repeats what has been acknowledged.
func (f *framework) gotAfterRestart(want string) mesos.TaskStatus {
	f.world.Helper()
	for {
		s := f.Status()
		if s.UUID != nil {
			f.Acknowledge(s)
		}
		if f.acked[string(s.UUID)] {
			continue
		}
		if got := probe.Describe(s); got != want {
			f.world.Fatalf("UPDATE %s (%s), want %s", got, s.GetMessage(), want)
		}
		return s
	}
}

// outcome takes the next UPDATEs of n tasks, in whatever order, and acknowledges them.
func (f *framework) outcome(n int) map[string]string {
	f.world.Helper()
	seen := make(map[string]string)
	for len(seen) < n {
		s := f.Status()
		if s.UUID != nil {
			f.Acknowledge(s)
		}
		id, rest, _ := strings.Cut(probe.Describe(s), " ")
		seen[id] = rest
	}
	return seen
}

// kill asks for the end of a task.
func (f *framework) kill(id string, policy *mesos.KillPolicy) {
	f.world.Helper()
	f.Must(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{
		TaskID: mesos.TaskID{Value: id}, AgentID: &mesos.AgentID{Value: f.world.agentID}, KillPolicy: policy,
	}})
}

// shutdown asks for the end of an executor.
func (f *framework) shutdown(executorID string) {
	f.world.Helper()
	f.Must(&scheduler.Call{Type: scheduler.Call_SHUTDOWN, Shutdown: &scheduler.Call_Shutdown{
		AgentID: mesos.AgentID{Value: f.world.agentID}, ExecutorID: mesos.ExecutorID{Value: executorID},
	}})
}

// failure takes the next FAILURE, which has to be of this executor, and returns its
// wait status.
func (f *framework) failure(executorID string) int32 {
	f.world.Helper()
	got := f.Next(scheduler.Event_FAILURE).Failure
	if got.ExecutorID.GetValue() != executorID || got.AgentID.GetValue() != f.world.agentID {
		f.world.Fatalf("FAILURE of agent %v, executor %v; want %s %s", got.AgentID, got.ExecutorID, f.world.agentID, executorID)
	}
	return got.GetStatus()
}

// within takes the next UPDATE like update, but waits for it as long as it says.
func (f *framework) within(limit time.Duration, want string) mesos.TaskStatus {
	f.world.Helper()
	s := f.NextWithin(limit, scheduler.Event_UPDATE).Update.Status
	if got := probe.Describe(s); got != want {
		f.world.Fatalf("UPDATE %s (%s), want %s", got, s.GetMessage(), want)
	}
	return s
}
