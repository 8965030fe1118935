package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

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
	slots    *semaphore.Weighted

	mu     sync.Mutex
	mounts map[string]int // key-value version by mount path with a slash behind
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
		gate: newGate(), slots: semaphore.NewWeighted(requestsAtOnce), mounts: map[string]int{},
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

// Open logs in as [secrets.Source] asks.
func (c *Client) Open(ctx context.Context, id secrets.Identity, waiting func(reason string)) (secrets.Session, error) {
	if waiting == nil {
		waiting = func(string) {}
	}
	s := &session{client: c, id: id, waiting: onChange(waiting)}
	if err := s.login(ctx); err != nil {
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

// do makes one request, again and again while the failure may pass. request
// must return the Vault library's error unwrapped.
func (c *Client) do(ctx context.Context, op string, waiting func(string), request func(ctx context.Context) error) error {
	started, tries, reason := time.Now(), 0, "another task's request to Vault has not been answered yet"
	giveUp := func() error {
		return &WaitError{Op: op, Reason: reason, Tries: tries, Took: time.Since(started), cause: ctx.Err()}
	}
	for {
		if err := c.slots.Acquire(ctx, 1); err != nil {
			return giveUp()
		}
		// The slot is held while the gate is shut, too: what waits behind it
		// would wait for the same thing.
		if err := c.gate.enter(ctx); err != nil {
			c.slots.Release(1)
			return giveUp()
		}
		tries++
		var retryAfter time.Duration
		attempt, cancel := context.WithTimeout(context.WithValue(ctx, retryAfterKey{}, &retryAfter), c.config.Timeout)
		err := request(attempt)
		cancel()
		c.slots.Release(1)
		if err == nil {
			c.gate.leave(true, 0)
			return nil
		}
		if ctx.Err() != nil {
			c.gate.abandon()
			return giveUp()
		}
		why, again := transient(err)
		if !again {
			c.gate.leave(true, 0)
			return err
		}
		c.gate.leave(false, retryAfter)
		reason = why + " at " + c.config.Address
		c.log.Debug().Str("op", op).Int("tries", tries).Str("wait_for", reason).Msg("vault request will be repeated")
		waiting(reason)
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

// login gets a token for the session.
func (s *session) login(ctx context.Context) error {
	c := s.client
	if c.config.Auth == AuthToken {
		token, err := os.ReadFile(c.config.TokenFile)
		if err != nil {
			return &Error{Op: "log in", Problem: fmt.Sprintf("%s cannot be read: %v", EnvTokenFile, err)}
		}
		token = bytes.TrimSpace(token)
		if len(token) == 0 || bytes.ContainsAny(token, "\n\r\x00 ") {
			return &Error{Op: "log in", Problem: "the file of " + EnvTokenFile + " does not hold one token on one line"}
		}
		return s.setToken(string(token), false)
	}
	op := fmt.Sprintf("log in with role %s at auth/%s", c.config.Role, strings.Trim(c.config.Mount, "/"))
	if s.id.Token.Empty() {
		return &Error{Op: op, Problem: "the task has no identity token: launch it through Pacer's scheduler, or set " + EnvAuth + " to another method"}
	}
	var answer *api.Secret
	err := c.do(ctx, op, s.waiting, func(ctx context.Context) (err error) {
		answer, err = c.api.Logical().WriteWithContext(ctx, "auth/"+strings.Trim(c.config.Mount, "/")+"/login", map[string]any{
			"role": c.config.Role,
			"jwt":  string(s.id.Token.Reveal()),
		})
		return err
	})
	if err != nil {
		return permanent(err, op, "refused: check that the mount and the role exist, that Vault trusts the scheduler's keys, and that the role's bound claims admit this app")
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return &Error{Op: op, Problem: "the answer holds no token: is " + EnvAddress + " a Vault server?"}
	}
	// Batch tokens have no accessor; they cannot be revoked and end by
	// themselves.
	return s.setToken(answer.Auth.ClientToken, answer.Auth.Accessor != "")
}
