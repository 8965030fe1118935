package executor

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"pacer/executor/process"
)

// userOf is the Unix user that a task runs as, if it may. Mesos never sees a
// user inside TaskInfo.data, so its own authorisation does not cover this one.
func (s site) userOf(asked string, marathons bool) (string, error) {
	byFramework := s.framework.User
	name := asked
	if own := s.config.OwnUser; marathons && own != "" && !isRoot(own) && (asked == "" || asked == own) {
		return own, nil
	}
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

// isRoot reports whether a user is known to be root, which has to be listed to
// be allowed. Others, from a directory service, are asked about at the start of
// the task; see [plan.checkRoot].
func isRoot(name string) bool {
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uid == 0
	}
	u, err := user.Lookup(name)
	return name == "root" || err == nil && u.Uid == "0"
}

// checkRoot refuses a user whose name is not root's and whose number is.
func (p *plan) checkRoot(u process.User) error {
	if u.UID == 0 && !p.listed {
		return fmt.Errorf("user %s has root's uid 0 and is not listed: set another user, or have the operator list it in %s", u.Name, EnvAllowedUsers)
	}
	return nil
}

func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
