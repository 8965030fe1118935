package conformance_test

import (
	"context"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	execclient "pacer/executor/agent"
	"pacer/integration/mesos/probe"
	schedclient "pacer/scheduler/master"
)

// handler is an executor on Pacer's own client, which only remembers.
type handler struct {
	world      *world
	mu         sync.Mutex // guards what follows
	changed    chan struct{}
	subscribed int
	lost       error
	launched   []string
	kills      []string
	messages   [][]byte
}

// executorClient runs Pacer's client under the ids of a puppet.
func (w *world) executorClient(p *puppet, endpoint string) *handler {
	w.Helper()
	environment := p.environment()
	environment["MESOS_AGENT_ENDPOINT"] = endpoint
	config, err := execclient.ConfigFromEnv(func(name string) string { return environment[name] }, func(string) error { return nil })
	w.must(err)
	client, err := execclient.New(config, zerolog.Nop())
	w.must(err)
	h := &handler{world: w, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx, h) }()
	w.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

func (h *handler) note(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.changed)
	h.changed = make(chan struct{})
}

// await waits until found, which is called with the lock held, is true.
func (h *handler) await(what string, found func() bool) {
	h.world.Helper()
	timer := time.NewTimer(probe.Patience)
	defer timer.Stop()
	for {
		h.mu.Lock()
		ok, changed := found(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			h.world.Fatalf("our executor client: no %s within %v", what, probe.Patience)
		}
	}
}

func (h *handler) Subscribed(execclient.Subscription) { h.note(func() { h.subscribed++ }) }
func (h *handler) Launch(t mesos.TaskInfo) {
	h.note(func() { h.launched = append(h.launched, t.TaskID.Value) })
}
func (h *handler) LaunchGroup(group []mesos.TaskInfo) {
	for _, t := range group {
		h.Launch(t)
	}
}
func (h *handler) Kill(id string, _ *mesos.KillPolicy) {
	h.note(func() { h.kills = append(h.kills, id) })
}
func (h *handler) Message(data []byte)    { h.note(func() { h.messages = append(h.messages, data) }) }
func (h *handler) Disconnected(time.Time) {}
func (h *handler) Lost(err error)         { h.note(func() { h.lost = err }) }
func (h *handler) Shutdown()              {}

var _ execclient.Handler = (*handler)(nil)

// listener is a scheduler on Pacer's own client, which only remembers.
type listener struct {
	client *schedclient.Client
	world  *world
	ctx    context.Context

	mu            sync.Mutex // guards what follows
	changed       chan struct{}
	subscriptions []schedclient.Subscription
	disconnected  int
	offers        []mesos.Offer
	updates       []mesos.TaskStatus
	messages      [][]byte
}

// schedulerClient subscribes a framework by Pacer's client.
func (w *world) schedulerClient(masters string) *listener {
	w.Helper()
	client, err := schedclient.New(schedclient.Config{Masters: masters}, zerolog.Nop())
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	c := &listener{client: client, world: w, ctx: ctx, changed: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- client.Run(ctx, func() schedclient.Framework { return schedclient.Framework{Info: w.info()} }, c)
	}()
	w.Cleanup(func() {
		if w.real() {
			_ = client.Teardown(ctx) // the test is over
		}
		cancel()
		<-done
	})
	return c
}

// launch starts an executor with a task.
func (c *listener) launch() *puppet {
	w := c.world
	w.Helper()
	var offer mesos.Offer
	c.await("offer of the agent", func() bool {
		for _, o := range c.offers {
			if w.chosen(o) {
				offer = o
				return true
			}
		}
		return false
	})
	task := w.task("t1", "e1")
	task.AgentID = offer.AgentID
	w.must(c.client.Accept(c.ctx, []string{offer.ID.Value}, []mesos.Offer_Operation{probe.Launch(task)}, time.Hour))
	return w.puppet(offer.FrameworkID.Value, "e1")
}

// steady checks that the first subscription is the only one.
func (c *listener) steady() {
	c.world.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.world.equal("subscriptions of the scheduler", len(c.subscriptions), 1)
	c.world.equal("disconnections of the scheduler", c.disconnected, 0)
}

func (h *handler) steady() {
	h.world.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.world.equal("subscriptions of the executor", h.subscribed, 1)
}

func (c *listener) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *listener) await(what string, found func() bool) {
	c.world.Helper()
	c.awaitFor(probe.Patience, what, found)
}

// awaitFor waits until found, which is called with the lock held, is true.
func (c *listener) awaitFor(limit time.Duration, what string, found func() bool) {
	c.world.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c.mu.Lock()
		ok, changed := found(), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			c.world.Fatalf("our scheduler client: no %s within %v", what, limit)
		}
	}
}

func (c *listener) Subscribed(s schedclient.Subscription) {
	c.note(func() { c.subscriptions, c.offers = append(c.subscriptions, s), nil })
}
func (c *listener) Disconnected(error) { c.note(func() { c.disconnected++ }) }
func (c *listener) Offers(offers []mesos.Offer) {
	c.note(func() { c.offers = append(c.offers, offers...) })
}
func (c *listener) Rescind(string) {}
func (c *listener) Update(s mesos.TaskStatus) {
	c.note(func() { c.updates = append(c.updates, s) })
}
func (c *listener) Message(_, _ string, data []byte) {
	c.note(func() { c.messages = append(c.messages, data) })
}
func (c *listener) Failure(string, string, int32) {}

var _ schedclient.Handler = (*listener)(nil)
