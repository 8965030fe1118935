package healthcheck

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// canary is in every body: no message may hold it.
const canary = "s3cret-canary"

// task is an HTTP server that misbehaves by path.
func task(t testing.TB, network string, secure bool) (h HTTP, server *httptest.Server) {
	t.Helper()
	l, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscan(r.PathValue("code"), &code)
		w.WriteHeader(code)
		io.WriteString(w, canary)
	})
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { <-release })
	mux.HandleFunc("/hang-body", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	})
	mux.HandleFunc("/flood", func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 1<<16); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop?"+canary, http.StatusFound) })
	mux.HandleFunc("/redirect/{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscan(r.PathValue("n"), &n)
		next := "/status/204"
		if n > 1 {
			next = fmt.Sprintf("/redirect/%d", n-1)
		}
		http.Redirect(w, r, next, http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{r.URL.Query().Get("url")}
		w.WriteHeader(301)
	})
	mux.HandleFunc("/host", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+" "+r.RemoteAddr) })
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Ask")) })
	mux.HandleFunc("/verbatim/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusEarlyHints) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, canary)
	})
	server = &httptest.Server{Listener: l, Config: &http.Server{
		Handler: mux, ErrorLog: log.New(io.Discard, "", 0),
	}}
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	addr := netip.MustParseAddrPort(l.Addr().String())
	h = HTTP{Scheme: "http", Port: int(addr.Port()), IPv6: addr.Addr().Is6()}
	if secure {
		h.Scheme = "https"
	}
	return h, server
}

// raw is a server that answers every connection with the same bytes.
func raw(t *testing.T, answer string) HTTP {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			conn.Read(make([]byte, 1024))
			io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return HTTP{Port: l.Addr().(*net.TCPAddr).Port}
}

func probe(t testing.TB, c Check) Result {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return NewProber(0).Probe(context.Background(), &c, nil, time.Now())
}

func probeHTTP(t testing.TB, h HTTP) Result {
	t.Helper()
	c := Default()
	c.HTTP, c.Timeout = &h, 10*time.Second
	switch h.Path {
	case "/hang", "/hang-body":
		c.Timeout = 200 * time.Millisecond
	}
	return probe(t, c)
}

