package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// defaultPath is searched where the task's environment has no PATH: what
// execvp(3) of the C library and a shell would do.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookupProgram finds the file to execute, as execvp would in dir with env.
// Whether the task's user may execute it is for exec to say.
func lookupProgram(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // Relative to the working directory, where exec happens.
	}
	search := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var found string
	for _, d := range filepath.SplitList(search) {
		if d == "" {
			d = "."
		}
		path := filepath.Join(d, name)
		if !filepath.IsAbs(d) {
			path = "./" + path
		}
		look := path
		if !filepath.IsAbs(look) {
			look = filepath.Join(dir, look)
		}
		info, err := os.Stat(look)
		if err != nil || info.IsDir() {
			continue
		}
		if info.Mode()&0o111 != 0 {
			return path, nil
		}
		found = path
	}
	if found != "" {
		return "", fmt.Errorf("program %q: %s is not executable", name, found)
	}
	return "", fmt.Errorf("program %q: not found in PATH %q", name, search)
}
