package wire

import mesos "github.com/mesos/mesos-go/api/v1/lib"

// Version describes the build of Mesos that master and agent say they are: one whose
// behaviour was recorded, made on an arbitrary day.
func Version(version string) mesos.VersionInfo {
	date, user, sha := "2026-01-01 00:00:00", "mesos", "c1b42f79d"
	time := 1767225600.0
	return mesos.VersionInfo{Version: version, BuildDate: &date, BuildTime: &time, BuildUser: &user, GitSHA: &sha}
}