func TestHTTP(t *testing.T) {
	cases := []struct {
		name    string
		path    string
		set     func(*HTTP)
		reason  Reason
		status  int
		message string
	}{
		{name: "200", path: "/status/200", status: 200, message: "HTTP 200 from "},
		{name: "399 is accepted", path: "/status/399", status: 399},
		{name: "400 is not", path: "/status/400", reason: ReasonStatus, status: 400, message: "HTTP 400 from "},
		{name: "503 names path and code", path: "/status/503", reason: ReasonStatus, status: 503, message: "/status/503 after "},
		{name: "statuses override", path: "/status/503", set: func(h *HTTP) { h.Statuses = []StatusRange{{200, 204}, {503, 503}} }, status: 503},
		{name: "statuses override 200", path: "/status/200", set: func(h *HTTP) { h.Statuses = []StatusRange{{503, 503}} }, reason: ReasonStatus, status: 200},
		{name: "404 without a path of that name", path: "/nowhere", reason: ReasonStatus, status: 404},
		{name: "empty path is /", path: "", reason: ReasonStatus, status: 404},
		{name: "no answer", path: "/hang", reason: ReasonTimeout, message: "timeout"},
		{name: "no end of the body", path: "/hang-body", reason: ReasonTimeout, message: "timeout"},
		{name: "flood", path: "/flood", status: 200},
		{name: "body shorter than announced", path: "/short", reason: ReasonConnect},
		{name: "redirects are followed and the end judged", path: "/redirect/10", status: 204, message: " and 10 redirects"},
		{name: "too many redirects", path: "/redirect/11", reason: ReasonRedirect, status: 307},
		{name: "redirects for ever", path: "/loop", reason: ReasonRedirect, status: 302},
		{name: "no redirects wanted", path: "/redirect/1", set: func(h *HTTP) { h.Redirects = -1 }, status: 307},
		{name: "redirect to a failure", path: "/to?url=/status/500", reason: ReasonStatus, status: 500},
		{name: "redirect to another machine is judged as it stands", path: "/to?url=http://192.0.2.1/", status: 301},
		{name: "redirect to nothing is judged as it stands", path: "/to?url=", status: 301},
		{name: "redirect to nonsense", path: "/to?url=%3A%3A%25zz", reason: ReasonRedirect, status: 301},
		{name: "redirect to another scheme is judged as it stands", path: "/to?url=ftp://127.0.0.1/", status: 301},
		{name: "host header", path: "/host", set: func(h *HTTP) { h.Host, h.Body = "web.example", "web.example " }, status: 200},
		{name: "further headers", path: "/header", set: func(h *HTTP) { h.Header, h.Body = map[string]string{"X-Ask": "me"}, "me" }, status: 200},
		{name: "path is sent verbatim", path: "/verbatim/a%2Fb?x=%20y&z", set: func(h *HTTP) { h.Body = "/verbatim/a%2Fb?x=%20y&z" }, status: 200},
		{name: "body has the text", path: "/status/200", set: func(h *HTTP) { h.Body = "canary" }, status: 200},
		{name: "body lacks the text", path: "/status/200", set: func(h *HTTP) { h.Body = "ok" }, reason: ReasonBody, status: 200, message: "lacks the expected text"},
		{name: "status goes before body", path: "/status/500", set: func(h *HTTP) { h.Body = "ok" }, reason: ReasonStatus, status: 500},
		{name: "early hints are skipped", path: "/early", status: 200},
		{name: "query is not shown", path: "/status/500?key=" + canary, reason: ReasonStatus, status: 500},
	}
	for _, mode := range []struct {
		name, network string
		secure        bool
	}{{"http", "tcp4", false}, {"http IPv6", "tcp6", false}, {"https", "tcp4", true}} {
		t.Run(mode.name, func(t *testing.T) {
			h, _ := task(t, mode.network, mode.secure)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					h := h
					h.Path = c.path
					if c.set != nil {
						c.set(&h)
					}
					r := probeHTTP(t, h)
					if r.Reason != c.reason || r.Status != c.status || !strings.Contains(r.Message, c.message) {
						t.Errorf("reason %q, status %d, message %q; want %q, %d, a message with %q", r.Reason, r.Status, r.Message, c.reason, c.status, c.message)
					}
					if strings.Contains(r.Message, canary) {
						t.Errorf("message %q shows the body or the query", r.Message)
					}
				})
			}
		})
	}
}

func TestHTTP_AnswersThatAreNone(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         Reason
	}{
		{"nothing", "", ReasonConnect},
		{"nonsense", "220 " + canary + " ESMTP\r\n", ReasonProtocol},
		{"half a header", "HTTP/1.1 200 OK\r\nA: b\r\n", ReasonConnect},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+canary+"\r\n", 10_000), ReasonProtocol},
		{"endless hints", strings.Repeat("HTTP/1.1 103 Early\r\n\r\n", 100), ReasonProtocol},
		{"status out of range", "HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", ReasonStatus},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", ReasonProtocol},
		{"broken chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + canary, ReasonProtocol},
		{"until closed", "HTTP/1.0 200 OK\r\n\r\n" + canary, ReasonNone},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ReasonStatus},
		{"redirect with control characters", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /a\tb\r\n\r\n", ReasonRedirect},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := probeHTTP(t, raw(t, c.answer))
			if r.Reason != c.want || strings.Contains(r.Message, canary) {
				t.Errorf("reason %q, message %q, want %q and nothing of the answer", r.Reason, r.Message, c.want)
			}
		})
	}
}

