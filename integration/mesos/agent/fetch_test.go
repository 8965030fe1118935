package agent

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// shelf is a web server with files and a record of requests.
type shelf struct {
	mu       sync.Mutex
	requests []string
	hold     chan struct{} // /slow waits for it
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	s.mu.Unlock()
	content, ok := map[string]string{
		"/plain": "plain text", "/script.tar.gz": "#!/bin/sh\n", "/a.tgz": archiveTar(), "/a.zip": archiveZip(), "/a.gz": compress("unpacked"),
		"/broken.tar.gz": "this is no archive",
	}[r.URL.Path]
	switch {
	case r.URL.Path == "/slow":
		select {
		case <-s.hold:
		case <-r.Context().Done():
		}
	case r.URL.Path == "/moved":
		http.Redirect(w, r, "/plain", http.StatusFound)
	case !ok:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, content)
		}
	}
}

func compress(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = io.WriteString(w, text)
	w.Close()
	return out.String()
}

func archiveTar() string {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: "in/tar", Mode: 0o644, Size: 3})
	_, _ = io.WriteString(w, "tar")
	w.Close()
	return compress(out.String())
}

func archiveZip() string {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	f, _ := w.Create("in/zip")
	_, _ = io.WriteString(f, "zip")
	w.Close()
	return out.String()
}

func (s *shelf) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if r == request {
			n++
		}
	}
	return n
}

// fetching is an executor with URIs that runs until its files have been looked at.
func fetching(id string, uris ...mesos.CommandInfo_URI) mesos.ExecutorInfo {
	e := shellExecutor(id, "touch started; exec sleep 1000")
	e.Command.URIs = uris
	return e
}

func uri(value string, change ...func(*mesos.CommandInfo_URI)) mesos.CommandInfo_URI {
	u := mesos.CommandInfo_URI{Value: value}
	for _, c := range change {
		c(&u)
	}
	return u
}

// untilStarted waits for a fetching executor to run.
func (h *harness) untilStarted(executorID string) {
	h.t.Helper()
	h.until("start of "+executorID, func() bool {
		if !h.known(executorID) {
			return false
		}
		select {
		case m := <-h.messages:
			h.t.Fatalf("instead of a start: %T %+v; stderr: %s", m, m, readSandbox(h, executorID, "stderr"))
		default:
		}
		_, err := os.Stat(filepath.Join(sandboxOf(h, executorID), "started"))
		return err == nil
	})
}

func yes() *bool { v := true; return &v }
func no() *bool  { v := false; return &v }

func executable(u *mesos.CommandInfo_URI)  { u.Executable = yes() }
func cached(u *mesos.CommandInfo_URI)      { u.Cache = yes() }
func unextracted(u *mesos.CommandInfo_URI) { u.Extract = no() }
func saved(as string) func(*mesos.CommandInfo_URI) {
	return func(u *mesos.CommandInfo_URI) { u.OutputFile = &as }
}

