package conformance

import "os"

// needsRoot says why recordings that show users cannot be played here, "" if they can.
func needsRoot() string {
	if os.Geteuid() != 0 {
		return "recorded as root, who can become another user and owns all files"
	}
	return ""
}

// needsCgroups says why recordings with --launcher=linux cannot be played here, "" if
// they can: they show cgroup v1.
func needsCgroups() string {
	if os.Geteuid() != 0 {
		return "only root can create cgroups"
	}
	for _, hierarchy := range []string{"memory", "cpu", "cpuacct", "freezer"} {
		if _, err := os.Stat("/sys/fs/cgroup/" + hierarchy + "/cgroup.procs"); err != nil {
			return "this machine has no cgroup v1 hierarchy " + hierarchy
		}
	}
	return ""
}
