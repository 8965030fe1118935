package binaries

import (
	"os/exec"
	"strings"
	"testing"
)

func TestBuild_MakesProgramsThatRun(t *testing.T) {
	b, err := Build(Executor, Client)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Remove()
	for _, name := range []string{Executor, Client} {
		out, err := exec.Command(b.Path(name), "--version").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) == "" {
			t.Errorf("%s --version: %q, %v", name, out, err)
		}
	}
}
