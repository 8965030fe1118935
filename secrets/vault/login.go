package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"pacer/secrets"
)

// login is a token of Vault's.
type login struct {
	vault *Client
	token secrets.Secret
	// revocable says that the token was made for us and can be given back.
	revocable bool

	mu sync.Mutex
	// life is how long the token lives and whether it can be renewed. A zero
	// duration is for ever.
	life  secrets.Lease
	since time.Time // life was said
}

// left is how long the token still lives, and what part of its time that is.
func (l *login) left() (left secrets.Lease, part float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left = l.life
	if left.Duration > 0 {
		left.Duration = max(time.Until(l.since.Add(l.life.Duration)), time.Millisecond)
		part = float64(left.Duration) / float64(l.life.Duration)
	}
	return left, part
}

func (l *login) prolonged(life secrets.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life, l.since = life, time.Now()
}

func (c *Client) newLogin(token string, life secrets.Lease, revocable bool) *login {
	return &login{vault: c, token: secrets.NewSecret([]byte(token)), life: life, since: time.Now(), revocable: revocable}
}

// do makes a request with the token. The library's client for it lives no
// longer: hundreds of them would cost more than all leases.
func (l *login) do(request func(client *api.Client) error) error {
	client, err := l.vault.api.Clone()
	if err != nil {
		return err
	}
	client.SetToken(string(l.token.Reveal()))
	if namespace := l.vault.config.Namespace; namespace != "" {
		client.SetNamespace(namespace)
	}
	return request(client)
}

// revoke gives a token back, and with it all of its leases. It asks once.
func (c *Client) revoke(ctx context.Context, l *login) error {
	if l == nil || !l.revocable {
		return nil
	}
	return c.once(ctx, func(ctx context.Context) error {
		return l.do(func(client *api.Client) error { return client.Auth().Token().RevokeSelfWithContext(ctx, "") })
	})
}

// once makes a request that is not worth waiting for a Vault that cannot answer.
func (c *Client) once(ctx context.Context, request func(ctx context.Context) error) error {
	if err := c.hold(ctx, c.slots, func(string) {}); err != nil {
		return err
	}
	defer func() { <-c.slots }()
	return request(ctx)
}

// logIn logs in with the host's own credential, or with a task's token.
func (c *Client) logIn(ctx context.Context, token secrets.Secret, waiting func(string)) (*login, error) {
	op := fmt.Sprintf("log in with role %s at %s", c.config.Role, c.config.mount())
	switch c.config.Auth {
	case AuthToken:
		token, err := credential("log in", EnvTokenFile, c.config.TokenFile)
		if err != nil {
			return nil, err
		}
		return c.newLogin(token, secrets.Lease{}, false), nil
	case AuthAppRole:
		roleID, err := credential(op, EnvRoleIDFile, c.config.RoleIDFile)
		if err != nil {
			return nil, err
		}
		secretID, err := c.secretID(ctx, op, waiting)
		if err != nil {
			return nil, err
		}
		return c.ask(ctx, op, waiting, map[string]any{"role_id": roleID, "secret_id": secretID},
			"refused: check that the role exists and that its role id and secret id are valid and bound to this host")
	case AuthCert:
		return c.ask(ctx, op, waiting, map[string]any{"name": c.config.Role},
			"refused: check that the role exists and trusts the certificate of "+EnvClientCert)
	}
	return c.ask(ctx, op, waiting, map[string]any{"role": c.config.Role, "jwt": string(token.Reveal())},
		"refused: check that the mount and the role exist, that Vault trusts the scheduler's keys, and that the role's bound claims admit this app")
}

// ask makes the request of a login.
func (c *Client) ask(ctx context.Context, op string, waiting func(string), data map[string]any, refusal string) (*login, error) {
	var answer *api.Secret
	err := c.do(ctx, op, waiting, func(ctx context.Context) (err error) {
		answer, err = c.api.Logical().WriteWithContext(ctx, c.config.mount()+"/login", data)
		return err
	})
	if err != nil {
		return nil, permanent(err, op, refusal)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return nil, &Error{Op: op, Problem: "the answer holds no token: is " + EnvAddress + " a Vault server?"}
	}
	auth := answer.Auth
	// Batch tokens have no accessor; they cannot be revoked and end by
	// themselves.
	return c.newLogin(auth.ClientToken, secrets.Lease{Duration: seconds(auth.LeaseDuration), Renewable: auth.Renewable}, auth.Accessor != ""), nil
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// credential reads a file that holds one word.
func credential(op, variable, path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", &Error{Op: op, Problem: fmt.Sprintf("%s cannot be read: %v", variable, err)}
	}
	content = bytes.TrimSpace(content)
	if len(content) == 0 || bytes.ContainsAny(content, "\n\r\x00 ") {
		return "", &Error{Op: op, Problem: "the file of " + variable + " does not hold one word on one line"}
	}
	return string(content), nil
}

