package master

import (
	"context"
	"crypto/tls"
	"errors"
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
	// ErrNotSubscribed: there is no subscription; the call was not sent.
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
}

// New checks the configuration; nothing happens before [Client.Run].
func New(config Config, log zerolog.Logger) (*Client, error) {
	return &Client{config: config, log: log}, nil
}

// Run finds the leader, subscribes and delivers events to h until ctx ends
// (then it returns nil) or until subscribing again would not help; the error
// then wraps [ErrFailedOver], [ErrRemoved] or [ErrRefused]. framework is asked
// before each SUBSCRIBE.
func (c *Client) Run(ctx context.Context, framework func() Framework, h Handler) error {
	<-ctx.Done()
	return nil
}
