package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"pacer/secrets"
)

// pipes are a network inside a bubble, where real connections would keep time
// from passing.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// bubble runs a test with a client of a scripted Vault inside a bubble.
func bubble(t *testing.T, before func(http.ResponseWriter, *http.Request) bool, test func(t *testing.T, k *secrets.Keeper, vault *scripted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		vault := &scripted{before: before, keepsAll: true}
		server := &http.Server{Handler: vault, ReadHeaderTimeout: time.Minute}
		served := make(chan error, 1)
		go func() { served <- server.Serve(network) }()
		config := DefaultConfig()
		config.Address = "http://vault:8200"
		c, err := New(config, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		c.api.CloneConfig().HttpClient.Transport.(transport).RoundTripper.(*http.Transport).DialContext = network.dial
		k := secrets.NewKeeper(c, zerolog.Nop())
		test(t, k, vault)
		if err := k.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		c.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func webIdentity() secrets.Identity {
	return secrets.Identity{App: "web", Task: "web.1", Token: secrets.NewSecret([]byte(goodToken))}
}

func parsed(t *testing.T, labels map[string]string) secrets.Declarations {
	t.Helper()
	d, err := secrets.ParseLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestP9_TenMinutesSealed: what runs is not touched, what waits says why, and
// goes on when Vault is unsealed. Vault is not stormed meanwhile.
func TestP9_TenMinutesSealed(t *testing.T) {
	var sealed atomic.Bool
	var asked atomic.Int32
	before := func(w http.ResponseWriter, _ *http.Request) bool {
		if !sealed.Load() {
			return false
		}
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"errors":["Vault is sealed"]}`)
		return true
	}
	bubble(t, before, func(t *testing.T, k *secrets.Keeper, _ *scripted) {
		running, err := k.Acquire(t.Context(), webIdentity(), parsed(t, map[string]string{
			"secret.env.A": "secret/web/db#password", "secret.refresh": "30s", "secret.on-change": "restart",
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed.Store(true)
		const launches = 50
		reasons := make(chan string, launches*10)
		done := make(chan error, launches)
		d := parsed(t, map[string]string{"secret.env.A": "secret/web/db#password"})
		for range launches {
			go func() {
				_, err := k.Acquire(t.Context(), webIdentity(), d, func(reason string) { reasons <- reason })
				done <- err
			}()
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(done) > 0 {
			t.Fatalf("a launch ended while Vault was sealed: %v", <-done)
		}
		if len(reasons) != launches {
			t.Errorf("%d reasons were said by %d launches", len(reasons), launches)
		}
		for range len(reasons) {
			if reason := <-reasons; !strings.Contains(reason, "sealed") || !strings.Contains(reason, "http://vault:8200") {
				t.Errorf("waits for %q", reason)
			}
		}
		// Some were under way together before the first answer came.
		if n := asked.Load(); n > 50 {
			t.Errorf("%d requests in ten minutes", n)
		}
		sealed.Store(false)
		begin := time.Now()
		for range launches {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took > maxPause {
			t.Errorf("the launches went on %s after Vault was back", took)
		}
		select {
		case c := <-running.Changes():
			t.Errorf("the running task was told of %v", c.Names)
		default:
		}
		if err := running.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestP6_KillNeverWaitsForVault cancels a launch wherever it hangs.
func TestP6_KillNeverWaitsForVault(t *testing.T) {
	for _, how := range []string{"hangs", "is sealed", "limits"} {
		for _, where := range []string{"/login", "/mounts/", "/data/web/db", "/revoke-self"} {
			t.Run(how+" at "+where, func(t *testing.T) {
				before := func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, where) {
						return false
					}
					switch how {
					case "hangs":
						// The body has to be read for the server to notice that the
						// client has gone.
						_, _ = io.Copy(io.Discard, r.Body)
						<-r.Context().Done()
					case "is sealed":
						w.WriteHeader(http.StatusServiceUnavailable)
					case "limits":
						w.Header().Set("Retry-After", "60")
						w.WriteHeader(http.StatusTooManyRequests)
					}
					return true
				}
				bubble(t, before, func(t *testing.T, k *secrets.Keeper, _ *scripted) {
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 20)
					d := parsed(t, map[string]string{"secret.env.A": "secret/web/db#password"})
					for range cap(done) {
						go func() {
							_, err := k.Acquire(ctx, webIdentity(), d, nil)
							done <- err
						}()
					}
					time.Sleep(3 * time.Second)
					cancel()
					begin := time.Now()
					for range cap(done) {
						if err := <-done; err == nil && where != "/revoke-self" {
							t.Error("a launch that hangs ended well")
						}
					}
					if took := time.Since(begin); took != 0 {
						t.Errorf("the kill took effect after %s", took)
					}
				})
			})
		}
	}
}

func TestNamespace_IsSentWithEachRequest(t *testing.T) {
	var without atomic.Int32
	server := newScripted(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Trim(r.Header.Get("X-Vault-Namespace"), "/") != "team/a" {
			without.Add(1)
		}
		return false
	})
	client, _ := newClient(t, server.URL, func(c *Config) { c.Namespace = "team/a" })
	if got, err := acquire(t, t.Context(), client, map[string]string{"secret.env.A": "secret/web/db#password"}, nil); err != nil || got != "A="+canary {
		t.Errorf("got %s, %v", got, err)
	}
	if n := without.Load(); n > 0 {
		t.Errorf("%d requests without the namespace", n)
	}
}

func FuzzReadClaims(f *testing.F) {
	f.Add([]byte(goodToken))
	f.Add([]byte("a.b.c"))
	f.Add([]byte("e30.e30.e30"))
	f.Fuzz(func(t *testing.T, token []byte) {
		if _, ok := readClaims(secrets.NewSecret(token)); ok && bytes.Count(token, []byte(".")) != 2 {
			t.Errorf("%q has claims", token)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("secret/data/{app}/*", "shop/cart", "secret/data/shop/cart/db")
	f.Add("{app}/*", "a", "a/b")
	f.Fuzz(func(t *testing.T, text, app, path string) {
		parsed, err := parseTemplate(text)
		if err != nil || secrets.CheckPath("x/"+app) != "" || secrets.CheckPath(path) != "" {
			return
		}
		if parsed.allows(app, path) && !strings.Contains("/"+path+"/", "/"+app+"/") {
			t.Errorf("%s lets %s read %s", text, app, path)
		}
		if parsed.allows(app, path) && !parsed.mayAllow(app, path) {
			t.Errorf("%s: allowed, but not perhaps allowed", text)
		}
	})
}
