package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/resources"
	"github.com/rs/zerolog"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/agent"
	"pacer/integration/zookeeper"
	"pacer/scheduler/master"
)

const deadline = 60 * time.Second

// framework is a scheduler: it acknowledges every update and remembers.
type framework struct {
	*master.Client
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	acks   sync.WaitGroup

	mu            sync.Mutex
	changed       chan struct{} // closed at every event
	subscriptions []master.Subscription
	offers        []mesos.Offer
	seen          map[string]bool
	states        map[string][]string // per task, repetitions left out
	answers       map[string]string   // states from reconciliation
}

func newFramework(t *testing.T, masters string) *framework {
	client, err := master.New(master.Config{Masters: masters}, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	return startFramework(t, client, "")
}

func startFramework(t *testing.T, client *master.Client, id string) *framework {
	f := &framework{
		Client: client, t: t, done: make(chan struct{}), changed: make(chan struct{}),
		seen: map[string]bool{}, states: map[string][]string{}, answers: map[string]string{},
	}
	f.ctx, f.cancel = context.WithTimeout(context.Background(), 4*deadline)
	go func() {
		defer close(f.done)
		f.err = client.Run(f.ctx, func() master.Framework {
			info := mesos.FrameworkInfo{User: "root", Name: "protocol", Roles: []string{"r"}}
			checkpoint, failover := true, 3600.0
			info.Checkpoint, info.FailoverTimeout = &checkpoint, &failover
			for _, c := range []mesos.FrameworkInfo_Capability_Type{
				mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE,
				mesos.FrameworkInfo_Capability_TASK_KILLING_STATE, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
			} {
				info.Capabilities = append(info.Capabilities, mesos.FrameworkInfo_Capability{Type: c})
			}
			if id != "" {
				info.ID = &mesos.FrameworkID{Value: id}
			}
			return master.Framework{Info: info}
		}, f)
	}()
	t.Cleanup(f.stop)
	return f
}

func (f *framework) stop() {
	f.cancel()
	<-f.done
	f.acks.Wait()
}

func (f *framework) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// await waits until reached, which is called under the lock.
func (f *framework) await(what string, reached func() bool) {
	f.t.Helper()
	timeout := time.After(deadline)
	for {
		f.mu.Lock()
		ok, changed := reached(), f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("%s: not within %v; states %v, answers %v", what, deadline, f.states, f.answers)
		}
	}
}

func (f *framework) Subscribed(s master.Subscription) {
	f.note(func() { f.subscriptions = append(f.subscriptions, s); f.offers = nil })
}
func (f *framework) Disconnected(error) {}
func (f *framework) Offers(offers []mesos.Offer) {
	f.note(func() { f.offers = append(f.offers, offers...) })
}
func (f *framework) Rescind(id string) {
	f.note(func() {
		f.offers = slices.DeleteFunc(f.offers, func(o mesos.Offer) bool { return o.ID.Value == id })
	})
}
func (f *framework) Message(string, string, []byte) {}
func (f *framework) Failure(string, string, int32)  {}
func (f *framework) Update(s mesos.TaskStatus) {
	f.note(func() {
		id, state := s.TaskID.Value, strings.TrimPrefix(s.GetState().String(), "TASK_")
		switch {
		case len(s.UUID) == 0:
			f.answers[id] = state
		case !f.seen[string(s.UUID)]:
			f.seen[string(s.UUID)] = true
			f.states[id] = append(f.states[id], state)
		}
	})
	f.acks.Go(func() { f.Acknowledge(f.ctx, s) }) // repeated by the agent if it fails
}

// launch starts n tasks on one executor and returns their IDs.
func (f *framework) launch(n int) (executor, agentID string, ids []string) {
	f.t.Helper()
	f.await("offer", func() bool { return len(f.offers) > 0 })
	f.mu.Lock()
	offer := f.offers[0]
	f.offers = f.offers[1:]
	frameworkID := f.subscriptions[0].FrameworkID
	f.mu.Unlock()
	program, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	shell := false
	info := &mesos.ExecutorInfo{
		Type:        mesos.ExecutorInfo_CUSTOM,
		ExecutorID:  mesos.ExecutorID{Value: "protocol-1"},
		FrameworkID: &mesos.FrameworkID{Value: frameworkID},
		Command:     &mesos.CommandInfo{Shell: &shell, Value: &program, Arguments: []string{executorName}},
		Resources:   amount(0.1, 32),
	}
	var infos []mesos.TaskInfo
	for i := range n {
		id := fmt.Sprintf("t%d", i)
		ids = append(ids, id)
		infos = append(infos, mesos.TaskInfo{Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: offer.AgentID, Executor: info, Resources: amount(0.01, 8)})
	}
	operation := mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{TaskInfos: infos}}
	if err := f.Accept(f.ctx, []string{offer.ID.Value}, []mesos.Offer_Operation{operation}, 0); err != nil {
		f.t.Fatal(err)
	}
	return "protocol-1", offer.AgentID.Value, ids
}

func amount(cpus, mem float64) mesos.Resources {
	return mesos.Resources{resources.NewCPUs(cpus).Resource, resources.NewMemory(mem).Resource}
}