// secretID is the file's, or what its wrapping token stands for. The caller
// holds the host's login.
func (c *Client) secretID(ctx context.Context, op string, waiting func(string)) (string, error) {
	word, err := credential(op, EnvSecretIDFile, c.config.SecretIDFile)
	if err != nil || !c.config.Wrapped {
		return word, err
	}
	if word == c.host.wrapping {
		return c.host.secretID, nil
	}
	alarm := func(problem string, status int) error {
		c.log.Error().Bool("security", true).Str("error", problem).Int("status", status).Msg("secret id not trusted")
		return &Error{Op: op, Status: status, Security: true, Problem: problem}
	}
	const spent = "the wrapping token in the file of " + EnvSecretIDFile + " is spent, expired or not one: if nobody of yours has used it, somebody else has; issue a new one"
	// Looking up does not spend the token.
	var answer *api.Secret
	err = c.do(ctx, op, waiting, func(ctx context.Context) (err error) {
		answer, err = c.api.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": word})
		return err
	})
	if status := statusOf(err); status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusNotFound {
		return "", alarm(spent, status)
	}
	if err != nil {
		return "", permanent(err, op, "the wrapping token cannot be looked up")
	}
	want := fmt.Sprintf("%s/role/%s/secret-id", c.config.mount(), c.config.Role)
	var made string
	if answer != nil {
		made, _ = answer.Data["creation_path"].(string)
	}
	if made != want {
		return "", alarm(fmt.Sprintf("the wrapping token in the file of %s was not made by %s: somebody may have put another in its place; issue a new one", EnvSecretIDFile, want), 0)
	}
	// Asked once: an answer that was lost has spent the token all the same.
	unwrapping, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	// The library makes the wrapping token the client's own.
	err = c.newLogin(word, secrets.Lease{}, false).do(func(client *api.Client) (err error) {
		answer, err = client.Logical().UnwrapWithContext(unwrapping, word)
		return err
	})
	if status := statusOf(err); status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusNotFound {
		return "", alarm(spent, status)
	}
	if err != nil {
		return "", permanent(err, op, "the wrapping token cannot be unwrapped")
	}
	secretID := ""
	if answer != nil {
		secretID, _ = answer.Data["secret_id"].(string)
	}
	if secretID == "" {
		return "", &Error{Op: op, Problem: "the wrapping token does not stand for a secret id: issue one with vault write -wrap-ttl=... -f " + want}
	}
	c.host.wrapping, c.host.secretID = word, secretID
	return secretID, nil
}

// hostLogin is the login that all tasks share where the host has a credential.
// It is used for what gives no lease, as long as some session needs it.
type hostLogin struct {
	held chan struct{} // a lock that a context can give up
	used int           // sessions
	*login

	wrapping string // the last wrapping token
	secretID string // that it stood for
}

func newHostLogin() hostLogin { return hostLogin{held: make(chan struct{}, 1)} }

// join makes a session use the host's login; instead names one that has ended.
func (c *Client) join(ctx context.Context, waiting func(string), first bool, instead *login) (*login, error) {
	if err := c.hold(ctx, c.host.held, waiting); err != nil {
		return nil, &WaitError{Op: "log in", Reason: "another task's login has not been answered yet", cause: err}
	}
	defer func() { <-c.host.held }()
	if c.host.login == nil || c.host.login == instead {
		made, err := c.logIn(ctx, secrets.Secret{}, waiting)
		if err != nil {
			return nil, err
		}
		c.host.login = made
	}
	if first {
		c.host.used++
	}
	return c.host.login, nil
}

// part ends a session's use. The last one gives the login back.
func (c *Client) part(ctx context.Context) error {
	select {
	case c.host.held <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.host.used--
	var last *login
	if c.host.used == 0 {
		last, c.host.login = c.host.login, nil
	}
	<-c.host.held
	return c.revoke(ctx, last)
}

// claims are what a task's token says, unverified: Vault verifies it, and this
// is to notice a token that does not belong to the task, and its end.
type claims struct {
	App    string `json:"app"`
	Task   string `json:"task"`
	Expiry int64  `json:"exp"`
}

func readClaims(token secrets.Secret) (c claims, ok bool) {
	parts := bytes.Split(token.Reveal(), []byte("."))
	if len(parts) != 3 {
		return c, false
	}
	content := make([]byte, base64.RawURLEncoding.DecodedLen(len(parts[1])))
	if _, err := base64.RawURLEncoding.Decode(content, parts[1]); err != nil {
		return c, false
	}
	return c, json.Unmarshal(content, &c) == nil
}

// tokenMargin is how long before its end a task's token is replaced.
const tokenMargin = 30 * time.Second

// token returns the task's token, a fresh one if it has ended or is refused.
// The caller holds loggingIn.
func (s *session) token(ctx context.Context, refused bool) (secrets.Secret, error) {
	op := fmt.Sprintf("log in with role %s at %s", s.client.config.Role, s.client.config.mount())
	const remedy = "launch it through Pacer's scheduler, or set " + EnvAuth + " to another method"
	if s.id.Token.Empty() {
		return secrets.Secret{}, &Error{Op: op, Problem: "the task has no identity token: " + remedy}
	}
	said, err := s.check(op, s.id.Token, remedy)
	if err != nil {
		return secrets.Secret{}, err
	}
	if s.id.Fresh == nil || !refused && time.Until(time.Unix(said.Expiry, 0)) > tokenMargin {
		return s.id.Token, nil
	}
	s.waiting("a fresh identity token from the scheduler")
	fresh, err := s.id.Fresh(ctx)
	if err != nil {
		return secrets.Secret{}, &WaitError{Op: op, Reason: "the scheduler has not sent a fresh identity token", cause: err}
	}
	if _, err := s.check(op, fresh, remedy); err != nil {
		return secrets.Secret{}, err
	}
	s.id.Token = fresh
	return fresh, nil
}

// check notices a token that is not this task's.
func (s *session) check(op string, token secrets.Secret, remedy string) (claims, error) {
	said, ok := readClaims(token)
	switch {
	case !ok:
		return said, &Error{Op: op, Problem: "the task's identity token is no signed token: " + remedy}
	case said.App != s.id.App || said.Task != s.id.Task:
		return said, &Error{Op: op, Security: true, Problem: fmt.Sprintf("the identity token is not that of task %s of app %s: %s", s.id.Task, s.id.App, remedy)}
	}
	return said, nil
}
