package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	agentv1 "github.com/mesos/mesos-go/api/v1/lib/agent"

	"pacer/integration/mesos/resource"
	"pacer/integration/mesos/wire"
)

// size is what a container may use: its executor's and its tasks' resources.
type size struct {
	milliCPUs int64
	megabytes int64
	disk      int64 // in MB
}

// size adds up the executor and its tasks that are not over. Of the tasks that wait
// for the executor only the first counts: Mesos starts a container with room for it.
func (e *executor) size() size {
	var s size
	s.add(e.info.GetResources())
	first := true
	for _, t := range e.order {
		// A container is started for its first task.
		if t.stage == launched || t.stage == queued && e.state == executorRegistering && first {
			s.add(t.info.GetResources())
		}
		first = false
	}
	return s
}

func (s *size) add(resources []mesos.Resource) {
	for _, r := range resources {
		switch r.GetName() {
		case "cpus":
			s.milliCPUs += resource.Milli(r.GetScalar().GetValue())
		case "mem":
			s.megabytes += resource.Milli(r.GetScalar().GetValue()) / 1000
		case "disk":
			s.disk += resource.Milli(r.GetScalar().GetValue()) / 1000
		}
	}
}

func (a *Agent) getContainers() *agentv1.Response_GetContainers {
	a.mu.Lock()
	type measured struct {
		row  agentv1.Response_GetContainers_Container
		pid  int
		size size
	}
	var list []measured
	for _, f := range a.frameworks {
		for _, e := range f.order {
			if e.state == executorTerminated || e.process == nil {
				continue
			}
			pid := uint32(e.process.pid)
			name := e.info.GetName()
			list = append(list, measured{pid: e.process.pid, size: e.size(), row: agentv1.Response_GetContainers_Container{
				FrameworkID: &mesos.FrameworkID{Value: f.id}, ExecutorID: &mesos.ExecutorID{Value: e.id}, ExecutorName: &name,
				ContainerID:     mesos.ContainerID{Value: e.container},
				ContainerStatus: &mesos.ContainerStatus{ContainerID: &mesos.ContainerID{Value: e.container}, ExecutorPID: &pid},
			}})
		}
	}
	a.mu.Unlock()
	out := &agentv1.Response_GetContainers{}
	processes := listProcesses()
	for _, m := range list {
		m.row.ResourceStatistics = measure(processes, m.pid, m.size)
		if directory := a.memoryCgroup(m.row.ContainerID.Value); directory != "" {
			measureMemory(m.row.ResourceStatistics, directory)
		}
		out.Containers = append(out.Containers, m.row)
	}
	return out
}

// measure adds up what the processes of a container use.
func measure(processes []process, root int, s size) *mesos.ResourceStatistics {
	var user, system, resident float64
	for _, pid := range tree(processes, root) {
		u, k, r := usage(pid)
		user, system, resident = user+u, system+k, resident+r
	}
	rss := uint64(resident)
	cpus := float64(s.milliCPUs) / 1000
	limit := uint64(s.megabytes) << 20
	return &mesos.ResourceStatistics{
		Timestamp: *now(), CPUsUserTimeSecs: &user, CPUsSystemTimeSecs: &system, MemRSSBytes: &rss,
		CPUsSoftLimit: &cpus, MemLimitBytes: &limit, MemSoftLimitBytes: &limit,
	}
}

// memoryCgroup is a container's cgroup of the v1 memory controller, "" when there is
// none.
func (a *Agent) memoryCgroup(container string) string {
	for _, h := range a.hierarchies {
		if h.controller == "memory" {
			return h.containerDir(a.cfg.CgroupRoot, container)
		}
	}
	return ""
}

