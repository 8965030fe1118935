package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

const (
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	// readTimeout ends bodies that trickle.
	readTimeout = 30 * time.Second
	idleTimeout = 2 * time.Minute
	// writeTimeout of the API; publicWriteTimeout leaves an agent on a slow
	// line the time to fetch 32 MB.
	writeTimeout       = 2 * time.Minute
	publicWriteTimeout = 15 * time.Minute
	// closeTimeout is how long requests may go on when the server stops.
	closeTimeout = 5 * time.Second
)

// Listen opens the API's listener. Without authentication only loopback
// addresses are allowed, since whoever reaches the API commands the cluster.
func Listen(ctx context.Context, address string, authenticated bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: expected host:port, e.g. 127.0.0.1:8080", address)
	}
	if !authenticated && !Loopback(host) {
		return nil, fmt.Errorf("listen on %q: without authentication only a loopback address is allowed, e.g. 127.0.0.1:8080", address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

// Loopback tells whether a host, a name or an IP, is this machine and nothing
// else can reach it.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Serve serves the handler of [New] until ctx ends, over TLS if secure is not
// nil, and returns once all requests have ended or been cut.
func Serve(ctx context.Context, listener net.Listener, secure *tls.Config, handler http.Handler, log zerolog.Logger) error {
	listener = newLimit(listener, maxConnections)
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	return serve(ctx, listener, handler, log, writeTimeout)
}

// ServePublic is [Serve] for the handler of [NewPublic].
func ServePublic(ctx context.Context, listener net.Listener, handler http.Handler, log zerolog.Logger) error {
	return serve(ctx, newLimit(listener, maxConnections), handler, log, publicWriteTimeout)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger zerolog.Logger, writes time.Duration) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writes,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(logger.With().Str("part", "http").Logger(), "", 0),
	}
	served := make(chan error, 1) // so that the goroutine ends though nobody listens
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := server.Shutdown(closing)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	return err
}
