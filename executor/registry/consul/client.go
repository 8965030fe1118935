package consul

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"pacer/executor/registry"
)

const (
	// callTimeout bounds one request that does not wait for anything.
	callTimeout = 2 * time.Second
	// maxConnections of each kind. An agent takes 200 from one address, by
	// default, and several executors may share it.
	maxConnections = 32
)

// client returns a client of the library, and a function that ends its
// connections.
func (c Config) client() (*api.Client, func(), error) {
	u, err := parseURL(c.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("address %w", err)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: callTimeout}).DialContext,
		TLSHandshakeTimeout: callTimeout,
		MaxConnsPerHost:     maxConnections,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     time.Minute,
	}
	if u.Scheme == "https" {
		if transport.TLSClientConfig, err = c.tls(); err != nil {
			return nil, nil, err
		}
	}
	carrier := &http.Client{Transport: &authorised{next: transport, file: c.TokenFile}}
	client, err := api.NewClient(&api.Config{Address: u.Host, Scheme: u.Scheme, HttpClient: carrier})
	if err != nil {
		return nil, nil, err
	}
	return client, transport.CloseIdleConnections, nil
}

func (c Config) tls() (*tls.Config, error) {
	config := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", EnvCACert, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM format", EnvCACert, c.CACert)
		}
	}
	if c.ClientCert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", EnvClientCert, EnvClientKey, err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		// Certificates are renewed under a running executor.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}

// authorised adds the token of a file to requests, and reads the file again
// when it has changed.
type authorised struct {
	next http.RoundTripper
	file string

	mu    sync.Mutex
	read  time.Time // modification time of what was read
	token string
}

func (a *authorised) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.file != "" {
		token, err := a.current()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", EnvTokenFile, err)
		}
		r = r.Clone(r.Context())
		r.Header.Set("X-Consul-Token", token)
	}
	return a.next.RoundTrip(r)
}

func (a *authorised) current() (string, error) {
	info, err := os.Stat(a.file)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != "" && info.ModTime().Equal(a.read) {
		return a.token, nil
	}
	token, err := readToken(a.file)
	if err != nil {
		return "", err
	}
	a.token, a.read = token, info.ModTime()
	return token, nil
}

// status is the HTTP status behind an error, 0 if there was no answer.
func status(err error) int {
	var s api.StatusError
	if errors.As(err, &s) {
		return s.Code
	}
	return 0
}

// unavailable tells an outage from a refusal.
func unavailable(err error) bool {
	if errors.Is(err, errNotYet) {
		return false
	}
	code := status(err)
	return code == 0 && !errors.Is(err, context.Canceled) || code >= http.StatusInternalServerError
}

// explain adds to an error what was being done, and tells an outage.
func explain(what, id string, err error) error {
	switch {
	case status(err) == http.StatusForbidden:
		return fmt.Errorf("%s %s: not allowed with the token given: check %s and the token's policies (service:write for the name, service:read and node:read): %w", what, id, EnvTokenFile, err)
	case unavailable(err):
		return fmt.Errorf("%w: %s %s: %w", registry.ErrUnavailable, what, id, err)
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}
