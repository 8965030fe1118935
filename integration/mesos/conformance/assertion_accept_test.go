package conformance_test

import (
	"fmt"
	"math"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/probe"
)

// Outcomes of tasks that the master refuses.
const (
	invalidTask  = "TASK_ERROR SOURCE_MASTER REASON_TASK_INVALID"
	invalidGroup = "TASK_ERROR SOURCE_MASTER REASON_TASK_GROUP_INVALID"
	running      = "TASK_RUNNING SOURCE_EXECUTOR -"
)

// accepts is about what ACCEPT does with offers and tasks.
var accepts = []assertion{
	{number: 56, title: "offers: one for each agent; what is left comes back after refuse_seconds", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		seen := map[string]bool{}
		var offer mesos.Offer
		for _, o := range f.Offers() {
			if seen[o.AgentID.Value] {
				w.Errorf("two offers of agent %s", o.AgentID.Value)
			}
			seen[o.AgentID.Value] = true
			if w.chosen(o) {
				offer = o
			} else {
				f.decline(3600, o)
			}
		}
		if offer.ID.Value == "" {
			offer = f.offer()
		}
		const refuse = 2
		began := time.Now()
		f.Accept(refuse, []mesos.Offer{offer}, probe.Launch(f.task("t1", "e1")))
		f.puppet("e1").subscribe().next(executor.Event_SUBSCRIBED)
		rest := f.offer()
		w.between("the offer of the rest", time.Since(began), refuse*time.Second-50*time.Millisecond, refuse*time.Second+soon)
		if len(rest.ExecutorIDs) != 1 || rest.ExecutorIDs[0].Value != "e1" {
			w.Errorf("executor_ids %v", rest.ExecutorIDs)
		}
	}},
	{number: 57, title: "ACCEPT of an offer that is not there: all offers are gone, tasks dropped", encodings: inBoth, test: func(w *world) {
		invalidOffers(w.framework(), "TASK_DROPPED")
	}},
	{number: 58, title: "a task that does not fit is an error; a smaller one after it starts", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("large", "e1", func(t *mesos.TaskInfo) { t.Resources = probe.Scalars(1e6, 32, 1) }), f.task("small", "e1"))
		f.puppetRuns("e1", "small")
		got := f.outcome(2)
		w.equal("large", got["large"], invalidTask)
		w.equal("small", got["small"], running)
	}},
	{number: 59, title: "one malformed resource: every task of the operation is an error", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		f.launch(f.task("good", "e1"), f.task("bad", "e1", func(t *mesos.TaskInfo) { t.Resources = probe.Scalars(-1, 32, 1) }))
		got := f.outcome(2)
		w.equal("good", got["good"], invalidTask)
		w.equal("bad", got["bad"], invalidTask)
	}},
	{number: 60, title: "a live task's id is taken, a completed one's is not", test: func(w *world) {
		f := w.framework()
		p, s := f.run("e1", "t1")
		f.launch(f.task("t1", "e1"))
		status := f.update("t1 " + invalidTask)
		if status.UUID != nil {
			w.Error("with uuid")
		}
		f.Reconcile("t1", w.agentID)
		f.update("t1 TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION")
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		f.got("t1 TASK_FINISHED SOURCE_EXECUTOR -")
		f.launch(f.task("t1", "e1"))
		s.launched("t1")
		s.acknowledged(p.report("t1", mesos.TASK_RUNNING))
		f.got("t1 " + running)
	}},
	{number: 61, title: "executors and commands: exactly one, and a custom one", test: func(w *world) {
		f := w.framework()
		command := mesos.CommandInfo{Value: pointer("true")}
		f.launch(
			f.task("both", "e1", func(t *mesos.TaskInfo) { t.Command = &command }),
			f.task("neither", "e1", func(t *mesos.TaskInfo) { t.Executor = nil }),
			f.task("unknown", "e1", func(t *mesos.TaskInfo) { t.Executor.Type = mesos.ExecutorInfo_UNKNOWN }),
			f.task("default", "e1", func(t *mesos.TaskInfo) {
				t.Executor.Type, t.Executor.Command = mesos.ExecutorInfo_DEFAULT, nil
			}),
			f.task("none", "e1", func(t *mesos.TaskInfo) { t.Executor.Command = nil }),
		)
		for id, got := range f.outcome(5) {
			w.equal(id, got, invalidTask)
		}
	}},
	{number: 62, title: "an ExecutorID has one ExecutorInfo, but for its labels", test: func(w *world) {
		f := w.framework()
		_, s := f.run("e1", "t1")
		f.launch(
			f.task("env", "e1", func(t *mesos.TaskInfo) { t.Executor.Command.Environment = variables("A", "b") }),
			f.task("uri", "e1", func(t *mesos.TaskInfo) {
				t.Executor.Command.URIs = append(t.Executor.Command.URIs, mesos.CommandInfo_URI{Value: "file:///etc/passwd"})
			}),
			f.task("resources", "e1", func(t *mesos.TaskInfo) { t.Executor.Resources = probe.Scalars(0.2, 32, 1) }),
			f.task("labels", "e1", func(t *mesos.TaskInfo) {
				t.Executor.Labels = &mesos.Labels{Labels: []mesos.Label{{Key: "a", Value: pointer("b")}}}
			}),
		)
		for id, got := range f.outcome(3) {
			w.equal(id, got, invalidTask)
		}
		s.launched("labels")
	}},
	{number: 63, title: "a group needs its framework's id, and is refused as a whole", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		offer := f.offer()
		nameless := f.group(f.task("a1", "e1"), f.task("a2", "e1"))
		nameless.LaunchGroup.Executor.FrameworkID = nil
		f.Accept(0, []mesos.Offer{offer}, nameless)
		for id, got := range f.outcome(2) {
			w.equal(id, got, invalidGroup)
		}
		f.launchGroup(f.task("b1", "e1"), f.task("b2", "e1", func(t *mesos.TaskInfo) { t.Resources = probe.Scalars(1e6, 32, 1) }))
		for id, got := range f.outcome(2) {
			w.equal(id, got, invalidGroup)
		}
	}},
	{number: 64, title: "an executor is charged once, and until it ends", test: func(w *world) {
		f := w.framework()
		offer := f.offer()
		total := amount(offer.Resources, "cpus")
		f.Accept(0, []mesos.Offer{offer}, probe.Launch(f.task("t1", "e1"), f.task("t2", "e1")))
		p := f.puppet("e1")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("t1", "t2")
		f.offered(total - 0.3)
		for _, id := range []string{"t1", "t2"} {
			s.acknowledged(p.report(id, mesos.TASK_FINISHED))
			f.got(id + " TASK_FINISHED SOURCE_EXECUTOR -")
		}
		f.offered(total - 0.1)
		p.exit(0)
		f.offered(total)
	}},
	{number: 65, title: "what a task had is free with its terminal update, acknowledged or not", test: func(w *world) {
		f := w.framework()
		offer := f.offer()
		total := amount(offer.Resources, "cpus")
		f.Accept(0, []mesos.Offer{offer}, probe.Launch(f.task("t1", "e1")))
		p := f.puppet("e1")
		s := p.subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("t1")
		f.offered(total - 0.2)
		s.acknowledged(p.report("t1", mesos.TASK_FINISHED))
		f.offered(total - 0.1)
		f.update("t1 TASK_FINISHED SOURCE_EXECUTOR -")
	}},
}

