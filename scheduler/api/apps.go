package api

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"pacer/scheduler/app"
)

// maxTries of a change that others overtake.
const maxTries = 10

// routeApps routes what is below /v2/apps/. IDs contain slashes, so what
// comes after the ID is told from it by its last parts.
func (s *server) routeApps(mux *http.ServeMux) {
	const prefix = "/v2/apps/"
	withID := func(id string, handle func(http.ResponseWriter, *http.Request, string) error) handler {
		return func(w http.ResponseWriter, r *http.Request) error { return handle(w, r, id) }
	}
	mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
		rest := strings.TrimPrefix(r.URL.Path, prefix)
		parent, last := "", rest
		if i := strings.LastIndexByte(rest, '/'); i >= 0 {
			parent, last = rest[:i], rest[i+1:]
		}
		name, m := prefix+"{id}", methods{}
		switch {
		case last == "*":
			name += "/*"
			m[http.MethodGet] = withID(app.CanonicalID(parent), s.listGroup)
		case last == "restart" && parent != "":
			name += "/restart"
			m[http.MethodPost] = withID(app.CanonicalID(parent), s.restartApp)
		case last == "tasks" && parent != "":
			name += "/tasks"
			m[http.MethodGet] = withID(app.CanonicalID(parent), s.appTasks)
		case last == "versions" && parent != "":
			name += "/versions"
			m[http.MethodGet] = withID(app.CanonicalID(parent), s.appVersions)
		// No part of an ID has a colon, every version has.
		case strings.HasSuffix(parent, "/versions") && strings.Contains(last, ":"):
			name += "/versions/{version}"
			id := app.CanonicalID(strings.TrimSuffix(parent, "/versions"))
			m[http.MethodGet] = func(w http.ResponseWriter, r *http.Request) error { return s.appVersion(w, r, id, last) }
		default:
			id := app.CanonicalID(rest)
			m[http.MethodGet] = withID(id, s.showApp)
			m[http.MethodPut] = withID(id, s.putApp)
			m[http.MethodPatch] = withID(id, s.patchApp)
			m[http.MethodDelete] = withID(id, s.deleteApp)
		}
		s.route(name, m).ServeHTTP(w, r)
	})
}

func noApp(id string) error {
	return refuse(http.StatusNotFound, "App '%s' does not exist", id)
}

// orNoApp gives a Backend's ErrNotFound Marathon's words.
func orNoApp(err error, id string) error {
	if errors.Is(err, ErrNotFound) {
		return noApp(id)
	}
	return err
}

func (s *server) listApps(w http.ResponseWriter, r *http.Request) error {
	return s.writeApps(w, r, "/")
}

func (s *server) listGroup(w http.ResponseWriter, r *http.Request, group string) error {
	return s.writeApps(w, r, strings.TrimSuffix(group, "/")+"/")
}

// writeApps streams all apps below prefix that the query asks for.
func (s *server) writeApps(w http.ResponseWriter, r *http.Request, prefix string) error {
	query := r.URL.Query()
	filter, err := newFilter(query)
	if err != nil {
		return err
	}
	parts := newParts(query)
	list := newList(w, "apps")
	err = s.backend.Apps(r.Context(), parts.embed(), func(status AppStatus) bool {
		if !strings.HasPrefix(status.App.ID, prefix) || !filter.match(status.App) {
			return true
		}
		return list.add(func(b []byte) []byte { return appendApp(b, &status, parts) })
	})
	return list.end(err)
}

func (s *server) showApp(w http.ResponseWriter, r *http.Request, id string) error {
	parts := newParts(r.URL.Query())
	parts.tasks, parts.lastFailure = true, true
	status, err := s.backend.App(r.Context(), id, parts.embed())
	if err != nil {
		return orNoApp(err, id)
	}
	body := append([]byte(`{"app":`), appendApp(nil, &status, parts)...)
	setJSON(w)
	_, _ = w.Write(append(body, "}\n"...))
	return nil
}

