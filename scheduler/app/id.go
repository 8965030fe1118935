package app

import (
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
)

// maxIDLength keeps task IDs, which are file and cgroup names, below the 255
// bytes of a file name: a task ID adds a dot and a UUID.
const maxIDLength = 200

// segment is Marathon's grammar for a part of a path.
var segment = regexp.MustCompile(`^(([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$`)

// reserved are last parts of a path that the API uses itself.
var reserved = []string{"restart", "tasks", "versions"}

// CanonicalID is id with a leading slash and without a trailing one, as the
// API takes IDs in paths and bodies.
func CanonicalID(id string) string {
	return "/" + strings.Trim(id, "/")
}

// CheckID is nil for an ID of Marathon's grammar in its canonical form.
func CheckID(id string) error {
	if !strings.HasPrefix(id, "/") {
		return errors.New("must begin with a slash")
	}
	if id == "/" {
		return errors.New("must name an app, e.g. /shop/cart")
	}
	if len(id) > maxIDLength {
		return fmt.Errorf("is %d characters long, at most %d are allowed", len(id), maxIDLength)
	}
	parts := strings.Split(id[1:], "/")
	for _, part := range parts {
		if !segment.MatchString(part) {
			return errors.New("must be parts of lower-case letters, digits, hyphens and dots, separated by slashes; a part begins and ends with a letter or digit, e.g. /shop/cart-2")
		}
	}
	if last := parts[len(parts)-1]; slices.Contains(reserved, last) {
		return fmt.Errorf("must not end in %q, which the API uses itself", last)
	}
	return nil
}

// Conflict is the app above or below id, if ascend, which yields the IDs of
// existing apps not less than from in ascending order, has one: "/a" and
// "/a/b" cannot both be apps. An app with the very same ID is no conflict.
// It looks at no more than one ID per part of id, and one below.
func Conflict(id string, ascend func(from string) iter.Seq[string]) (other string, found bool) {
	for i := 1; i < len(id); i++ {
		if id[i] != '/' {
			continue
		}
		for above := range ascend(id[:i]) {
			if above == id[:i] {
				return above, true
			}
			break
		}
	}
	for below := range ascend(id + "/") {
		if strings.HasPrefix(below, id+"/") {
			return below, true
		}
		break
	}
	return "", false
}

// SortedIDs is the ascend of [Conflict] over a sorted slice.
func SortedIDs(ids []string) func(from string) iter.Seq[string] {
	return func(from string) iter.Seq[string] {
		i, _ := slices.BinarySearch(ids, from)
		return slices.Values(ids[i:])
	}
}
