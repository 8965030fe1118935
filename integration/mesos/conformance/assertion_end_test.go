package conformance_test

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/probe"
)

// kills is about KILL.
var kills = []assertion{
	{number: 32, title: "KILL: each call is an event, with its policy, until the end is acknowledged", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		f.kill("t1", policy(time.Second))
		kill := s.next(executor.Event_KILL).Kill
		w.equal("task", kill.TaskID.Value, "t1")
		w.equal("grace", kill.KillPolicy.GetGracePeriod().GetNanoseconds(), int64(time.Second))
		f.kill("t1", nil)
		if kill := s.next(executor.Event_KILL).Kill; kill.KillPolicy != nil {
			w.Errorf("policy %v without one in the call", kill.KillPolicy)
		}
		s.acknowledged(p.report("t1", mesos.TASK_KILLED))
		status := f.update("t1 TASK_KILLED SOURCE_EXECUTOR -")
		f.kill("t1", nil)
		s.next(executor.Event_KILL)
		f.Acknowledge(status)
	}},
	{number: 33, title: "KILL before the executor subscribes: the agent's answer, and SHUTDOWN", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		p := f.puppet("e1")
		f.kill("t1", nil)
		if s := f.got("t1 TASK_KILLED SOURCE_AGENT REASON_TASK_KILLED_DURING_LAUNCH"); len(s.UUID) == 0 {
			w.Error("without uuid")
		}
		p.subscribe().next(executor.Event_SHUTDOWN)
	}},
}

