package mesosapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// mediaType is compared byte by byte in Mesos.
const mediaType = "application/x-protobuf"

// Config says where a Mesos process is and how to speak to it.
type Config struct {
	// URL is where calls are POSTed: "http://10.0.0.1:5051/api/v1/executor".
	URL string
	// Address, when set, is the "host:port" that is dialed instead of the URL's:
	// certificates carry names where connections go to addresses.
	Address string
	// Socket, when set, is the path of a unix-domain socket to connect to.
	Socket string
	// Token is sent as a bearer token. It excludes User.
	Token string
	// User and Password are for basic authentication.
	User, Password string
	// TLS is used for https URLs; nil means the system's authorities.
	TLS *tls.Config
	// DialTimeout bounds connecting, TLS included. Default 5 s.
	DialTimeout time.Duration
	// ResponseTimeout bounds a call as a whole, and a SUBSCRIBE until its
	// response header. Default 10 s.
	ResponseTimeout time.Duration
	// MaxConnections bounds the connections of calls; others wait for one.
	// Default 8.
	MaxConnections int
	// Dial replaces the connecting itself, for tests; nil means TCP with
	// keep-alive, or the Socket.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client sends calls to one Mesos process. Its methods may be used from any
// goroutine.
type Client struct {
	config        Config
	authorization string
	calls         *http.Transport
	streams       *http.Transport
}

// Message is a protobuf message that marshals itself, as mesos-go's do.
type Message interface {
	Marshal() ([]byte, error)
}

// Event is a protobuf message that reads itself, as mesos-go's do.
type Event interface {
	Unmarshal([]byte) error
}

// New checks the configuration. Close the client when done.
func New(config Config) (*Client, error) {
	target, err := url.Parse(config.URL)
	switch {
	case err != nil:
		// The parser's error quotes the URL, which may hold a password.
		return nil, errors.New("the Mesos URL cannot be parsed: write it as http://host:port/path")
	case target.Scheme != "http" && target.Scheme != "https" || target.Host == "":
		return nil, fmt.Errorf("the Mesos URL has scheme %q and host %q: write it as http://host:port/path", target.Scheme, target.Host)
	case target.User != nil:
		return nil, errors.New("the Mesos URL holds credentials: give them apart from it")
	}
	if config.DialTimeout <= 0 {
		config.DialTimeout = 5 * time.Second
	}
	if config.ResponseTimeout <= 0 {
		config.ResponseTimeout = 10 * time.Second
	}
	if config.MaxConnections <= 0 {
		config.MaxConnections = 8
	}
	c := &Client{config: config}
	switch {
	case config.Token != "":
		c.authorization = "Bearer " + config.Token
	case config.User != "":
		request := http.Request{Header: http.Header{}}
		request.SetBasicAuth(config.User, config.Password)
		c.authorization = request.Header.Get("Authorization")
	}
	c.calls = c.transport()
	c.calls.MaxConnsPerHost = config.MaxConnections
	c.calls.MaxIdleConnsPerHost = config.MaxConnections
	c.calls.IdleConnTimeout = 2 * time.Minute
	c.streams = c.transport()
	c.streams.DisableKeepAlives = true
	return c, nil
}

func (c *Client) transport() *http.Transport {
	return &http.Transport{
		DialContext:         c.dial,
		TLSClientConfig:     c.config.TLS.Clone(),
		TLSHandshakeTimeout: c.config.DialTimeout,
		DisableCompression:  true,
	}
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.DialTimeout)
	defer cancel()
	if c.config.Address != "" {
		address = c.config.Address
	}
	if c.config.Socket != "" {
		network, address = "unix", c.config.Socket
	}
	if c.config.Dial != nil {
		return c.config.Dial(ctx, network, address)
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4,
	}}
	return dialer.DialContext(ctx, network, address)
}

// Close lets go of idle connections; the client can still be used. Streams end
// by their own Close.
func (c *Client) Close() {
	c.calls.CloseIdleConnections()
	c.streams.CloseIdleConnections()
}

// Call sends one call and returns nil after the peer's 202 (or 200), a
// [StatusError] after any other answer. Without an answer the error wraps
// [ErrNotSent] if that is certain; otherwise the outcome is unknown. header may
// be nil.
func (c *Client) Call(ctx context.Context, call Message, header http.Header) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.ResponseTimeout)
	defer cancel()
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	})
	request, err := c.request(ctx, call, header)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	response, err := c.calls.RoundTrip(request)
	if err != nil {
		if !connected {
			return fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return err
	}
	defer response.Body.Close()
	return checkStatus(response)
}

// Subscribe sends a SUBSCRIBE on a connection of its own and returns the stream
// of its events. The stream lives until its Close, the end of ctx, or the end
// that the peer makes; close it in any case. Errors are those of Call.
func (c *Client) Subscribe(ctx context.Context, call Message, header http.Header) (*Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := c.request(ctx, call, header)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	request.Header.Set("Accept", mediaType)
	timeout := time.AfterFunc(c.config.ResponseTimeout, func() { cancel(ErrResponseTimeout) })
	response, err := c.streams.RoundTrip(request)
	timeout.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	stream := newStream(ctx, cancel, response)
	if err := checkStatus(response); err != nil {
		stream.Close()
		return nil, err
	}
	if got := response.Header.Get("Content-Type"); got != mediaType {
		stream.Close()
		return nil, fmt.Errorf("%w %q instead of %q: is this the Mesos API?", ErrContentType, got, mediaType)
	}
	return stream, nil
}

func (c *Client) request(ctx context.Context, call Message, header http.Header) (*http.Request, error) {
	body, err := call.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode call: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.config.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", mediaType)
	if c.authorization != "" {
		request.Header.Set("Authorization", c.authorization)
	}
	return request, nil
}

// checkStatus reads what is left of an answer that is not a stream, so that
// its connection can be used again.
func checkStatus(response *http.Response) error {
	if response.StatusCode == http.StatusOK && response.Header.Get("Content-Type") == mediaType {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusAccepted {
		return nil
	}
	return &StatusError{
		Code:     response.StatusCode,
		Body:     printable(body),
		Location: response.Header.Get("Location"),
	}
}