func (f *framework) awaitStates(ids []string, want ...string) {
	f.t.Helper()
	f.await(fmt.Sprint("states ", want), func() bool {
		for _, id := range ids {
			if len(f.states[id]) < len(want) {
				return false
			}
		}
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if !slices.Equal(f.states[id], want) {
			f.t.Errorf("%s: %v, want %v", id, f.states[id], want)
		}
	}
}

func TestP4_ClientsAcrossAgentRestarts(t *testing.T) {
	common := agent.DefaultConfig()
	common.ExecutorReregistrationTimeout = time.Second
	cluster := emulator.New(t, emulator.Config{Agent: &common})
	f := newFramework(t, cluster.MasterURL())
	executor, agentID, ids := f.launch(20)
	f.awaitStates(ids, "STARTING", "RUNNING")
	node := cluster.Node(0)
	for n := range 5 {
		// Tasks end right before, and while, the agent is away.
		for _, id := range ids[n*2 : n*2+2] {
			if err := f.Client.Message(f.ctx, executor, agentID, []byte(id)); err != nil {
				t.Fatal(err)
			}
		}
		node.Kill()
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(f.ctx, deadline)
		if err := cluster.AwaitAgents(ctx, 1); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	// MESSAGE is lossy: what is still running is finished now, again and again.
	for _, id := range ids {
		for {
			if err := f.Client.Message(f.ctx, executor, agentID, []byte(id)); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			over, changed := len(f.states[id]) > 2, f.changed
			f.mu.Unlock()
			if over {
				break
			}
			select {
			case <-changed:
			case <-time.After(200 * time.Millisecond):
			case <-f.ctx.Done():
				t.Fatal(f.ctx.Err())
			}
		}
	}
	f.awaitStates(ids, "STARTING", "RUNNING", "FINISHED")
}

func TestP9_ClientsAcrossMasterFailover(t *testing.T) {
	cluster := emulator.New(t, emulator.Config{PersistRegistry: true})
	f := newFramework(t, cluster.MasterURL())
	executor, agentID, ids := f.launch(3)
	f.awaitStates(ids, "STARTING", "RUNNING")
	if err := cluster.Failover(); err != nil {
		t.Fatal(err)
	}
	f.await("second subscription", func() bool { return len(f.subscriptions) == 2 })
	if a, b := f.subscriptions[0].FrameworkID, f.subscriptions[1].FrameworkID; a != b {
		t.Errorf("framework %s became %s", a, b)
	}
	ctx, cancel := context.WithTimeout(f.ctx, deadline)
	defer cancel()
	if err := cluster.AwaitAgents(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Reconcile(f.ctx, master.Task{ID: ids[0], AgentID: agentID}, master.Task{ID: "never", AgentID: agentID}); err != nil {
		t.Fatal(err)
	}
	f.await("answers", func() bool { return f.answers[ids[0]] == "RUNNING" && f.answers["never"] == "GONE" })
	if err := f.Kill(f.ctx, ids[0], agentID, nil); err != nil {
		t.Fatal(err)
	}
	f.awaitStates(ids[:1], "STARTING", "RUNNING", "KILLED")
	if err := f.Shutdown(f.ctx, executor, agentID); err != nil {
		t.Fatal(err)
	}
	f.awaitStates(ids, "STARTING", "RUNNING", "KILLED")
}

func TestFailedOver_EndsTheOlderScheduler(t *testing.T) {
	cluster := emulator.New(t, emulator.Config{Agents: -1})
	older := newFramework(t, cluster.MasterURL())
	older.await("subscription", func() bool { return len(older.subscriptions) == 1 })
	client, err := master.New(master.Config{Masters: cluster.MasterURL()}, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	newer := startFramework(t, client, older.subscriptions[0].FrameworkID)
	newer.await("subscription", func() bool { return len(newer.subscriptions) == 1 })
	select {
	case <-older.done:
	case <-time.After(deadline):
		t.Fatal("the older one goes on")
	}
	if !errors.Is(older.err, master.ErrFailedOver) {
		t.Errorf("Run returns %v", older.err)
	}
	if err := newer.Teardown(newer.ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-newer.done:
	case <-time.After(deadline):
		t.Fatal("a framework that was torn down goes on")
	}
	if !errors.Is(newer.err, master.ErrRemoved) {
		t.Errorf("after TEARDOWN: %v", newer.err)
	}
}

func TestLeaderFromZooKeeper(t *testing.T) {
	server := zookeeper.Start(t, zookeeper.Options{})
	conn := server.Connect(t)
	first := emulator.New(t, emulator.Config{Agents: -1})
	second := emulator.New(t, emulator.Config{Agents: -1})
	// The client watches a path that is not there yet.
	f := newFramework(t, server.URL("/mesos"))
	if _, err := conn.Create("/mesos", nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	announce := func(c *emulator.Cluster) string {
		t.Helper()
		u, err := url.Parse(c.MasterURL())
		if err != nil {
			t.Fatal(err)
		}
		data := fmt.Sprintf(`{"address":{"hostname":"does.not.resolve.invalid","ip":%q,"port":%s},"id":"m"}`, u.Hostname(), u.Port())
		node, err := conn.Create("/mesos/json.info_", []byte(data), zk.FlagEphemeral|zk.FlagSequence, zk.WorldACL(zk.PermAll))
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	node := announce(first)
	f.await("first", func() bool { return len(f.subscriptions) == 1 && f.subscriptions[0].URL == first.MasterURL() })
	announce(second)
	// ZooKeeper's own death is no reason to leave a master that answers.
	if err := server.Restart(f.ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.Revive(f.ctx); err != nil {
		t.Errorf("call while ZooKeeper was away: %v", err)
	}
	for { // each attempt waits until the server has been tried for a second
		err := conn.Delete(node, -1)
		if err == nil {
			break
		}
		if f.ctx.Err() != nil || errors.Is(err, zk.ErrNoNode) {
			t.Fatal(err)
		}
	}
	f.await("second", func() bool { return len(f.subscriptions) == 2 && f.subscriptions[1].URL == second.MasterURL() })
}