// ends is about how executors end and what is told of their tasks.
var ends = []assertion{
	{number: 35, title: "SHUTDOWN: updates are still taken, FAILURE follows the exit", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		f.shutdown("e1")
		s.next(executor.Event_SHUTDOWN)
		s.acknowledged(p.report("t1", mesos.TASK_KILLED))
		f.got("t1 TASK_KILLED SOURCE_EXECUTOR -")
		p.exit(0)
		w.equal("wait status", f.failure("e1"), 0)
		f.Silent()
	}},
	{number: 36, title: "SHUTDOWN ignored: SIGKILL after the grace period", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", quick))
		p := f.puppet("e1")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("t1")
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
		f.got("t1 TASK_RUNNING SOURCE_EXECUTOR -")
		began := time.Now()
		f.shutdown("e1")
		s.next(executor.Event_SHUTDOWN)
		p.ended()
		w.between("the end", time.Since(began), time.Second, soon)
		f.got("t1 TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_TERMINATED")
		w.equal("wait status", f.failure("e1"), 9)
	}},
	{number: 37, title: "an executor that ends takes its tasks along, whatever its exit code", test: func(w *world) {
		f := w.framework()
		for i, c := range []struct {
			end    func(*puppet)
			status int32
		}{
			{func(p *puppet) { p.exit(0) }, 0},
			{func(p *puppet) { p.exit(3) }, 768},
			{(*puppet).die, 9},
		} {
			id, executorID := fmt.Sprintf("t%d", i), fmt.Sprintf("e%d", i)
			p, _ := f.run(executorID, id)
			c.end(p)
			if s := f.got(id + " TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_TERMINATED"); len(s.UUID) == 0 {
				w.Error("without uuid")
			}
			w.equal("wait status", f.failure(executorID), c.status)
		}
	}},
	{number: 38, title: "an executor that ends after its last update: nothing more is told", test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		f.got("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		p.exit(0)
		w.equal("wait status", f.failure("e1"), 0)
		f.Silent()
	}},
	{number: 39, title: "an executor that does not subscribe in time", emulate: func(c *emulator.Config) {
		c.Agent.ExecutorRegistrationTimeout = time.Second
	}, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1"))
		f.within(90*time.Second, "t1 TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_REGISTRATION_TIMEOUT")
		w.equal("wait status", f.failure("e1"), 9)
	}},
	{number: 40, title: "what cannot be fetched fails the launch", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", func(t *mesos.TaskInfo) {
			t.Executor.Command.URIs = append(t.Executor.Command.URIs, mesos.CommandInfo_URI{Value: "file:///is/not/there"})
		}))
		f.got("t1 TASK_FAILED SOURCE_AGENT REASON_CONTAINER_LAUNCH_FAILED")
		latest := fmt.Sprintf("/frameworks/%s/executors/e1/runs/latest/stderr", f.ID)
		var read struct{ Data string }
		w.get(w.agentURL(), "/files/read?offset=0&path="+latest, &read)
		if strings.TrimSpace(read.Data) == "" {
			w.Error("stderr in the sandbox is empty")
		}
	}},
	{number: 41, title: "fetcher: modes, archives, names", test: func(w *world) {
		w.files.HandleFunc("/files/", func(answer http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".tar.gz") {
				packed := gzip.NewWriter(answer)
				archive := tar.NewWriter(packed)
				content := "from " + r.URL.Path
				_ = archive.WriteHeader(&tar.Header{Name: "in-" + strings.TrimPrefix(r.URL.Path, "/files/"), Mode: 0o644, Size: int64(len(content))})
				_, _ = archive.Write([]byte(content))
				_ = archive.Close()
				_ = packed.Close()
				return
			}
			fmt.Fprint(answer, "plain")
		})
		yes, no, output := true, false, "deep/down/renamed"
		f := w.framework()
		f.launch(f.task("t1", "e1", func(t *mesos.TaskInfo) {
			at := w.web.URL + "/files/"
			t.Executor.Command.URIs = append(t.Executor.Command.URIs,
				mesos.CommandInfo_URI{Value: at + "executable.tar.gz", Executable: &yes},
				mesos.CommandInfo_URI{Value: at + "extracted.tar.gz"},
				mesos.CommandInfo_URI{Value: at + "kept.tar.gz", Extract: &no},
				mesos.CommandInfo_URI{Value: at + "other", OutputFile: &output},
				mesos.CommandInfo_URI{Value: at + "asked?a=b"},
			)
		}))
		p := f.puppet("e1")
		for command, want := range map[string]string{
			"stat -c %a executable.tar.gz":                 "755",
			"ls in-executable.tar.gz 2>/dev/null || true":  "",
			"cat in-extracted.tar.gz":                      "from /files/extracted.tar.gz",
			"ls extracted.tar.gz":                          "extracted.tar.gz",
			"ls kept.tar.gz":                               "kept.tar.gz",
			"ls in-kept.tar.gz 2>/dev/null || true":        "",
			"cat " + output:                                "plain",
			"cat 'asked?a=b'":                              "plain",
			"test -x 'asked?a=b' && echo x || echo plain-": "plain-",
		} {
			w.equal(command, p.sh(command), want)
		}
	}},
	{number: 42, title: "what the executor leaves behind in its session dies with the container", test: func(w *world) {
		f := w.framework()
		f.launch(f.task("t1", "e1", quick), f.task("t2", "watcher"))
		p, watcher := f.puppet("e1"), f.puppet("watcher")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		// Job control gives the child a process group of its own.
		child := p.sh("bash -c 'set -m; sleep 1000 </dev/null >/dev/null 2>&1 & echo $!'")
		state := fmt.Sprintf("sed 's/.*) \\(.\\).*/\\1/' /proc/%s/stat 2>/dev/null || true", child)
		if got := watcher.sh(state); got != "S" && got != "R" {
			w.Fatalf("the child %s is in state %q before", child, got)
		}
		group := fmt.Sprintf("cut -d' ' -f5 /proc/%s/stat", child)
		w.equal("process group of the child", watcher.sh(group), child)
		f.shutdown("e1")
		s.launched("t1")
		s.next(executor.Event_SHUTDOWN)
		p.ended()
		w.until("death of the child", func() bool {
			got := watcher.sh(state)
			return got == "" || got == "Z" || got == "X"
		})
	}},
}