func TestHTTP_Refused(t *testing.T) {
	h, server := task(t, "tcp4", false)
	server.Close()
	if r := probeHTTP(t, h); r.Reason != ReasonRefused || !strings.Contains(r.Message, "connection refused") {
		t.Errorf("reason %q, message %q, want %q", r.Reason, r.Message, ReasonRefused)
	}
}

func TestHTTP_OneTimeoutForAllRedirects(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-time.After(80 * time.Millisecond):
		}
		http.Redirect(w, r, "/", http.StatusFound)
	}))
	defer server.Close()
	c := Default()
	c.HTTP = &HTTP{Port: server.Listener.Addr().(*net.TCPAddr).Port}
	c.Timeout = 200 * time.Millisecond
	r := probe(t, c)
	if r.Reason != ReasonTimeout {
		t.Errorf("reason %q after %v, want %q", r.Reason, r.Duration, ReasonTimeout)
	}
}

func TestHTTP_Verify(t *testing.T) {
	h, server := task(t, "tcp4", true)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for _, c := range []struct {
		name string
		set  func(*HTTP)
		want Reason
	}{
		{"unverified by default", func(*HTTP) {}, ReasonNone},
		{"unknown authority", func(h *HTTP) { h.Verify = true }, ReasonTLS},
		{"known authority", func(h *HTTP) { h.Verify, h.Roots = true, pool }, ReasonNone},
		{"by host", func(h *HTTP) { h.Verify, h.Roots, h.Host = true, pool, "example.com" }, ReasonNone},
		{"wrong host", func(h *HTTP) { h.Verify, h.Roots, h.Host = true, pool, "example.org" }, ReasonTLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h
			h.Path = "/status/200"
			c.set(&h)
			if r := probeHTTP(t, h); r.Reason != c.want {
				t.Errorf("reason %q, message %q, want %q", r.Reason, r.Message, c.want)
			}
		})
	}
}

func TestHTTP_TLSWhereThereIsNone(t *testing.T) {
	h, _ := task(t, "tcp4", false)
	h.Scheme = "https"
	if r := probeHTTP(t, h); r.Reason != ReasonTLS {
		t.Errorf("reason %q, message %q, want %q", r.Reason, r.Message, ReasonTLS)
	}
}

func TestHTTP_FreshConnectionsWithoutProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	h, _ := task(t, "tcp4", false)
	h.Path = "/host"
	seen := make(map[string]bool)
	p := NewProber(0)
	for range 5 {
		hop := h.first()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		h.Body = "x" // so that the body is kept
		ans, err := p.get(ctx, &h, hop)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		seen[string(ans.body)] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d connections for 5 probes", len(seen))
	}
}

func TestTCP(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			h, server := task(t, network, false)
			c := Default()
			c.TCP = &TCP{Port: h.Port, IPv6: h.IPv6}
			if r := probe(t, c); !r.OK() {
				t.Errorf("listening: %+v", r)
			}
			server.Close()
			if r := probe(t, c); r.Reason != ReasonRefused {
				t.Errorf("closed: %+v, want %q", r, ReasonRefused)
			}
		})
	}
}

func TestProbes_LeaveNoDescriptorsBehind(t *testing.T) {
	h, _ := task(t, "tcp4", false)
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(list)
	}
	p := NewProber(0)
	run := func() {
		for _, path := range []string{"/status/200", "/flood", "/loop", "/short"} {
			h.Path = path
			c := Default()
			c.HTTP = &h
			p.Probe(t.Context(), &c, nil, time.Now())
		}
		c := Default()
		c.TCP = &TCP{Port: h.Port}
		p.Probe(t.Context(), &c, nil, time.Now())
	}
	run()
	before := count()
	for range 20 {
		run()
	}
	// The server's ends are ours too, and close a little later.
	deadline := time.Now().Add(10 * time.Second)
	for count() > before+5 {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before 20 rounds of probes, %d after", before, count())
		}
		time.Sleep(time.Millisecond)
	}
}
