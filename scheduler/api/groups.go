package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

// routeGroups routes what is below /v2/groups. Groups are a view over the
// paths of apps: one exists for as long as an app is below it.
func (s *server) routeGroups(mux *http.ServeMux) {
	const prefix = "/v2/groups"
	handle := func(w http.ResponseWriter, r *http.Request) {
		rest := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, prefix), "/")
		parent, last := "", rest
		if i := strings.LastIndexByte(rest, '/'); i >= 0 {
			parent, last = rest[:i], rest[i+1:]
		}
		name, m := prefix+"/{id}", methods{}
		withID := func(id string, handle func(http.ResponseWriter, *http.Request, string) error) handler {
			return func(w http.ResponseWriter, r *http.Request) error { return handle(w, r, id) }
		}
		switch last {
		case "versions":
			name += "/versions"
			m[http.MethodGet] = withID(app.CanonicalID(parent), s.groupVersions)
		case "apps":
			name += "/apps"
			m[http.MethodGet] = withID(app.CanonicalID(parent), s.listGroup)
		default:
			id := app.CanonicalID(rest)
			m[http.MethodGet] = withID(id, s.showGroup)
			m[http.MethodPost] = withID(id, s.createGroup)
			m[http.MethodPut] = withID(id, s.putGroup)
			m[http.MethodDelete] = withID(id, s.deleteGroup)
		}
		s.route(name, m).ServeHTTP(w, r)
	}
	mux.HandleFunc(prefix, handle)
	mux.HandleFunc(prefix+"/", handle)
}

func noGroup(id string) error {
	return refuse(http.StatusNotFound, "Group '%s' does not exist", id)
}

// groupParts are what a reply shows of a group.
type groupParts struct {
	apps, groups bool
	app          parts
}

func newGroupParts(query url.Values) groupParts {
	p := groupParts{app: newParts(query)}
	names := query["embed"]
	p.apps = len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "group.apps") })
	p.groups = len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "group.groups") })
	return p
}

// showGroup writes the tree of groups in one pass over the apps, which come in
// the order of their IDs. The order of names in it is not Marathon's: apps of
// a group can come before or after groups.
func (s *server) showGroup(w http.ResponseWriter, r *http.Request, id string) error {
	if s.unchanged(w, r, s.listTag(r)) {
		return nil
	}
	apps, err := s.appsBelow(r.Context(), id, Embed{Tasks: newParts(r.URL.Query()).embed().Tasks}, s.mayView(r))
	if err != nil {
		return err
	}
	if len(apps) == 0 && id != "/" {
		if err := s.demand(r, access.View, id); err != nil {
			return err
		}
		return noGroup(id)
	}
	body := appendGroup(nil, id, apps, newGroupParts(r.URL.Query()))
	setJSON(w)
	_, _ = w.Write(append(body, '\n'))
	return nil
}

// appsBelow lists the apps of a group and of those within it.
func (s *server) appsBelow(ctx context.Context, group string, embed Embed, allowed func(string) bool) ([]AppStatus, error) {
	prefix := strings.TrimSuffix(group, "/") + "/"
	var apps []AppStatus
	err := s.backend.Apps(ctx, embed, func(status AppStatus) bool {
		if strings.HasPrefix(status.App.ID, prefix) && allowed(status.App.ID) {
			apps = append(apps, status)
		}
		return true
	})
	return apps, err
}

// appendGroup writes a group with the apps below it.
func appendGroup(b []byte, id string, apps []AppStatus, p groupParts) []byte {
	prefix := strings.TrimSuffix(id, "/") + "/"
	var latest app.Version
	direct := make([]*AppStatus, 0, len(apps))
	var order []string
	within := make(map[string][]AppStatus)
	for i := range apps {
		latest = max(latest, apps[i].App.Version)
		name, rest, deeper := strings.Cut(strings.TrimPrefix(apps[i].App.ID, prefix), "/")
		if !deeper || rest == "" {
			direct = append(direct, &apps[i])
			continue
		}
		if within[name] == nil {
			order = append(order, name)
		}
		within[name] = append(within[name], apps[i])
	}
	b = appendString(append(b, `{"id":`...), id)
	b = append(b, `,"apps":[`...)
	if p.apps {
		for i, status := range direct {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendApp(b, status, p.app)
		}
	}
	b = append(b, `],"groups":[`...)
	if p.groups {
		for i, name := range order {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendGroup(b, prefix+name, within[name], p)
		}
	}
	b = append(b, `],"pods":[],"dependencies":[]`...)
	return append(appendMember(b, "version", latest.String()), '}')
}

// groupVersions has one: groups have no history of their own.
func (s *server) groupVersions(w http.ResponseWriter, r *http.Request, id string) error {
	apps, err := s.appsBelow(r.Context(), id, Embed{}, s.mayView(r))
	if err != nil {
		return err
	}
	if len(apps) == 0 && id != "/" {
		return noGroup(id)
	}
	var latest app.Version
	for _, status := range apps {
		latest = max(latest, status.App.Version)
	}
	return reply(w, http.StatusOK, []app.Version{latest})
}

