package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"pacer/scheduler/access"
)

const (
	// maxBody is the most that a request may send; more is a 413.
	maxBody = 2 << 20
	// maxStreams is how many may read events at once.
	maxStreams = 1000
	// requestTimeout is how long the Backend may take for a request. Clients
	// of Marathon give up after 10 s to 46 s.
	requestTimeout = 20 * time.Second
)

// Config is what [New] needs.
type Config struct {
	Backend Backend
	Log     zerolog.Logger
	// Metrics is where the API's own metrics are registered, and what
	// /metrics shows.
	Metrics *prometheus.Registry
	// Abdicate gives up the lead to another scheduler of the same state; nil
	// where there can be none.
	Abdicate func()
	// Access decides who may do what; nil lets everybody do everything.
	Access *access.Guard
	// LocalOnly refuses requests whose Host header is not this machine's
	// loopback: a page in a browser could otherwise reach an API without
	// authentication through a name of its own (DNS rebinding).
	LocalOnly bool
}

// handler answers one request. An error is turned into a reply by fail.
type handler func(w http.ResponseWriter, r *http.Request) error

// methods of one address. HEAD is answered where GET is.
type methods map[string]handler

// server holds what handlers need.
type server struct {
	backend Backend
	log     zerolog.Logger
	metrics *metrics
	access  *access.Guard
	local   bool
	// giveUp is Config.Abdicate.
	giveUp func()
	// life tells ETags of this process from those of others.
	life    string
	streams atomic.Int64 // readers of events
}

// New is the API for operators and clients.
func New(config Config) http.Handler {
	s := &server{
		backend: config.Backend, log: config.Log, metrics: newMetrics(config.Metrics),
		access: config.Access, local: config.LocalOnly, giveUp: config.Abdicate, life: uuid.NewString()[:8],
	}
	mux := http.NewServeMux()
	route := func(pattern string, m methods) { mux.Handle(pattern, s.route(pattern, m)) }

	// These are for load balancers, which have no credentials.
	mux.Handle("/ping", s.open("/ping", methods{http.MethodGet: s.ping}))
	mux.Handle("/health", s.open("/health", methods{http.MethodGet: s.health}))
	mux.Handle("/ready", s.open("/ready", methods{http.MethodGet: s.ready}))

	shown := promhttp.HandlerFor(config.Metrics, promhttp.HandlerOpts{Registry: config.Metrics})
	route("/metrics", methods{http.MethodGet: func(w http.ResponseWriter, r *http.Request) error {
		shown.ServeHTTP(w, r)
		return nil
	}})
	route("/v2/info", methods{http.MethodGet: s.info})
	route("/v2/leader", methods{http.MethodGet: s.leader, http.MethodDelete: s.abdicate})
	route("/v2/plugins", methods{http.MethodGet: s.plugins})
	route("/v2/apps", methods{http.MethodGet: s.listApps, http.MethodPost: s.createApp, http.MethodPut: s.putApps, http.MethodPatch: s.patchApps})
	s.routeApps(mux)
	s.routeGroups(mux)
	route("/v2/tasks", methods{http.MethodGet: s.listTasks})
	route("/v2/tasks/delete", methods{http.MethodPost: s.deleteTasks})
	route("/v2/queue", methods{http.MethodGet: s.queue})
	route("/v2/queue/", methods{http.MethodDelete: s.resetDelay})
	mux.Handle("/v2/events", s.streaming("/v2/events", methods{http.MethodGet: s.stream}))
	route("/v2/deployments", methods{http.MethodGet: s.listDeployments})
	route("/v2/deployments/{id}", methods{http.MethodDelete: s.cancelDeployment})
	route("/", methods{})

	// A page in a browser must not reach an API that trusts who reaches it.
	browsers := http.NewCrossOriginProtection()
	browsers.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = reply(w, http.StatusForbidden, errorBody{Message: "A page of another origin cannot change anything here"})
	}))
	return cleanPath(browsers.Handler(mux))
}

// cleanPath takes "//" and a last "/" out of paths, as clients that put an ID
// with its leading slash into an address expect. A redirect instead would make
// some of them repeat a PUT as a GET.
func cleanPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		for strings.Contains(path, "//") {
			path = strings.ReplaceAll(path, "//", "/")
		}
		if len(path) > 1 {
			path = strings.TrimSuffix(path, "/")
		}
		if path != r.URL.Path {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = path, ""
		}
		next.ServeHTTP(w, r)
	})
}

// route is a handler that picks by method, asks who it is, bounds time and
// body, compresses, answers errors, and counts. name appears in metrics: it
// has few values.
func (s *server) route(name string, m methods) http.Handler {
	return s.bounded(name, s.identified(m.serve))
}

// open is route for what needs no credentials.
func (s *server) open(name string, m methods) http.Handler {
	return s.bounded(name, m.serve)
}

func (s *server) bounded(name string, serve handler) http.Handler {
	return s.counted(name, func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if !acceptsGzip(r) || r.Method == http.MethodHead {
			return serve(w, r)
		}
		out := &compressing{ResponseWriter: w}
		err := serve(out, r)
		if err == nil || !out.told {
			out.finish()
		}
		out.recycle()
		return err
	})
}

// streaming is route without an end.
func (s *server) streaming(name string, m methods) http.Handler {
	return s.counted(name, s.identified(m.serve))
}

// counted answers errors, writes what the log has to say, and counts.
func (s *server) counted(name string, serve handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		out := &statusWriter{ResponseWriter: w}
		r, record := withAudit(r)
		defer func() {
			s.metrics.observe(name, r.Method, out.status(), time.Since(start))
			s.audit(record, r, out.status())
		}()
		err := s.mayReach(r)
		if err == nil {
			err = serve(out, r)
		}
		if err != nil {
			s.fail(out, r, err)
		}
	})
}

func (m methods) serve(w http.ResponseWriter, r *http.Request) error {
	if len(m) == 0 {
		return refuse(http.StatusNotFound, "There is nothing at %s", r.URL.Path)
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handle := m[method]; handle != nil {
		return handle(w, r)
	}
	var allowed []string
	for method := range m {
		allowed = append(allowed, method)
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return refuse(http.StatusMethodNotAllowed, "%s is not possible at %s, only %s", r.Method, r.URL.Path, strings.Join(allowed, ", "))
}

// statusWriter remembers the status for metrics, and whether it is too late
// to answer with an error.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// flag reads a boolean of the query.
func flag(r *http.Request, name string, otherwise bool) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, refuse(http.StatusBadRequest, "The query's %s is neither true nor false", name)
	}
	return value, nil
}

// timedOut is true for an error that comes from a deadline.
func timedOut(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