func (s *server) createApp(w http.ResponseWriter, r *http.Request) error {
	force, err := flag(r, "force", false)
	if err != nil {
		return err
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	next, err := body.App("")
	if err != nil {
		return err
	}
	started, err := s.backend.Put(r.Context(), next, PutOptions{Force: force})
	if errors.Is(err, ErrExists) {
		return refuse(http.StatusConflict, "An app with id [%s] already exists.", next.ID)
	}
	if err != nil {
		return err
	}
	w.Header().Set(deploymentHeader, started.DeploymentID)
	w.Header().Set("Location", "/v2/apps"+next.ID)
	setJSON(w)
	w.WriteHeader(http.StatusCreated)
	status := *started.App
	// DC/OS' command line waits for the deployment that it reads here, which
	// may have ended by now.
	if !slices.Contains(status.Deployments, started.DeploymentID) {
		status.Deployments = append([]string{started.DeploymentID}, status.Deployments...)
	}
	_, _ = w.Write(append(appendApp(nil, &status, parts{tasks: true}), '\n'))
	return nil
}

func (s *server) putApp(w http.ResponseWriter, r *http.Request, id string) error {
	partial, err := flag(r, "partialUpdate", true)
	if err != nil {
		return err
	}
	return s.changeApp(w, r, id, partial, true)
}

func (s *server) patchApp(w http.ResponseWriter, r *http.Request, id string) error {
	return s.changeApp(w, r, id, true, false)
}

// changeApp reads the app, changes the copy and puts it back, again when
// somebody else was faster.
func (s *server) changeApp(w http.ResponseWriter, r *http.Request, id string, partial, create bool) error {
	force, err := flag(r, "force", false)
	if err != nil {
		return err
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	for range maxTries {
		status := http.StatusOK
		options := PutOptions{Force: force}
		current, err := s.backend.App(r.Context(), id, Embed{})
		switch {
		case err == nil:
			options.Replaces = current.App.Version
		case errors.Is(err, ErrNotFound):
			status = http.StatusCreated
		default:
			return err
		}
		next, err := s.next(r.Context(), id, body, current.App, partial, create)
		if err != nil {
			return err
		}
		started, err := s.backend.Put(r.Context(), next, options)
		if errors.Is(err, ErrChanged) || errors.Is(err, ErrExists) || errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if status == http.StatusCreated {
			w.Header().Set("Location", "/v2/apps"+id)
		}
		return replyStarted(w, status, started)
	}
	return ErrChanged
}

// next is the app that body makes of current, which is nil for a new one.
func (s *server) next(ctx context.Context, id string, body *app.Body, current *app.App, partial, create bool) (*app.App, error) {
	version, rollback, err := body.Rollback()
	switch {
	case err != nil:
		return nil, err
	case current == nil && (rollback || !create):
		return nil, noApp(id)
	case rollback:
		next, err := s.backend.AppVersion(ctx, id, version)
		if errors.Is(err, ErrNotFound) {
			return nil, noVersion(id, version.String())
		}
		return next, err
	case current == nil || !partial:
		return body.App(id)
	}
	return body.Onto(current)
}

func (s *server) restartApp(w http.ResponseWriter, r *http.Request, id string) error {
	force, err := flag(r, "force", false)
	if err != nil {
		return err
	}
	started, err := s.backend.Restart(r.Context(), id, force)
	if err != nil {
		return orNoApp(err, id)
	}
	return replyStarted(w, http.StatusOK, started)
}

func (s *server) deleteApp(w http.ResponseWriter, r *http.Request, id string) error {
	force, err := flag(r, "force", true)
	if err != nil {
		return err
	}
	started, err := s.backend.Delete(r.Context(), id, force)
	if err != nil {
		return orNoApp(err, id)
	}
	return replyStarted(w, http.StatusOK, started)
}

func noVersion(id, version string) error {
	return refuse(http.StatusNotFound, "App '%s' does not exist in version %s", id, version)
}

func (s *server) appVersions(w http.ResponseWriter, r *http.Request, id string) error {
	versions, err := s.backend.Versions(r.Context(), id)
	if err != nil {
		return orNoApp(err, id)
	}
	if versions == nil {
		versions = []app.Version{}
	}
	return reply(w, http.StatusOK, map[string][]app.Version{"versions": versions})
}

func (s *server) appVersion(w http.ResponseWriter, r *http.Request, id, text string) error {
	version, err := app.ParseVersion(text)
	if err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	a, err := s.backend.AppVersion(r.Context(), id, version)
	if errors.Is(err, ErrNotFound) {
		return noVersion(id, version.String())
	}
	if err != nil {
		return err
	}
	setJSON(w)
	_, _ = w.Write(append(a.JSON(), '\n'))
	return nil
}

// parts of an app that a reply shows beside definition, counts and
// deployments.
type parts struct {
	tasks       bool
	lastFailure bool
	readiness   bool
}

// newParts reads "embed": Marathon's names with or without what they are
// parts of. Unknown ones are ignored, as Marathon does.
func newParts(query url.Values) (p parts) {
	for _, name := range query["embed"] {
		for _, prefix := range []string{"group.apps.", "apps.", "app."} {
			name = strings.TrimPrefix(name, prefix)
		}
		switch name {
		case "tasks":
			p.tasks = true
		case "lastTaskFailure":
			p.lastFailure = true
		case "failures":
			p.tasks, p.lastFailure = true, true
		case "readiness":
			p.readiness = true
		}
	}
	return p
}

func (p parts) embed() Embed { return Embed{Tasks: p.tasks} }

// list streams {"name":[...]} without holding more than a buffer of it.
type list struct {
	http http.ResponseWriter
	out  *bufio.Writer
	name string
	item []byte
	any  bool
	err  error
}

func newList(w http.ResponseWriter, name string) *list {
	return &list{http: w, out: bufio.NewWriterSize(w, 64<<10), name: name}
}

// add writes what render appends. It is false when the client has gone.
func (l *list) add(render func([]byte) []byte) bool {
	separator := ","
	if !l.any {
		l.begin()
		separator = ""
	}
	l.item = render(append(l.item[:0], separator...))
	_, l.err = l.out.Write(l.item)
	return l.err == nil
}

func (l *list) begin() {
	l.any = true
	setJSON(l.http)
	_, _ = l.out.WriteString(`{"` + l.name + `":[`)
}

// end completes the list, or returns the error that cut it short.
func (l *list) end(err error) error {
	if err != nil {
		return err
	}
	if !l.any {
		l.begin()
	}
	_, _ = l.out.WriteString("]}\n")
	_ = l.out.Flush()
	return nil
}
