package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
)

// dependsOn tells whether one of an app's dependencies is that app, or a group
// that it is in.
func dependsOn(a *app.App, id string) bool {
	return slices.ContainsFunc(a.Dependencies, func(path string) bool {
		return id == path || strings.HasPrefix(id, path+"/")
	})
}

// holds tells whether an app has to wait for others of the same deployment,
// and fails its part if one of them has failed.
func (c *core) holds(v *service) bool {
	before := v.holding
	v.holding = ""
	if v.deployment != nil && !v.deleted && len(v.app.Dependencies) > 0 {
		r := c.rollouts[v.deployment.ID]
		for other := range r.parts {
			if other != v && !other.deleted && dependsOn(v.app, other.app.ID) && (v.holding == "" || other.app.ID < v.holding) {
				v.holding = other.app.ID
			}
		}
		for id := range r.failed {
			if v.holding == "" && dependsOn(v.app, id) && !v.finishing {
				c.failDeployment(v, fmt.Sprintf("%s has failed, which it depends on", id))
				break
			}
		}
	}
	if v.holding != before {
		c.stale[v] = struct{}{}
	}
	if v.holding == "" {
		return false
	}
	c.want(v, 0)
	return true
}

// wakeDependents looks again at those who may wait for an app.
func (c *core) wakeDependents(r *rollout, id string) {
	for other := range r.parts {
		if dependsOn(other.app, id) {
			c.touch(other)
		}
	}
}

// circles are edits by which apps come to depend on each other.
func (c *core) circles(edits []api.Edit) []app.Problem {
	if !slices.ContainsFunc(edits, func(e api.Edit) bool { return e.Next != nil && len(e.Next.Dependencies) > 0 }) {
		return nil
	}
	apps := make(map[string]*app.App, len(c.services))
	for id, v := range c.services {
		apps[id] = v.app
	}
	for _, e := range edits {
		if e.Next != nil {
			apps[e.ID] = e.Next
		}
	}
	ids := slices.Sorted(maps.Keys(apps))
	var problems []app.Problem
	for _, e := range edits {
		if e.Next == nil {
			continue
		}
		if circle := findCircle(apps, ids, e.ID); circle != nil {
			problems = append(problems, app.Problem{
				Path: e.At + "/dependencies", Errors: []string{"form a circle: " + strings.Join(circle, " -> ")},
			})
		}
	}
	return problems
}

// findCircle is a way from an app over dependencies back to it, or nil. ids
// are those of apps, in order.
func findCircle(apps map[string]*app.App, ids []string, start string) []string {
	seen := make(map[string]bool)
	var way []string
	var visit func(id string) bool
	visit = func(id string) bool {
		way = append(way, id)
		for _, path := range apps[id].Dependencies {
			at, _ := slices.BinarySearch(ids, path)
			for ; at < len(ids) && strings.HasPrefix(ids[at], path); at++ {
				next := ids[at]
				if next != path && !strings.HasPrefix(next, path+"/") {
					continue
				}
				if next == start {
					way = append(way, next)
					return true
				}
				if !seen[next] {
					seen[next] = true
					if visit(next) {
						return true
					}
				}
			}
		}
		way = way[:len(way)-1]
		return false
	}
	if visit(start) {
		return way
	}
	return nil
}
