package master

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"
)

// Errors that end [Client.Run]: subscribing again would not help.
var (
	// ErrFailedOver: another scheduler has subscribed with this framework ID.
	// The process must end; two that subscribe in turn evict each other.
	ErrFailedOver = errors.New("framework failed over to another scheduler")
	// ErrRemoved: the framework was torn down or stayed away beyond its failover
	// timeout. Its ID is dead and all its tasks have been killed.
	ErrRemoved = errors.New("framework has been removed from the cluster")
	// ErrRefused: the master rejects the FrameworkInfo (role, principal, ...) or
	// the credentials; the message has its words.
	ErrRefused = errors.New("master refuses the subscription")
)

// Errors of calls. An error that wraps neither of the first two and is not
// [ErrOutcomeUnknown] came from checking the arguments: nothing was sent.
var (
	// ErrNotSubscribed: there is no subscription, or no connection to its master;
	// the call was not sent.
	ErrNotSubscribed = errors.New("not subscribed to a master")
	// ErrCallRefused: the master answered with something else than 202 and did
	// not act. It wraps a *mesosapi.StatusError.
	ErrCallRefused = errors.New("master refuses the call")
	// ErrOutcomeUnknown: the connection failed after the call may have been
	// sent. Reconcile before deciding.
	ErrOutcomeUnknown = errors.New("outcome of the call is unknown")
)

// Config says where the masters are and how to speak to them.
type Config struct {
	// Masters is "zk://[user:password@]host:port,host:port/path" or
	// "http://host:port,host:port" (https likewise).
	Masters string
	// Principal and Secret are for HTTP basic authentication; both or neither.
	Principal, Secret string
	// TLS is how to check the masters' certificates (and our own); it makes
	// masters found through ZooKeeper be spoken to by https. With https URLs
	// nil means the system's authorities.
	TLS *tls.Config
}

// Framework is what to subscribe as.
type Framework struct {
	// Info has the ID of an earlier life, or none to be given a new one. Within
	// one Run the client adds the ID it was given.
	Info mesos.FrameworkInfo
	// SuppressedRoles are those that want no offers; every SUBSCRIBE replaces
	// the master's set.
	SuppressedRoles []string
}

// Handler receives events of the current subscription. All methods are called
// from one goroutine, in the order of the events, and must not block: a blocked
// handler stops the reading of heartbeats. Calls of the [Client] block; make
// them elsewhere.
type Handler interface {
	// Subscribed reports each successful SUBSCRIBE. All offers known before are
	// void (Mesos sends no RESCIND for them).
	Subscribed(Subscription)
	// Disconnected reports the end of a subscription that had been reported by
	// Subscribed; the client goes on to find a master unless Run returns.
	Disconnected(reason error)
	Offers([]mesos.Offer)
	Rescind(offerID string)
	// Update hands over a status. Acknowledge it after processing if it has a
	// UUID. Expect repetitions of the same UUID.
	Update(mesos.TaskStatus)
	Message(agentID, executorID string, data []byte)
	// Failure reports an agent (executorID "") or executor that has gone; status
	// is the executor's raw wait status, -1 when unknown. It is not reliable.
	Failure(agentID, executorID string, status int32)
}

// Subscription is what the master says when it accepts a SUBSCRIBE.
type Subscription struct {
	FrameworkID string
	// Master is the leader; it is zero for masters that do not say.
	Master mesos.MasterInfo
	// URL is the leader's base address, "http://10.0.0.1:5050", for its
	// operator API and links.
	URL string
	// HeartbeatInterval is the master's; after five without any event the
	// subscription is given up.
	HeartbeatInterval time.Duration
}

// Client keeps one framework subscribed. Its call methods may be used from any
// goroutine; each has a deadline of 15 s of its own besides ctx.
type Client struct {
	config Config
	log    zerolog.Logger
	finder finder
	dial   dialFunc

	// current is what calls are sent on; nil while not subscribed.
	current atomic.Pointer[subscription]
	// id is the framework's, once the master has given one. Only Run uses it.
	id string
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

const (
	// firstEvent is how long an open stream may stay without its first event;
	// the master may have to ask an authorizer.
	firstEvent = 30 * time.Second
	// missedHeartbeats end a subscription.
	missedHeartbeats = 5
	// defaultHeartbeat is for masters that do not say their interval.
	defaultHeartbeat = 15 * time.Second
	// newLeaderPause is the longest random wait before connecting to a new
	// leader, which all frameworks of the cluster do at the same time.
	newLeaderPause = 500 * time.Millisecond
	// maxConnections bounds the connections to the master beside the stream.
	maxConnections = 32
)

// Keys of log fields.
const (
	keyMaster    = "master"
	keyFramework = "framework_id"
	keyAttempts  = "attempts"
	keyEvent     = "event"
	keyPause     = "wait_for"
)

// New checks the configuration; nothing happens before [Client.Run].
func New(config Config, log zerolog.Logger) (*Client, error) {
	return newClient(config, log, nil)
}

func newClient(config Config, log zerolog.Logger, dial dialFunc) (*Client, error) {
	var problems []error
	finder, err := newFinder(config, log)
	if err != nil {
		problems = append(problems, err)
	}
	if (config.Principal == "") != (config.Secret == "") {
		problems = append(problems, errors.New("one of principal and secret is set without the other: set both or none"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Client{config: config, log: log, finder: finder, dial: dial}, nil
}

// Run finds the leader, subscribes and delivers events to h until ctx ends
// (then it returns nil) or until subscribing again would not help; the error
// then wraps [ErrFailedOver], [ErrRemoved] or [ErrRefused]. framework is asked
// before each SUBSCRIBE. It is called once.
func (c *Client) Run(ctx context.Context, framework func() Framework, h Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var finding sync.WaitGroup
	defer finding.Wait()
	defer cancel()
	finding.Go(func() { c.finder.run(ctx) })

	var last master // the one subscribed to last
	var backoff backoff
	for {
		leader, err := c.finder.leader(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		if last != (master{}) && leader != last && !sleep(ctx, rand.N(newLeaderPause), nil) {
			return nil
		}
		began := time.Now()
		subscribed, err := c.attempt(ctx, leader, framework(), h)
		if ctx.Err() != nil {
			return nil
		}
		if fatal(err) {
			return fmt.Errorf("master at %s: %w", leader.url, err)
		}
		if subscribed {
			last = leader
		}
		if again := c.finder.tried(leader, err); again {
			continue
		}
		pause, report := backoff.failed(time.Now(), subscribed && time.Since(began) > steady, rand.Float64())
		if report && !subscribed { // the end of a subscription has its own line
			c.log.Warn().Str(keyMaster, leader.url).Err(err).Int(keyAttempts, backoff.failures).Stringer(keyPause, pause).Msg("master_not_reached")
		}
		if !sleep(ctx, pause, c.finder.moved(leader)) {
			return nil
		}
	}
}

// sleep waits for d or until early, which may be nil, is closed. It returns
// false when ctx has ended.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// fatal tells that subscribing again would not help.
func fatal(err error) bool {
	return errors.Is(err, ErrFailedOver) || errors.Is(err, ErrRemoved) || errors.Is(err, ErrRefused)
}
