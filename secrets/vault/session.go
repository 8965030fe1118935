package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"pacer/secrets"
)

// session is one task's. What gives leases is read with a login of its own,
// whose end is the leases' end.
type session struct {
	client  *Client
	id      secrets.Identity
	waiting func(reason string)

	loggingIn chan struct{} // a lock that a context can give up; guards id.Token

	mu     sync.Mutex
	own    *login
	shared *login // the host's
	joined bool
	again  time.Time // of the last repeated login
	// refused is why the last login failed; other reads of the same moment need
	// not try it, too.
	refused   error
	refusedAt time.Time
	// retired logins of our own may still live, and their leases be in use.
	retired []*login
}

var _ secrets.Session = (*session)(nil)

// usesHost reports whether tasks share the host's login.
func (s *session) usesHost() bool {
	return s.client.config.Auth == AuthAppRole || s.client.config.Auth == AuthCert
}

const refusedTime = 5 * time.Second

// login returns the session's own login or the host's, made when there is none
// or when it is the one that has ended.
func (s *session) login(ctx context.Context, shared bool, ended *login) (*login, error) {
	if err := s.client.hold(ctx, s.loggingIn, s.waiting); err != nil {
		return nil, &WaitError{Op: "log in", Reason: "another read's login has not been answered yet", cause: err}
	}
	defer func() { <-s.loggingIn }()
	s.mu.Lock()
	field := &s.own
	if shared {
		field = &s.shared
	}
	current, joined, refused := *field, s.joined, s.refused
	if time.Since(s.refusedAt) > refusedTime {
		refused = nil
	}
	s.mu.Unlock()
	if current != nil && current != ended {
		return current, nil
	}
	if refused != nil {
		return nil, refused
	}
	var made *login
	var err error
	switch {
	case shared:
		made, err = s.client.join(ctx, s.waiting, !joined, ended)
	case s.usesHost():
		// The wrapped secret id belongs to whoever holds the host's login.
		if err = s.client.hold(ctx, s.client.host.held, s.waiting); err == nil {
			made, err = s.client.logIn(ctx, secrets.Secret{}, s.waiting)
			<-s.client.host.held
		}
	case s.client.config.Auth == AuthJWT:
		var token secrets.Secret
		if token, err = s.token(ctx, false); err == nil {
			made, err = s.client.logIn(ctx, token, s.waiting)
		}
		if refusal, ok := errors.AsType[*Error](err); ok && ended != nil && !refusal.Security && s.id.Fresh != nil {
			if token, err = s.token(ctx, true); err == nil {
				made, err = s.client.logIn(ctx, token, s.waiting)
			}
		}
	default:
		made, err = s.client.logIn(ctx, secrets.Secret{}, s.waiting)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			s.refused, s.refusedAt = err, time.Now()
		}
		return nil, err
	}
	*field = made
	if shared {
		s.joined = true
	}
	if ended != nil {
		s.again = time.Now()
		if !shared {
			s.retired = append(s.retired, ended)
		}
	}
	return made, nil
}

