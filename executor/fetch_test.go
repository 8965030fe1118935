package executor

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
)

func TestReal_FilesAreThereBeforeTheTaskStarts(t *testing.T) {
	arrived := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/app":
			_, _ = w.Write([]byte("#!/bin/sh\necho fetched\n"))
		case "/hang":
			w.(http.Flusher).Flush()
			arrived <- struct{}{}
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	uri := func(u *payload.URI) func(*mesos.TaskInfo, *payload.Task) {
		return func(_ *mesos.TaskInfo, task *payload.Task) { task.Uris = []*payload.URI{u} }
	}
	r := newReal(t)
	r.run(t, "runs", "./app; ls", uri(&payload.URI{Value: server.URL + "/app", Executable: true}))
	if s := r.inbox.wait(t, "runs", terminal); s.GetState() != mesos.TASK_FINISHED {
		t.Errorf("%v %q", s.GetState(), s.GetMessage())
	}
	if out := r.file(t, "runs", "stdout"); out != "fetched\napp\nstderr\nstdout\n" {
		t.Errorf("output %q", out)
	}

	r.run(t, "missing", "./app", uri(&payload.URI{Value: server.URL + "/none"}))
	s := r.inbox.wait(t, "missing", terminal)
	if s.GetState() != mesos.TASK_FAILED || s.GetReason() != mesos.REASON_CONTAINER_LAUNCH_FAILED ||
		!strings.Contains(s.GetMessage(), "/none: the server answers 404") || !strings.Contains(s.GetMessage(), "task not started") {
		t.Errorf("%v %v %q", s.GetState(), s.GetReason(), s.GetMessage())
	}
	if class := s.Labels.Labels[0]; class.GetValue() != payload.FailureFetch {
		t.Errorf("class %q", class.GetValue())
	}

	r.run(t, "killed", "./hang", uri(&payload.URI{Value: server.URL + "/hang"}))
	<-arrived
	r.Kill("killed", nil)
	if s := r.inbox.wait(t, "killed", terminal); s.GetState() != mesos.TASK_KILLED || !strings.Contains(s.GetMessage(), "never started") {
		t.Errorf("%v %q", s.GetState(), s.GetMessage())
	}
}
