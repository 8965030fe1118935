package vault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/rs/zerolog"

	"pacer/secrets"
)

// requestsAtOnce bounds the requests that one executor has under way, however
// many tasks it launches together.
const requestsAtOnce = 8

// Client reads secrets for all tasks of an executor. Its methods can be called
// from many goroutines.
type Client struct {
	config   Config
	template template // nil without one
	api      *api.Client
	log      zerolog.Logger
	gate     *gate
	slots    chan struct{} // as many places as requests may be under way
	host     hostLogin

	mu      sync.Mutex
	mounts  map[string]int           // key-value version by mount path with a slash behind
	looking map[string]chan struct{} // held while a mount is looked up, by app and path
}

var _ secrets.Source = (*Client)(nil)

// New makes a client; it asks Vault for nothing yet.
func New(config Config, log zerolog.Logger) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	library := api.DefaultConfig()
	// What DefaultConfig reads from this process' environment is set below or
	// not wanted; its error is about that reading.
	library.Error = nil
	library.Address, library.AgentAddress = config.Address, ""
	library.MaxRetries = 0
	library.Timeout = config.Timeout
	library.Limiter = nil
	base := library.HttpClient.Transport.(*http.Transport)
	base.Proxy = nil
	base.DialContext = (&net.Dialer{Timeout: config.Timeout}).DialContext
	base.MaxIdleConnsPerHost = requestsAtOnce
	if err := library.ConfigureTLS(&api.TLSConfig{
		CACert: config.CACert, CAPath: config.CAPath,
		ClientCert: config.ClientCert, ClientKey: config.ClientKey,
		TLSServerName: config.TLSServerName, Insecure: config.SkipVerify,
	}); err != nil {
		return nil, fmt.Errorf("TLS settings for Vault (VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY): %w", err)
	}
	library.HttpClient.Transport = transport{base}
	client, err := api.NewClient(library)
	if err != nil {
		return nil, fmt.Errorf("%s: the Vault library refuses the address", EnvAddress)
	}
	client.ClearToken()
	client.ClearNamespace()
	if config.Namespace != "" {
		client.SetNamespace(config.Namespace)
	}
	c := &Client{
		config: config, api: client, log: log,
		gate: newGate(), slots: make(chan struct{}, requestsAtOnce), host: newHostLogin(),
		mounts: map[string]int{}, looking: map[string]chan struct{}{},
	}
	if config.Template != "" {
		if c.template, err = parseTemplate(config.Template); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.api.CloneConfig().HttpClient.CloseIdleConnections()
}

// Open logs in as [secrets.Source] asks. Where a template bounds the paths, the
// login comes with the first read that it allows, so that nothing is asked on
// behalf of a task that it does not.
func (c *Client) Open(ctx context.Context, id secrets.Identity, waiting func(reason string)) (secrets.Session, error) {
	if waiting == nil {
		waiting = func(string) {}
	}
	s := &session{client: c, id: id, waiting: onChange(waiting), loggingIn: make(chan struct{}, 1)}
	if c.template != nil {
		return s, nil
	}
	if _, err := s.login(ctx, s.usesHost(), nil); err != nil {
		return nil, err
	}
	return s, nil
}

// onChange calls f only when the reason differs from the one before. Reads of
// one task run beside each other and share it.
func onChange(f func(string)) func(string) {
	var mu sync.Mutex
	var last string
	return func(reason string) {
		mu.Lock()
		defer mu.Unlock()
		if reason != last {
			last = reason
			f(reason)
		}
	}
}

// hold takes a place in held, and says what it waits for while Vault cannot
// answer those who have one.
func (c *Client) hold(ctx context.Context, held chan struct{}, waiting func(string)) error {
	for {
		reason, changed := c.gate.state()
		if reason != "" {
			waiting(reason)
		}
		select {
		case held <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// do makes one request, again and again while the failure may pass. request
// must return the Vault library's error unwrapped.
func (c *Client) do(ctx context.Context, op string, waiting func(string), request func(ctx context.Context) error) error {
	started, tries, reason := time.Now(), 0, "another task's request to Vault has not been answered yet"
	giveUp := func() error {
		return &WaitError{Op: op, Reason: reason, Tries: tries, Took: time.Since(started), cause: ctx.Err()}
	}
	note := func(why string) {
		reason = why
		waiting(why)
	}
	for {
		if err := c.hold(ctx, c.slots, note); err != nil {
			return giveUp()
		}
		// The slot is held while the gate is shut, too: what waits behind it
		// would wait for the same thing.
		if err := c.gate.enter(ctx); err != nil {
			<-c.slots
			return giveUp()
		}
		tries++
		var retryAfter time.Duration
		attempt, cancel := context.WithTimeout(context.WithValue(ctx, retryAfterKey{}, &retryAfter), c.config.Timeout)
		err := request(attempt)
		cancel()
		<-c.slots
		if err == nil {
			c.gate.leave("", 0)
			return nil
		}
		if ctx.Err() != nil {
			c.gate.abandon()
			return giveUp()
		}
		why, again := transient(err)
		if !again {
			c.gate.leave("", 0)
			return err
		}
		why += " at " + c.config.Address
		c.gate.leave(why, retryAfter)
		c.log.Debug().Str("op", op).Int("tries", tries).Str("wait_for", why).Msg("vault request will be repeated")
		note(why)
	}
}

// permanent turns a failure that do did not repeat into an [Error]. WaitErrors
// pass through.
func permanent(err error, op, problem string) error {
	if _, ok := errors.AsType[*WaitError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if statusOf(err) == 0 {
		problem = "Vault's certificate does not verify: check " + EnvCACert + " and " + EnvTLSServerName
	}
	return &Error{Op: op, Status: statusOf(err), Problem: problem}
}
