package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pacer/scheduler/access"
	"pacer/scheduler/api"
)

func newHandler(t *testing.T, config api.Config) http.Handler {
	t.Helper()
	config.Metrics = prometheus.NewRegistry()
	return api.New(config)
}

// guarded is an API with subjects whose tokens are their names: shop may do
// everything with /shop, reader may look at all, web may do all with /web.
func guarded(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	var users strings.Builder
	for _, name := range []string{"shop", "reader", "web", "nothing"} {
		sum := sha256.Sum256([]byte(name))
		fmt.Fprintf(&users, "%s:sha256:%s\n", name, hex.EncodeToString(sum[:]))
	}
	for name, content := range map[string]string{"users": users.String(), "rules": "/shop * shop\n/ view reader\n/web * web\n/shop view web\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	guard, err := access.Open(filepath.Join(dir, "users"), filepath.Join(dir, "rules"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	for _, body := range []string{`{"id":"/shop/cart","cmd":"x"}`, `{"id":"/web","cmd":"x"}`} {
		s.must("POST", "/v2/apps", body)
	}
	s.backend.SetTasks("/shop/cart", api.Counts{Running: 1}, api.Task{ID: "shop_cart.1", AppID: "/shop/cart"})
	s.backend.SetTasks("/web", api.Counts{Running: 1}, api.Task{ID: "web.1", AppID: "/web"})
	s.handler = newHandler(t, api.Config{Backend: s.backend, Log: zerolog.New(s.log), Access: guard})
	return s
}

func TestAccess(t *testing.T) {
	for name, test := range map[string]struct {
		subject, method, target, body string
		status                        int
		has, hasNot                   string
	}{
		"nobody":                      {"", "GET", "/v2/apps", "", 401, `{"message":"Invalid username or password."}`, "shop"},
		"nobody, metrics":             {"", "GET", "/metrics", "", 401, "", ""},
		"nobody, events":              {"", "GET", "/v2/events", "", 401, "", ""},
		"nobody, ping":                {"", "GET", "/ping", "", 200, "pong", ""},
		"nobody, ready":               {"", "GET", "/ready", "", 200, "", ""},
		"wrong":                       {"wrong", "GET", "/v2/apps", "", 401, "", ""},
		"list is filtered":            {"shop", "GET", "/v2/apps", "", 200, "/shop/cart", "/web"},
		"list of all":                 {"reader", "GET", "/v2/apps", "", 200, "/web", ""},
		"list of nothing":             {"nothing", "GET", "/v2/apps", "", 200, `{"apps":[]}`, ""},
		"tasks are filtered":          {"shop", "GET", "/v2/tasks", "", 200, "shop_cart.1", "web.1"},
		"groups are filtered":         {"shop", "GET", "/v2/groups", "", 200, "/shop/cart", "/web"},
		"deployments are filtered":    {"shop", "GET", "/v2/deployments", "", 200, "/shop/cart", "/web"},
		"sees":                        {"web", "GET", "/v2/apps/shop/cart", "", 200, "", ""},
		"does not see":                {"shop", "GET", "/v2/apps/web", "", 403, `{"message":"Not Authorized to perform this action!"}`, ""},
		"does not see what is not":    {"shop", "GET", "/v2/apps/web/none", "", 403, "", ""},
		"does not see tasks":          {"shop", "GET", "/v2/apps/web/tasks", "", 403, "", ""},
		"does not see versions":       {"shop", "GET", "/v2/apps/web/versions", "", 403, "", ""},
		"does not see a version":      {"shop", "GET", "/v2/apps/web/versions/2026-03-01T12:00:02.000Z", "", 403, "", ""},
		"creates":                     {"shop", "POST", "/v2/apps", `{"id":"/shop/new","cmd":"x"}`, 201, "", ""},
		"does not create":             {"web", "POST", "/v2/apps", `{"id":"/shop/new","cmd":"x"}`, 403, "", ""},
		"does not create by put":      {"reader", "PUT", "/v2/apps/new", `{"cmd":"x"}`, 403, "", ""},
		"does not update":             {"web", "PUT", "/v2/apps/shop/cart", `{"instances":2}`, 403, "", ""},
		"does not even try":           {"web", "PUT", "/v2/apps/shop/cart?dryRun=true", `{"instances":2}`, 403, "", ""},
		"does not restart":            {"reader", "POST", "/v2/apps/web/restart", "", 403, "", ""},
		"does not delete":             {"reader", "DELETE", "/v2/apps/web", "", 403, "", ""},
		"array of one that may not":   {"shop", "PUT", "/v2/apps?force=true", `[{"id":"/shop/cart","mem":1},{"id":"/web","mem":1}]`, 403, "", ""},
		"group that it may not":       {"reader", "DELETE", "/v2/groups/shop", "", 403, "", ""},
		"group":                       {"shop", "DELETE", "/v2/groups/shop", "", 200, "", ""},
		"does not kill":               {"web", "DELETE", "/v2/apps/shop/cart/tasks", "", 403, "", ""},
		"does not kill one":           {"web", "DELETE", "/v2/apps/shop/cart/tasks/shop_cart.1", "", 403, "", ""},
		"does not kill one of many":   {"web", "POST", "/v2/tasks/delete", `{"ids":["web.1","shop_cart.1"]}`, 403, "", ""},
		"does not end a deployment":   {"web", "DELETE", "/v2/deployments/" + first, "", 403, "", ""},
		"ends its deployment":         {"web", "DELETE", "/v2/deployments/" + second + "?force=true", "", 202, "", ""},
		"does not end a backoff":      {"reader", "DELETE", "/v2/queue/web/delay", "", 403, "", ""},
		"everybody may know the info": {"nothing", "GET", "/v2/info", "", 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := guarded(t)
			r := s.with(test.method, test.target, test.body, "Authorization", "Bearer "+test.subject)
			body := r.Body.String()
			if r.Code != test.status || !strings.Contains(body, test.has) || test.hasNot != "" && strings.Contains(body, test.hasNot) {
				t.Errorf("%d %s", r.Code, body)
			}
			if challenge := r.Header().Get("WWW-Authenticate"); (r.Code == 401) != strings.HasPrefix(challenge, "Basic realm=") {
				t.Errorf("WWW-Authenticate: %q", challenge)
			}
			if killed := s.backend.Killed(); r.Code == 403 && len(killed) > 0 {
				t.Errorf("killed %v all the same", killed)
			}
		})
	}
}