// measureMemory takes over what the kernel knows of a container's memory. Memory
// pressure is not listened to.
func measureMemory(out *mesos.ResourceStatistics, directory string) {
	text, err := os.ReadFile(filepath.Join(directory, "memory.stat"))
	if err != nil {
		return
	}
	stat := make(map[string]uint64)
	for _, line := range strings.Split(string(text), "\n") {
		name, value, _ := strings.Cut(line, " ")
		if v, err := strconv.ParseUint(value, 10, 64); err == nil {
			stat[name] = v
		}
	}
	set := func(target **uint64, v uint64) { *target = &v }
	set(&out.MemTotalBytes, readNumber(filepath.Join(directory, "memory.usage_in_bytes")))
	set(&out.MemRSSBytes, stat["total_rss"])
	set(&out.MemAnonBytes, stat["total_rss"])
	set(&out.MemCacheBytes, stat["total_cache"])
	set(&out.MemFileBytes, stat["total_cache"])
	set(&out.MemMappedFileBytes, stat["total_mapped_file"])
	set(&out.MemSwapBytes, stat["total_swap"])
	set(&out.MemUnevictableBytes, stat["total_unevictable"])
	set(&out.MemLowPressureCounter, 0)
	set(&out.MemMediumPressureCounter, 0)
	set(&out.MemCriticalPressureCounter, 0)
}

// withKernelMemory adds what mesos-go has no fields for to statistics in JSON.
func withKernelMemory(statistics []byte, directory string) ([]byte, error) {
	if directory == "" {
		return statistics, nil
	}
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(statistics, &fields); err != nil {
		return nil, err
	}
	for name, file := range map[string]string{
		"mem_kmem_usage_bytes":     "memory.kmem.usage_in_bytes",
		"mem_kmem_tcp_usage_bytes": "memory.kmem.tcp.usage_in_bytes",
	} {
		fields[name] = strconv.AppendUint(nil, readNumber(filepath.Join(directory, file)), 10)
	}
	return json.Marshal(fields)
}

// readNumber reads a file with one number; 0 when it cannot be read.
func readNumber(path string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// usage reads a process' times in seconds and its resident memory in bytes.
func usage(pid int) (user, system, resident float64) {
	const ticks = 100 // USER_HZ, the same on every Linux that Go runs on
	directory := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(directory + "/stat")
	if err != nil {
		return 0, 0, 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const userField, systemField, residentField = 11, 12, 21 // counted from the state
	if len(fields) <= residentField {
		return 0, 0, 0
	}
	number := func(i int) float64 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0
		}
		return v
	}
	return number(userField) / ticks, number(systemField) / ticks, number(residentField) * float64(os.Getpagesize())
}

// containerRow is a row of /containers and, less container and status, of
// /monitor/statistics.
type containerRow struct {
	ContainerID  string          `json:"container_id,omitempty"`
	ExecutorID   string          `json:"executor_id"`
	ExecutorName string          `json:"executor_name"`
	FrameworkID  string          `json:"framework_id"`
	Source       string          `json:"source"`
	Statistics   json.RawMessage `json:"statistics"`
	Status       json.RawMessage `json:"status,omitempty"`
}

func (a *Agent) containerRows() ([]containerRow, error) {
	rows := []containerRow{}
	for _, c := range a.getContainers().Containers {
		statistics, err := wire.JSON.Marshal(c.ResourceStatistics)
		if err != nil {
			return nil, err
		}
		if statistics, err = withKernelMemory(statistics, a.memoryCgroup(c.ContainerID.Value)); err != nil {
			return nil, err
		}
		status, err := wire.JSON.Marshal(c.ContainerStatus)
		if err != nil {
			return nil, err
		}
		rows = append(rows, containerRow{
			ContainerID: c.ContainerID.Value, ExecutorID: c.ExecutorID.Value, ExecutorName: c.GetExecutorName(),
			FrameworkID: c.FrameworkID.Value, Statistics: statistics, Status: status,
		})
	}
	return rows, nil
}

func (a *Agent) serveContainers(w http.ResponseWriter, r *http.Request) {
	rows, err := a.containerRows()
	if err != nil {
		wire.Refuse(http.StatusInternalServerError, "%v\n", err).Write(w)
		return
	}
	query := r.URL.Query()
	other := func(name, value string) bool { return query.Get(name) != "" && query.Get(name) != value }
	a.replyJSON(w, slices.DeleteFunc(rows, func(row containerRow) bool {
		return other("container_id", row.ContainerID) || other("framework_id", row.FrameworkID) || other("executor_id", row.ExecutorID)
	}))
}

func (a *Agent) serveStatistics(w http.ResponseWriter, _ *http.Request) {
	rows, err := a.containerRows()
	if err != nil {
		wire.Refuse(http.StatusInternalServerError, "%v\n", err).Write(w)
		return
	}
	for i := range rows {
		rows[i].ContainerID, rows[i].Status = "", nil
	}
	a.replyJSON(w, rows)
}
