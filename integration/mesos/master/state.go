package master

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/wire"
)

func serveHealth(w http.ResponseWriter, _ *http.Request) *wire.Refusal {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// writeJSON answers a plain endpoint.
func (m *Master) writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		m.config.Log.Error().Err(err).Msg("answer not rendered")
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has gone needs no answer
}

func (m *Master) serveVersion(w http.ResponseWriter, _ *http.Request) *wire.Refusal {
	version := wire.Version(m.config.Version)
	body, err := wire.JSON.Marshal(&version)
	if err != nil {
		return wire.Refuse(http.StatusInternalServerError, "%v", err)
	}
	m.writeJSON(w, json.RawMessage(body))
	return nil
}

func (m *Master) serveMetrics(w http.ResponseWriter, _ *http.Request) *wire.Refusal {
	var all map[string]float64
	m.locked(func(c *core) { all = c.metrics() })
	m.writeJSON(w, all)
	return nil
}

// counterNames are counters that are there, as 0, before they first count.
var counterNames = []string{
	"tasks_finished", "tasks_failed", "tasks_killed", "tasks_lost", "tasks_error", "tasks_dropped", "tasks_gone",
	"tasks_gone_by_operator", "valid_status_updates", "invalid_status_updates",
	"valid_status_update_acknowledgements", "invalid_status_update_acknowledgements",
	"messages_register_framework", "messages_launch_tasks", "messages_decline_offers", "messages_revive_offers",
	"messages_suppress_offers", "messages_kill_task", "messages_reconcile_tasks", "messages_status_update",
	"messages_status_update_acknowledgement", "messages_framework_to_executor", "messages_executor_to_framework",
	"messages_exited_executor", "slave_registrations", "slave_reregistrations", "slave_removals",
	"slave_removals/reason_unhealthy",
}

// metrics is Mesos' flat map.
func (c *core) metrics() map[string]float64 {
	out := make(map[string]float64)
	for _, name := range counterNames {
		out["master/"+name] = 0
	}
	maps.Copy(out, c.counters)
	set := func(name string, v float64) { out["master/"+name] = v }
	set("uptime_secs", time.Since(c.m.started).Seconds())
	elected := 0.0
	if c.m.led && c.m.leader == c.m.Address() {
		elected = 1
	}
	set("elected", elected)
	set("outstanding_offers", float64(len(c.offers)))

	var total, used resource.Set
	var connected, active float64
	for _, a := range c.agents {
		total, used = total.Plus(a.total), used.Plus(a.allocated)
		if a.connected {
			connected++
		}
		if a.active {
			active++
		}
	}
	set("slaves_connected", connected)
	set("slaves_disconnected", float64(len(c.agents))-connected)
	set("slaves_active", active)
	set("slaves_inactive", float64(len(c.agents))-active)
	set("slaves_unreachable", float64(c.registry.countUnreachable()))

	var linked, running, unreachable float64
	states := map[mesos.TaskState]float64{}
	for _, f := range c.frameworks {
		if f.connected() {
			linked++
		}
		if f.active {
			running++
		}
		unreachable += float64(len(f.unreachable))
		for _, t := range f.tasks {
			states[t.proto.GetState()]++
		}
	}
	set("frameworks_connected", linked)
	set("frameworks_disconnected", float64(len(c.frameworks))-linked)
	set("frameworks_active", running)
	set("frameworks_inactive", float64(len(c.frameworks))-running)
	for _, state := range []mesos.TaskState{mesos.TASK_STAGING, mesos.TASK_STARTING, mesos.TASK_RUNNING, mesos.TASK_KILLING} {
		set("tasks_"+strings.ToLower(strings.TrimPrefix(state.String(), "TASK_")), states[state])
	}
	set("tasks_unreachable", unreachable)
	for _, name := range []string{"cpus", "mem", "disk", "gpus"} {
		all, taken := float64(total.Scalar(name))/1000, float64(used.Scalar(name))/1000
		set(name+"_total", all)
		set(name+"_used", taken)
		percent := 0.0
		if all > 0 {
			percent = taken / all
		}
		set(name+"_percent", percent)
	}
	return out
}

// serveState answers the older, much used views of everything: /state and the parts
// of it that have paths of their own. Only their basics are emulated; key names
// differ from those of the v1 API.
func (m *Master) serveState(part string, keys ...string) func(http.ResponseWriter, *http.Request) *wire.Refusal {
	return func(w http.ResponseWriter, r *http.Request) *wire.Refusal {
		if refusal := m.notLeading(r, "/master"+part); refusal != nil {
			return refusal
		}
		var out map[string]any
		m.locked(func(c *core) { out = c.state() })
		if len(keys) > 0 {
			maps.DeleteFunc(out, func(key string, _ any) bool { return !slices.Contains(keys, key) })
		}
		m.writeJSON(w, out)
		return nil
	}
}

// serveTasks is /tasks: the tasks of all frameworks, completed ones too.
func (m *Master) serveTasks(w http.ResponseWriter, r *http.Request) *wire.Refusal {
	if refusal := m.notLeading(r, "/master/tasks"); refusal != nil {
		return refusal
	}
	tasks := []map[string]any{}
	m.locked(func(c *core) {
		all := c.getTasks()
		for _, t := range slices.Concat(all.CompletedTasks, all.Tasks, all.UnreachableTasks) {
			tasks = append(tasks, stateOfTask(t))
		}
	})
	m.writeJSON(w, map[string]any{"tasks": tasks})
	return nil
}

