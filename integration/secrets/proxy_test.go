package secrets

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// proxy stands before a Vault and counts what passes.
type proxy struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string]int // by path without /v1/
	under    int            // requests under way
	most     int            // of them at any time
}

func newProxy(t testing.TB, address string) *proxy {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	behind := &http.Transport{}
	t.Cleanup(behind.CloseIdleConnections)
	pass := &httputil.ReverseProxy{Transport: behind, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	p := &proxy{requests: map[string]int{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests[strings.TrimPrefix(r.URL.Path, "/v1/")]++
		p.under++
		p.most = max(p.most, p.under)
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			p.under--
			p.mu.Unlock()
		}()
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Server.Close)
	return p
}

// count is how many requests had a path with a prefix.
func (p *proxy) count(prefix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, times := range p.requests {
		if strings.HasPrefix(path, prefix) {
			n += times
		}
	}
	return n
}

func (p *proxy) atOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}
