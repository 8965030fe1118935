package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor/process"
)

func TestMain(m *testing.M) {
	process.RunShim()
	RunFetcher()
	goleak.VerifyTestMain(m)
}

// world is a fetcher, a server and a place for tasks' directories.
type world struct {
	*Fetcher
	t          testing.TB
	supervisor *process.Supervisor
	dir        string
	url        string
	served     atomic.Int64
	arrived    chan struct{} // a request for /hang
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

var app = []byte("#!/bin/sh\necho app\n")

func newWorld(t testing.TB, limits Limits, cache int64) *world {
	t.Helper()
	// t.TempDir is below a directory that other users may not enter.
	dir, err := os.MkdirTemp("", "pacer-artifact-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, arrived: make(chan struct{}, 10)}
	if w.supervisor, err = process.New(t.Context(), process.Config{}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.supervisor.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	files, err := OpenCache(filepath.Join(dir, "cache"), cache)
	if err != nil {
		t.Fatal(err)
	}
	w.Fetcher = NewFetcher(w.supervisor, files, limits, func(string) string { return "" })

	mux := http.NewServeMux()
	serve := func(path string, content []byte) {
		mux.HandleFunc(path, func(rw http.ResponseWriter, _ *http.Request) {
			w.served.Add(1)
			_, _ = rw.Write(content)
		})
	}
	serve("/app", app)
	serve("/app.tgz", gzipOf(t, tarOf(t, entry{name: "bin/app", content: string(app), mode: 0o755})))
	serve("/bad.tgz", gzipOf(t, tarOf(t, entry{name: "../victim"})))
	mux.Handle("/moved", http.RedirectHandler("/app", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.Handle("/elsewhere", http.RedirectHandler("file:///etc/passwd", http.StatusFound))
	mux.HandleFunc("/hang", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write(app)
		rw.(http.Flusher).Flush()
		w.arrived <- struct{}{}
		<-r.Context().Done()
	})
	mux.HandleFunc("/endless", func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := rw.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/secure", func(rw http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "user" || password != "hunter22" {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = rw.Write(app)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// task makes a directory that belongs to a user; empty is this process's.
func (w *world) task(id, username string) Job {
	w.t.Helper()
	dir := filepath.Join(w.dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if username != "" {
		u, err := user.Lookup(username)
		if err != nil {
			w.t.Skip(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			w.t.Fatal(err)
		}
	}
	return Job{TaskID: id, Dir: dir, User: username}
}

func (w *world) fetch(j Job, uris ...URI) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	j.URIs = uris
	return w.Fetch(ctx, j)
}

func TestFetch_BringsEachKindOfFile(t *testing.T) {
	w := newWorld(t, DefaultLimits(), 1<<20)
	local := filepath.Join(w.dir, "local.txt")
	if err := os.WriteFile(local, []byte("local"), 0o644); err != nil {
		t.Fatal(err)
	}
	j := w.task("t.1", "")
	err := w.fetch(j,
		URI{Value: w.url + "/app", Executable: true, SHA256: strings.ToUpper(sum(app))},
		URI{Value: w.url + "/app?v=2"},
		URI{Value: w.url + "/moved", OutputFile: "lib/moved"},
		URI{Value: w.url + "/app.tgz", Extract: true},
		URI{Value: w.url + "/app.tgz", OutputFile: "plain.tgz"},
		URI{Value: strings.Replace(w.url, "//", "//user:hunter22@", 1) + "/secure"},
		URI{Value: "file://" + local},
		URI{Value: local, OutputFile: "again"},
	)
	if err != nil {
		t.Fatal(err)
	}
	got := listing(t, j.Dir)
	for i, line := range got {
		name, content, _ := strings.Cut(line, "=")
		if content == string(app) {
			got[i] = name + "=APP"
		} else if strings.HasSuffix(name, ".tgz") {
			got[i] = name
		}
	}
	want := []string{"again=local", "app.tgz", "app=APP", "bin/app=APP", "lib/moved=APP", "local.txt=local", "plain.tgz", "secure=APP"}
	// The name has the query, "?v=2=...", which Cut divides elsewhere.
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "app?v=2=") })
	if len(got) != len(want) || !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, mode := range map[string]os.FileMode{"app": 0o755, "app?v=2": 0o644, "bin/app": 0o755} {
		if info, err := os.Stat(filepath.Join(j.Dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
}

func TestFetch_SaysWhichURIAndWhy(t *testing.T) {
	limits := Limits{Size: 1 << 20, Contents: 1 << 20, Entries: 10, Stall: 300 * time.Millisecond}
	w := newWorld(t, limits, 1<<20)
	private := strings.Replace(w.url, "//", "//user:hunter23@", 1) + "/secure?token=hunter23"
	for n, tc := range []struct {
		name string
		uri  URI
		text string
	}{
		{"missing", URI{Value: w.url + "/none"}, "/none: the server answers 404"},
		{"wrong sum", URI{Value: w.url + "/app", SHA256: sum(nil)}, "/app: has SHA-256 " + sum(app)},
		{"too large", URI{Value: w.url + "/endless"}, "more than the 1048576 bytes"},
		{"stalls", URI{Value: w.url + "/hang"}, "the server has sent nothing for 300ms"},
		{"redirects without end", URI{Value: w.url + "/loop"}, "more than 10 redirects"},
		{"redirects to a file", URI{Value: w.url + "/elsewhere"}, `redirected to scheme "file"`},
		{"nobody listens", URI{Value: "http://127.0.0.1:1/app"}, "connection refused"},
		{"no such file", URI{Value: "/no/such/file"}, "/no/such/file: open"},
		{"directory", URI{Value: "/etc"}, "no regular file"},
		{"archive that leads out", URI{Value: w.url + "/bad.tgz", Extract: true}, "/bad.tgz: extract: \"../victim\" leads out"},
		{"no archive", URI{Value: w.url + "/app", OutputFile: "app.zip", Extract: true}, "/app: extract: zip: not a valid zip file"},
		{"refused", URI{Value: private}, "/secure: the server answers 401"},
		{"bad URI", URI{Value: "gopher://x/y"}, "not http, https or file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := w.fetch(w.task(fmt.Sprint("t.", n), ""), tc.uri)
			if err == nil || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "hunter23") {
				t.Errorf("%v, want %q in it", err, tc.text)
			}
		})
	}
}

func TestFetch_EndsWithItsContextAndLeavesNoProcess(t *testing.T) {
	w := newWorld(t, DefaultLimits(), 1<<20)
	ctx, cancel := context.WithCancelCause(t.Context())
	j := w.task("t.1", "")
	j.URIs = []URI{{Value: w.url + "/hang"}}
	done := make(chan error, 1)
	go func() { done <- w.Fetch(ctx, j) }()
	select {
	case <-w.arrived:
	case err := <-done:
		t.Fatal(err)
	}
	killed := errors.New("killed")
	begin := time.Now()
	cancel(killed)
	if err := <-done; !errors.Is(err, killed) {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := w.supervisor.Status().Tasks; n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestFetch_HasTheRightsOfTheTasksUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to fetch as another user")
	}
	w := newWorld(t, DefaultLimits(), 1<<20)
	private := filepath.Join(w.dir, "private")
	if err := os.WriteFile(private, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.fetch(w.task("reads", "nobody"), URI{Value: private}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a file of root's: %v", err)
	}
	j := w.task("writes", "nobody")
	if err := w.fetch(j, URI{Value: w.url + "/app.tgz", Extract: true}, URI{Value: w.url + "/app", SHA256: sum(app), Cache: true}); err != nil {
		t.Fatal(err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app", "app.tgz", "bin", "bin/app"} {
		info, err := os.Stat(filepath.Join(j.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(owner(info)); got != nobody.Uid {
			t.Errorf("%s belongs to uid %s, want %s", name, got, nobody.Uid)
		}
	}
	// From the cache the next one reads it as itself.
	if err := w.fetch(w.task("cached", "nobody"), URI{Value: w.url + "/app", SHA256: sum(app), Cache: true}); err != nil {
		t.Error(err)
	}
	if n := w.served.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestCache_FetchesOnceForAllTasks(t *testing.T) {
	w := newWorld(t, DefaultLimits(), 1<<20)
	archive := gzipOf(t, tarOf(t, entry{name: "bin/app", content: string(app), mode: 0o755}))
	uris := []URI{
		{Value: w.url + "/app.tgz", SHA256: sum(archive), Cache: true, Extract: true},
		{Value: w.url + "/app", SHA256: sum(app), Cache: true},
		{Value: w.url + "/app", SHA256: sum(app), Cache: true, OutputFile: "again"},
	}
	var group sync.WaitGroup
	dirs := make([]string, 5)
	for i := range dirs {
		j := w.task(fmt.Sprint("t.", i), "")
		dirs[i] = j.Dir
		// In whichever order a task names them.
		mine := slices.Clone(uris)
		if i%2 == 1 {
			slices.Reverse(mine)
		}
		group.Go(func() {
			if err := w.fetch(j, mine...); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := w.served.Load(); n > 3 {
		t.Errorf("%d requests for two files, the first task may ask for one of them twice", n)
	}
	want := []string{"again=" + string(app), "app=" + string(app), "bin/app=" + string(app)}
	for _, dir := range dirs {
		if got := listing(t, dir); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCache_ForgetsWhatWasNotUsedForLongest(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCache(filepath.Join(dir, "cache"), 25)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	claim := func(s string) (string, func()) {
		t.Helper()
		path, release, err := c.claim(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return path, release
	}
	sums := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		content := []byte(strings.Repeat(name, 10))
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		sums[name] = sum(content)
		if name == "c" {
			_, release := claim(sums["a"]) // used after b
			release()
		}
		_, release := claim(sums[name])
		if err := c.add(t.Context(), root, name, sums[name], 1<<20); err != nil {
			t.Fatal(err)
		}
		release()
	}
	for name, there := range map[string]bool{"a": true, "b": false, "c": true} {
		path, release := claim(sums[name])
		if (path != "") != there {
			t.Errorf("%s: %q", name, path)
		}
		release()
	}
	// What is not what its sum says is not kept, nor is a pipe waited for.
	if err := c.add(t.Context(), root, "a", sums["b"], 1<<20); err == nil {
		t.Error("a wrong file was cached")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "cache", "*")); len(files) != 2 {
		t.Errorf("files %v", files)
	}
}
