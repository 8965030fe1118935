package secrets

import (
	"strings"
	"testing"
	"time"

	"pacer/scheduler/identity"
	"pacer/secrets"
	"pacer/secrets/vault"
)

const canary = "canary-value-4711"

// get acquires what one label declares.
func (s *site) get(c *vault.Client, id secrets.Identity, value string) (string, error) {
	s.t.Helper()
	grant, err := s.keeper(c).Acquire(s.t.Context(), id, declared(s.t, map[string]string{"secret.env.X": value}), nil)
	if err != nil {
		return "", err
	}
	defer grant.Close(s.t.Context())
	return revealed(grant.Bundle), nil
}

func TestVault_KeyValueVersionsAreReadByTheDocumentedSetUp(t *testing.T) {
	s := newSite(t)
	s.put("secret/data/shop/cart/db", map[string]any{"password": "first"})
	s.put("secret/data/shop/cart/db", map[string]any{"password": "second\nline", "port": 5432})
	s.put("sys/mounts/kv1", map[string]any{"type": "kv"})
	s.put("kv1/shop/cart/db", map[string]any{"data": "of-version-1"})
	if err := s.vault.Root.Sys().PutPolicyWithContext(t.Context(), "kv1", `path "kv1/shop/cart/*" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	s.put("auth/jwt/role/both", map[string]any{"role_type": "jwt", "user_claim": "app", "bound_claims": map[string]any{"framework": "pacer"}, "token_policies": "pacer-app,kv1"})
	c := s.client(func(c *vault.Config) { c.Role = "both" })
	before := s.tokens()
	grant, err := s.keeper(c).Acquire(t.Context(), s.task("shop/cart"), declared(t, map[string]string{
		"secret.env.NEW": "secret/shop/cart/db#password", "secret.env.OLD": "secret/data/shop/cart/db#password@1",
		"secret.env.PORT": "secret/shop/cart/db#port", "secret.env.V1": "kv1/shop/cart/db#data", "secret.file.db.json": "secret/shop/cart/db@1",
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := revealed(grant.Bundle), "NEW=second\nline OLD=first PORT=5432 V1=of-version-1 db.json={\"password\":\"first\"}"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := grant.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.awaitTokens(before)
	s.put("secret/delete/shop/cart/db", map[string]any{"versions": []int{1}})
	for value, want := range map[string]string{
		"secret/shop/cart/db#password@1": "deleted", "secret/shop/cart/db#password@9": "no such secret",
		"secret/shop/cart/db#absent": `no key "absent"`, "secret/shop/cart/absent#k": "no such secret", "nowhere/shop#k": "no mount for this path",
		"kv1/shop/cart/db#data@2": "keeps none",
	} {
		if _, err := s.get(c, s.task("shop/cart"), value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", value, err, want)
		}
	}
}

func TestP5_AppCannotReadAnotherAppsSecret(t *testing.T) {
	s := newSite(t)
	s.put("secret/data/other/db", map[string]any{"password": canary})
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	c := s.client(nil)
	if got, err := s.get(c, s.task("web"), "secret/web/db#password"); err != nil || got != "X=own" {
		t.Fatalf("its own secret: %s, %v", got, err)
	}
	for name, value := range map[string]string{
		"by label":               "secret/other/db#password",
		"by the API's path":      "secret/data/other/db#password",
		"by version":             "secret/other/db#password@1",
		"by metadata":            "secret/metadata/other/db#current_version",
		"by a prefix of its own": "secret/webber/db#password",
		"by the root of all":     "secret/data#password",
	} {
		if got, err := s.get(c, s.task("web"), value); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, value := range map[string]string{
		"dots":         "secret/web/../other/db#password",
		"double slash": "secret/web//../other/db#password",
		"encoded":      "secret/web/%2e%2e/other/db#password",
		"encoded twic": "secret/web/%252e%252e/other/db#password",
		"backslash":    `secret/web/..\other/db#password`,
		"NUL":          "secret/web\x00/other#password",
		"query":        "secret/web?x=/../other/db#password",
	} {
		if _, err := secrets.ParseLabels(map[string]string{"secret.env.X": value}); err == nil {
			t.Errorf("%s was accepted", name)
		}
		// Whoever gets past the labels meets the session, and then Vault.
		session, err := c.Open(t.Context(), s.task("web"), nil)
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(value, "#")
		if got, err := session.Read(t.Context(), path, 0); err == nil {
			t.Errorf("%s: read %v", name, got)
		}
		if err := session.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestP5_TokenOfAnotherTaskOrAnExpiredOneIsRefused(t *testing.T) {
	s := newSite(t)
	s.put("secret/data/web/db", map[string]any{"password": canary})
	c := s.client(nil)
	subject := identity.Subject{Framework: "pacer", App: "web", Task: "web.1", Agent: "S1"}
	forged := s.token(subject, time.Hour)
	forged.Reveal()[len(forged.Reveal())-10] ^= 1
	elsewhere := subject
	elsewhere.Framework = "another"
	unknown, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := identity.NewSigner(unknown, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := signer.Sign(subject, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	before := s.tokens()
	for name, id := range map[string]secrets.Identity{
		"another task's":      {App: "web", Task: "web.2", Token: s.token(subject, time.Hour)},
		"another app's":       {App: "other", Task: "web.1", Token: s.token(subject, time.Hour)},
		"expired":             {App: "web", Task: "web.1", Token: s.token(subject, -10*time.Minute)},
		"another framework's": {App: "web", Task: "web.1", Token: s.token(elsewhere, time.Hour)},
		"forged":              {App: "web", Task: "web.1", Token: forged},
		"of an unknown key":   {App: "web", Task: "web.1", Token: secrets.NewSecret([]byte(stranger))},
		"no token":            {App: "web", Task: "web.1", Token: secrets.NewSecret([]byte("a.b"))},
		"none":                {App: "web", Task: "web.1"},
	} {
		got, err := s.get(c, id, "secret/web/db#password")
		if err == nil {
			t.Errorf("%s: got %s", name, got)
			continue
		}
		if token := string(id.Token.Reveal()); token != "" && strings.Contains(err.Error()+s.log.String(), token) {
			t.Errorf("%s: the token is shown", name)
		}
	}
	s.awaitTokens(before)
}

func TestIdentity_KeyRotationBreaksNoLaunch(t *testing.T) {
	s := newSite(t)
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	c := s.client(nil)
	early := s.task("web")
	if _, err := s.get(c, s.task("web"), "secret/web/db#password"); err != nil {
		t.Fatal(err)
	}
	s.rotate()
	for name, id := range map[string]secrets.Identity{"signed before": early, "signed after": s.task("web")} {
		if got, err := s.get(c, id, "secret/web/db#password"); err != nil || got != "X=own" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
