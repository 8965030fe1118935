package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/api"
)

// pipeListener hands out the server's ends of pipes, so that time in a test
// is synctest's.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

func TestP12_SlowClientsAreCut(t *testing.T) {
	for name, test := range map[string]struct {
		sends  string // at once, then a space each second
		within time.Duration
		status int // 0 means that the connection is only closed
	}{
		"header": {"POST /v2/apps HTTP/1.1\r\nHost: x\r\nX: ", 15 * time.Second, 0},
		"body":   {"POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{", 45 * time.Second, 400},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := newPipeListener()
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- api.Serve(ctx, listener, nil, newServer(t).handler, zerolog.Nop()) }()

				start := time.Now()
				conn := listener.dial()
				trickled := make(chan struct{})
				go func() {
					defer close(trickled)
					_, err := fmt.Fprint(conn, test.sends)
					for err == nil {
						time.Sleep(time.Second)
						_, err = conn.Write([]byte(" "))
					}
				}()
				reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
				switch {
				case test.status == 0 && err == nil && reply.StatusCode < 400, test.status != 0 && (err != nil || reply.StatusCode != test.status):
					t.Errorf("reply %v, error %v; want status %d", reply, err, test.status)
				case err == nil:
					_ = reply.Body.Close()
				}
				if took := time.Since(start); took > test.within {
					t.Errorf("cut after %v, want at most %v", took, test.within)
				}
				_ = conn.Close()
				<-trickled
				stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
