package failover_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pacer/integration/binaries"
	"pacer/integration/zookeeper"
)

// state runs "pacer-scheduler state" on the world's state.
func (w *world) state(arguments ...string) string {
	w.t.Helper()
	command := exec.Command(programs.Path(binaries.Scheduler), append([]string{"state"}, append(arguments, "--state="+w.zookeeper.URL("/pacer"))...)...)
	out, err := command.CombinedOutput()
	if err != nil {
		w.t.Fatalf("state %v: %v\n%s", arguments, err, out)
	}
	return string(out)
}

// TestP11_BackupRestored restores a backup whose tasks have all been replaced.
func TestP11_BackupRestored(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	a := w.start()
	w.leader(a)
	w.put(a, "/web", 3, 1)
	w.deployed(a, "/web")
	file := filepath.Join(t.TempDir(), "backup")
	if out := w.state("export", "-o", file); !strings.Contains(out, "nodes exported") {
		t.Errorf("export: %s", out)
	}
	if out := w.state("size"); !strings.Contains(out, "tasks") {
		t.Errorf("size: %s", out)
	}
	w.put(a, "/web", 3, 2)
	want := w.deployed(a, "/web")
	refused, err := exec.Command(programs.Path(binaries.Scheduler), "state", "import", "--replace", "-i", file, "--state="+w.zookeeper.URL("/pacer")).CombinedOutput()
	if err == nil || !strings.Contains(string(refused), "stop all of them") {
		t.Errorf("import beside a scheduler: %v, %s", err, refused)
	}
	a.signal(syscall.SIGTERM)
	a.exits()
	if out := w.state("import", "--replace", "-i", file); !strings.Contains(out, "nodes imported") {
		t.Errorf("import: %s", out)
	}
	b := w.start()
	w.leader(b)
	if got := w.deployed(b, "/web"); !slices.Equal(got, want) {
		t.Errorf("tasks %v became %v", want, got)
	}
	if alive := w.running(); !slices.Equal(alive, want) {
		t.Errorf("the master runs %v, want %v", alive, want)
	}
}
