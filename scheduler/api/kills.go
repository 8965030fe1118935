package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

// killing is what a request to kill tasks asks for.
type killing struct {
	scale, wipe bool
	host        string
}

func newKilling(r *http.Request) (k killing, err error) {
	if k.scale, err = flag(r, "scale", false); err != nil {
		return k, err
	}
	if k.wipe, err = flag(r, "wipe", false); err != nil {
		return k, err
	}
	if k.scale && k.wipe {
		return k, refuse(http.StatusBadRequest, "You cannot use scale and wipe at the same time.")
	}
	k.host = r.URL.Query().Get("host")
	return k, nil
}

// killAppTasks kills all tasks of an app, or those on one host.
func (s *server) killAppTasks(w http.ResponseWriter, r *http.Request, id string) error {
	return s.kill(w, r, id, "")
}

// killTask kills one task of an app.
func (s *server) killTask(w http.ResponseWriter, r *http.Request, id, task string) error {
	return s.kill(w, r, id, task)
}

// kill kills one task, or all if none is named. It answers with them as they
// were, or with the deployment where the app is scaled down.
func (s *server) kill(w http.ResponseWriter, r *http.Request, id, task string) error {
	k, err := newKilling(r)
	if err != nil {
		return err
	}
	if err := s.demand(r, access.Update, id); err != nil {
		return err
	}
	find := func(ctx context.Context) (AppStatus, []*Task, error) {
		status, err := s.backend.App(ctx, id, Embed{Tasks: true})
		if err != nil {
			return status, nil, orNoApp(err, id)
		}
		tasks := slices.DeleteFunc(slices.Clone(status.Tasks), func(t *Task) bool {
			return task != "" && t.ID != task || k.host != "" && t.Host != k.host
		})
		if task != "" && len(tasks) == 0 {
			return status, nil, refuse(http.StatusNotFound, "Task '%s' does not exist", task)
		}
		return status, tasks, nil
	}
	if k.scale {
		return s.killAndScale(w, r, func(ctx context.Context) ([]Edit, error) {
			status, tasks, err := find(ctx)
			if err != nil || len(tasks) == 0 {
				return nil, err
			}
			return []Edit{scaledDown(status.App, tasks)}, nil
		})
	}
	status, tasks, err := find(r.Context())
	if err != nil {
		return err
	}
	if err := s.killNow(r, tasks, k.wipe); err != nil {
		return err
	}
	ports := servicePorts(status.App)
	if task == "" {
		return writeTasks(w, tasks, ports)
	}
	setJSON(w)
	_, _ = w.Write(append(appendTask([]byte(`{"task":`), tasks[0], ports), "}\n"...))
	return nil
}

// deleteTasks kills the tasks that the body names, of any apps.
func (s *server) deleteTasks(w http.ResponseWriter, r *http.Request) error {
	k, err := newKilling(r)
	if err != nil {
		return err
	}
	data, err := readBody(r)
	if err != nil {
		return err
	}
	var body struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(data, &body); err != nil || body.IDs == nil {
		return &app.Error{Malformed: true, Problems: []app.Problem{{Path: "/ids", Errors: []string{`expected {"ids": ["task ID", ...]}`}}}}
	}
	byApp := make(map[string]map[string]bool)
	for _, task := range body.IDs {
		id, ok := app.IDOfTask(task)
		if !ok {
			return refuse(http.StatusBadRequest, "Invalid task id '%s'.", clip(task, 300))
		}
		if byApp[id] == nil {
			byApp[id] = make(map[string]bool)
			if err := s.demand(r, access.Update, id); err != nil {
				return err
			}
		}
		byApp[id][task] = true
	}
	// find yields each app with those of its tasks that exist.
	find := func(ctx context.Context, yield func(AppStatus, []*Task)) error {
		for _, id := range slices.Sorted(maps.Keys(byApp)) {
			status, err := s.backend.App(ctx, id, Embed{Tasks: true})
			if orNoApp(err, id) != err {
				continue // what does not exist need not be killed
			}
			if err != nil {
				return err
			}
			tasks := slices.DeleteFunc(slices.Clone(status.Tasks), func(t *Task) bool { return !byApp[id][t.ID] })
			if len(tasks) > 0 {
				yield(status, tasks)
			}
		}
		return nil
	}
	if k.scale {
		return s.killAndScale(w, r, func(ctx context.Context) ([]Edit, error) {
			var edits []Edit
			err := find(ctx, func(status AppStatus, tasks []*Task) {
				edits = append(edits, scaledDown(status.App, tasks))
			})
			return edits, err
		})
	}
	var tasks []*Task
	ports := make(map[string][]int)
	if err := find(r.Context(), func(status AppStatus, of []*Task) {
		tasks = append(tasks, of...)
		ports[status.App.ID] = servicePorts(status.App)
	}); err != nil {
		return err
	}
	if err := s.killNow(r, tasks, k.wipe); err != nil {
		return err
	}
	list := newList(w, "tasks")
	for _, t := range tasks {
		if !list.add(func(b []byte) []byte { return appendTask(b, t, ports[t.AppID]) }) {
			break
		}
	}
	return list.end(nil)
}

// scaledDown is an app without some of its tasks.
func scaledDown(a *app.App, tasks []*Task) Edit {
	next := a.Clone()
	next.Instances = max(0, next.Instances-len(tasks))
	edit := Edit{ID: a.ID, Replaces: a.Version, Next: next}
	for _, t := range tasks {
		edit.Kill = append(edit.Kill, t.ID)
	}
	return edit
}

func (s *server) killAndScale(w http.ResponseWriter, r *http.Request, build func(context.Context) ([]Edit, error)) error {
	started, effects, err := s.applyForced(r, false, build)
	if err != nil {
		return err
	}
	return replyStarted(w, http.StatusOK, started, effects)
}

func (s *server) killNow(r *http.Request, tasks []*Task, wipe bool) error {
	ids := make([]string, 0, len(tasks))
	for _, t := range tasks {
		ids = append(ids, t.ID)
	}
	auditOf(r).tasks = ids
	return s.backend.Kill(r.Context(), ids, wipe)
}
