package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/secrets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-value-4711"

// goodToken is one of task web.1 of app web, as far as can be seen without its
// key.
var goodToken = "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"app":"web","task":"web.1","exp":9999999999}`)) + ".c2ln"

// scripted is a Vault that answers as its fields say. Its mounts are "kv1/",
// a version 1 key-value store, and "secret/", one of version 2.
type scripted struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // "GET /v1/..." in order
	// before is asked first; it returns true when it has answered.
	before func(w http.ResponseWriter, r *http.Request) bool
	logins atomic.Int32
	// keepsAll tokens valid; without it only the last login's is.
	keepsAll bool
}

func newScripted(t *testing.T, before func(http.ResponseWriter, *http.Request) bool) *scripted {
	s := &scripted{before: before}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.before != nil && s.before(w, r) {
		return
	}
	reply := func(status int, body any) {
		w.WriteHeader(status)
		// The client went away when this fails.
		_ = json.NewEncoder(w).Encode(body)
	}
	mount := func(path, kind string, version any) {
		reply(200, map[string]any{"data": map[string]any{"path": path, "type": kind, "options": version}})
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	token := r.Header.Get("X-Vault-Token")
	switch {
	case path == "auth/jwt/login":
		var body struct{ Role, JWT string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.JWT != goodToken {
			reply(400, map[string]any{"errors": []string{"bad token " + body.JWT}})
			return
		}
		reply(200, map[string]any{"auth": map[string]any{"client_token": fmt.Sprintf("t%d", s.logins.Add(1)), "accessor": "a"}})
	case token == "" || !s.keepsAll && strings.HasPrefix(token, "t") && token != fmt.Sprintf("t%d", s.logins.Load()):
		reply(403, map[string]any{"errors": []string{"permission denied"}})
	case path == "auth/token/revoke-self":
		w.WriteHeader(204)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/secret/"):
		mount("secret/", "kv", map[string]any{"version": "2"})
	case strings.HasPrefix(path, "sys/internal/ui/mounts/kv1/"):
		mount("kv1/", "kv", nil)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/db/"):
		mount("db/", "database", nil)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/"):
		reply(403, map[string]any{"errors": []string{"preflight " + canary}})
	case path == "secret/data/web/db" && r.URL.Query().Get("version") == "2":
		reply(200, map[string]any{"data": map[string]any{"data": map[string]any{"password": "old"}, "metadata": map[string]any{"version": 2}}})
	case path == "secret/data/web/db":
		reply(200, map[string]any{"data": map[string]any{"data": map[string]any{"password": canary, "port": 5432, "tls": true, "hosts": []string{"a", "b"}}, "metadata": map[string]any{"version": 3}}})
	case path == "secret/data/web/deleted":
		reply(404, map[string]any{"data": map[string]any{"data": nil, "metadata": map[string]any{"deletion_time": "2026-01-01T00:00:00Z"}}})
	case path == "secret/data/web/denied":
		reply(403, map[string]any{"errors": []string{"1 error: " + canary}})
	case path == "kv1/web":
		// A version 1 secret may well have a key named data.
		reply(200, map[string]any{"data": map[string]any{"data": "d", "password": "p1"}, "lease_duration": 2764800})
	case path == "db/creds/web":
		reply(200, map[string]any{"lease_id": "db/creds/web/1", "lease_duration": 60, "renewable": true, "data": map[string]any{"password": canary}})
	default:
		reply(404, map[string]any{"errors": []string{}})
	}
}

func (s *scripted) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// acquire gets what the labels declare for app "web" and returns every
// variable as NAME=value.
func acquire(t *testing.T, ctx context.Context, c *Client, labels map[string]string, waiting func(string)) (string, error) {
	t.Helper()
	declared, err := secrets.ParseLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	id := secrets.Identity{App: "web", Task: "web.1", Token: secrets.NewSecret([]byte(goodToken))}
	keeper := secrets.NewKeeper(c, zerolog.Nop())
	grant, err := keeper.Acquire(ctx, id, declared, waiting)
	if err := keeper.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err != nil {
		return "", err
	}
	var all []string
	for _, v := range grant.Bundle.Variables {
		all = append(all, v.Name+"="+string(v.Secret.Reveal()))
	}
	return strings.Join(all, " "), nil
}

func newClient(t *testing.T, address string, change func(*Config)) (*Client, *bytes.Buffer) {
	t.Helper()
	config := DefaultConfig()
	config.Address = address
	if change != nil {
		change(&config)
	}
	var log bytes.Buffer
	c, err := New(config, zerolog.New(zerolog.SyncWriter(&log)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &log
}

func TestAcquire_ReadsKeyValueVersions(t *testing.T) {
	server := newScripted(t, nil)
	client, _ := newClient(t, server.URL, nil)
	got, err := acquire(t, t.Context(), client, map[string]string{
		"secret.env.A": "secret/web/db#password", "secret.env.B": "secret/data/web/db#port", "secret.env.C": "secret/web/db#tls",
		"secret.env.D": "secret/web/db#hosts", "secret.env.E": "secret/web/db#password@2", "secret.env.F": "kv1/web#password", "secret.env.G": "kv1/web#data",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "A=" + canary + ` B=5432 C=true D=["a","b"] E=old F=p1 G=d`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := server.count("POST /v1/auth/jwt/login") + server.count("PUT /v1/auth/jwt/login"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	if n := server.count("PUT /v1/auth/token/revoke-self"); n != 1 {
		t.Errorf("%d revocations, want 1", n)
	}
	before := server.count("GET /v1/sys/internal/ui/mounts/")
	if _, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": "secret/web/db#password"}, nil); err != nil {
		t.Fatal(err)
	}
	if after := server.count("GET /v1/sys/internal/ui/mounts/"); after != before {
		t.Errorf("the version of a known mount was asked for again")
	}
}

func TestAcquire_FailsAtOnceWithPathStatusAndRemedy(t *testing.T) {
	server := newScripted(t, nil)
	client, log := newClient(t, server.URL, nil)
	for _, tc := range []struct{ name, value, want string }{
		{"absent", "secret/web/absent#k", "read secret/web/absent: there is no such secret"},
		{"deleted version", "secret/web/deleted#k", "was deleted"},
		{"denied", "secret/web/denied#k", "denied: the policy for app web has to allow read on secret/data/web/denied (Vault answered 403)"},
		{"no mount", "nowhere/web#k", "no mount for this path"},
		{"missing key", "secret/web/db#nokey", `has no key "nokey"`},
		{"version on version 1", "kv1/web#password@3", "keeps none: leave @3 out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := acquire(t, t.Context(), client, map[string]string{"secret.env.X": tc.value}, func(reason string) { t.Errorf("waits for %q", reason) })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(log.String(), canary) {
				t.Errorf("Vault's answer is shown: %v\n%s", err, log)
			}
		})
	}
}

func TestAcquire_WaitsForWhatPassesAndSaysWhy(t *testing.T) {
	truncated := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "500")
		_, _ = io.WriteString(w, `{"data":{"data":{"password":"`+canary)
	}
	for _, tc := range []struct {
		name, want string
		fail       func(w http.ResponseWriter, r *http.Request)
	}{
		{"sealed", "sealed", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, `{"errors":["Vault is sealed `+canary+`"]}`)
		}},
		{"server error", "500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
		{"rate limited", "429", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) }},
		{"slow", "in time", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}},
		{"truncated", "cut short", func(w http.ResponseWriter, _ *http.Request) { truncated(w) }},
		{"closed", "be reached", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"no JSON", "no JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }},
	} {
		for _, where := range []string{"/login", "/data/web/db"} {
			t.Run(tc.name+" at "+where, func(t *testing.T) {
				if tc.name == "closed" && where != "/login" {
					t.Skip("net/http itself repeats a GET on a kept connection that was closed")
				}
				t.Parallel()
				var failed atomic.Bool
				server := newScripted(t, func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, where) && failed.CompareAndSwap(false, true) {
						tc.fail(w, r)
						return true
					}
					return false
				})
				client, log := newClient(t, server.URL, func(c *Config) { c.Timeout = time.Second })
				var mu sync.Mutex
				var reasons []string
				got, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": "secret/web/db#password"}, func(reason string) {
					mu.Lock()
					defer mu.Unlock()
					reasons = append(reasons, reason)
				})
				if err != nil || got != "A="+canary {
					t.Fatalf("got %s, %v", got, err)
				}
				if len(reasons) != 1 || !strings.Contains(reasons[0], tc.want) || !strings.Contains(reasons[0], server.URL) {
					t.Errorf("waited for %q, want one reason with %q and the address", reasons, tc.want)
				}
				if strings.Contains(log.String()+fmt.Sprint(reasons), canary) {
					t.Errorf("Vault's answer is shown: %s %s", reasons, log)
				}
			})
		}
	}
}

