package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// EnvListen names the setting for TCP: host:port. Without it there is only the
// socket.
const EnvListen = "PACER_STATUS_LISTEN"

// Config says where to listen.
type Config struct {
	// Sandbox is the directory in which the socket is made.
	Sandbox string
	// Listen is host:port, or empty. Port 0 takes a free one, which is logged.
	Listen string
}

// ConfigFromEnv reads EnvListen; Sandbox is among what the agent client reads.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{Listen: getenv(EnvListen)}
	if c.Listen == "" {
		return c, nil
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return Config{}, fmt.Errorf("%s=%q: write host:port, for example 127.0.0.1:9300", EnvListen, c.Listen)
	}
	return c, nil
}

// Times within which a reader has to ask and to take the answer.
const (
	askTime  = 5 * time.Second
	readTime = 30 * time.Second
)

// Server serves reports until it is closed.
type Server struct {
	http      *http.Server
	sandbox   *directory
	serving   sync.WaitGroup
	log       zerolog.Logger
	addresses []string
}

// Serve begins to serve. What cannot be opened is logged, and left out.
func Serve(c Config, report func() Report, metrics prometheus.Gatherer, log zerolog.Logger) *Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		// A reader who has gone away misses nothing.
		_ = out.Encode(report())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	s := &Server{log: log, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: askTime, ReadTimeout: askTime, WriteTimeout: readTime, IdleTimeout: readTime, MaxHeaderBytes: 16 << 10,
	}}
	var err error
	if s.sandbox, err = openDirectory(c.Sandbox); err == nil {
		var socket net.Listener
		if socket, err = s.sandbox.listen(); err == nil {
			s.serve(socket)
		}
	}
	if err != nil {
		log.Warn().Err(err).Msg("no status on a socket")
	}
	if c.Listen != "" {
		listener, err := net.Listen("tcp", c.Listen)
		if err != nil {
			// Another executor on this agent may have the same setting.
			log.Warn().Err(err).Str("setting", EnvListen).Msg("no status on TCP")
		} else {
			log.Info().Stringer("address", listener.Addr()).Msg("status on TCP")
			s.serve(listener)
		}
	}
	return s
}

func (s *Server) serve(l net.Listener) {
	s.addresses = append(s.addresses, l.Addr().String())
	s.serving.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error().Err(err).Msg("status is no longer served")
		}
	})
}

// Close stops serving; answers under way get until the end of ctx.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close the status endpoint: %w", err), s.http.Close())
	}
	s.serving.Wait()
	if s.sandbox != nil {
		err = errors.Join(err, s.sandbox.close())
	}
	return err
}
