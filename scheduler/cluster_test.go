package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
)

// cluster is a scripted Mesos behind the Mesos interface, for tests under
// synctest: masters, agents and executors in one, instant but faithful in what
// the scheduler depends on (contract of offers, acknowledgements,
// reconciliation, kills).
type cluster struct {
	t      testing.TB
	mu     sync.Mutex
	agents map[string]*fakeAgent
	tasks  map[string]*fakeTask
	wake   chan struct{}
	events []func(master.Handler)

	frameworkID string
	info        mesos.FrameworkInfo
	generation  int
	connected   bool
	suppressed  bool
	number      int
	offers      map[string]*fakeOffer
	reset       chan error // ends the subscription, or Run

	// dropped counts the tasks launched on offers that were void.
	dropped int
	// calls is a record of what was asked, in order.
	calls []string
	// before is asked before each call; an error is its outcome, and the call
	// does nothing, unless it is errAfter, which is reported afterwards.
	before func(call string) error
	// behave says what becomes of a task that was launched.
	behave func(*fakeTask) behaviour
	// amnesia makes the master say that it does not know unreachable agents.
	amnesia  bool
	messages []message // to executors
	// anew lets the framework come back under another id, with its tasks.
	anew bool
}

// errAfter makes a call have its effect, and report an unknown outcome.
var errAfter = fmt.Errorf("connection reset: %w", master.ErrOutcomeUnknown)

type behaviour struct {
	starts  time.Duration // until RUNNING
	healthy time.Duration // from then until healthy; negative is never
	fails   time.Duration // from RUNNING until FAILED; 0 is never
	dies    time.Duration // from KILL until KILLED
}

func steady(*fakeTask) behaviour {
	return behaviour{starts: 200 * time.Millisecond, healthy: time.Second, dies: 300 * time.Millisecond}
}

type fakeAgent struct {
	id, host    string
	cpus        app.Milli
	used        app.Milli
	ports       map[uint32]bool // free
	executors   map[string]string
	filtered    time.Time
	unreachable bool
	recovering  bool // not back at a new master
}

type fakeOffer struct {
	agent *fakeAgent
	cpus  app.Milli
	ports []uint32
}

type message struct {
	executorID, agentID string
	data                []byte
}

type fakeTask struct {
	info    mesos.TaskInfo
	payload *payload.Task
	agent   *fakeAgent
	state   mesos.TaskState
	healthy *bool
	killed  bool
	pending *mesos.TaskStatus // not acknowledged
	updates []mesos.TaskStatus
	gone    bool // terminal and acknowledged
}

func newCluster(t testing.TB, agents int) *cluster {
	c := &cluster{
		t: t, agents: make(map[string]*fakeAgent), tasks: make(map[string]*fakeTask), wake: make(chan struct{}, 1),
		offers: make(map[string]*fakeOffer), reset: make(chan error, 1), behave: steady,
	}
	for n := range agents {
		a := &fakeAgent{id: fmt.Sprint("S", n), host: fmt.Sprint("host", n), cpus: 4000, ports: make(map[uint32]bool), executors: make(map[string]string)}
		for p := range uint32(100) {
			a.ports[31000+p] = true
		}
		c.agents[a.id] = a
	}
	return c
}

var _ Mesos = (*cluster)(nil)

// Run delivers events until ctx or the subscription ends.
func (c *cluster) Run(ctx context.Context, framework func() master.Framework, h master.Handler) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer c.disconnect()
	c.connect(ctx, framework(), h)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-c.reset:
			c.disconnect()
			if errors.Is(err, master.ErrRemoved) {
				return err
			}
			h.Disconnected(err)
			c.connect(ctx, framework(), h)
		case <-tick.C:
			c.offer()
		case <-c.wake:
		}
		c.deliver(h)
	}
}

func (c *cluster) connect(ctx context.Context, f master.Framework, h master.Handler) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch id := f.Info.GetID().GetValue(); {
	case id == "" && len(c.tasks) > 0 && !c.anew:
		c.t.Errorf("subscribed without the id %s", c.frameworkID)
	case id == "":
		c.frameworkID = "f-" + uuid.NewString()[:8]
	case c.info.Name != "" && id != c.frameworkID && !c.anew:
		c.t.Errorf("subscribed as %s, the framework is %s", id, c.frameworkID)
	default:
		c.frameworkID = id
	}
	c.info = f.Info
	c.generation++
	c.connected, c.suppressed = true, false
	// Filters stay, as when a subscription takes over from one that the master
	// still holds to be alive.
	c.dropOffersLocked()
	h.Subscribed(master.Subscription{FrameworkID: c.frameworkID, URL: "http://master:5050", HeartbeatInterval: 15 * time.Second})
	for _, t := range c.tasks {
		if t.pending != nil && !t.agent.unreachable && !t.agent.recovering {
			c.sendLocked(*t.pending)
		}
	}
}

