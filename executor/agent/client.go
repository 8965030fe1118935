package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/mesosapi"
)

// Errors that say why a subscription ended for good; [Handler.Lost] and
// [Client.Run] give errors that wrap one of them.
var (
	// ErrRecoveryTimeout: the agent did not come back within
	// MESOS_RECOVERY_TIMEOUT, counted from the disconnect.
	ErrRecoveryTimeout = errors.New("agent did not come back in time")
	// ErrNotCheckpointing: the agent went away and the framework does not
	// checkpoint, so a restarted agent does not know this executor.
	ErrNotCheckpointing = errors.New("agent gone and the framework does not checkpoint")
	// ErrUnknownToAgent: the agent answers that it does not know this framework
	// or executor (400), as after a restart under a new agent ID.
	ErrUnknownToAgent = errors.New("agent does not know this executor")
	// ErrUnauthorized: the agent refuses the token (401 or 403).
	ErrUnauthorized = errors.New("agent refuses this executor's credentials")
)

// Errors of [Client.Update], [Client.Message] and [Client.Drain].
var (
	// ErrInvalidUpdate: the status could never be accepted by an agent.
	ErrInvalidUpdate = errors.New("invalid status update")
	// ErrClosed: Run has returned.
	ErrClosed = errors.New("agent client is closed")
)

// Handler receives what the agent says. All methods are called from one
// goroutine, in the order of the events, and must not block: events behind a
// blocked one, acknowledgements among them, wait. They may call the Client.
type Handler interface {
	// Subscribed reports each successful SUBSCRIBE; it is repeated after every
	// reconnect, and ExecutorInfo and AgentInfo may then differ.
	Subscribed(Subscription)
	// Launch asks for a task. The agent may repeat a task ID; a second launch of
	// a living task is to be ignored.
	Launch(mesos.TaskInfo)
	// LaunchGroup asks for tasks that live and die together.
	LaunchGroup([]mesos.TaskInfo)
	// Kill asks for the end of a task; policy, when not nil, replaces the
	// task's own. It may be repeated, name an unknown or ended task, and hold
	// a negative grace period (Mesos does not check it).
	Kill(taskID string, policy *mesos.KillPolicy)
	// Message hands over what the scheduler sent; delivery is not guaranteed.
	Message(data []byte)
	// Shutdown asks to kill every task, report, and exit within
	// Config.ShutdownGrace, after which the agent kills the container. It is
	// called once and may come before any Subscribed.
	Shutdown()
	// Disconnected reports that the agent has gone; since is when. Tasks go on.
	// Subscribed or Lost follows. It is not called after Shutdown.
	Disconnected(since time.Time)
	// Lost reports that there will be no subscription any more: the executor is
	// to deregister and kill its tasks, and exit. It is called at most once.
	// Updates are still delivered where the agent takes them.
	Lost(reason error)
}

// Subscription is what the agent says about the executor, its framework and
// itself when it accepts a SUBSCRIBE.
type Subscription struct {
	Executor  mesos.ExecutorInfo
	Framework mesos.FrameworkInfo
	Agent     mesos.AgentInfo
	// ContainerID is "" for agents that do not say it.
	ContainerID string
	// Again is set from the second subscription on.
	Again bool
}

// Client speaks to one agent. Its methods may be called from any goroutine.
type Client struct {
	config Config
	log    zerolog.Logger
	api    *mesosapi.Client

	// wake tells the session that the inbox has something; one token is enough
	// for any number of things.
	wake chan struct{}

	mu       sync.Mutex
	inbox    []mesos.TaskStatus
	messages [][]byte
	// pending counts the updates in the inbox and in the session's ledger;
	// idle is closed while it is zero.
	pending int
	idle    chan struct{}
	closed  bool
	// abandoned is why updates were given up without having been delivered.
	abandoned error
}

// maxMessages is how many messages may wait to be sent: they are small and
// rare, and lossy anyway.
const maxMessages = 64

// New makes a client; nothing happens before [Client.Run].
func New(config Config, log zerolog.Logger) (*Client, error) {
	return newClient(config, log, nil)
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func newClient(config Config, log zerolog.Logger, dial dialFunc) (*Client, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	api, err := mesosapi.New(mesosapi.Config{
		URL:    config.url(),
		Socket: config.DomainSocket,
		Token:  string(config.Token),
		TLS:    config.TLS,
		// A restarted agent waits SubscriptionBackoffMax for its executors: an
		// attempt that hangs must not use that up.
		DialTimeout:     min(time.Second, config.SubscriptionBackoffMax/2),
		ResponseTimeout: responseTimeout,
		MaxConnections:  maxFlying + 2, // and one each for messages and probes
		Dial:            dial,
	})
	if err != nil {
		return nil, err
	}
	idle := make(chan struct{})
	close(idle)
	return &Client{config: config, log: log, api: api, wake: make(chan struct{}, 1), idle: idle}, nil
}

// Run subscribes and delivers events to h until ctx ends. It returns nil, or
// the reason that was given to h.Lost. It goes on after Shutdown and Lost, to
// deliver updates: the executor ends ctx when [Client.Drain] has returned.
// It is called once.
func (c *Client) Run(ctx context.Context, h Handler) error {
	defer c.close()
	return newSession(c, h).run(ctx)
}

// Update queues a status for delivery and returns at once. Caller sets TaskID
// and State and what it wants to say (reason, message, healthy, labels, data),
// and does not change what status points to any more. UUID (version 4), source,
// executor ID, agent ID and, unless set, timestamp are filled in.
// Statuses of one task are delivered in the order of the calls.
// It may be called before Run. The error wraps [ErrInvalidUpdate] or is
// [ErrClosed].
func (c *Client) Update(status mesos.TaskStatus) error {
	status, err := c.config.complete(status, time.Now())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.pending == 0 {
		c.idle = make(chan struct{})
	}
	c.pending++
	c.inbox = append(c.inbox, status)
	c.signal()
	return nil
}

// Message sends data to the scheduler. It returns at once, and the message is
// dropped when there is no subscription, when the agent has no master, or when
// 64 others wait: ask again if the answer matters.
func (c *Client) Message(data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if len(c.messages) < maxMessages {
		c.messages = append(c.messages, data)
		c.signal()
	}
	return nil
}

func (c *Client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Drain returns nil when every update given so far has been acknowledged (in
// the detached state: accepted), or ctx's error, or why the updates cannot be
// delivered. Always give it a deadline: a status of a task that the agent has
// forgotten, and any status of a framework being torn down, is never
// acknowledged.
func (c *Client) Drain(ctx context.Context) error {
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
		return fmt.Errorf("wait for acknowledgement of %d updates: %w", c.Unacknowledged(), context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.abandoned
}

// Unacknowledged is the number of updates that wait for their acknowledgement.
func (c *Client) Unacknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}

// take empties the inbox.
func (c *Client) take() (updates []mesos.TaskStatus, messages [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	updates, messages = c.inbox, c.messages
	c.inbox, c.messages = nil, nil
	return updates, messages
}

// settled takes n updates off the count. reason is not nil when they were given
// up.
func (c *Client) settled(n int, reason error) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandonedLocked(reason)
	if c.pending -= n; c.pending == 0 {
		close(c.idle)
	}
}

func (c *Client) abandonedLocked(reason error) {
	if c.abandoned == nil {
		c.abandoned = reason
	}
}

func (c *Client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.pending > 0 {
		c.abandonedLocked(ErrClosed)
		c.pending = 0
		close(c.idle)
	}
	c.api.Close()
}