func TestAbdicate(t *testing.T) {
	s := newServer(t)
	abdicated := 0
	s.handler = newHandler(t, api.Config{Backend: s.backend, Abdicate: func() { abdicated++ }})
	want(t, s.do("DELETE", "/v2/leader", ""), 200, `{"message":"Leadership abdicated"}`)
	if abdicated != 1 {
		t.Errorf("abdicated %d times", abdicated)
	}
	g := guarded(t)
	if r := g.with("DELETE", "/v2/leader", "", "Authorization", "Bearer shop"); r.Code != 403 {
		t.Errorf("by one who may not delete everything: %d", r.Code)
	}
}

// Two who see different things never share a cached reply.
func TestAccess_TagsDifferBySubject(t *testing.T) {
	s := guarded(t)
	tag := s.with("GET", "/v2/apps", "", "Authorization", "Bearer reader").Header().Get("ETag")
	if r := s.with("GET", "/v2/apps", "", "Authorization", "Bearer shop", "If-None-Match", tag); r.Code != 200 {
		t.Errorf("%d", r.Code)
	}
}

func TestAudit_OneLinePerWrite(t *testing.T) {
	s := guarded(t)
	s.log.Reset()
	s.with("PUT", "/v2/apps/shop/cart?force=true", `{"env":{"PASSWORD":"hunter2"},"instances":4}`, "Authorization", "Bearer shop")
	line := s.log.String()
	for _, want := range []string{`"subject":"shop"`, `"method":"PUT"`, `"path":"/v2/apps/shop/cart"`, `"status":200`, `"apps":["/shop/cart"]`, "RestartApplication env instances", `"deployment":"`, `"message":"audit"`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %s", want, line)
		}
	}
	if strings.Contains(line, "hunter2") || strings.Count(line, "\n") != 1 {
		t.Errorf("line: %s", line)
	}
	s.log.Reset()
	s.with("DELETE", "/v2/apps/shop/cart", "", "Authorization", "Bearer web")
	if line := s.log.String(); !strings.Contains(line, `"subject":"web"`) || !strings.Contains(line, `"status":403`) {
		t.Errorf("refused: %s", line)
	}
	s.log.Reset()
	s.with("GET", "/v2/apps", "", "Authorization", "Bearer web")
	if s.log.Len() > 0 {
		t.Errorf("read: %s", s.log)
	}
}

// A page in a browser cannot reach an open API through a name of its own.
func TestLocalOnly_RefusesOtherHosts(t *testing.T) {
	s := newServer(t)
	s.handler = newHandler(t, api.Config{Backend: s.backend, LocalOnly: true})
	for host, want := range map[string]int{
		"localhost:8080": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200, "127.0.0.1": 200, "::1": 200,
		"evil.example.com:8080": 421, "10.0.0.1": 421, "localhost.evil.example.com": 421, "": 421,
	} {
		request := newRequest(t, "GET", "http://x/v2/apps")
		request.Host = host
		if r := s.send(request); r.Code != want {
			t.Errorf("%q: %d", host, r.Code)
		}
	}
}

func newRequest(t *testing.T, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
