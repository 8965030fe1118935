package api_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pacer/scheduler/api"
)

// with sends a request with further headers: name, value, name, value.
func (s *server) with(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	request := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return s.send(request)
}

func TestETag_NotModifiedUntilSomethingChanges(t *testing.T) {
	for _, target := range []string{"/v2/apps", "/v2/apps?embed=apps.tasks", "/v2/apps/hello", "/v2/apps/hello/tasks", "/v2/tasks", "/v2/groups", "/v2/deployments", "/v2/apps/*/tasks"} {
		t.Run(target, func(t *testing.T) {
			s := newServer(t)
			s.must("POST", "/v2/apps", hello)
			tag := s.must("GET", target, "").Header().Get("ETag")
			if tag == "" {
				t.Fatal("no ETag")
			}
			for _, have := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
				if r := s.with("GET", target, "", "If-None-Match", have); r.Code != 304 || r.Body.Len() > 0 {
					t.Errorf("%s: %d %s", have, r.Code, r.Body)
				}
			}
			s.backend.SetTasks("/hello", api.Counts{Running: 1}, api.Task{ID: "hello.1", AppID: "/hello"})
			if r := s.with("GET", target, "", "If-None-Match", tag); r.Code != 200 || r.Header().Get("ETag") == tag {
				t.Errorf("after a change: %d %s", r.Code, r.Header())
			}
		})
	}
	s := newServer(t)
	if r := s.do("GET", "/v2/apps/none", ""); r.Header().Get("ETag") != "" {
		t.Error("an error has an ETag")
	}
	// Ages change all the time.
	if r := s.must("GET", "/v2/apps?embed=apps.taskStats", ""); r.Header().Get("ETag") != "" {
		t.Error("taskStats have an ETag")
	}
}

func TestIfMatch(t *testing.T) {
	for name, test := range map[string]struct {
		method, target, body string
	}{
		"put":     {"PUT", "/v2/apps/hello", `{"instances":5}`},
		"patch":   {"PATCH", "/v2/apps/hello", `{"instances":5}`},
		"restart": {"POST", "/v2/apps/hello/restart", ""},
		"delete":  {"DELETE", "/v2/apps/hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.must("POST", "/v2/apps", hello)
			s.backend.Finish()
			old := s.must("GET", "/v2/apps/hello", "").Header().Get("ETag")
			s.must("PUT", "/v2/apps/hello", `{"mem":64}`)
			s.backend.Finish()
			if r := s.with(test.method, test.target, test.body, "If-Match", old); r.Code != 412 || !strings.Contains(r.Body.String(), "2026-03-01T12:00:02.000Z") {
				t.Errorf("with an old tag: %d %s", r.Code, r.Body)
			}
			// What the instances do in between does not count.
			tag := s.must("GET", "/v2/apps/hello", "").Header().Get("ETag")
			s.backend.SetTasks("/hello", api.Counts{Running: 2})
			if r := s.with(test.method, test.target, test.body, "If-Match", `"x", `+tag); r.Code != 200 {
				t.Errorf("with the tag: %d %s", r.Code, r.Body)
			}
		})
	}
	s := newServer(t)
	if r := s.with("PUT", "/v2/apps/new", `{"cmd":"x"}`, "If-Match", "*"); r.Code != 412 {
		t.Errorf("update of nothing: %d %s", r.Code, r.Body)
	}
	if r := s.with("PUT", "/v2/apps/new", `{"cmd":"x"}`, "If-None-Match", "*"); r.Code != 201 {
		t.Errorf("create: %d %s", r.Code, r.Body)
	}
	if r := s.with("PUT", "/v2/apps/new", `{"cmd":"y"}`, "If-None-Match", "*"); r.Code != 412 {
		t.Errorf("create of what exists: %d %s", r.Code, r.Body)
	}
}

func TestGzip(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	small := s.with("GET", "/v2/leader", "", "Accept-Encoding", "gzip")
	if small.Header().Get("Content-Encoding") != "" || small.Header().Get("Vary") != "Accept-Encoding" {
		t.Errorf("small reply: %v", small.Header())
	}
	var tasks []api.Task
	for range 500 {
		tasks = append(tasks, api.Task{ID: "hello.1", AppID: "/hello", Host: "node1.example.com"})
	}
	s.backend.SetTasks("/hello", api.Counts{}, tasks...)
	plain := s.must("GET", "/v2/apps/hello", "")
	for accept, want := range map[string]bool{"gzip": true, "deflate, gzip;q=0.8": true, "*": true, "gzip;q=0": false, "identity": false, "": false} {
		r := s.with("GET", "/v2/apps/hello", "", "Accept-Encoding", accept)
		if (r.Header().Get("Content-Encoding") == "gzip") != want {
			t.Errorf("%q: %v", accept, r.Header())
			continue
		}
		var body io.Reader = r.Body
		if want {
			if r.Body.Len() > plain.Body.Len()/5 {
				t.Errorf("%d bytes of %d", r.Body.Len(), plain.Body.Len())
			}
			tag := r.Header().Get("ETag")
			if !strings.HasPrefix(tag, "W/") || s.with("GET", "/v2/apps/hello", "", "If-None-Match", tag).Code != 304 {
				t.Errorf("tag %s", tag)
			}
			var err error
			if body, err = gzip.NewReader(r.Body); err != nil {
				t.Fatal(err)
			}
		}
		data, err := io.ReadAll(body)
		if err != nil || string(data) != plain.Body.String() {
			t.Errorf("%q: another body, %v", accept, err)
		}
	}
	if r := s.with("DELETE", "/v2/apps/none", "", "Accept-Encoding", "gzip"); r.Code != 404 || !json.Valid(r.Body.Bytes()) {
		t.Errorf("error: %d %s", r.Code, r.Body)
	}
	if r := s.with("HEAD", "/v2/apps/hello", "", "Accept-Encoding", "gzip"); r.Code != 200 {
		t.Errorf("HEAD: %d", r.Code)
	}
}

// A list that fails half-way is not completed by the end of its compression.
func TestGzip_CutShort(t *testing.T) {
	s := newServer(t)
	handler := newHandler(t, api.Config{Backend: cutBackend{s.backend}})
	web := httptest.NewServer(handler)
	defer web.Close()
	defer web.Client().CloseIdleConnections()
	request, _ := http.NewRequestWithContext(t.Context(), "GET", web.URL+"/v2/apps", nil)
	request.Header.Set("Accept-Encoding", "gzip")
	r, err := web.Client().Do(request)
	if err != nil {
		return
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); r.StatusCode == 200 && err == nil {
		if unzipped, err := gzip.NewReader(strings.NewReader(string(body))); err == nil {
			if _, err := io.ReadAll(unzipped); err == nil {
				t.Error("complete reply")
			}
		}
	}
}