func TestP6_CancelEndsWaitingAtOnceAndSaysWhatWasWaitedFor(t *testing.T) {
	server := newScripted(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
	client, _ := newClient(t, server.URL, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := acquire(t, ctx, client, map[string]string{"secret.env.A": "secret/web/db#password"}, func(string) { cancel() })
	var waited *WaitError
	if !errors.As(err, &waited) || !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want a WaitError that wraps the cancellation", err)
	}
	if !strings.Contains(err.Error(), "sealed") || waited.Tries != 1 {
		t.Errorf("error %v after %d tries, want one that says sealed after 1", err, waited.Tries)
	}
}

func TestAcquire_LogsInOnceMoreWhenTheTokenHasEnded(t *testing.T) {
	var server *scripted
	var once sync.Once
	server = newScripted(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/data/") {
			once.Do(func() { server.logins.Add(1) }) // the session's token is no longer the valid one
		}
		return false
	})
	client, _ := newClient(t, server.URL, nil)
	got, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": "secret/web/db#password"}, nil)
	if err != nil || got != "A="+canary {
		t.Fatalf("got %s, %v", got, err)
	}
	if n := server.count("PUT /v1/auth/jwt/login"); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

func TestAcquire_RefusesCredentialsWithoutShowingThem(t *testing.T) {
	server := newScripted(t, nil)
	client, log := newClient(t, server.URL, nil)
	declared, err := secrets.ParseLabels(map[string]string{"secret.env.A": "secret/web/db#password"})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"wrong": canary, "none": ""} {
		_, err := secrets.NewKeeper(client, zerolog.Nop()).Acquire(t.Context(), secrets.Identity{App: "web", Token: secrets.NewSecret([]byte(token))}, declared, nil)
		if err == nil || !strings.Contains(err.Error(), "log in with role pacer at auth/jwt") || strings.Contains(err.Error()+log.String(), canary) {
			t.Errorf("%s token: %v", name, err)
		}
	}
}

