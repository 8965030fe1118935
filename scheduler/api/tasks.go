package api

import (
	"net/http"
	"strings"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

// listTasks shows all tasks. Marathon's filter "status" takes "running" and
// "staging", any number of times.
func (s *server) listTasks(w http.ResponseWriter, r *http.Request) error {
	wanted := map[string]bool{}
	for _, name := range []string{"status", "status[]"} {
		for _, status := range r.URL.Query()[name] {
			switch status {
			case "running":
				wanted["TASK_RUNNING"] = true
			case "staging":
				wanted["TASK_STAGING"], wanted["TASK_STARTING"] = true, true
			default:
				return refuse(http.StatusBadRequest, "The query's status is neither running nor staging")
			}
		}
	}
	if s.unchanged(w, r, s.listTag(r)) {
		return nil
	}
	var (
		allowed = s.mayView(r)
		list    = newList(w, "tasks")
		owner   string
		ports   = servicePorts(nil)
	)
	err := s.backend.Tasks(r.Context(), func(t Task) bool {
		if len(wanted) > 0 && !wanted[t.State] || !allowed(t.AppID) {
			return true
		}
		if t.AppID != owner {
			// A task may outlive its app: it then has no service ports.
			var a *app.App
			if status, err := s.backend.App(r.Context(), t.AppID, Embed{}); err == nil {
				a = status.App
			}
			owner, ports = t.AppID, servicePorts(a)
		}
		return list.add(func(b []byte) []byte { return appendTask(b, &t, ports) })
	})
	return list.end(err)
}

func (s *server) appTasks(w http.ResponseWriter, r *http.Request, id string) error {
	if err := s.demand(r, access.View, id); err != nil {
		return err
	}
	status, err := s.backend.App(r.Context(), id, Embed{Tasks: true})
	if err != nil {
		return orNoApp(err, id)
	}
	if s.unchanged(w, r, s.appTag(&status)) {
		return nil
	}
	return writeTasks(w, status.Tasks, servicePorts(status.App))
}

func writeTasks(w http.ResponseWriter, tasks []*Task, ports []int) error {
	list := newList(w, "tasks")
	for _, t := range tasks {
		if !list.add(func(b []byte) []byte { return appendTask(b, t, ports) }) {
			break
		}
	}
	return list.end(nil)
}

// groupTasks shows the tasks of all apps below a path.
func (s *server) groupTasks(w http.ResponseWriter, r *http.Request, group string) error {
	if s.unchanged(w, r, s.listTag(r)) {
		return nil
	}
	prefix, allowed, list := strings.TrimSuffix(group, "/")+"/", s.mayView(r), newList(w, "tasks")
	err := s.backend.Apps(r.Context(), Embed{Tasks: true}, func(status AppStatus) bool {
		if !strings.HasPrefix(status.App.ID, prefix) || !allowed(status.App.ID) {
			return true
		}
		ports := servicePorts(status.App)
		for _, t := range status.Tasks {
			if !list.add(func(b []byte) []byte { return appendTask(b, t, ports) }) {
				return false
			}
		}
		return true
	})
	return list.end(err)
}
