package conformance_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosagent "github.com/mesos/mesos-go/api/v1/lib/agent"
	mesosmaster "github.com/mesos/mesos-go/api/v1/lib/master"
)

// operator is about what people and tools see.
var operator = []assertion{
	{number: 80, title: "GET_TASKS: from staging to completed", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		w.until("staging task", func() bool {
			t := find(w.getTasks().Tasks, f.ID, "t1")
			return t != nil && t.GetState() == mesos.TASK_STAGING
		})
		p := f.puppet("e1")
		p.subscribe()
		p.report("t1", mesos.TASK_FINISHED)
		status := f.update("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		unacknowledged := find(w.getTasks().Tasks, f.ID, "t1")
		if unacknowledged == nil || unacknowledged.GetState() != mesos.TASK_FINISHED ||
			unacknowledged.StatusUpdateState == nil || *unacknowledged.StatusUpdateState != mesos.TASK_FINISHED {
			w.Errorf("before the acknowledgement: %v", unacknowledged)
		}
		f.Acknowledge(status)
		w.until("completed task", func() bool { return find(w.getTasks().CompletedTasks, f.ID, "t1") != nil })
		if find(w.getTasks().Tasks, f.ID, "t1") != nil {
			w.Error("it is also among the tasks")
		}
	}},
	{number: 81, title: "metrics follow what happens", test: func(w *world) {
		metrics := func() map[string]float64 {
			var set map[string]float64
			w.get(w.master, "/metrics/snapshot", &set)
			return set
		}
		before := metrics()
		f := w.framework()
		p, s := f.run("e1", "t1")
		during := metrics()
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		f.got("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		after := metrics()
		for name, want := range map[string]float64{
			"master/tasks_finished": 1, "master/valid_status_updates": 2, "master/frameworks_active": 1,
		} {
			old, there := before[name]
			if !there {
				w.Errorf("no %s", name)
			}
			w.equal("growth of "+name, after[name]-old, want)
		}
		w.equal("tasks_running meanwhile", during["master/tasks_running"]-before["master/tasks_running"], 1)
	}},
	{number: 82, title: "/containers: what lives", test: func(w *world) {
		f := w.framework()
		p, _ := f.run("e1", "t1")
		type container struct {
			FrameworkID string `json:"framework_id"`
			ExecutorID  string `json:"executor_id"`
			ContainerID string `json:"container_id"`
			Status      map[string]any
			Statistics  map[string]any
		}
		own := func() *container {
			var all []container
			w.get(w.agentURL(), "/containers", &all)
			for _, c := range all {
				if c.FrameworkID == f.ID && c.ExecutorID == "e1" {
					return &c
				}
			}
			return nil
		}
		c := own()
		if c == nil {
			w.Fatal("not there")
		}
		directory := p.environment()["MESOS_DIRECTORY"]
		w.equal("container_id", c.ContainerID, directory[strings.LastIndex(directory, "/")+1:])
		if timestamp, _ := c.Statistics["timestamp"].(float64); timestamp <= 0 {
			w.Errorf("statistics %v", c.Statistics)
		}
		if len(c.Status) == 0 {
			w.Error("no status")
		}
		p.exit(0)
		w.until("its end", func() bool { return own() == nil })
	}},
	{number: 83, title: "files of sandboxes", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, _ := f.run("e1", "t1")
		p.sh("head -c 70000 /dev/zero | tr '\\0' a > large; echo small > small")
		for _, directory := range []string{
			p.environment()["MESOS_DIRECTORY"], fmt.Sprintf("/frameworks/%s/executors/e1/runs/latest", f.ID),
		} {
			query := func(endpoint, name, more string) string {
				return "/files/" + endpoint + "?path=" + url.QueryEscape(directory+name) + more
			}
			var list []struct {
				Path string
				Size int
				Mode string
			}
			w.get(w.agentURL(), query("browse", "", ""), &list)
			i := slices.IndexFunc(list, func(e struct {
				Path string
				Size int
				Mode string
			}) bool {
				return e.Path == directory+"/large"
			})
			if i < 0 || list[i].Size != 70000 || list[i].Mode != "-rw-r--r--" {
				w.Errorf("browse: %v", list)
			}
			var read struct {
				Data   string
				Offset int
			}
			w.get(w.agentURL(), query("read", "/small", "&offset=1&length=3"), &read)
			w.equal("part of a file", fmt.Sprint(read.Data, read.Offset), "mal1")
			w.get(w.agentURL(), query("read", "/large", "&offset=0&length=100000"), &read)
			w.equal("most that is read", len(read.Data), 1<<16)
			for _, offset := range []string{"", "&offset=-1"} {
				w.get(w.agentURL(), query("read", "/large", offset), &read)
				w.equal("size by reading", fmt.Sprint(read.Data, read.Offset), "70000")
			}
			for _, endpoint := range []string{"browse", "read"} {
				w.equal(endpoint+" of nothing", w.get(w.agentURL(), query(endpoint, "/nothing", ""), nil).Status, http.StatusNotFound)
			}
			w.readFiles(directory)
		}
		w.equal("path outside", w.get(w.agentURL(), "/files/read?offset=0&path=/etc/passwd", nil).Status, http.StatusNotFound)
		w.equal("no path", w.get(w.agentURL(), "/files/read", nil).Status, http.StatusBadRequest)
	}},
	{number: 84, title: "health and version", encodings: inBoth, test: func(w *world) {
		for _, server := range []string{w.master, w.agentURL()} {
			w.equal("/health", w.get(server, "/health", nil).Status, http.StatusOK)
			var version struct{ Version string }
			w.get(server, "/version", &version)
			if version.Version == "" {
				w.Error("no version")
			}
		}
		var master mesosmaster.Response
		w.operate(w.master, &mesosmaster.Call{Type: mesosmaster.Call_GET_HEALTH}, &master)
		w.equal("master's GET_HEALTH", master.GetHealth.Healthy, true)
		var agent mesosagent.Response
		w.operate(w.agentURL(), &mesosagent.Call{Type: mesosagent.Call_GET_HEALTH}, &agent)
		w.equal("agent's GET_HEALTH", agent.GetHealth.Healthy, true)
	}},
}

// readFiles looks at files by LIST_FILES and READ_FILE.
func (w *world) readFiles(directory string) {
	w.Helper()
	var list, read mesosagent.Response
	w.operate(w.agentURL(), &mesosagent.Call{
		Type: mesosagent.Call_LIST_FILES, ListFiles: &mesosagent.Call_ListFiles{Path: directory},
	}, &list)
	if !slices.ContainsFunc(list.ListFiles.FileInfos, func(e mesos.FileInfo) bool {
		return e.Path == directory+"/small" && e.GetSize_() == 6
	}) {
		w.Errorf("LIST_FILES: %v", list.ListFiles.FileInfos)
	}
	w.operate(w.agentURL(), &mesosagent.Call{
		Type: mesosagent.Call_READ_FILE, ReadFile: &mesosagent.Call_ReadFile{Path: directory + "/large", Length: pointer(uint64(100000))},
	}, &read)
	w.equal("READ_FILE", fmt.Sprint(len(read.ReadFile.Data), " of ", read.ReadFile.Size_), "65536 of 70000")
}
