package process

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3"
)

// cgroupMount is a cgroup hierarchy that this process can see.
type cgroupMount struct {
	v2 bool
	// controllers of a v1 hierarchy.
	controllers []string
	// root is the cgroup that is mounted (a container sees a part), point where.
	root, point string
	// localEvents: memory.events counts a cgroup's own events only, not those
	// of its children (mount option memory_localevents).
	localEvents bool
}

// dir is where the cgroup path, as /proc/<pid>/cgroup shows it, is found in the
// file system.
func (m cgroupMount) dir(cgroup string) (string, bool) {
	rel, err := filepath.Rel(m.root, cgroup)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return filepath.Join(m.point, rel), true
}

// cgroupView is what /proc tells about this process's place.
type cgroupView struct {
	mounts []cgroupMount
	// v1 maps a controller to this process's cgroup, v2 is that of the unified
	// hierarchy, empty if there is none.
	v1 map[string]string
	v2 string
}

func readCgroupView() (cgroupView, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroupView{}, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroupView{}, err
	}
	return parseCgroupView(mountinfo, own)
}

func parseCgroupView(mountinfo, own []byte) (v cgroupView, err error) {
	if v.mounts, err = parseMounts(mountinfo); err != nil {
		return v, fmt.Errorf("parse /proc/self/mountinfo: %w", err)
	}
	if v.v1, v.v2, err = cgroups.ParseCgroupFromReaderUnified(bytes.NewReader(own)); err != nil {
		return v, fmt.Errorf("parse /proc/self/cgroup: %w", err)
	}
	return v, nil
}

// unified is the mount of the v2 hierarchy.
func (v cgroupView) unified() (cgroupMount, bool) {
	i := slices.IndexFunc(v.mounts, func(m cgroupMount) bool { return m.v2 })
	if i < 0 {
		return cgroupMount{}, false
	}
	return v.mounts[i], true
}

// legacy is the mount of a v1 controller.
func (v cgroupView) legacy(controller string) (cgroupMount, bool) {
	i := slices.IndexFunc(v.mounts, func(m cgroupMount) bool { return !m.v2 && slices.Contains(m.controllers, controller) })
	if i < 0 {
		return cgroupMount{}, false
	}
	return v.mounts[i], true
}

// parseMounts finds the cgroup mounts in /proc/<pid>/mountinfo, see proc(5):
//
//	36 35 0:31 /root /mount/point rw,... optional - type source superoptions
func parseMounts(mountinfo []byte) ([]cgroupMount, error) {
	var mounts []cgroupMount
	for n, line := range strings.Split(string(mountinfo), "\n") {
		before, after, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		head, tail := strings.Fields(before), strings.Fields(after)
		if len(tail) < 1 || tail[0] != "cgroup" && tail[0] != "cgroup2" {
			continue
		}
		if len(head) < 6 || len(tail) < 3 {
			return nil, fmt.Errorf("line %d: %d fields, want at least 9", n+1, len(head)+len(tail))
		}
		options := strings.Split(tail[2], ",")
		mounts = append(mounts, cgroupMount{
			v2:          tail[0] == "cgroup2",
			controllers: options,
			root:        path.Clean("/" + unescapeMount(head[3])),
			point:       unescapeMount(head[4]),
			localEvents: slices.Contains(options, "memory_localevents"),
		})
	}
	return mounts, nil
}

// unescapeMount undoes the kernel's \040 for space, tab, newline and backslash.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
