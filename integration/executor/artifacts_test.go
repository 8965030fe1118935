package executor_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/integration/mesos/probe"
)

// TestArtifacts_AreFetchedOnceForAllTasksOfAnExecutor launches tasks that want
// the same file, as another user where this one may.
func TestArtifacts_AreFetchedOnceForAllTasksOfAnExecutor(t *testing.T) {
	const tasks = 4
	content := []byte("#!/bin/sh\nid -un\n")
	sum := sha256.Sum256(content)
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		_, _ = w.Write(content)
	}))
	defer server.Close()

	c := newCluster(t, nil)
	user, allowed := c.user, c.user
	if os.Geteuid() == 0 {
		user, allowed = "nobody", c.user+",nobody"
	}
	var infos []mesos.TaskInfo
	for i := range tasks {
		p := &payload.Task{User: user, Command: &payload.Command{Shell: "./who"},
			Uris: []*payload.URI{{Value: server.URL + "/who", Executable: true, Cache: true, Sha256: hex.EncodeToString(sum[:])}}}
		infos = append(infos, c.task(fmt.Sprint("t.", i), p, func(info *mesos.TaskInfo) {
			small(info)
			for n, v := range info.Executor.Command.Environment.Variables {
				if v.Name == "PACER_ALLOWED_USERS" {
					info.Executor.Command.Environment.Variables[n].Value = &allowed
				}
			}
		}))
	}
	c.Accept(0, c.offers, probe.Launch(infos...))
	for finished := 0; finished < tasks; {
		s := c.next()
		switch s.GetState() {
		case mesos.TASK_FINISHED:
			finished++
		case mesos.TASK_STARTING, mesos.TASK_RUNNING:
		default:
			t.Fatal(probe.Describe(s))
		}
	}
	for i := range tasks {
		if out := c.file(fmt.Sprint("t.", i), "stdout"); out != user+"\n" {
			t.Errorf("task %d: %q", i, out)
		}
	}
	if n := served.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}