func (c *cluster) disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connected = false
	c.events = nil
	c.dropOffersLocked()
}

func (c *cluster) dropOffersLocked() {
	for id, o := range c.offers {
		o.give()
		delete(c.offers, id)
	}
}

func (o *fakeOffer) give() {
	o.agent.used -= o.cpus
	for _, p := range o.ports {
		o.agent.ports[p] = true
	}
}

func (c *cluster) deliver(h master.Handler) {
	for {
		c.mu.Lock()
		if len(c.events) == 0 {
			c.mu.Unlock()
			return
		}
		event := c.events[0]
		c.events = c.events[1:]
		c.mu.Unlock()
		event(h)
	}
}

func (c *cluster) postLocked(event func(master.Handler)) {
	if !c.connected {
		return
	}
	c.events = append(c.events, event)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cluster) sendLocked(s mesos.TaskStatus) {
	c.postLocked(func(h master.Handler) { h.Update(s) })
}

// offer offers all that is free and not filtered.
func (c *cluster) offer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.connected || c.suppressed {
		return
	}
	var batch []mesos.Offer
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		if a.unreachable || a.recovering || time.Now().Before(a.filtered) || a.cpus == a.used {
			continue
		}
		c.number++
		o := &fakeOffer{agent: a, cpus: a.cpus - a.used}
		for p := range a.ports {
			o.ports = append(o.ports, p)
		}
		slices.Sort(o.ports)
		clear(a.ports)
		a.used = a.cpus
		offerID := fmt.Sprint("O", c.number)
		c.offers[offerID] = o
		batch = append(batch, describeOffer(offerID, c.info.Roles[0], o))
	}
	if len(batch) > 0 {
		c.postLocked(func(h master.Handler) { h.Offers(batch) })
	}
}

func describeOffer(id, role string, o *fakeOffer) mesos.Offer {
	offer := mesos.Offer{
		ID: mesos.OfferID{Value: id}, AgentID: mesos.AgentID{Value: o.agent.id}, Hostname: o.agent.host,
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &role},
		Resources: []mesos.Resource{
			{Name: "cpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: o.cpus.Float64()}},
			{Name: "mem", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 1 << 20}},
		},
	}
	ports := mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: new(mesos.Value_Ranges)}
	for _, p := range o.ports {
		ports.Ranges.Range = append(ports.Ranges.Range, mesos.Value_Range{Begin: uint64(p), End: uint64(p)})
	}
	offer.Resources = append(offer.Resources, ports)
	for executor := range o.agent.executors {
		offer.ExecutorIDs = append(offer.ExecutorIDs, mesos.ExecutorID{Value: executor})
	}
	return offer
}

// enter records a call and asks what becomes of it.
func (c *cluster) enter(call string) (proceed bool, outcome error) {
	c.mu.Lock()
	before, connected := c.before, c.connected
	c.calls = append(c.calls, call)
	c.mu.Unlock()
	if !connected {
		return false, master.ErrNotSubscribed
	}
	if before == nil {
		return true, nil
	}
	err := before(call)
	return err == nil || errors.Is(err, errAfter), err
}

// lose makes an agent unreachable.
func (c *cluster) lose(agentID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.agents[agentID]
	a.unreachable = true
	for id, o := range c.offers {
		if o.agent == a {
			o.give()
			delete(c.offers, id)
			c.postLocked(func(h master.Handler) { h.Rescind(id) })
		}
	}
	for id, t := range c.tasks {
		if t.agent == a && !isTerminal(t.state) {
			c.sendLocked(status(id, agentID, mesos.TASK_UNREACHABLE, mesos.REASON_AGENT_REMOVED))
		}
	}
}

// find brings an agent back.
func (c *cluster) find(agentID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.agents[agentID]
	a.unreachable, a.recovering = false, false
	for id, t := range c.tasks {
		if t.agent == a && !t.gone {
			s := status(id, agentID, t.state, mesos.REASON_AGENT_REREGISTERED)
			s.Healthy = t.healthy
			c.sendLocked(s)
		}
	}
}

// report lets an executor say something about a task.
func (c *cluster) report(taskID string, st mesos.TaskState, healthy bool, labels ...mesos.Label) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.becomeLocked(c.tasks[taskID], st, &healthy, labels...)
}

// living tasks of an app by version, whatever the scheduler knows.
func (c *cluster) living(appID string) map[string][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	alive := make(map[string][]string)
	for id, t := range c.tasks {
		if t.payload.App == appID && !isTerminal(t.state) {
			alive[t.payload.AppVersion] = append(alive[t.payload.AppVersion], id)
		}
	}
	return alive
}

func (c *cluster) count(appID string) int {
	n := 0
	for _, ids := range c.living(appID) {
		n += len(ids)
	}
	return n
}

func (c *cluster) called(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, call := range c.calls {
		if strings.HasPrefix(call, prefix) {
			n++
		}
	}
	return n
}

func (c *cluster) intercept(before func(string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = before
}