func TestFetcher_Files(t *testing.T) {
	web := &shelf{}
	server := httptest.NewServer(web)
	defer server.Close()
	h := newHarness(t, nil)
	end := h.register()
	local := filepath.Join(t.TempDir(), "local file")
	if err := os.WriteFile(local, []byte("local"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.launch(end, true, fetching("e1",
		uri(server.URL+"/plain"), uri(server.URL+"/plain?v=1"), uri(server.URL+"/moved"),
		uri(server.URL+"/plain", saved("sub/dir/renamed"), executable),
		uri(server.URL+"/script.tar.gz", executable), uri(server.URL+"/a.tgz"), uri(server.URL+"/a.zip"), uri(server.URL+"/a.gz"),
		uri(server.URL+"/a.tgz", saved("kept.tgz"), unextracted),
		uri(server.URL+"/a.tgz?cached", saved("cached.tgz"), cached),
		uri("file://"+local), uri(" "+local+" ", saved("local2")),
	), "t1")
	h.untilStarted("e1")
	for _, f := range []struct {
		name, content string
		mode          os.FileMode
	}{
		{"plain", "plain text", 0o644}, {"plain?v=1", "plain text", 0o644}, {"moved", "plain text", 0o644},
		{"sub/dir/renamed", "plain text", 0o755}, {"script.tar.gz", "#!/bin/sh\n", 0o755},
		{"a.tgz", archiveTar(), 0o644}, {"in/tar", "tar", 0o644}, {"a.zip", archiveZip(), 0o644}, {"in/zip", "zip", 0o644},
		{"a.gz", compress("unpacked"), 0o644}, {"a", "unpacked", 0o644}, {"kept.tgz", archiveTar(), 0o644},
		{"local file", "local", 0o644}, {"local2", "local", 0o644},
	} {
		path := filepath.Join(sandboxOf(h, "e1"), f.name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(content) != f.content || info.Mode().Perm() != f.mode {
			t.Errorf("%s: %d bytes, mode %o, want %d bytes, mode %o", f.name, len(content), info.Mode().Perm(), len(f.content), f.mode)
		}
	}
	if _, err := os.Stat(filepath.Join(sandboxOf(h, "e1"), "cached.tgz")); err == nil {
		t.Error("a cached archive is in the sandbox; only its contents should be")
	}
	if info, err := os.Stat(sandboxOf(h, "e1")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("sandbox: %v, %v", info.Mode(), err)
	}

	// A second executor takes the cached URI from the cache.
	h.launch(end, true, fetching("e2", uri(server.URL+"/a.tgz?cached", saved("cached.tgz"), cached)), "t2")
	h.untilStarted("e2")
	if n := web.count("GET /a.tgz?cached"); n != 1 {
		t.Errorf("%d downloads of the cached URI", n)
	}
	if n := web.count("HEAD /a.tgz?cached"); n != 2 {
		t.Errorf("%d questions for its size, want 2", n)
	}
	if got := readSandbox(h, "e2", "in/tar"); got != "tar" {
		t.Errorf("from the cache: %q", got)
	}
}

func TestFetcher_Failures(t *testing.T) {
	server := httptest.NewServer(&shelf{})
	defer server.Close()
	for _, c := range []struct {
		name    string
		uri     mesos.CommandInfo_URI
		status  int32
		message string
		stderr  string
	}{
		{"missing file", uri("file:///no/such/file"), 256, "exited with status 1", "Failed to fetch 'file:///no/such/file'"},
		{"404", uri(server.URL + "/missing"), 256, "exited with status 1", "received HTTP return code 404"},
		{"unreachable", uri("http://127.0.0.1:1/x"), 256, "exited with status 1", "Error downloading resource"},
		{"relative", uri("some/file"), 256, "exited with status 1", "relative path"},
		{"scheme", uri("gopher://host/file"), 256, "exited with status 1", "not supported"},
		{"broken archive", uri(server.URL + "/broken.tar.gz"), 256, "exited with status 1", "failed to extract"},
		{"absolute output", uri(server.URL+"/plain", saved("/tmp/x")), 9, "Could not fetch: URI output file must be within the sandbox directory", ""},
		{"output above the sandbox", uri(server.URL+"/plain", saved("../x")), 9, "Could not fetch: URI output file must be within the sandbox directory", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, nil)
			end := h.register()
			h.launch(end, true, fetching("e1", c.uri), "t1")
			if exit := receive[link.ExitedExecutor](h); exit.Status != c.status {
				t.Errorf("status %d, want %d", exit.Status, c.status)
			}
			u := h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_CONTAINER_LAUNCH_FAILED")
			if got := u.Status.GetMessage(); !strings.HasPrefix(got, "Failed to launch container: ") || !strings.HasSuffix(got, c.message) {
				t.Errorf("message %q", got)
			}
			if c.stderr != "" && !strings.Contains(readSandbox(h, "e1", "stderr"), c.stderr) {
				t.Errorf("stderr in the sandbox: %q", readSandbox(h, "e1", "stderr"))
			}
		})
	}
}

func TestFetcher_CountsIntoTheRegistrationTimeout(t *testing.T) {
	web := &shelf{hold: make(chan struct{})}
	server := httptest.NewServer(web)
	defer server.Close()
	defer close(web.hold)
	h := newHarness(t, func(c *Config) { c.ExecutorRegistrationTimeout = 500 * time.Millisecond })
	end := h.register()
	h.launch(end, true, fetching("e1", uri(server.URL+"/slow")), "t1")
	if exit := receive[link.ExitedExecutor](h); exit.Status != 9 {
		t.Errorf("status %d, want 9", exit.Status)
	}
	u := h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_CONTAINER_LAUNCH_FAILED")
	if !strings.HasSuffix(u.Status.GetMessage(), "': terminated with signal Killed") {
		t.Error(u.Status.GetMessage())
	}
}

func TestUnzip_StaysInTheSandbox(t *testing.T) {
	directory := t.TempDir()
	sandbox := filepath.Join(directory, "sandbox")
	if err := os.Mkdir(sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	f, err := w.Create("../escape")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(f, "x")
	w.Close()
	archive := filepath.Join(directory, "a.zip")
	if err := os.WriteFile(archive, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unzip(archive, sandbox); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(directory, "escape")); err == nil {
		t.Error("a file was written outside of the sandbox")
	}
}
