package app

import (
	"errors"
	"fmt"
	"strings"
)

// Group is a body of the API that puts apps below a path. Groups are nothing
// but common beginnings of app IDs: none is stored.
type Group struct {
	// ID is the absolute path, "/" for the root.
	ID string
	// Apps that the body gives, with absolute IDs; HasApps tells an empty list
	// from none.
	Apps    []*Body
	HasApps bool
	// Groups within this one; HasGroups tells an empty list from none.
	Groups    []*Group
	HasGroups bool
	// ScaleBy is a factor for the instances of all apps; 0 if not given.
	ScaleBy float64
}

// ReadGroup reads a body that is put to the group at id, or, if that is empty,
// names its own. An array is taken for the group's apps. The error is an
// [*Error].
func ReadGroup(data []byte, id string) (*Group, error) {
	var r reader
	root, err := parseTree(data)
	if err != nil {
		r.misread("/", "%s", err)
		return nil, r.err()
	}
	g := &Group{ID: id}
	if root.kind == array {
		if g.ID == "" {
			g.ID = "/"
		}
		g.readApps(&r, "", root)
		return g, r.err()
	}
	g.read(&r, "", "/", root)
	return g, r.err()
}

// read reads the group that n defines within parent.
func (g *Group) read(r *reader, at, parent string, n *node) {
	asked := g.ID
	if id := n.member("id"); id != nil && r.is(at+"/id", id, text) {
		g.ID = absolute(parent, id.text)
	}
	switch {
	case g.ID == "":
		r.refuse(at+"/id", "is missing: give the group's path, e.g. \"/shop\"")
		return
	case asked != "" && asked != g.ID:
		r.refuse(at+"/id", "is not the group that the body was sent to: leave it out")
		return
	case parent != "/" && !strings.HasPrefix(g.ID, parent+"/"):
		r.refuse(at+"/id", "is not below the group %s that it stands in", parent)
		return
	}
	if err := CheckGroupID(g.ID); err != nil {
		r.refuse(at+"/id", "%s", err)
		return
	}
	factor := 0.0
	r.object(at, "a group", n, map[string]field{
		"id":   ignored,
		"apps": func(path string, n *node) { g.readApps(r, path, n) },
		"groups": func(path string, n *node) {
			g.HasGroups = true
			r.list(path, n, func(path string, n *node) {
				if !r.is(path, n, object) {
					return
				}
				child := new(Group)
				child.read(r, path, g.ID, n)
				g.Groups = append(g.Groups, child)
			})
		},
		"scaleBy":      r.float(&factor, 0.001, 1000),
		"version":      func(path string, n *node) { g.readVersion(r, path, n) },
		"versionInfo":  ignored,
		"dependencies": r.unsupported("deploy one app after the other"),
		"pods":         r.unsupported("there are apps only"),
		"enforceRole":  r.unsupported("the role is the scheduler's, set by its --role"),
	})
	g.ScaleBy = factor
	if factor > 0 && (g.HasApps || g.HasGroups) {
		r.refuse(at+"/scaleBy", "cannot be given together with apps or groups: scale first, then change")
	}
}

// readVersion takes the version that a GET returned, but not the wish to go
// back to one: groups have none of their own.
func (g *Group) readVersion(r *reader, path string, n *node) {
	if !g.HasApps && !g.HasGroups {
		r.refuse(path, "is not supported alone: groups have no versions of their own; roll back the deployment, or put an old version of each app")
		return
	}
	r.is(path, n, text)
}

func (g *Group) readApps(r *reader, path string, n *node) {
	g.HasApps = true
	r.list(path, n, func(path string, n *node) {
		if !r.is(path, n, object) {
			return
		}
		id := n.member("id")
		if id == nil || id.kind != text || id.text == "" {
			r.refuse(path+"/id", "is missing: give the app's path, e.g. \"cart\" or \"/shop/cart\"")
			return
		}
		// The tree is this body's alone.
		id.text = absolute(g.ID, id.text)
		if g.ID != "/" && !strings.HasPrefix(id.text, g.ID+"/") {
			r.refuse(path+"/id", "is not below the group %s that it stands in", g.ID)
			return
		}
		g.Apps = append(g.Apps, &Body{root: n, at: path, id: id.text})
	})
}

// absolute is a path that is written within a group.
func absolute(parent, id string) string {
	if !strings.HasPrefix(id, "/") {
		id = strings.TrimSuffix(parent, "/") + "/" + id
	}
	return CanonicalID(id)
}

// CheckGroupID is nil for "/" and for what can begin an app's ID.
func CheckGroupID(id string) error {
	if id == "/" {
		return nil
	}
	if !strings.HasPrefix(id, "/") {
		return errors.New("must begin with a slash")
	}
	for part := range strings.SplitSeq(id[1:], "/") {
		if !segment.MatchString(part) {
			return errors.New("must be parts of lower-case letters, digits, hyphens and dots, separated by slashes; a part begins and ends with a letter or digit, e.g. /shop")
		}
	}
	return nil
}

// ReadBodies reads an array of bodies, each of which names its own app. The
// error is an [*Error].
func ReadBodies(data []byte) ([]*Body, error) {
	if !IsArray(data) {
		return nil, &Error{Malformed: true, Problems: []Problem{{Path: "/", Errors: []string{"expected an array of objects that define apps"}}}}
	}
	g, err := ReadGroup(data, "/")
	if err != nil {
		return nil, err
	}
	seen := make(map[string]int, len(g.Apps))
	var problems []Problem
	for i, b := range g.Apps {
		if first, twice := seen[b.id]; twice {
			problems = append(problems, Problem{Path: b.at + "/id", Errors: []string{fmt.Sprintf("is %s, as is that of app %d: give each app once", b.id, first)}})
		}
		seen[b.id] = i
	}
	if problems != nil {
		return nil, &Error{Problems: problems}
	}
	return g.Apps, nil
}
