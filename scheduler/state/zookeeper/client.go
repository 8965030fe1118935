package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rs/zerolog"

	"pacer/scheduler/state"
)

const (
	// maxReply is the largest answer that is read: a list of the children of
	// one bucket, or of a node of 64 KiB.
	maxReply = 4 << 20
	// repeatPause is the time between attempts while there is no connection.
	repeatPause = 100 * time.Millisecond
	// reportPause is the time between two log lines about the same trouble.
	reportPause = time.Minute
)

// Keys of log lines.
const (
	keyServers = "servers"
	keySession = "session"
	keyError   = "error"
	keyPath    = "path"
	keyRoot    = "root"
	keySince   = "for"
)

// Client is a session with ZooKeeper, which is replaced when it ends. Its
// methods may be called from any goroutine.
type Client struct {
	config Config
	log    zerolog.Logger
	conn   *zk.Conn
	events <-chan zk.Event
	dialer *dialer
	stop   context.CancelFunc

	// ready is closed once our credentials are in place.
	ready chan struct{}

	mu      sync.Mutex
	closed  bool
	up      bool
	since   time.Time // of up's last change
	session int64
	ended   chan struct{} // closed when session has ended
	running sync.WaitGroup
}

// Connect begins a session. It does not wait for it: methods do.
func Connect(config Config, log zerolog.Logger) (*Client, error) {
	if config.SessionTimeout <= 0 {
		config.SessionTimeout = DefaultSessionTimeout
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{
		config: config, log: log.With().Strs(keyServers, config.Servers).Logger(), stop: stop,
		dialer: &dialer{patience: config.SessionTimeout, tls: config.TLS},
		ready:  make(chan struct{}), ended: make(chan struct{}), since: time.Now(),
	}
	// The library calls back before Connect has returned.
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	c.conn, c.events, err = zk.Connect(config.Servers, config.SessionTimeout,
		zk.WithDialer(c.dialer.dial), zk.WithHostProvider(new(hosts)), zk.WithMaxBufferSize(maxReply),
		zk.WithEventCallback(c.event), zk.WithLogger(libraryLog{c.log}), zk.WithLogInfo(false))
	if err != nil {
		stop()
		return nil, fmt.Errorf("connect to ZooKeeper: %w", err)
	}
	c.running.Go(func() { c.authenticate(ctx) })
	c.running.Go(func() { c.reportLoop(ctx) })
	return c, nil
}

// event is called by the library's goroutines and must not block.
func (c *Client) event(e zk.Event) {
	if e.Type != zk.EventSession {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.State {
	case zk.StateHasSession:
		c.up, c.since, c.session = true, time.Now(), c.conn.SessionID()
	case zk.StateExpired:
		close(c.ended)
		c.ended = make(chan struct{})
		c.session = 0
		fallthrough
	case zk.StateDisconnected:
		if c.up {
			c.up, c.since = false, time.Now()
		}
	}
}

// authenticate gives our credentials to the first session. The library
// repeats them on later connections.
func (c *Client) authenticate(ctx context.Context) {
	for _, credential := range c.config.Access.auth {
		for {
			err := c.conn.AddAuth(credential.scheme, credential.secret)
			if err == nil {
				break
			}
			c.dialer.note(fmt.Errorf("credentials of scheme %s: %w", credential.scheme, err))
			if !sleep(ctx, repeatPause) {
				return
			}
		}
	}
	close(c.ready)
}

// reportLoop logs changes of the connection, and what lasts, now and then.
func (c *Client) reportLoop(ctx context.Context) {
	const look = time.Second
	up, session := false, int64(0)
	next := c.sinceLast().Add(5 * look)
	for sleep(ctx, look) {
		c.mu.Lock()
		nowUp, nowSession, since := c.up, c.session, c.since
		c.mu.Unlock()
		switch {
		case nowUp && (!up || session != nowSession):
			c.log.Info().Str(keySession, fmt.Sprintf("%#x", uint64(nowSession))).Bool("new", session != nowSession).Msg("connected to ZooKeeper")
			c.dialer.note(nil)
		case !nowUp && time.Now().After(next):
			next = time.Now().Add(reportPause)
			c.log.Warn().AnErr(keyError, c.dialer.problem()).Dur(keySince, time.Since(since)).Msg("no connection to ZooKeeper; still trying")
		}
		if up, session = nowUp, max(nowSession, session); nowUp {
			session, next = nowSession, time.Now()
		}
	}
}

func (c *Client) sinceLast() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}

// Trouble is why requests cannot be answered now, or nil.
func (c *Client) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return state.ErrClosed
	case c.up:
		return nil
	}
	err := fmt.Errorf("no connection to ZooKeeper at %s for %s", strings.Join(c.config.Servers, ","), time.Since(c.since).Round(time.Second/10))
	if problem := c.dialer.problem(); problem != nil {
		err = fmt.Errorf("%w: %w", err, problem)
	}
	return err
}

