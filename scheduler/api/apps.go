package api

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

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
		case last == "tasks" && strings.HasSuffix(parent, "*"):
			name += "/*/tasks"
			m[http.MethodGet] = withID(app.CanonicalID(strings.TrimSuffix(parent, "*")), s.groupTasks)
		case last == "tasks" && parent != "":
			name += "/tasks"
			m[http.MethodGet] = withID(app.CanonicalID(parent), s.appTasks)
			m[http.MethodDelete] = withID(app.CanonicalID(parent), s.killAppTasks)
		// No part of an ID can be "tasks" at its end, and task IDs have no slash.
		case strings.HasSuffix(parent, "/tasks") && strings.Contains(last, "."):
			name += "/tasks/{task}"
			id := app.CanonicalID(strings.TrimSuffix(parent, "/tasks"))
			m[http.MethodDelete] = func(w http.ResponseWriter, r *http.Request) error { return s.killTask(w, r, id, last) }
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
	if !parts.stats && s.unchanged(w, r, s.listTag(r)) {
		return nil
	}
	allowed := s.mayView(r)
	list := newList(w, "apps")
	err = s.backend.Apps(r.Context(), parts.embed(), func(status AppStatus) bool {
		if !strings.HasPrefix(status.App.ID, prefix) || !allowed(status.App.ID) || !filter.match(status.App) {
			return true
		}
		return list.add(func(b []byte) []byte { return appendApp(b, &status, parts) })
	})
	return list.end(err)
}

func (s *server) showApp(w http.ResponseWriter, r *http.Request, id string) error {
	if err := s.demand(r, access.View, id); err != nil {
		return err
	}
	parts := newParts(r.URL.Query())
	parts.tasks, parts.lastFailure = true, true
	status, err := s.backend.App(r.Context(), id, parts.embed())
	if err != nil {
		return orNoApp(err, id)
	}
	if !parts.stats && s.unchanged(w, r, s.appTag(&status)) {
		return nil
	}
	body := append([]byte(`{"app":`), appendApp(nil, &status, parts)...)
	setJSON(w)
	_, _ = w.Write(append(body, "}\n"...))
	return nil
}

func (s *server) createApp(w http.ResponseWriter, r *http.Request) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	body, err := app.ReadBody(data)
	if err != nil {
		return err
	}
	next, err := body.App("")
	if err != nil {
		return err
	}
	change := func(context.Context) ([]Edit, error) { return []Edit{{ID: next.ID, Next: next}}, nil }
	started, effects, err := s.apply(r, change)
	if errors.Is(err, ErrExists) {
		return refuse(http.StatusConflict, "An app with id [%s] already exists.", next.ID)
	}
	if err != nil {
		return err
	}
	if started == nil {
		return replyDryRun(w, effects)
	}
	w.Header().Set(deploymentHeader, started.DeploymentID)
	w.Header().Set("Location", "/v2/apps"+next.ID)
	setJSON(w)
	w.WriteHeader(http.StatusCreated)
	status := AppStatus{App: next, JSON: next.JSON()}
	if len(started.Apps) > 0 { // it may have been deleted again by now
		status = started.Apps[0]
	}
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

func (s *server) changeApp(w http.ResponseWriter, r *http.Request, id string, partial, create bool) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	body, err := app.ReadBody(data)
	if err != nil {
		return err
	}
	created := false
	started, effects, err := s.apply(r, func(ctx context.Context) ([]Edit, error) {
		edit, err := s.edit(ctx, r, id, body, partial, create)
		created = edit.Replaces == 0
		return []Edit{edit}, err
	})
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created && started != nil {
		status = http.StatusCreated
		w.Header().Set("Location", "/v2/apps"+id)
	}
	return replyStarted(w, status, started, effects)
}

