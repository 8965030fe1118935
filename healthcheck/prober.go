package healthcheck

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// DefaultConcurrency is how many probes of one [Prober] are in their first
	// moments at the same time unless it is told otherwise.
	DefaultConcurrency = 64
	// firstMoments is how long a probe counts among those. Nearly all are
	// finished by then; one that hangs only waits, and must not hold up others.
	firstMoments = 100 * time.Millisecond
)

// Prober performs probes. It is safe for concurrent use; one serves a process.
type Prober struct {
	slots chan struct{}
	// buffers are for reading HTTP answers.
	buffers sync.Pool
}

// NewProber returns a prober that levels bursts: at most so many probes are in
// their first 100 ms at the same time. 0 means [DefaultConcurrency]. Commands
// count too.
func NewProber(concurrency int) *Prober {
	if concurrency <= 0 {
		concurrency = DefaultConcurrency
	}
	return &Prober{slots: make(chan struct{}, concurrency)}
}

// Probe performs one probe that was due at the given time. run is needed for
// commands only. The check has to be valid. When ctx ends the result means
// nothing.
func (p *Prober) Probe(ctx context.Context, c *Check, run Runner, due time.Time) Result {
	select {
	case p.slots <- struct{}{}:
		leave := sync.OnceFunc(func() { <-p.slots })
		defer leave()
		defer time.AfterFunc(firstMoments, leave).Stop()
	case <-ctx.Done():
		return Result{Reason: ReasonRun, Message: "stopped"}
	}
	timeout := c.timeout()
	started := time.Now()
	ctx, cancel := context.WithDeadline(ctx, started.Add(timeout))
	defer cancel()
	clock := watchClock(started, timeout)
	var r Result
	switch {
	case c.HTTP != nil:
		r = p.http(ctx, c.HTTP, started)
	case c.TCP != nil:
		r = tcp(ctx, c.TCP, started)
	default:
		r = command(ctx, c.Command, run, started)
	}
	r.Started = started
	r.Duration = time.Since(started)
	r.Late = max(started.Sub(due), clock.stop()) > tolerance(timeout)
	return r
}

// timeout is never 0.
func (c *Check) timeout() time.Duration {
	if c.Timeout <= 0 {
		return MaxTimeout
	}
	return min(c.Timeout, MaxTimeout)
}

// tolerance is how late our own clock may be before a failure says more about
// us than about the task.
func tolerance(timeout time.Duration) time.Duration {
	return min(timeout, 20*time.Second) / 4
}

// tcp connects and closes. The connection is closed in the regular way: a
// reset could look like a fault to the task.
func tcp(ctx context.Context, t *TCP, started time.Time) Result {
	addr := target(t.Address, t.IPv6, t.Port)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return failed(classify(ctx, err, ReasonConnect), "TCP", addr, started, 0)
	}
	conn.Close()
	return Result{ExitCode: -1, Message: "TCP connection to " + addr + after(started)}
}

func target(address string, ipv6 bool, port int) string {
	switch {
	case address != "":
	case ipv6:
		address = "::1"
	default:
		address = "127.0.0.1"
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}

// failed renders a failure that is not about what the answer says.
func failed(reason Reason, what, where string, started time.Time, redirects int) Result {
	var text string
	switch reason {
	case ReasonRefused:
		text = "connection refused"
	case ReasonTimeout:
		text = "timeout"
	case ReasonTLS:
		text = "TLS failed"
	case ReasonProtocol:
		text = "answer is not HTTP"
	case ReasonRedirect:
		text = "redirect cannot be followed"
	default:
		text = "connection broken"
	}
	return Result{Reason: reason, ExitCode: -1,
		Message: what + " " + where + ": " + text + after(started) + redirected(redirects)}
}

func redirected(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d redirects", n)
}

func after(started time.Time) string {
	d := time.Since(started)
	if d >= 10*time.Millisecond {
		d = d.Round(time.Millisecond)
	} else {
		d = d.Round(100 * time.Microsecond)
	}
	return " after " + d.String()
}