// Read implements [secrets.Session].
func (s *session) Read(ctx context.Context, path string, version int) (none secrets.Content, err error) {
	ref := secrets.Ref{Path: path, Version: version}.String()
	op := "read " + ref
	if problem := secrets.CheckPath(path); problem != "" {
		return none, &Error{Op: op, Problem: problem}
	}
	if t := s.client.template; t != nil && !t.mayAllow(s.id.App, path) {
		return none, &Error{Op: op, Problem: fmt.Sprintf("outside of what app %s may read here (%s=%s)", s.id.App, EnvTemplate, strings.Join(t, "/"))}
	}
	mount, kv, err := s.mountOf(ctx, op, path)
	if err != nil {
		return none, err
	}
	if kv == 2 {
		if rest := strings.TrimPrefix(path, mount); !strings.HasPrefix(rest, "data/") {
			path = mount + "data/" + rest
		}
	} else if version > 0 {
		return none, &Error{Op: op, Problem: "a version is named, but the mount " + mount + " keeps none: leave @" + strconv.Itoa(version) + " out"}
	}
	if t := s.client.template; t != nil && !t.allows(s.id.App, path) {
		return none, &Error{Op: op, Problem: fmt.Sprintf("%s is outside of what app %s may read here (%s=%s)", path, s.id.App, EnvTemplate, strings.Join(t, "/"))}
	}
	var query map[string][]string
	if version > 0 {
		query = map[string][]string{"version": {strconv.Itoa(version)}}
	}
	answer, err := s.get(ctx, op, path, query, s.usesHost() && kv > 0)
	if err != nil {
		return none, permanent(err, op, s.refusal(err, path))
	}
	keys, err := contents(answer, op, kv)
	if err != nil {
		return none, err
	}
	return secrets.Content{Keys: keys, Lease: secrets.Lease{ID: answer.LeaseID, Duration: seconds(answer.LeaseDuration), Renewable: answer.Renewable}}, nil
}

// refusal says what to do about a status that is not repeated.
func (s *session) refusal(err error, path string) string {
	switch statusOf(err) {
	case http.StatusForbidden:
		return fmt.Sprintf("denied: the policy for app %s has to allow read on %s", s.id.App, path)
	case http.StatusNotFound:
		return "there is no such secret: create it, or correct the label"
	}
	return "refused: check the path and the mount's type"
}

// contents picks the keys out of an answer. kv is the key-value version, or 0
// for other engines.
func contents(answer *api.Secret, op string, kv int) (map[string]secrets.Secret, error) {
	if answer == nil {
		return nil, &Error{Op: op, Status: http.StatusNotFound, Problem: "there is no such secret: create it, or correct the label"}
	}
	data := answer.Data
	if kv == 2 {
		inner, ok := data["data"].(map[string]any)
		if !ok {
			metadata, _ := data["metadata"].(map[string]any)
			if destroyed, _ := metadata["destroyed"].(bool); destroyed {
				return nil, &Error{Op: op, Status: http.StatusNotFound, Problem: "this version was destroyed: write a new one, or correct the label"}
			}
			return nil, &Error{Op: op, Status: http.StatusNotFound, Problem: "this version was deleted: undelete it, write a new one, or correct the label"}
		}
		data = inner
	}
	found := make(map[string]secrets.Secret, len(data))
	for key, value := range data {
		if text, ok := value.(string); ok {
			found[key] = secrets.NewSecret([]byte(text))
			continue
		}
		// Numbers are json.Number and print as they were written.
		text, err := json.Marshal(value)
		if err != nil {
			return nil, &Error{Op: op, Problem: fmt.Sprintf("key %q holds what is no JSON value", key)}
		}
		found[key] = secrets.NewSecret(text)
	}
	return found, nil
}

// sureTime is how long a repeated login is not doubted.
const sureTime = time.Minute

// get reads a path. After a 403 it looks whether the token has ended, and if so
// asks once more with a fresh login.
func (s *session) get(ctx context.Context, op, path string, query map[string][]string, shared bool) (answer *api.Secret, err error) {
	used, err := s.login(ctx, shared, nil)
	for err == nil {
		err = s.client.do(ctx, op, s.waiting, func(ctx context.Context) error {
			return used.do(func(client *api.Client) (err error) {
				answer, err = client.Logical().ReadWithDataWithContext(ctx, path, query)
				return err
			})
		})
		if statusOf(err) != http.StatusForbidden || !s.hasEnded(ctx, used) {
			return answer, err
		}
		used, err = s.login(ctx, shared, used)
	}
	return nil, err
}

