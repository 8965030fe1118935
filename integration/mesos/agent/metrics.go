package agent

import (
	"net/http"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// counters are what only goes up.
type counters struct {
	launchErrors                   int64
	validUpdates, invalidUpdates   int64
	validMessages, invalidMessages int64
	fetched, fetchErrors           int64
	ended                          map[mesos.TaskState]int64
}

func (a *Agent) countFetch(ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok {
		a.counters.fetched++
	} else {
		a.counters.fetchErrors++
	}
}

func (c *counters) countEnd(state mesos.TaskState) {
	if c.ended == nil {
		c.ended = make(map[mesos.TaskState]int64)
	}
	c.ended[state]++
}

// fetcherCacheSize is Mesos' default, in bytes. The cache here is not bounded.
const fetcherCacheSize = 2 << 30

type metric struct {
	name  string
	value float64
}

// metricsLocked lists metrics under Mesos' names.
func (a *Agent) metricsLocked() []metric {
	var list []metric
	add := func(name string, value float64) { list = append(list, metric{name, value}) }
	registered := 0.0
	if a.phase == running {
		registered = 1
	}
	executors := make(map[executorState]int)
	tasks := make(map[mesos.TaskState]int)
	var used size
	for _, f := range a.frameworks {
		for _, e := range f.order {
			executors[e.state]++
			if e.state != executorTerminated {
				s := e.size()
				used.milliCPUs += s.milliCPUs
				used.megabytes += s.megabytes
				used.disk += s.disk
			}
			for _, t := range e.order {
				if t.stage != ended {
					tasks[t.state.GetState()]++
				}
			}
		}
	}
	var total size
	total.add(a.info.Resources)
	add("containerizer/fetcher/cache_size_total_bytes", fetcherCacheSize)
	add("containerizer/fetcher/task_fetches_failed", float64(a.counters.fetchErrors))
	add("containerizer/fetcher/cache_size_total_bytes", fetcherCacheSize)
	add("containerizer/fetcher/task_fetches_succeeded", float64(a.counters.fetched))
	add("containerizer/mesos/container_destroy_errors", 0)
	add("slave/container_launch_errors", float64(a.counters.launchErrors))
	use := func(name string, total, used float64) {
		add("slave/"+name+"_total", total)
		add("slave/"+name+"_used", used)
		percent := 0.0
		if total > 0 {
			percent = used / total
		}
		add("slave/"+name+"_percent", percent)
	}
	use("cpus", float64(total.milliCPUs)/1000, float64(used.milliCPUs)/1000)
	use("mem", float64(total.megabytes), float64(used.megabytes))
	use("disk", float64(total.disk), float64(used.disk))
	add("slave/executors_preempted", 0)
	for state := executorRegistering; state <= executorTerminated; state++ {
		add("slave/executors_"+strings.ToLower(state.String()), float64(executors[state]))
	}
	add("slave/frameworks_active", float64(len(a.frameworks)))
	add("slave/invalid_framework_messages", float64(a.counters.invalidMessages))
	add("slave/invalid_status_updates", float64(a.counters.invalidUpdates))
	add("slave/recovery_errors", 0)
	add("slave/registered", registered)
	short := func(state mesos.TaskState) string {
		return "slave/tasks_" + strings.ToLower(strings.TrimPrefix(state.String(), "TASK_"))
	}
	for _, state := range []mesos.TaskState{mesos.TASK_FAILED, mesos.TASK_FINISHED, mesos.TASK_GONE, mesos.TASK_KILLED, mesos.TASK_LOST} {
		add(short(state), float64(a.counters.ended[state]))
	}
	for _, state := range []mesos.TaskState{mesos.TASK_KILLING, mesos.TASK_RUNNING, mesos.TASK_STAGING, mesos.TASK_STARTING} {
		add(short(state), float64(tasks[state]))
	}
	add("slave/uptime_secs", time.Since(a.started).Seconds())
	add("slave/valid_framework_messages", float64(a.counters.validMessages))
	add("slave/valid_status_updates", float64(a.counters.validUpdates))
	return list
}

func (a *Agent) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	list := a.metricsLocked()
	a.mu.Unlock()
	flat := make(map[string]float64, len(list))
	for _, m := range list {
		flat[m.name] = m.value
	}
	a.replyJSON(w, flat)
}