// agentRestart is about executors whose agent dies.
var agentRestart = []assertion{
	{number: 43, title: "agent restart: an executor that comes back keeps its tasks", only: killsAgents, test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		w.node().Kill()
		s.ends(conformance.EndBroken)
		w.must(w.node().Start())
		s = p.comeBack()
		s.next(executor.Event_SUBSCRIBED)
		f.Offers() // the agent is back
		f.reconciled("t1", "TASK_RUNNING")
		if !p.alive() {
			w.Error("the executor has ended")
		}
		f.kill("t1", nil)
		s.next(executor.Event_KILL)
	}},
	{number: 44, title: "agent restart: an executor that stays away is killed", only: killsAgents, emulate: briefWindow, test: func(w *world) {
		for _, c := range []struct {
			state  string
			change func(*mesos.FrameworkInfo)
		}{{"TASK_GONE", func(*mesos.FrameworkInfo) {}}, {"TASK_LOST", ignorant}} {
			f := w.framework(c.change)
			p, _ := f.run("e1", "t1")
			w.must(w.node().Restart())
			f.gotAfterRestart("t1 " + c.state + " SOURCE_AGENT REASON_EXECUTOR_REREGISTRATION_TIMEOUT")
			p.ended()
			f.leave()
		}
	}},
	{number: 45, title: "agent restart: updates made meanwhile arrive by re-SUBSCRIBE", only: killsAgents, emulate: briefWindow, test: func(w *world) {
		f := w.framework()
		p, _ := f.run("e1", "t1")
		w.node().Kill()
		meanwhile := p.status("t1", mesos.TASK_FINISHED)
		w.must(w.node().Start())
		s := p.comeBack(func(call *executor.Call_Subscribe) {
			call.UnacknowledgedUpdates = []executor.Call_Update{{Status: meanwhile}}
		})
		s.next(executor.Event_SUBSCRIBED)
		s.acknowledged(meanwhile)
		got := f.gotAfterRestart("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		w.equal("timestamp", got.GetTimestamp(), meanwhile.GetTimestamp())
		w.equal("uuid", got.UUID, meanwhile.UUID)
	}},
	{number: 46, title: "agent death without checkpointing: tasks are lost, the executor ends", only: killsAgents, test: func(w *world) {
		f := w.framework(checkpoint(false))
		p, _ := f.run("e1", "t1")
		h := w.executorClient(p, p.text("endpoint"))
		h.await("subscription", func() bool { return h.subscribed == 1 })
		began := time.Now()
		w.node().Kill()
		if s := f.update("t1 TASK_LOST SOURCE_MASTER REASON_AGENT_DISCONNECTED"); s.UUID != nil {
			w.Error("with uuid")
		}
		w.between("TASK_LOST", time.Since(began), 0, soon)
		h.await("end of Pacer's executor", func() bool { return h.lost != nil })
		w.must(w.node().Start())
		w.until("refusal of the orphan", func() bool {
			return p.open(w.body(subscribeCall(p)), nil).answer.Status == http.StatusBadRequest
		})
	}},
}

// briefWindow shortens the time that a restarted agent waits for executors.
func briefWindow(c *emulator.Config) { c.Agent.ExecutorReregistrationTimeout = time.Second }

// comeBack subscribes as soon as the restarted agent lets it.
func (p *puppet) comeBack(changes ...func(*executor.Call_Subscribe)) *feed {
	w := p.world
	w.Helper()
	call := subscribeCall(p)
	for _, change := range changes {
		change(call.Subscribe)
	}
	body := w.body(call)
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		s := p.open(body, nil)
		switch {
		case s.answer.Failure != "" || s.answer.Status == http.StatusServiceUnavailable:
		case s.answer.Status == http.StatusOK:
			return s
		default:
			w.Fatalf("SUBSCRIBE after the restart: %d %s", s.answer.Status, s.answer.Body)
		}
	}
	w.Fatalf("SUBSCRIBE after the restart: no success within %v", probe.Patience)
	return nil
}

// reconciled asks for a task's state, after the agent was killed, and waits for the
// answer.
func (f *framework) reconciled(id, want string) {
	f.world.Helper()
	f.Reconcile(id, f.world.agentID)
	f.gotAfterRestart(id + " " + want + " SOURCE_MASTER REASON_RECONCILIATION")
}