// hasEnded reports whether a login that was denied something is worth being
// replaced.
func (s *session) hasEnded(ctx context.Context, used *login) bool {
	s.mu.Lock()
	sure := time.Since(s.again) < sureTime
	s.mu.Unlock()
	if sure {
		return false
	}
	err := s.client.do(ctx, "look up the token", s.waiting, func(ctx context.Context) error {
		return used.do(func(client *api.Client) error {
			_, err := client.Auth().Token().LookupSelfWithContext(ctx)
			return err
		})
	})
	return statusOf(err) == http.StatusForbidden
}

// mountOf finds the mount that a path belongs to, with a slash behind, and its
// key-value version: 0 when it is another engine.
func (s *session) mountOf(ctx context.Context, op, path string) (mount string, version int, err error) {
	c := s.client
	if mount, version, ok := c.knownMount(path); ok {
		return mount, version, nil
	}
	// Tasks that start together ask once. Other apps ask for themselves, since
	// Vault denies the answer to whom the path is closed.
	key := s.id.App + " " + path
	c.mu.Lock()
	looking := c.looking[key]
	if looking == nil {
		looking = make(chan struct{}, 1)
		c.looking[key] = looking
	}
	c.mu.Unlock()
	if err := c.hold(ctx, looking, s.waiting); err != nil {
		return "", 0, &WaitError{Op: op, Reason: "another task's request to Vault has not been answered yet", cause: err}
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		// Who waits here still has it; who comes later makes another.
		delete(c.looking, key)
		<-looking
	}()
	if mount, version, ok := c.knownMount(path); ok {
		return mount, version, nil
	}
	// The endpoint that Vault's own command line asks before "vault kv".
	answer, err := s.get(ctx, op, "sys/internal/ui/mounts/"+path, nil, s.usesHost())
	if err != nil {
		return "", 0, permanent(err, op, fmt.Sprintf("no mount for this path that app %s may use: check the first part of the path and the app's policy", s.id.App))
	}
	if answer == nil {
		return "", 0, &Error{Op: op, Status: http.StatusNotFound, Problem: "no mount for this path: check the first part of the path"}
	}
	mount, _ = answer.Data["path"].(string)
	if mount == "" || !strings.HasSuffix(mount, "/") || !strings.HasPrefix(path, mount) {
		return "", 0, &Error{Op: op, Problem: "Vault did not name the mount of this path"}
	}
	switch engine, _ := answer.Data["type"].(string); engine {
	case "kv", "generic":
		options, _ := answer.Data["options"].(map[string]any)
		version = 1
		if options["version"] == "2" {
			version = 2
		}
	}
	c.mu.Lock()
	c.mounts[mount] = version
	c.mu.Unlock()
	return mount, version, nil
}

func (c *Client) knownMount(path string) (mount string, version int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for known, version := range c.mounts {
		if strings.HasPrefix(path, known) {
			return known, version, true
		}
	}
	return "", 0, false
}

