package executor

import (
	"fmt"
	"slices"
	"strings"
)

// userOf is the Unix user that a task runs as, if it may. Mesos never sees a
// user inside TaskInfo.data, so its own authorisation does not cover this one.
func (s site) userOf(asked string) (string, error) {
	byFramework := s.framework.User
	name := asked
	if name == "" {
		name = byFramework
	}
	allowed := s.config.AllowedUsers
	if len(allowed) == 0 && byFramework != "" && !isRoot(byFramework) {
		allowed = []string{byFramework}
	}
	switch {
	case name == "":
		return "", fmt.Errorf("user: none given, and the framework has none: set user to one of %s (%s)", list(allowed), EnvAllowedUsers)
	case slices.Contains(allowed, name):
		return name, nil
	case asked == "":
		return "", fmt.Errorf("user: none given, and the framework's own, %q, is not allowed: set user, or have the operator list it in %s (now %s)", name, EnvAllowedUsers, list(allowed))
	}
	return "", fmt.Errorf("user %q is not allowed: set user to one of %s, or have the operator list it in %s", name, list(allowed), EnvAllowedUsers)
}

// isRoot reports whether a user is root by name or number; root has to be
// listed to be allowed.
func isRoot(name string) bool {
	if name == "root" {
		return true
	}
	uid, _, err := lookup(name)
	return err == nil && uid == 0
}

func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
