package scheduler_test

import (
	"maps"
	"testing"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
)

func TestService_DeployRollScaleDelete(t *testing.T) {
	w := newWorld(t, 3)
	w.put(w.service("/shop/web", 4, 1))
	w.deployed("/shop/web", 4)
	if got := w.answers("/shop/web"); got["1"] != 4 {
		t.Errorf("answers of versions: %v", got)
	}
	before := w.tasks("/shop/web")
	w.put(w.service("/shop/web", 6, 1))
	w.deployed("/shop/web", 6)
	after := w.tasks("/shop/web")
	for id := range before {
		if !after[id] {
			t.Errorf("scaling up ended %s", id)
		}
	}
	w.put(w.service("/shop/web", 2, 2))
	w.deployed("/shop/web", 2)
	if got := w.answers("/shop/web"); got["2"] != 2 {
		t.Errorf("answers of versions: %v", got)
	}
	if _, err := w.scheduler.Change(t.Context(), []api.Edit{{ID: "/shop/web", Delete: true}}, api.ChangeOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("all instances are gone", func() bool {
		deployments, err := w.scheduler.Deployments(t.Context())
		return err == nil && len(deployments) == 0
	})
}

// TestP8_RestartsDuringARoll restarts the scheduler again and again while an
// app is rolled, and watches what it shows.
func TestP8_RestartsDuringARoll(t *testing.T) {
	w := newWorld(t, 3)
	oneMore := func(a *app.App) {
		a.UpgradeStrategy = app.UpgradeStrategy{MinimumHealthCapacity: 1, MaximumOverCapacity: 0.25}
	}
	w.put(w.service("/steady", 2, 1))
	w.put(w.service("/web", 4, 1, oneMore))
	w.deployed("/steady", 2)
	w.deployed("/web", 4)
	steady := w.tasks("/steady")
	next := w.put(w.service("/web", 4, 2, oneMore))
	for restarts := range 4 {
		replaced := restarts
		w.until("the roll goes on", func() bool {
			current := 0
			status := w.status("/web")
			for _, task := range status.Tasks {
				if task.Version == next.Version {
					current++
				}
			}
			if len(status.Tasks) > 5 {
				t.Fatalf("%d instances, at most 5 are allowed", len(status.Tasks))
			}
			return current > replaced
		})
		w.restart()
	}
	w.deployed("/web", 4)
	if got := w.answers("/web"); got["2"] != 4 {
		t.Errorf("answers of versions: %v", got)
	}
	w.deployed("/steady", 2)
	if got := w.tasks("/steady"); !maps.Equal(got, steady) {
		t.Errorf("instances of an app that nobody touched: %v, before %v", got, steady)
	}
}

func TestAgentLoss_IsReplacedAndTheReturnIsCleanedUp(t *testing.T) {
	w := newWorld(t, 3)
	w.put(w.service("/web", 3, 1, func(a *app.App) {
		a.Constraints = []app.Constraint{{Field: "hostname", Operator: app.Like, Value: ".*"}}
	}))
	w.deployed("/web", 3)
	lost := *w.status("/web").Tasks[0]
	for _, node := range w.cluster.Nodes() {
		if node.ID() != lost.AgentID {
			continue
		}
		node.Pause()
		w.until("the lost instance is replaced", func() bool {
			status := w.status("/web")
			return status.Counts.Healthy == 3 && !w.tasks("/web")[lost.ID]
		})
		node.Resume()
	}
	w.until("the instance that came back is killed", func() bool {
		tasks := 0
		err := w.scheduler.Tasks(t.Context(), func(api.Task) bool { tasks++; return true })
		return err == nil && tasks == 3 && !w.alive(lost)
	})
	w.deployed("/web", 3)
}

func TestMasterFailover_KeepsEveryTask(t *testing.T) {
	w := newWorld(t, 3)
	w.put(w.service("/web", 4, 1))
	w.deployed("/web", 4)
	before := w.tasks("/web")
	if err := w.cluster.Failover(); err != nil {
		t.Fatal(err)
	}
	w.until("the scheduler is back", func() bool { return w.scheduler.Ready(t.Context()) == nil })
	w.put(w.service("/other", 2, 1))
	w.deployed("/other", 2)
	w.deployed("/web", 4)
	if got := w.tasks("/web"); !maps.Equal(got, before) {
		t.Errorf("instances after the failover %v, before %v", got, before)
	}
}

func TestExecutorUpgrade_OldOnesAreShutDown(t *testing.T) {
	w := newWorld(t, 1)
	w.put(w.service("/web", 2, 1))
	w.deployed("/web", 2)
	w.stop()
	w.config.Executor.Environment["PACER_LOG_LEVEL"] = "debug"
	w.start()
	w.deployed("/web", 2)
	w.put(w.service("/web", 2, 2))
	w.deployed("/web", 2)
	w.until("one executor is left", func() bool { return w.executors() == 1 })
	if got := w.answers("/web"); got["2"] != 2 {
		t.Errorf("answers of versions: %v", got)
	}
}