// logins are those that the session uses now.
func (s *session) logins() []*login {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*login
	for _, l := range []*login{s.own, s.shared} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// Login implements [secrets.Session].
func (s *session) Login() (shortest secrets.Lease) {
	for _, l := range s.logins() {
		if left, _ := l.left(); left.Duration > 0 && (shortest.Duration == 0 || left.Duration < shortest.Duration) {
			shortest = left
		}
	}
	return shortest
}

// RenewLogin implements [secrets.Session].
func (s *session) RenewLogin(ctx context.Context) (secrets.Lease, error) {
	const op = "renew the login"
	for _, l := range s.logins() {
		// Another session may just have renewed the host's.
		if left, part := l.left(); left.Duration == 0 || part > 0.5 {
			continue
		}
		var answer *api.Secret
		err := s.client.do(ctx, op, s.waiting, func(ctx context.Context) error {
			return l.do(func(client *api.Client) (err error) {
				answer, err = client.Auth().Token().RenewSelfWithContext(ctx, 0)
				return err
			})
		})
		switch status := statusOf(err); {
		case err == nil && answer != nil && answer.Auth != nil && answer.Auth.LeaseDuration > 0:
			l.prolonged(secrets.Lease{Duration: seconds(answer.Auth.LeaseDuration), Renewable: answer.Auth.Renewable})
		case err == nil || status == http.StatusForbidden:
			return secrets.Lease{}, &Error{Op: op, Status: status, Problem: "the token is no longer valid", ended: true}
		default:
			return secrets.Lease{}, permanent(err, op, "refused")
		}
	}
	return s.Login(), nil
}

// Relogin implements [secrets.Session].
func (s *session) Relogin(ctx context.Context) error {
	s.mu.Lock()
	own, shared := s.own, s.shared
	s.mu.Unlock()
	if own != nil {
		if _, err := s.login(ctx, false, own); err != nil {
			return err
		}
	}
	if shared != nil {
		if _, err := s.login(ctx, true, shared); err != nil {
			return err
		}
	}
	return nil
}

// Renew implements [secrets.Session].
func (s *session) Renew(ctx context.Context, lease secrets.Lease) (secrets.Lease, error) {
	const op = "renew a lease"
	s.mu.Lock()
	own := s.own
	s.mu.Unlock()
	var answer *api.Secret
	err := s.client.do(ctx, op, s.waiting, func(ctx context.Context) error {
		return own.do(func(client *api.Client) (err error) {
			answer, err = client.Sys().RenewWithContext(ctx, lease.ID, 0)
			return err
		})
	})
	if err == nil && answer == nil {
		return secrets.Lease{}, &Error{Op: op, Problem: "the answer holds no lease: is " + EnvAddress + " a Vault server?"}
	}
	if err == nil {
		return secrets.Lease{ID: lease.ID, Duration: seconds(answer.LeaseDuration), Renewable: answer.Renewable}, nil
	}
	// The same status may mean that the lease is over and that the engine could
	// not renew it this time.
	if status := statusOf(err); status >= 400 && status < 500 {
		lookup := s.client.do(ctx, op, s.waiting, func(ctx context.Context) error {
			return own.do(func(client *api.Client) error {
				_, err := client.Sys().LookupWithContext(ctx, lease.ID)
				return err
			})
		})
		if status := statusOf(lookup); status >= 400 && status < 500 {
			return secrets.Lease{}, &Error{Op: op, Status: status, Problem: "the lease has ended", ended: true}
		}
	}
	return secrets.Lease{}, permanent(err, op, "the engine does not renew it now")
}

// Revoke implements [secrets.Session].
func (s *session) Revoke(ctx context.Context, lease secrets.Lease) error {
	s.mu.Lock()
	own := s.own
	s.mu.Unlock()
	if own == nil || own.revocable {
		return nil // ends with the login
	}
	if err := s.client.once(ctx, func(ctx context.Context) error {
		return own.do(func(client *api.Client) error { return client.Sys().RevokeWithContext(ctx, lease.ID) })
	}); err != nil {
		return s.noted("revoke a lease", err)
	}
	return nil
}

// Close revokes the login, bounded by ctx. It does not wait for a Vault that
// cannot answer: the token ends with its period.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	own, joined, retired := s.own, s.joined, s.retired
	s.own, s.shared, s.joined, s.retired = nil, nil, false, nil
	s.mu.Unlock()
	for _, l := range retired {
		// Most of them have ended.
		_ = s.client.revoke(ctx, l)
	}
	err := s.client.revoke(ctx, own)
	if joined {
		err = errors.Join(err, s.client.part(ctx))
	}
	if err == nil {
		return nil
	}
	return s.noted("revoke the login", err)
}

// noted logs what was not given back, without the library's text.
func (s *session) noted(op string, err error) error {
	reason, again := transient(err)
	if !again {
		reason = fmt.Sprintf("Vault answers %d", statusOf(err))
	}
	s.client.log.Warn().Str("task_id", s.id.Task).Str("op", op).Str("error", reason).Msg("not given back to Vault, it ends by itself")
	return &Error{Op: op, Status: statusOf(err), Problem: reason}
}
