package leader

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/rs/zerolog"
)

// forwardedBy marks requests that a standby has passed on.
const forwardedBy = "X-Pacer-Forwarded-By"

const (
	connectTimeout = 3 * time.Second
	// answerTimeout is longer than the leader may take for a request.
	answerTimeout = 30 * time.Second
	retryAfter    = "1" // seconds
)

// StandbyConfig is what [NewStandby] needs.
type StandbyConfig struct {
	// Leader is who leads, if that is known.
	Leader func() (Member, bool)
	// Self is this scheduler's own ID.
	Self string
	// Metrics answers /metrics.
	Metrics http.Handler
	// TLS is for leaders whose API has https; nil means the system's
	// authorities.
	TLS *tls.Config
	Log zerolog.Logger
}

// Standby is the API of a scheduler that does not lead.
type Standby struct {
	config    StandbyConfig
	transport *http.Transport
	proxy     *httputil.ReverseProxy
}

// NewStandby returns the API of a standby. Close it.
func NewStandby(config StandbyConfig) *Standby {
	s := &Standby{config: config, transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout:   connectTimeout,
		TLSClientConfig:       config.TLS,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   64,
		ForceAttemptHTTP2:     true,
	}}
	proxy := &httputil.ReverseProxy{
		Transport:     s.transport,
		FlushInterval: -1, // events are not to wait
		ErrorLog:      log.New(config.Log.With().Str("part", "standby").Logger(), "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			target, ok := r.In.Context().Value(targetKey{}).(*url.URL)
			if !ok {
				return // forward always sets it
			}
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Host = r.In.Host // the leader compares it with a page's origin
			r.Out.Header.Set(forwardedBy, config.Self)
		},
		ErrorHandler: s.failed,
	}
	s.proxy = proxy
	return s
}

// Close closes idle connections.
func (s *Standby) Close() { s.transport.CloseIdleConnections() }

// ServeHTTP implements [http.Handler]. An http.ServeMux would redirect clients
// that send "//".
func (s *Standby) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ping":
		_, _ = io.WriteString(w, "pong")
	case "/health":
		answer(w, http.StatusOK, "standby")
	case "/ready":
		s.ready(w)
	case "/metrics":
		s.config.Metrics.ServeHTTP(w, r)
	default:
		s.forward(w, r)
	}
}

// ready means that requests can be passed on.
func (s *Standby) ready(w http.ResponseWriter) {
	if _, why := s.target(); why != "" {
		unavailable(w, why)
		return
	}
	answer(w, http.StatusOK, "standby")
}

// target is where to pass requests on, or why that is not possible.
func (s *Standby) target() (*url.URL, string) {
	leader, known := s.config.Leader()
	if !known {
		return nil, "No scheduler leads at the moment"
	}
	if leader.ID == s.config.Self {
		return nil, "This scheduler is about to lead and still loads its state"
	}
	target, err := url.Parse(leader.API)
	if err != nil || target.Host == "" {
		return nil, "The leading scheduler has published no address of its API that can be used"
	}
	return target, ""
}

type targetKey struct{}

func (s *Standby) forward(w http.ResponseWriter, r *http.Request) {
	if by := r.Header.Get(forwardedBy); by != "" {
		unavailable(w, "This scheduler does not lead, but another one took it for the leader")
		return
	}
	target, why := s.target()
	if why != "" {
		unavailable(w, why)
		return
	}
	s.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, target)))
}

// failed answers when the leader did not.
func (s *Standby) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	s.config.Log.Warn().Str("path", r.URL.Path).AnErr(keyError, err).Msg("leader did not answer")
	var dialed *net.OpError
	if errors.As(err, &dialed) && dialed.Op == "dial" {
		unavailable(w, "The leading scheduler cannot be reached")
		return
	}
	answer(w, http.StatusBadGateway, "The leading scheduler did not answer; whether it did what was asked is not known")
}

func unavailable(w http.ResponseWriter, message string) {
	w.Header().Set("Retry-After", retryAfter)
	answer(w, http.StatusServiceUnavailable, message)
}

func answer(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// Whoever went away needs no answer.
	_ = json.NewEncoder(w).Encode(struct {
		Message string `json:"message"`
	}{message})
}
