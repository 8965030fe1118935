package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
)

func scalar(name string, value float64) mesos.Resource {
	kind := mesos.SCALAR
	return mesos.Resource{Name: name, Type: &kind, Scalar: &mesos.Value_Scalar{Value: value}}
}

// withCgroups is a harness whose executors have cgroups; it skips where that is
// not possible.
func withCgroups(t *testing.T) *harness {
	if os.Geteuid() != 0 {
		t.Skip("cgroups are made by root only")
	}
	list, err := hierarchies()
	if err != nil {
		t.Skip(err)
	}
	root := fmt.Sprintf("mesos-agent-test-%d", os.Getpid())
	for _, h := range list {
		directory := filepath.Join(h.mount, root)
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Skipf("cgroups cannot be made here: %v", err)
		}
		t.Cleanup(func() {
			walkCgroups(directory, func(d string) { _ = os.Remove(d) })
			if _, err := os.Stat(directory); err == nil {
				t.Errorf("%s could not be removed", directory)
			}
		})
	}
	return newHarness(t, func(c *Config) { c.CgroupRoot = root })
}

func (h *harness) limit(e *executor) (limits string) {
	h.t.Helper()
	for _, x := range h.agent.hierarchies {
		for _, file := range []string{"memory.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.shares", "memory.max", "memory.low", "cpu.weight"} {
			text, err := os.ReadFile(filepath.Join(x.containerDir(h.agent.cfg.CgroupRoot, e.container), file))
			if err == nil {
				limits += file + "=" + strings.TrimSpace(string(text)) + " "
			}
		}
	}
	return limits
}

func TestCgroup_GrowsAndShrinksWithItsTasks(t *testing.T) {
	h := withCgroups(t)
	end := h.register()
	e := shellExecutor("e1", "cat /proc/self/cgroup; (setsid sleep 1000 &); touch started; exec sleep 1000")
	e.Resources = []mesos.Resource{scalar("cpus", 0.2), scalar("mem", 64)}
	run := func(id string, isNew bool) {
		task := h.task(id, e)
		task.Resources = []mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)}
		end.Send(link.RunTask{Framework: h.fw, Task: task, LaunchExecutor: isNew})
	}
	run("t1", true)
	h.untilStarted("e1")
	h.agent.mu.Lock()
	running := h.agent.frameworks["F1"].executors["e1"]
	h.agent.mu.Unlock()
	v1 := h.agent.hierarchies[0].controller != ""
	expect := func(v1Limits, v2Limits string) {
		t.Helper()
		want := v2Limits
		if v1 {
			want = v1Limits
		}
		for _, part := range strings.Fields(want) {
			if got := h.limit(running); !strings.Contains(got, part+" ") {
				t.Errorf("limits %s, want %s", got, part)
			}
		}
	}
	if got := readSandbox(h, "e1", "stdout"); !strings.Contains(got, "/"+h.agent.cfg.CgroupRoot+"/"+running.container) {
		t.Errorf("the executor's cgroups: %s", got)
	}
	expect("memory.limit_in_bytes=100663296 memory.soft_limit_in_bytes=100663296 cpu.shares=307",
		"memory.max=100663296 memory.low=100663296 cpu.weight=30")
	s := h.subscribe("e1", nil)
	s.next(execv1.Event_SUBSCRIBED)
	s.next(execv1.Event_LAUNCH)
	run("t2", false)
	s.next(execv1.Event_LAUNCH)
	expect("memory.limit_in_bytes=134217728 cpu.shares=409", "memory.max=134217728 cpu.weight=40")
	h.update("e1", "t2", mesos.TASK_FINISHED)
	h.acknowledge(end, h.expectUpdate("t2", mesos.TASK_FINISHED, ""))
	expect("memory.limit_in_bytes=134217728 memory.soft_limit_in_bytes=100663296 cpu.shares=307",
		"memory.max=134217728 memory.low=100663296 cpu.weight=30")

	// Nothing is left, not even in a session of its own.
	inside := cgroupProcesses(running.process.cgroups)
	if len(inside) < 3 { // helper, executor, orphan
		t.Errorf("processes in the cgroup: %v", inside)
	}
	running.process.destroy()
	receive[link.ExitedExecutor](h)
	for _, pid := range inside {
		if startTime(pid) != "" {
			t.Errorf("process %d lives", pid)
		}
	}
	for _, directory := range running.process.cgroups {
		if _, err := os.Stat(directory); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", directory, err)
		}
	}
}

func TestCgroup_OutOfMemory(t *testing.T) {
	h := withCgroups(t)
	end := h.register()
	e := shellExecutor("e1", "head -c 300000000 /dev/zero | tail; exec sleep 1000")
	e.Resources = []mesos.Resource{scalar("cpus", 0.1), scalar("mem", 64)}
	h.launch(end, true, e, "t1")
	if exit := receive[link.ExitedExecutor](h); exit.Status != 9 {
		t.Errorf("status %d, want 9", exit.Status)
	}
	u := h.expectUpdate("t1", mesos.TASK_FAILED, "REASON_CONTAINER_LIMITATION_MEMORY")
	if !strings.HasPrefix(u.Status.GetMessage(), "Memory limit exceeded: Requested: 64MB Maximum Used: ") ||
		len(u.Status.GetLimitation().GetResources()) != 1 {
		t.Errorf("%+v", u.Status)
	}
}

func TestCgroup_OrphansDieWithTheRestart(t *testing.T) {
	h := withCgroups(t)
	end := h.register()
	checkpoint := false
	h.fw.Checkpoint = &checkpoint
	h.subscribed(end, "t1")
	h.agent.mu.Lock()
	pid := h.agent.frameworks["F1"].executors["e1"].process.pid
	h.agent.mu.Unlock()
	h.agent.Kill()
	h.start(h.agent.Config())
	if startTime(pid) != "" {
		t.Error("the orphan lives")
	}
}

func TestParseMounts(t *testing.T) {
	const v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1 = "31 23 0:27 / /cg/memory rw - cgroup cgroup rw,memory\n32 23 0:28 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
	for _, c := range []struct{ name, text, want string }{
		{"unified", v2, "[{ /sys/fs/cgroup}] <nil>"},
		{"v1", v1, "[{memory /cg/memory} {cpu /cg/cpu,cpuacct} {cpuacct /cg/cpu,cpuacct}] <nil>"},
		{"both: v1 has the controllers", v2 + v1, "[{memory /cg/memory} {cpu /cg/cpu,cpuacct} {cpuacct /cg/cpu,cpuacct}] <nil>"},
		{"none", "1 2 0:3 / / rw - ext4 /dev/root rw\n", "[] no cgroup hierarchy is mounted: unset CgroupRoot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := parseMounts([]byte(c.text))
			if got := fmt.Sprint(list, " ", err); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