func (s *server) createGroup(w http.ResponseWriter, r *http.Request, id string) error {
	g, err := readGroup(r, id)
	if err != nil {
		return err
	}
	if g.ID == "/" {
		return refuse(http.StatusConflict, "Group / is already created. Use PUT to change this group.")
	}
	return s.changeGroup(w, r, http.StatusCreated, g.ID, func(ctx context.Context) ([]Edit, error) {
		if _, err := s.backend.App(ctx, g.ID, Embed{}); err == nil {
			return nil, refuse(http.StatusConflict, "An app with the path %s already exists.", g.ID)
		}
		apps, err := s.appsBelow(ctx, g.ID, Embed{}, everything)
		if err != nil {
			return nil, err
		}
		if len(apps) > 0 {
			return nil, refuse(http.StatusConflict, "Group %s is already created. Use PUT to change this group.", g.ID)
		}
		return groupEdits(g, nil)
	})
}

func (s *server) putGroup(w http.ResponseWriter, r *http.Request, id string) error {
	g, err := readGroup(r, id)
	if err != nil {
		return err
	}
	return s.changeGroup(w, r, http.StatusOK, g.ID, func(ctx context.Context) ([]Edit, error) {
		apps, err := s.appsBelow(ctx, g.ID, Embed{}, everything)
		if err != nil {
			return nil, err
		}
		if g.ScaleBy > 0 && len(apps) == 0 {
			return nil, noGroup(g.ID)
		}
		current := make(map[string]*app.App, len(apps))
		for _, status := range apps {
			current[status.App.ID] = status.App
		}
		return groupEdits(g, current)
	})
}

func (s *server) deleteGroup(w http.ResponseWriter, r *http.Request, id string) error {
	return s.changeGroup(w, r, http.StatusOK, id, func(ctx context.Context) ([]Edit, error) {
		apps, err := s.appsBelow(ctx, id, Embed{}, everything)
		if err != nil {
			return nil, err
		}
		if len(apps) == 0 && id != "/" {
			return nil, noGroup(id)
		}
		var edits []Edit
		for _, status := range apps {
			edits = append(edits, Edit{ID: status.App.ID, Delete: true})
		}
		return edits, nil
	})
}

func everything(string) bool { return true }

func (s *server) changeGroup(w http.ResponseWriter, r *http.Request, status int, id string, build func(context.Context) ([]Edit, error)) error {
	// Whoever may not see what is in a group may not replace it.
	if err := s.demand(r, access.View, id); err != nil {
		return err
	}
	started, effects, err := s.apply(r, build)
	if errors.Is(err, ErrNotFound) {
		return noGroup(id)
	}
	if err != nil {
		return err
	}
	if started == nil {
		status = http.StatusOK
	} else {
		s.backend.Events().groupChanged(id, started.Version)
	}
	return replyStarted(w, status, started, effects)
}

func readGroup(r *http.Request, id string) (*app.Group, error) {
	data, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if id == "/" && r.Method == http.MethodPost {
		id = "" // the body names it
	}
	if id == "/" && !app.IsArray(data) {
		id = "" // the body may name it
	}
	if id != "" {
		if err := app.CheckGroupID(id); err != nil {
			return nil, app.Refuse("/id", err.Error())
		}
	}
	return app.ReadGroup(data, id)
}

// groupEdits are what a group's body does to the apps that are in the group.
// Where it lists apps or groups, others than those are deleted, as by Marathon.
func groupEdits(g *app.Group, current map[string]*app.App) ([]Edit, error) {
	var edits []Edit
	if g.ScaleBy > 0 {
		for _, a := range current {
			next := a.Clone()
			next.Instances = min(app.MaxInstances, int(math.Ceil(float64(a.Instances)*g.ScaleBy)))
			edits = append(edits, Edit{ID: a.ID, Replaces: a.Version, Next: next})
		}
		slices.SortFunc(edits, func(a, b Edit) int { return strings.Compare(a.ID, b.ID) })
		return edits, nil
	}
	var problems problems
	listed := make(map[string]bool)
	var visit func(*app.Group) error
	visit = func(g *app.Group) error {
		for _, body := range g.Apps {
			if listed[body.ID()] {
				problems.all = append(problems.all, app.Problem{Path: body.At() + "/id", Errors: []string{fmt.Sprintf("is %s, which is given twice", body.ID())}})
				continue
			}
			listed[body.ID()] = true
			edit := Edit{ID: body.ID(), At: body.At()}
			if a := current[body.ID()]; a != nil {
				edit.Replaces = a.Version
			} else {
				edit.Sought = true
			}
			var err error
			if edit.Next, err = body.App(body.ID()); !problems.take(err) {
				return err
			}
			edits = append(edits, edit)
		}
		for _, child := range g.Groups {
			if err := visit(child); err != nil {
				return err
			}
		}
		return nil
	}
	if err := visit(g); err != nil {
		return nil, err
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	for id, a := range current {
		if !listed[id] && replaced(g, id) {
			edits = append(edits, Edit{ID: id, Replaces: a.Version, Delete: true})
		}
	}
	slices.SortFunc(edits, func(a, b Edit) int { return strings.Compare(a.ID, b.ID) })
	return edits, nil
}

// replaced tells whether g lists everything that is where the app is, so that
// the app goes when it is not listed.
func replaced(g *app.Group, id string) bool {
	rest := strings.TrimPrefix(strings.TrimPrefix(id, g.ID), "/")
	name, _, deeper := strings.Cut(rest, "/")
	if !deeper {
		return g.HasApps
	}
	if !g.HasGroups {
		return false
	}
	child := strings.TrimSuffix(g.ID, "/") + "/" + name
	for _, c := range g.Groups {
		if below(id, c.ID) {
			return replaced(c, id)
		}
		if below(c.ID, child) {
			return false // it is about a part of this one only
		}
	}
	return true
}