// invalidOffers checks what becomes of a task on an offer that is not there.
func invalidOffers(f *framework, state string) {
	w := f.world
	w.Helper()
	want := state + " SOURCE_MASTER REASON_INVALID_OFFERS"
	used := f.offer()
	f.decline(0, used)
	valid := f.offer()
	unknown := used
	unknown.ID.Value = "no-such-offer"
	for i, offers := range [][]mesos.Offer{{used}, {unknown}, {valid, unknown}, {valid}} {
		id := fmt.Sprintf("t%d", i)
		f.Accept(0, offers, probe.Launch(f.task(id, "e1")))
		if s := f.update(id + " " + want); s.UUID != nil {
			w.Error("with uuid")
		}
	}
	if again := f.offer(); again.ID == valid.ID {
		w.Error("the consumed offer came again")
	}
}

// puppetRuns lets a new executor subscribe and report its first task RUNNING.
func (f *framework) puppetRuns(executorID, id string) *feed {
	f.world.Helper()
	p := f.puppet(executorID)
	s := p.subscribe()
	s.next(executor.Event_SUBSCRIBED)
	s.launched(id)
	s.acknowledged(p.report(id, mesos.TASK_RUNNING))
	return s
}

// offered waits until exactly so many cpus are offered.
func (f *framework) offered(cpus float64) {
	w := f.world
	w.Helper()
	last := -1.0
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); {
		for _, offer := range f.Offers() {
			if !w.chosen(offer) {
				f.decline(3600, offer)
				continue
			}
			f.decline(0, offer) // comes again as soon as there is more
			last = amount(offer.Resources, "cpus")
			if math.Abs(last-cpus) < 0.0005 {
				return
			}
		}
	}
	w.Fatalf("no offer of %v cpus within %v, the last one was of %v", cpus, probe.Patience, last)
}