func (c *core) state() map[string]any {
	agents := []map[string]any{}
	active := 0
	for _, a := range c.agents {
		if a.active {
			active++
		}
		attributes := map[string]any{}
		for _, x := range a.info.Attributes {
			switch {
			case x.Text != nil:
				attributes[x.Name] = x.Text.Value
			case x.Scalar != nil:
				attributes[x.Name] = x.Scalar.Value
			}
		}
		entry := map[string]any{
			"id":              a.id,
			"hostname":        a.info.Hostname,
			"port":            a.info.GetPort(),
			"pid":             a.endpoint.PID,
			"version":         a.endpoint.Version,
			"registered_time": seconds(a.registered),
			"active":          a.active,
			"connected":       a.connected,
			"attributes":      attributes,
			"resources":       summary(a.total),
			"used_resources":  summary(a.allocated),
		}
		if !a.reregistered.IsZero() {
			entry["reregistered_time"] = seconds(a.reregistered)
		}
		agents = append(agents, entry)
	}
	frameworks, completed := []map[string]any{}, []map[string]any{}
	for _, f := range c.frameworks {
		frameworks = append(frameworks, c.stateOf(f))
	}
	for _, f := range c.completed {
		completed = append(completed, c.stateOf(f))
	}
	return map[string]any{
		"id":                      c.config.ID,
		"pid":                     c.m.info.GetPID(),
		"hostname":                c.m.info.GetHostname(),
		"version":                 c.config.Version,
		"start_time":              seconds(c.m.started),
		"elected_time":            seconds(c.m.started),
		"leader":                  "master@" + c.m.leader,
		"activated_slaves":        active,
		"deactivated_slaves":      len(c.agents) - active,
		"slaves":                  agents,
		"frameworks":              frameworks,
		"completed_frameworks":    completed,
		"unregistered_frameworks": []string{},
	}
}

func (c *core) stateOf(f *framework) map[string]any {
	tasks, unreachable, completed := []map[string]any{}, []map[string]any{}, []map[string]any{}
	for _, t := range f.tasks {
		tasks = append(tasks, stateOfTask(t.proto))
	}
	for _, t := range f.unreachable {
		unreachable = append(unreachable, stateOfTask(t))
	}
	for _, t := range f.completed {
		completed = append(completed, stateOfTask(t))
	}
	var capabilities []string
	for _, x := range f.info.Capabilities {
		capabilities = append(capabilities, x.Type.String())
	}
	out := map[string]any{
		"id":                f.id,
		"name":              f.info.Name,
		"user":              f.info.User,
		"hostname":          f.info.GetHostname(),
		"webui_url":         f.info.GetWebUiURL(),
		"failover_timeout":  f.info.GetFailoverTimeout(),
		"checkpoint":        f.info.GetCheckpoint(),
		"capabilities":      capabilities,
		"active":            f.active,
		"connected":         f.connected(),
		"recovered":         f.recovered,
		"registered_time":   seconds(f.registered),
		"used_resources":    summary(c.allocatedTo(f)),
		"tasks":             tasks,
		"unreachable_tasks": unreachable,
		"completed_tasks":   completed,
	}
	if f.multiRole {
		out["roles"] = f.roles
	} else {
		out["role"] = f.info.GetRole()
	}
	return out
}

func stateOfTask(t mesos.Task) map[string]any {
	statuses := []map[string]any{}
	for _, s := range t.Statuses {
		entry := map[string]any{"state": s.GetState().String(), "timestamp": s.GetTimestamp()}
		if s.Healthy != nil {
			entry["healthy"] = *s.Healthy
		}
		if s.ContainerStatus != nil {
			// Without the pid.
			body, err := wire.JSON.Marshal(&mesos.ContainerStatus{
				ContainerID: s.ContainerStatus.ContainerID, NetworkInfos: s.ContainerStatus.NetworkInfos,
			})
			if err == nil {
				entry["container_status"] = json.RawMessage(body)
			}
		}
		statuses = append(statuses, entry)
	}
	resources := resource.MustFrom(t.Resources)
	out := map[string]any{
		"id":           t.TaskID.Value,
		"name":         t.Name,
		"framework_id": t.FrameworkID.Value,
		"executor_id":  t.ExecutorID.GetValue(),
		"slave_id":     t.AgentID.Value,
		"state":        t.GetState().String(),
		"resources":    summary(resources),
		"statuses":     statuses,
	}
	if roles := resources.Roles(); len(roles) > 0 {
		out["role"] = roles[0]
	}
	if t.Labels != nil {
		labels := []map[string]string{}
		for _, l := range t.Labels.Labels {
			labels = append(labels, map[string]string{"key": l.Key, "value": l.GetValue()})
		}
		out["labels"] = labels
	}
	return out
}

// summary is how the older endpoints show resources.
func summary(s resource.Set) map[string]any {
	out := map[string]any{}
	for _, name := range []string{"cpus", "mem", "disk", "gpus"} {
		out[name] = float64(s.Scalar(name)) / 1000
	}
	if ports := s.Unallocated().Ranges("ports"); len(ports) > 0 {
		texts := make([]string, len(ports))
		for i, r := range ports {
			texts[i] = strconv.FormatUint(r.Begin, 10) + "-" + strconv.FormatUint(r.End, 10)
		}
		out["ports"] = "[" + strings.Join(texts, ", ") + "]"
	}
	return out
}
