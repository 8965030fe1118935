package process

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// Config says where cgroups may be made. [ConfigFromEnv] reads it.
type Config struct {
	// ContainerID is the id that Mesos gave the executor's container. Cgroups
	// are nested below the executor's own one only if its path ends in this id,
	// which proves that Mesos made it for this container.
	ContainerID string
	// FrameworkID is part of the name of what is made below CgroupParent, so
	// that frameworks leave each other's leftovers alone.
	FrameworkID string
	// CgroupParent is the path of an existing cgroup as /proc/self/cgroup shows
	// it (e.g. "/pacer"), used when Mesos made none. Empty means none.
	CgroupParent string
}

// ConfigFromEnv reads MESOS_SANDBOX (its last element is the container's id),
// MESOS_FRAMEWORK_ID and PACER_CGROUP_PARENT.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{
		FrameworkID:  getenv("MESOS_FRAMEWORK_ID"),
		CgroupParent: getenv("PACER_CGROUP_PARENT"),
	}
	// .../frameworks/<id>/executors/<id>/runs/<container>
	if sandbox := getenv("MESOS_SANDBOX"); filepath.Base(filepath.Dir(sandbox)) == "runs" {
		c.ContainerID = filepath.Base(sandbox)
	}
	return c, c.Validate()
}

// Validate checks the values' shape; whether the cgroup exists is New's matter.
func (c Config) Validate() error {
	p := c.CgroupParent
	if p == "" {
		return nil
	}
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/" || strings.HasPrefix(p, "/sys/") {
		return fmt.Errorf("PACER_CGROUP_PARENT %q: must be the path of a cgroup as /proc/self/cgroup shows it, such as /pacer: absolute, not the root, without /sys/fs/cgroup", p)
	}
	return nil
}