func pointer[T any](v T) *T { return &v }

// quantities is about the arithmetic of resources.
var quantities = []assertion{
	{number: 93, title: "resources have three decimals", emulate: resources("cpus:2.3;mem:1024;disk:1024"), encodings: inBoth, test: func(w *world) {
		f := w.framework()
		offer := f.offer()
		cpus := func(n float64) func(*mesos.TaskInfo) {
			return func(t *mesos.TaskInfo) {
				t.Resources = probe.Scalars(n, 32, 1)
				t.Executor.Resources = probe.Scalars(0, 32, 1)
			}
		}
		// 2.3 - 2 - 0.1 is less than 0.2 in binary.
		rest := amount(offer.Resources, "cpus") - 0.3
		f.Accept(3600, []mesos.Offer{offer},
			probe.Launch(f.task("tiny", "e1", cpus(0.0001))), // with others it would take them along
			probe.Launch(f.task("rest", "e1", cpus(math.Round(rest*1000)/1000)),
				f.task("t1", "e1", cpus(0.1)), f.task("t2", "e1", cpus(0.2)), f.task("t3", "e1", cpus(0.001))))
		s := f.puppet("e1").subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("rest", "t1", "t2")
		for id, got := range f.outcome(2) {
			if id != "tiny" && id != "t3" {
				w.Errorf("%s: %s", id, got)
			}
			w.equal(id, got, invalidTask)
		}
	}},
	{number: 94, title: "a port is the task's or its executor's", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		offer := f.offer()
		var first uint64
		for _, r := range offer.Resources {
			if r.Name == "ports" {
				first = r.GetRanges().Range[0].Begin
			}
		}
		if first == 0 {
			w.skip("it needs an agent that offers ports")
		}
		f.Accept(0, []mesos.Offer{offer}, probe.Launch(
			f.task("bad", "e1", func(t *mesos.TaskInfo) {
				t.Resources = append(t.Resources, ports(first, first+1))
				t.Executor.Resources = append(t.Executor.Resources, ports(first+1, first+1))
			}),
			f.task("good", "e2", func(t *mesos.TaskInfo) {
				t.Resources = append(t.Resources, ports(first, first))
				t.Executor.Resources = append(t.Executor.Resources, ports(first+1, first+1))
			})))
		f.puppetRuns("e2", "good")
		got := f.outcome(2)
		w.equal("bad", got["bad"], invalidTask)
		w.equal("good", got["good"], running)
	}},
	{number: 95, title: "allocation_info: only for MULTI_ROLE, and not needed in ACCEPT", encodings: inBoth, test: func(w *world) {
		f := w.framework()
		offer := f.offer()
		w.equal("role of the offer", offer.AllocationInfo.GetRole(), "r1")
		echoed := f.task("echoed", "e1", func(t *mesos.TaskInfo) {
			for _, list := range [][]mesos.Resource{t.Resources, t.Executor.Resources} {
				for i := range list {
					list[i].AllocationInfo = &mesos.Resource_AllocationInfo{Role: pointer("r1")}
				}
			}
		})
		for _, r := range offer.Resources {
			w.equal("role of "+r.Name, r.GetAllocationInfo().GetRole(), "r1")
		}
		f.Accept(0, []mesos.Offer{offer}, probe.Launch(echoed, f.task("silent", "e1")))
		s := f.puppet("e1").subscribe()
		s.next(executor.Event_SUBSCRIBED)
		s.launched("echoed", "silent")
		f.leave()

		f = w.framework(capabilities(), func(info *mesos.FrameworkInfo) { info.Roles = nil })
		offer = f.offer()
		if offer.AllocationInfo != nil {
			w.Errorf("allocation_info of the offer %v", offer.AllocationInfo)
		}
		for _, r := range offer.Resources {
			if r.AllocationInfo != nil {
				w.Errorf("allocation_info of %s %v", r.Name, r.AllocationInfo)
			}
		}
		f.Accept(0, []mesos.Offer{offer}, probe.Launch(f.task("t1", "e1")))
		f.puppetRuns("e1", "t1")
		f.got("t1 " + running)
	}},
}

func ports(begin, end uint64) mesos.Resource {
	return mesos.Resource{Name: "ports", Type: pointer(mesos.RANGES), Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: begin, End: end}}}}
}
