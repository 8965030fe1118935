package api

import (
	"net/http"

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
	var (
		list  = newList(w, "tasks")
		owner string
		ports = servicePorts(nil)
	)
	err := s.backend.Tasks(r.Context(), func(t Task) bool {
		if len(wanted) > 0 && !wanted[t.State] {
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
	status, err := s.backend.App(r.Context(), id, Embed{Tasks: true})
	if err != nil {
		return orNoApp(err, id)
	}
	list, ports := newList(w, "tasks"), servicePorts(status.App)
	for i := range status.Tasks {
		if !list.add(func(b []byte) []byte { return appendTask(b, &status.Tasks[i], ports) }) {
			break
		}
	}
	return list.end(nil)
}