// Session is the current session's number, 0 if there is none, and a channel
// that is closed when it has ended.
func (c *Client) Session() (id int64, ended <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.ended
}

// Root is the path above everything.
func (c *Client) Root() string { return c.config.Root }

// ACL is for nodes that are made.
func (c *Client) ACL() []zk.ACL { return c.config.Access.list() }

// Do makes one request and waits for its outcome until ctx ends; the request
// may then still be under way.
func (c *Client) Do(ctx context.Context, request func(*zk.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	outcome := make(chan error, 1) // nobody may be waiting any more
	begin := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return false
		}
		c.running.Go(func() {
			select {
			case <-c.ready:
				outcome <- request(c.conn)
			case <-ctx.Done():
				outcome <- ctx.Err()
			}
		})
		return true
	}
	if !begin() {
		return state.ErrClosed
	}
	select {
	case err := <-outcome:
		if err != nil && c.isClosed() {
			return fmt.Errorf("%w: %w", state.ErrClosed, err)
		}
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.Trouble())
	}
}

// Repeat is Do until there is an answer. It is for requests that may be made
// twice.
func (c *Client) Repeat(ctx context.Context, request func(*zk.Conn) error) error {
	for {
		err := c.Do(ctx, request)
		if !c.Unanswered(err) {
			return err
		}
		if !sleep(ctx, repeatPause) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Unanswered tells whether an error of Do says nothing about what became of
// the request, and trying again makes sense.
func (c *Client) Unanswered(err error) bool {
	switch {
	case err == nil, errors.Is(err, state.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}
	for _, answer := range answers {
		if errors.Is(err, answer) {
			return false
		}
	}
	return true
}

// answers are errors that a server has decided on, or the library before
// sending anything. All others come from the connection.
var answers = []error{
	zk.ErrNoNode, zk.ErrNoAuth, zk.ErrBadVersion, zk.ErrNoChildrenForEphemerals, zk.ErrNodeExists,
	zk.ErrNotEmpty, zk.ErrInvalidACL, zk.ErrAuthFailed, zk.ErrBadArguments, zk.ErrAPIError,
	zk.ErrInvalidPath, zk.ErrShortBuffer,
}

// Ensure makes a node and those above it, unless they are there. Nodes above
// root are for everybody.
func (c *Client) Ensure(ctx context.Context, path string) error {
	for at := 1; at <= len(path); at++ {
		if at < len(path) && path[at] != '/' {
			continue
		}
		part, acl := path[:at], c.ACL()
		if len(part) < len(c.config.Root) {
			acl = zk.WorldACL(zk.PermAll)
		}
		exists := false
		err := c.Repeat(ctx, func(conn *zk.Conn) (err error) {
			exists, _, err = conn.Exists(part)
			return err
		})
		if err == nil && !exists {
			err = c.Repeat(ctx, func(conn *zk.Conn) error {
				_, err := conn.Create(part, nil, 0, acl)
				return err
			})
		}
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return c.explain("make node "+part, err)
		}
	}
	return nil
}

// explain adds what to do about an error.
func (c *Client) explain(what string, err error) error {
	if errors.Is(err, zk.ErrNoAuth) {
		return fmt.Errorf("%s: %w: the node belongs to other credentials than those given; see --state-auth-file", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close ends the session, and with it everything that it owns, and waits for
// all requests. It takes 2 s at most when ZooKeeper does not answer.
func (c *Client) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	c.stop()
	c.conn.Close()
	c.dialer.close()
	c.running.Wait()
	for range c.events { // closed by the last of the library's goroutines
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// libraryLog takes what the library says, once a second while there is no
// server.
type libraryLog struct{ log zerolog.Logger }

// Printf is the library's logger.
func (l libraryLog) Printf(format string, args ...any) {
	l.log.Debug().Str("library", fmt.Sprintf(format, args...)).Msg("zookeeper")
}