// putApps and patchApps change many apps as one deployment.
func (s *server) putApps(w http.ResponseWriter, r *http.Request) error {
	partial, err := flag(r, "partialUpdate", true)
	if err != nil {
		return err
	}
	return s.changeApps(w, r, partial, true)
}

func (s *server) patchApps(w http.ResponseWriter, r *http.Request) error {
	return s.changeApps(w, r, true, false)
}

func (s *server) changeApps(w http.ResponseWriter, r *http.Request, partial, create bool) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	bodies, err := app.ReadBodies(data)
	if err != nil {
		return err
	}
	started, effects, err := s.apply(r, func(ctx context.Context) ([]Edit, error) {
		var edits []Edit
		var problems problems
		for _, body := range bodies {
			edit, err := s.edit(ctx, nil, body.ID(), body, partial, create)
			if !problems.take(err) {
				return nil, err
			}
			edits = append(edits, edit)
		}
		return edits, problems.err()
	})
	if err != nil {
		return err
	}
	return replyStarted(w, http.StatusOK, started, effects)
}

// edit is what body does with the app of that ID. Conditions of r are applied,
// unless that is nil.
func (s *server) edit(ctx context.Context, r *http.Request, id string, body *app.Body, partial, create bool) (Edit, error) {
	edit := Edit{ID: id, At: body.At()}
	current, err := s.backend.App(ctx, id, Embed{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return edit, err
	}
	if err := condition(r, current.App); err != nil {
		return edit, err
	}
	version, rollback, err := body.Rollback()
	switch {
	case err != nil:
		return edit, err
	case current.App == nil && (rollback || !create):
		return edit, noApp(id)
	case current.App == nil:
		edit.Sought = true
		edit.Next, err = body.App(id)
		return edit, err
	}
	edit.Replaces = current.App.Version
	switch {
	case rollback:
		edit.Former = true
		edit.Next, err = s.backend.AppVersion(ctx, id, version)
		if errors.Is(err, ErrNotFound) {
			err = noVersion(id, version.String())
		}
	case !partial:
		edit.Next, err = body.App(id)
	default:
		edit.Next, err = body.Onto(current.App)
	}
	return edit, err
}

func (s *server) restartApp(w http.ResponseWriter, r *http.Request, id string) error {
	return s.editExisting(w, r, id, Edit{ID: id, Restart: true})
}

func (s *server) deleteApp(w http.ResponseWriter, r *http.Request, id string) error {
	return s.editExisting(w, r, id, Edit{ID: id, Delete: true})
}

func (s *server) editExisting(w http.ResponseWriter, r *http.Request, id string, edit Edit) error {
	started, effects, err := s.apply(r, func(ctx context.Context) ([]Edit, error) {
		if r.Header.Get("If-Match") != "" {
			current, err := s.backend.App(ctx, id, Embed{})
			if err != nil && !errors.Is(err, ErrNotFound) {
				return nil, err
			}
			if err := condition(r, current.App); err != nil {
				return nil, err
			}
			edit.Replaces = current.App.Version
		}
		return []Edit{edit}, nil
	})
	if err != nil {
		return orNoApp(err, id)
	}
	return replyStarted(w, http.StatusOK, started, effects)
}

func noVersion(id, version string) error {
	return refuse(http.StatusNotFound, "App '%s' does not exist in version %s", id, version)
}

func (s *server) appVersions(w http.ResponseWriter, r *http.Request, id string) error {
	if err := s.demand(r, access.View, id); err != nil {
		return err
	}
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
	if err := s.demand(r, access.View, id); err != nil {
		return err
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
	stats       bool
	now         time.Time // for stats
}

// newParts reads "embed": Marathon's names with or without what they are
// parts of. Unknown ones are ignored, as Marathon does.
func newParts(query url.Values) (p parts) {
	p.now = time.Now()
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
		case "taskStats":
			p.stats = true
		}
	}
	return p
}

func (p parts) embed() Embed { return Embed{Tasks: p.tasks || p.stats} }

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
