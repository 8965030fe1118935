package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"pacer/secrets"
)

// session is one task's login.
type session struct {
	client  *Client
	id      secrets.Identity
	waiting func(reason string)

	loggingIn sync.Mutex // held during a repeated login

	mu        sync.Mutex
	api       *api.Client // with the token
	revocable bool
	renewed   int // logins after the first
}

var _ secrets.Session = (*session)(nil)

// setToken makes the session's own client, which shares the connections.
func (s *session) setToken(token string, revocable bool) error {
	clone, err := s.client.api.Clone()
	if err != nil {
		return &Error{Op: "log in", Problem: "the Vault library cannot copy its client"}
	}
	clone.SetToken(token)
	if s.client.config.Namespace != "" {
		clone.SetNamespace(s.client.config.Namespace)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api, s.revocable = clone, revocable
	return nil
}

func (s *session) current() (client *api.Client, renewed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.api, s.renewed
}

// Read implements [secrets.Session].
func (s *session) Read(ctx context.Context, path string, version int) (map[string]secrets.Secret, error) {
	ref := secrets.Ref{Path: path, Version: version}.String()
	op := "read " + ref
	if problem := secrets.CheckPath(path); problem != "" {
		return nil, &Error{Op: op, Problem: problem}
	}
	if t := s.client.template; t != nil && !t.mayAllow(s.id.App, path) {
		return nil, &Error{Op: op, Problem: fmt.Sprintf("outside of what app %s may read here (%s=%s)", s.id.App, EnvTemplate, strings.Join(t, "/"))}
	}
	mount, kv, err := s.mountOf(ctx, op, path)
	if err != nil {
		return nil, err
	}
	if kv == 2 {
		if rest := strings.TrimPrefix(path, mount); !strings.HasPrefix(rest, "data/") {
			path = mount + "data/" + rest
		}
	} else if version > 0 {
		return nil, &Error{Op: op, Problem: "a version is named, but the mount " + mount + " keeps none: leave @" + strconv.Itoa(version) + " out"}
	}
	if t := s.client.template; t != nil && !t.allows(s.id.App, path) {
		return nil, &Error{Op: op, Problem: fmt.Sprintf("%s is outside of what app %s may read here (%s=%s)", path, s.id.App, EnvTemplate, strings.Join(t, "/"))}
	}
	var query map[string][]string
	if version > 0 {
		query = map[string][]string{"version": {strconv.Itoa(version)}}
	}
	answer, err := s.get(ctx, op, path, query)
	if err != nil {
		return nil, permanent(err, op, s.refusal(err, path))
	}
	return contents(answer, op, kv)
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
	if answer.LeaseID != "" {
		return nil, &Error{Op: op, Problem: "the path gives a lease that would have to be renewed, which is not supported: use a key-value secret"}
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

// get reads a path; a 403 is tried once more with a fresh login, because the
// token may have ended.
func (s *session) get(ctx context.Context, op, path string, query map[string][]string) (answer *api.Secret, err error) {
	for {
		client, renewed := s.current()
		err = s.client.do(ctx, op, s.waiting, func(ctx context.Context) (err error) {
			answer, err = client.Logical().ReadWithDataWithContext(ctx, path, query)
			return err
		})
		if statusOf(err) != http.StatusForbidden || s.client.config.Auth != AuthJWT || renewed > 0 {
			return answer, err
		}
		if err := s.relogin(ctx, renewed); err != nil {
			return nil, err
		}
	}
}

// relogin logs in again unless another read of the task has done so since the
// caller looked.
func (s *session) relogin(ctx context.Context, seen int) error {
	s.loggingIn.Lock()
	defer s.loggingIn.Unlock()
	if _, renewed := s.current(); renewed != seen {
		return nil
	}
	// Denied by policy, the old token still lives; ended, it cannot be revoked
	// and need not be.
	revoking, cancel := context.WithTimeout(ctx, s.client.config.Timeout)
	_ = s.revoke(revoking)
	cancel()
	if err := s.login(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
	return nil
}

// mountOf finds the mount that a path belongs to, with a slash behind, and its
// key-value version: 0 when it is another engine.
func (s *session) mountOf(ctx context.Context, op, path string) (mount string, version int, err error) {
	c := s.client
	c.mu.Lock()
	for known, version := range c.mounts {
		if strings.HasPrefix(path, known) {
			c.mu.Unlock()
			return known, version, nil
		}
	}
	c.mu.Unlock()
	// The endpoint that Vault's own command line asks before "vault kv".
	answer, err := s.get(ctx, op, "sys/internal/ui/mounts/"+path, nil)
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

// Close revokes the login, bounded by ctx. It does not wait for a Vault that
// cannot answer: the token ends with its period.
func (s *session) Close(ctx context.Context) error {
	err := s.revoke(ctx)
	if err == nil {
		return nil
	}
	reason, again := transient(err)
	if !again {
		reason = fmt.Sprintf("Vault answers %d", statusOf(err))
	}
	s.client.log.Warn().Str("task_id", s.id.Task).Str("error", reason).Msg("vault token not revoked, it ends by itself")
	return &Error{Op: "revoke the login", Status: statusOf(err), Problem: reason}
}

// revoke gives the token back, once.
func (s *session) revoke(ctx context.Context) error {
	s.mu.Lock()
	client, revocable := s.api, s.revocable
	s.revocable = false
	s.mu.Unlock()
	if client == nil || !revocable {
		return nil
	}
	return client.Auth().Token().RevokeSelfWithContext(ctx, "")
}
