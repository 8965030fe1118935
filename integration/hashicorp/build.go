package hashicorp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrMissing says that a server cannot be built on this machine.
var ErrMissing = errors.New("server not available")

// Server names one of the servers that [Build] can make.
type Server struct {
	name    string
	version string
	module  string // directory of the nested module, below integration
	pkg     string
	onPath  bool // a binary in PATH will do
}

// The servers, at the versions of their nested modules.
var (
	VaultServer  = Server{name: "vault-for-tests", version: "1.21.4", module: "vault", pkg: "."}
	ConsulServer = Server{name: "consul", version: "1.22.3", module: "consul", pkg: "github.com/hashicorp/consul", onPath: true}
)

// buildLimit bounds one build, the download of its modules included.
const buildLimit = 25 * time.Minute

// Build returns the path of the server's binary and builds it when it is not
// in the cache. It writes what it does to progress.
func Build(ctx context.Context, s Server, progress io.Writer) (path string, err error) {
	if s.onPath {
		if found, err := exec.LookPath(s.name); err == nil {
			return found, nil
		}
	}
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("%w: %s: built without source positions", ErrMissing, s.name)
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(here)), s.module)
	sum, err := hash(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %s: its sources: %w", ErrMissing, s.name, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "pacer")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make cache for %s: %w", s.name, err)
	}
	path = filepath.Join(cache, fmt.Sprintf("%s-%s-%s", s.name, s.version, sum))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return "", fmt.Errorf("wait for another build of %s: %w", s.name, err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil // the other build has made it
	}
	fmt.Fprintf(progress, "%s %s: building from its Go module, once: about 3 minutes and 2.5 GB of modules\n", s.name, s.version)
	started := time.Now()
	limited, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	build := exec.CommandContext(limited, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path+".new", s.pkg)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	quiet := sayEvery(progress, 30*time.Second, func() string {
		return fmt.Sprintf("%s %s: still building after %s", s.name, s.version, time.Since(started).Round(time.Second))
	})
	out, err := build.CombinedOutput()
	quiet()
	if err != nil {
		return "", fmt.Errorf("%w: build %s: %w\n%s", ErrMissing, s.name, err, tail(out, 2000))
	}
	fmt.Fprintf(progress, "%s %s: built in %s\n", s.name, s.version, time.Since(started).Round(time.Second))
	return path, os.Rename(path+".new", path)
}

// sayEvery writes a line from time to time until stop is called.
func sayEvery(progress io.Writer, interval time.Duration, line func() string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintln(progress, line())
			}
		}
	}()
	return func() { close(done); <-ended }
}

// hash covers everything in a nested module that decides what is built.
func hash(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	h := sha256.New()
	for _, file := range files {
		if !strings.HasSuffix(file, ".go") && !strings.HasPrefix(filepath.Base(file), "go.") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", filepath.Base(file), len(data))
		h.Write(data)
	}
	return fmt.Sprintf("%x", h.Sum(nil))[:12], nil
}

// lock takes a file lock, so that test binaries that run side by side build
// once.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			return func() { file.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
