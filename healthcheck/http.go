package healthcheck

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxHeader bounds what is read of an answer before its body.
const maxHeader = 64 << 10

const userAgent = "pacer-healthcheck"

// http speaks HTTP/1.1 over a connection of its own. net/http's Transport
// would do the same with two goroutines and twice the memory for each
// connection (see BenchmarkHTTP), and hides the connection, whose closing we
// want to govern.
func (p *Prober) http(ctx context.Context, h *HTTP, started time.Time) Result {
	hop := h.first()
	where := hop.addr + pathOnly(hop.target)
	limit := h.Redirects
	if limit == 0 {
		limit = DefaultRedirects
	}
	for redirects := 0; ; redirects++ {
		ans, err := p.get(ctx, h, hop)
		if err != nil {
			return failed(classify(ctx, err, ReasonProtocol), "GET", where, started, redirects)
		}
		next, err := hop.follow(h, ans)
		if next != nil && limit > 0 {
			if redirects == limit {
				r := failed(ReasonRedirect, "GET", where, started, redirects)
				r.Status = ans.status
				return r
			}
			hop = *next
			continue
		}
		if err != nil && limit > 0 {
			r := failed(ReasonRedirect, "GET", where, started, redirects)
			r.Status = ans.status
			return r
		}
		return h.judge(ans, where, started, redirects)
	}
}

// judge decides about the final answer.
func (h *HTTP) judge(ans answer, where string, started time.Time, redirects int) Result {
	r := Result{Status: ans.status, ExitCode: -1}
	r.Message = "HTTP " + strconv.Itoa(ans.status) + " from " + where + after(started) + redirected(redirects)
	switch {
	case !h.accepts(ans.status):
		r.Reason = ReasonStatus
	case h.Body != "" && !bytes.Contains(ans.body, []byte(h.Body)):
		r.Reason = ReasonBody
		r.Message += ": the body lacks the expected text"
	}
	return r
}

func (h *HTTP) accepts(status int) bool {
	if len(h.Statuses) == 0 {
		return status >= 200 && status <= 399
	}
	return slices.ContainsFunc(h.Statuses, func(s StatusRange) bool { return s.First <= status && status <= s.Last })
}

// hop is one request of a chain of redirects.
type hop struct {
	tls bool
	// addr is where to connect to, host the Host header, target the path and
	// query, verbatim.
	addr, host, target string
}

func (h *HTTP) first() hop {
	f := hop{tls: h.Scheme == "https", addr: target(h.Address, h.IPv6, h.Port), host: h.Host, target: h.Path}
	if f.host == "" {
		f.host = f.addr
	}
	if f.target == "" {
		f.target = "/"
	}
	return f
}

// follow returns where an answer redirects to; nil if nowhere, or to a machine
// that is not the task's. The error says that it cannot be understood.
func (p hop) follow(h *HTTP, ans answer) (*hop, error) {
	switch ans.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	if ans.location == "" {
		return nil, nil
	}
	base := url.URL{Scheme: "http", Host: p.host}
	if p.tls {
		base.Scheme = "https"
	}
	path, query, _ := strings.Cut(p.target, "?")
	base.Path, base.RawQuery = path, query
	u, err := base.Parse(ans.location)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, nil
	}
	if name := u.Hostname(); name != hostname(p.host) && name != hostname(p.addr) && name != "localhost" {
		return nil, nil
	}
	port := u.Port()
	if port == "" && u.Host == base.Host && u.Scheme == base.Scheme {
		// A host without a port is how the task calls the port we asked.
		_, port, _ = net.SplitHostPort(p.addr)
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	next := hop{tls: u.Scheme == "https", addr: net.JoinHostPort(hostname(p.addr), port), host: u.Host, target: u.RequestURI()}
	if strings.ContainsFunc(next.host+next.target, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("control characters in Location")
	}
	return &next, nil
}

func hostname(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.Trim(hostport, "[]")
}

// answer is what a judgement or a redirect needs of a response.
type answer struct {
	status   int
	location string
	body     []byte
}

// get makes one request over a fresh connection and reads the answer.
func (p *Prober) get(ctx context.Context, h *HTTP, hop hop) (answer, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", hop.addr)
	if err != nil {
		return answer{}, err
	}
	defer raw.Close()
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	conn := raw
	if hop.tls {
		// The peer is the task on this machine's loopback, unless the check
		// demands otherwise; Mesos does not verify either.
		t := tls.Client(raw, &tls.Config{ServerName: hostname(hop.host), InsecureSkipVerify: !h.Verify, RootCAs: h.Roots})
		if err := t.HandshakeContext(ctx); err != nil {
			return answer{}, err
		}
		conn = t
	}
	if _, err := conn.Write(h.request(hop)); err != nil {
		// The task may have answered without reading, e.g. 503 at a limit of
		// connections; that answer says more than our broken pipe.
		if classify(ctx, err, ReasonProtocol) != ReasonConnect {
			return answer{}, err
		}
	}
	ans, err := p.read(conn, h.Body != "")
	if tcpConn, ok := raw.(*net.TCPConn); ok && err == nil {
		// The answer has been read. A reset now spares the task's machine a
		// socket in TIME_WAIT for every probe.
		tcpConn.SetLinger(0)
	}
	return ans, err
}

func (h *HTTP) request(hop hop) []byte {
	b := make([]byte, 0, 256)
	b = fmt.Appendf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: */*\r\nConnection: close\r\n", hop.target, hop.host, userAgent)
	for name, value := range h.Header {
		b = fmt.Appendf(b, "%s: %s\r\n", name, value)
	}
	return append(b, "\r\n"...)
}

// maxInformational bounds the 1xx answers before the real one.
const maxInformational = 5

func (p *Prober) read(conn net.Conn, wantBody bool) (answer, error) {
	limited := &io.LimitedReader{R: conn, N: maxHeader}
	br, ok := p.buffers.Get().(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(nil, 4<<10)
	}
	br.Reset(limited)
	defer func() {
		br.Reset(nil)
		p.buffers.Put(br)
	}()
	for range maxInformational {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			if limited.N <= 0 {
				return answer{}, errors.New("header too long")
			}
			return answer{}, err
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		ans := answer{status: resp.StatusCode, location: resp.Header.Get("Location")}
		limited.N = MaxBody
		body := io.LimitReader(resp.Body, MaxBody)
		if wantBody {
			ans.body, err = io.ReadAll(body)
		} else {
			_, err = io.Copy(io.Discard, body)
		}
		if err != nil && limited.N <= 0 {
			err = nil // more than we read of any body
		}
		return ans, err
	}
	return answer{}, errors.New("too many informational answers")
}

// pathOnly is the part of a request's target that is fit for messages.
func pathOnly(target string) string {
	path, _, _ := strings.Cut(target, "?")
	if len(path) > 100 {
		path = path[:100] + "..."
	}
	return path
}
