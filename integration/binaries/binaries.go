// Package binaries builds Pacer's programs for suites that run them for real.
package binaries

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Executor and Scheduler are the programs' packages, and the names of their
// files.
const (
	Executor  = "pacer-executor"
	Scheduler = "pacer-scheduler"
	Client    = "pacer"
)

var packages = map[string]string{
	Executor:  "pacer/executor/cmd/pacer-executor",
	Scheduler: "pacer/scheduler/cmd/pacer-scheduler",
	Client:    "pacer/scheduler/cmd/pacer",
}

// Built is a directory with programs in it.
type Built struct{ dir string }

// Build compiles the named programs as make build does, but for the version,
// into a new directory that every user can read: agents run executors as other
// users, too.
func Build(names ...string) (Built, error) {
	dir, err := os.MkdirTemp("", "pacer-binaries-")
	if err != nil {
		return Built{}, fmt.Errorf("build %v: %w", names, err)
	}
	b := Built{dir}
	if err := os.Chmod(dir, 0o755); err != nil {
		return Built{}, fmt.Errorf("build %v: %w", names, err)
	}
	arguments := []string{"build", "-o", dir + "/"}
	for _, name := range names {
		arguments = append(arguments, packages[name])
	}
	build := exec.Command("go", arguments...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Remove()
		return Built{}, fmt.Errorf("build %v: %w\n%s", names, err, out)
	}
	return b, nil
}

// Path is the file of a program that was named to [Build].
func (b Built) Path(name string) string { return filepath.Join(b.dir, name) }

// Remove deletes the programs. A directory that cannot be removed is the
// system's temporary one and goes with it.
func (b Built) Remove() { _ = os.RemoveAll(b.dir) }