func TestAcquire_CertificateThatDoesNotVerifyIsPermanent(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	client, _ := newClient(t, server.URL, nil)
	_, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": "secret/web/db#password"}, nil)
	if err == nil || !strings.Contains(err.Error(), EnvCACert) {
		t.Errorf("error %v, want one that names %s", err, EnvCACert)
	}
}

func TestAcquire_HostTokenObeysTheTemplateBeforeAnyRequest(t *testing.T) {
	server := newScripted(t, nil)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("host-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, _ := newClient(t, server.URL, func(c *Config) {
		c.Auth, c.TokenFile, c.Template = AuthToken, file, "secret/data/{app}/*"
	})
	for _, path := range []string{"secret/other/db#password", "secret/data/other/db#password", "secret/web#password", "secret/webber/db#password", "kv1/web#password", "secret/metadata/web/db#password"} {
		_, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": path}, nil)
		if err == nil || !strings.Contains(err.Error(), EnvTemplate) {
			t.Errorf("%s: error %v, want one that names %s", path, err, EnvTemplate)
		}
	}
	if n := server.count(""); n != 0 {
		t.Errorf("%d requests were made for paths outside the template", n)
	}
	if got, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": "secret/web/db#password"}, nil); err != nil || got != "A="+canary {
		t.Errorf("inside the template: %s, %v", got, err)
	}
	if n := server.count("PUT /v1/auth/token/revoke-self"); n != 0 {
		t.Error("the host's token was revoked")
	}
}

func TestTemplate_Allows(t *testing.T) {
	for _, tc := range []struct {
		template, app, path string
		want                bool
	}{
		{"secret/data/{app}/*", "shop/cart", "secret/data/shop/cart/db", true},
		{"secret/data/{app}/*", "shop/cart", "secret/data/shop/cart/a/b", true},
		{"secret/data/{app}/*", "shop/cart", "secret/data/shop/cart", false},
		{"secret/data/{app}/*", "shop", "secret/data/shop2/db", false},
		{"secret/data/{app}/*", "shop", "secret/data/data/shop/db", false},
		{"secret/data/apps/{app}", "shop", "secret/data/apps/shop", true},
		{"secret/data/apps/{app}", "shop", "secret/data/apps/shop/db", false},
	} {
		parsed, err := parseTemplate(tc.template)
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.allows(tc.app, tc.path); got != tc.want {
			t.Errorf("%s for %s allows %s: %v, want %v", tc.template, tc.app, tc.path, got, tc.want)
		}
	}
	for _, bad := range []string{"", "secret/*", "secret/{app}x/*", "secret/{app}/*/x", "secret/{app}/..", "secret//{app}", "secret/{role}/{app}"} {
		if _, err := parseTemplate(bad); err == nil {
			t.Errorf("template %q was accepted", bad)
		}
	}
}

func TestConfigFromEnv_ReportsEveryProblemWithoutShowingTheToken(t *testing.T) {
	env := map[string]string{EnvAddress: "vault:8200", EnvAuth: "magic", EnvTimeout: "soon", EnvSkipVerify: "maybe", EnvToken: canary, EnvClientCert: "/nowhere.pem", EnvTemplate: "secret/*"}
	_, ok, err := ConfigFromEnv(func(name string) string { return env[name] })
	if !ok || err == nil {
		t.Fatalf("got %v, %v", ok, err)
	}
	for name := range env {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("error does not name %s", name)
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Error("error shows the token")
	}
	if _, ok, err := ConfigFromEnv(func(string) string { return "" }); ok || err != nil {
		t.Errorf("without settings: %v, %v", ok, err)
	}
}

func TestGate_LetsOneProbeThroughWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		started := time.Now()
		var probes []time.Duration
		var mu sync.Mutex
		var group sync.WaitGroup
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.leave("down", 0)
		for range 50 {
			group.Go(func() {
				for {
					if err := g.enter(t.Context()); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					probes = append(probes, time.Since(started))
					up := len(probes) > 8
					mu.Unlock()
					if up {
						g.leave("", 0)
						return
					}
					g.leave("down", 0)
				}
			})
		}
		group.Wait()
		last := time.Duration(0)
		for i, at := range probes[:8] {
			pause := at - last
			if full := pauseAfter(i + 1); pause < full/2 || pause > full {
				t.Errorf("probe %d came after %s, want %s to %s", i, pause, full/2, full)
			}
			last = at
		}
	})
}
