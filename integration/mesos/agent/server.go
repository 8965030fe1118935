package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"pacer/integration/mesos/wire"
)

// listenUnix makes the socket for executors, which anyone may write to.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("domain socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("domain socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("domain socket: %w", err), listener.Close())
	}
	return listener, nil
}

// serve begins to answer on all listeners.
func (a *Agent) serve() {
	tcp := &http.Server{Handler: http.HandlerFunc(a.route), ReadHeaderTimeout: time.Minute}
	a.servers = append(a.servers, tcp)
	a.wg.Go(func() { a.serveOn(tcp, a.listener) })
	if a.socket != nil {
		unix := &http.Server{Handler: http.HandlerFunc(a.routeSocket), ReadHeaderTimeout: time.Minute}
		a.servers = append(a.servers, unix)
		a.wg.Go(func() { a.serveOn(unix, a.socket) })
	}
}

func (a *Agent) serveOn(server *http.Server, listener net.Listener) {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		a.log.Error().Err(err).Msg("HTTP server ended")
	}
}

// closeServer breaks all connections at once.
func (a *Agent) closeServer() {
	for _, server := range a.servers {
		if err := server.Close(); err != nil {
			a.log.Debug().Err(err).Msg("close HTTP server")
		}
	}
}

// under reports whether a path is prefix or below it: libprocess hands everything
// below a route to the route's handler.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// route picks the handler as libprocess does. Paths without the process' name are
// delegated to it.
func (a *Agent) route(w http.ResponseWriter, r *http.Request) {
	a.awaitThaw()
	path := r.URL.Path
	switch {
	case under(path, "/files"), under(path, "/metrics"), under(path, "/version"):
		// Processes of their own.
	default:
		path = strings.TrimPrefix(path, "/"+processID)
	}
	if realm := realmOf(path); realm != "" && !a.knows(r) {
		wire.Unauthorized(realm).Write(w)
		return
	}
	switch {
	case under(path, "/api/v1/executor"):
		a.serveExecutor(w, r)
	case under(path, "/api/v1"):
		a.serveOperator(w, r)
	case under(path, "/health"):
		w.Header().Set("Content-Length", "0")
	case under(path, "/version"):
		a.serveVersion(w, r)
	case under(path, "/metrics/snapshot"):
		a.serveMetrics(w, r)
	case under(path, "/containers"):
		a.serveContainers(w, r)
	case under(path, "/monitor/statistics"):
		a.serveStatistics(w, r)
	case under(path, "/files/debug"):
		a.serveAttachments(w, r)
	case under(path, "/files/browse"):
		a.serveBrowse(w, r)
	case under(path, "/files/read"):
		a.serveRead(w, r)
	case under(path, "/files/download"):
		a.serveDownload(w, r)
	default:
		wire.NotFound().Write(w)
	}
}

// realmOf is the realm in which a path wants a name and a password, "" when it is
// open to all. Executors have tokens instead.
func realmOf(path string) string {
	switch {
	case under(path, "/api/v1/executor"), under(path, "/health"), under(path, "/version"):
		return ""
	case under(path, "/api/v1"):
		return "mesos-agent-readwrite"
	}
	return "mesos-agent-readonly"
}

// knows reports whether the client of a request may use the operator's paths.
func (a *Agent) knows(r *http.Request) bool {
	if a.cfg.Credentials == nil {
		return true
	}
	name, password, ok := r.BasicAuth()
	known, exists := a.cfg.Credentials[name]
	return ok && exists && known == password
}

// routeSocket serves the long paths of the two APIs and nothing else.
func (a *Agent) routeSocket(w http.ResponseWriter, r *http.Request) {
	a.awaitThaw()
	switch r.URL.Path {
	case "/" + processID + "/api/v1/executor":
		a.serveExecutor(w, r)
	case "/" + processID + "/api/v1":
		a.serveOperator(w, r)
	default:
		wire.Refuse(http.StatusForbidden, "403 Forbidden.").Write(w)
	}
}
