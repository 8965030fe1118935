package secrets

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/identity"
	"pacer/secrets"
	"pacer/secrets/vault"
)

// newLeaseSite has an engine of leases at db, which the apps may read, and a
// role with a short period.
func newLeaseSite(t testing.TB, ttl, period string) *site {
	t.Helper()
	s := newSite(t)
	s.put("sys/mounts/db", map[string]any{"type": "leased"})
	s.put("db/config", map[string]any{"ttl": ttl, "max_ttl": "1h"})
	if err := s.vault.Root.Sys().PutPolicyWithContext(t.Context(), "db", `path "db/creds/*" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	s.put("auth/jwt/role/pacer", map[string]any{
		"role_type": "jwt", "user_claim": "app", "bound_claims": map[string]any{"framework": "pacer"},
		"token_policies": "pacer-app,db", "token_period": period,
	})
	return s
}

// stats of the engine: issued, renewed, revoked.
func (s *site) stats(what string) int {
	s.t.Helper()
	answer, err := s.vault.Root.Logical().ReadWithContext(s.t.Context(), "db/stats")
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := answer.Data[what].(interface{ Int64() (int64, error) }).Int64()
	if err != nil {
		s.t.Fatal(err)
	}
	return int(n)
}

// eventually waits for a condition.
func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within 30s: %s\n%s", what, s.log)
		}
	}
}

func (s *site) keeper(c *vault.Client) *secrets.Keeper {
	k := secrets.NewKeeper(c, zerolog.New(s.log))
	s.t.Cleanup(func() {
		if err := k.Close(context.WithoutCancel(s.t.Context())); err != nil {
			s.t.Error(err)
		}
	})
	return k
}

func (s *site) acquire(k *secrets.Keeper, id secrets.Identity, labels map[string]string) *secrets.Grant {
	s.t.Helper()
	g, err := k.Acquire(s.t.Context(), id, declared(s.t, labels), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

func TestLease_IsRenewedAndRevokedAtTheEnd(t *testing.T) {
	t.Parallel()
	s := newLeaseSite(t, "3s", "3s")
	tokens := s.tokens()
	g := s.acquire(s.keeper(s.client(nil)), s.task("web"), map[string]string{"secret.env.USER": "db/creds/web#username", "secret.env.PASSWORD": "db/creds/web#password"})
	if got := revealed(g.Bundle); got != "PASSWORD=pw-web-1 USER=web-1" {
		t.Errorf("got %s, want both keys of one lease", got)
	}
	if n := s.stats("renewed"); n != 0 {
		t.Errorf("%d renewals right after the read", n)
	}
	s.eventually("three renewals", func() bool { return s.stats("renewed") >= 3 })
	if issued, revoked := s.stats("issued"), s.stats("revoked"); issued != 1 || revoked != 0 {
		t.Errorf("%d leases issued, %d revoked; want 1 and 0", issued, revoked)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.eventually("the lease revoked", func() bool { return s.stats("revoked") == 1 })
	s.awaitTokens(tokens)
}

func TestLease_ThatTheEngineDoesNotRenewIsReplaced(t *testing.T) {
	t.Parallel()
	s := newLeaseSite(t, "3s", "1m")
	g := s.acquire(s.keeper(s.client(nil)), s.task("web"), map[string]string{"secret.file.password": "db/creds/web#password"})
	defer g.Close(context.WithoutCancel(t.Context()))
	s.put("db/config", map[string]any{"fail_renew": true})
	select {
	case change := <-g.Changes():
		if len(change.Files) != 1 || string(change.Files[0].Secret.Reveal()) != "pw-web-2" {
			t.Errorf("change %v", change.Names)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no change\n%s", s.log)
	}
	if n := s.stats("issued"); n != 2 {
		t.Errorf("%d leases issued, want 2", n)
	}
}

func TestP9_LostTokenIsReplacedByAFreshIdentity(t *testing.T) {
	t.Parallel()
	s := newLeaseSite(t, "1h", "3s")
	id := s.task("web")
	asked := make(chan struct{}, 1)
	id.Fresh = func(context.Context) (secrets.Secret, error) {
		asked <- struct{}{}
		return s.token(identity.Subject{Framework: "pacer", App: id.App, Task: id.Task, Agent: "S1"}, time.Hour), nil
	}
	// Signed long ago, as for a task that has run for hours.
	id.Token = s.token(identity.Subject{Framework: "pacer", App: id.App, Task: id.Task, Agent: "S1"}, 20*time.Second)
	g := s.acquire(s.keeper(s.client(nil)), id, map[string]string{"secret.env.PASSWORD": "db/creds/web#password", "secret.on-change": "restart"})
	defer g.Close(context.WithoutCancel(t.Context()))
	select {
	case <-asked:
	default:
		t.Error("a token that is about to end was used")
	}
	accessors, err := s.vault.Root.Logical().ListWithContext(t.Context(), "auth/token/accessors")
	if err != nil {
		t.Fatal(err)
	}
	for _, accessor := range accessors.Data["keys"].([]any) {
		answer, err := s.vault.Root.Logical().WriteWithContext(t.Context(), "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		if err == nil && strings.HasPrefix(answer.Data["path"].(string), "auth/jwt") {
			s.put("auth/token/revoke-accessor", map[string]any{"accessor": accessor})
		}
	}
	select {
	case change := <-g.Changes():
		if len(change.Names) != 1 || change.Names[0] != "PASSWORD" {
			t.Errorf("change %v", change.Names)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no change\n%s", s.log)
	}
	if n := s.stats("issued"); n != 2 {
		t.Errorf("%d leases issued, want 2", n)
	}
}

func TestP9_SealedVaultHarmsNoLeaseAndLaunchesGoOn(t *testing.T) {
	t.Parallel()
	s := newLeaseSite(t, "6s", "20s")
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	k := s.keeper(s.client(nil))
	g := s.acquire(k, s.task("web"), map[string]string{"secret.env.PASSWORD": "db/creds/web#password", "secret.on-change": "restart"})
	defer g.Close(context.WithoutCancel(t.Context()))
	if err := s.vault.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	reasons := make(chan string, 100) // more than there are
	launched := make(chan error, 1)
	go func() {
		_, err := k.Acquire(t.Context(), s.task("web"), declared(t, map[string]string{"secret.env.X": "secret/web/db#password"}), func(reason string) { reasons <- reason })
		launched <- err
	}()
	if reason := <-reasons; !strings.Contains(reason, "sealed") || !strings.Contains(reason, s.vault.Address) {
		t.Errorf("the launch waits for %q", reason)
	}
	s.eventually("a renewal that failed", func() bool { return strings.Contains(s.log.String(), "renew") })
	select {
	case err := <-launched:
		t.Fatalf("the launch ended while Vault was sealed: %v", err)
	case c := <-g.Changes():
		t.Fatalf("a change while Vault was sealed: %v", c.Names)
	default:
	}
	if err := s.vault.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-launched; err != nil {
		t.Errorf("the launch after unsealing: %v", err)
	}
	if len(reasons) > 2 {
		t.Errorf("%d reasons for one outage", len(reasons)+1)
	}
	// The engine counts from zero again since it was unsealed.
	s.eventually("the lease renewed or replaced", func() bool { return s.stats("renewed")+s.stats("issued") >= 1 })
}
