package api_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosscheduler "github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/scheduler/app"
	"pacer/scheduler/deploy"
)

// rolled is an app with a random strategy and what the master has seen of it.
type rolled struct {
	target          deploy.Target
	minimum, most   int
	alive, healthy  map[string]bool
	killed          map[string]bool
	lowest, highest int // while it was rolled
}

// TestP8_BoundsHoldAtEveryEvent rolls apps with random strategies, all at once,
// and replays what passed through the master: at no call and no status is an
// app below its minimum by the scheduler's doing, or above its maximum.
func TestP8_BoundsHoldAtEveryEvent(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	cluster := newCluster(t, 4, brisk())
	w := newWorld(t, cluster)
	apps := make(map[string]*rolled)
	fractions := []float64{0, 0.1, 0.25, 0.34, 0.5, 0.75, 0.9, 1}
	for n := range 24 {
		id := fmt.Sprint("/app-", n)
		target := deploy.Target{Instances: 1 + random.IntN(7), Upgrade: app.UpgradeStrategy{
			MinimumHealthCapacity: fractions[random.IntN(len(fractions))], MaximumOverCapacity: fractions[random.IntN(len(fractions))],
		}}
		r := &rolled{target: target, alive: make(map[string]bool), healthy: make(map[string]bool), killed: make(map[string]bool), lowest: target.Instances}
		r.minimum, r.most = deploy.Bounds(target)
		if r.minimum == r.most {
			r.most++ // so that it goes on at all
		}
		apps[id] = r
		w.must("POST", "/v2/apps", strings.TrimSuffix(service(id, target.Instances, 1), "}")+
			fmt.Sprintf(`,"upgradeStrategy":{"minimumHealthCapacity":%g,"maximumOverCapacity":%g}}`, target.Upgrade.MinimumHealthCapacity, target.Upgrade.MaximumOverCapacity), nil)
	}
	w.settled()
	start := len(cluster.Log())
	for version := 2; version <= 4; version++ {
		for id := range apps {
			w.must("PUT", "/v2/apps"+id+"?force=true", fmt.Sprintf(`{"env":{"VERSION":"%d"}}`, version), nil)
		}
		if version != 3 { // the fourth comes while the third is on its way
			w.settled()
		}
	}
	for n, entry := range cluster.Log() {
		replay(t, apps, entry.Message, n >= start)
	}
	rolls := 0
	for id, r := range apps {
		if len(r.alive) != r.target.Instances || len(r.healthy) != r.target.Instances {
			t.Errorf("%s ends with %d alive and %d healthy of %d", id, len(r.alive), len(r.healthy), r.target.Instances)
		}
		if r.lowest < r.target.Instances || r.highest > r.target.Instances {
			rolls++
		}
	}
	if rolls != len(apps) {
		t.Errorf("%d of %d apps were seen to be rolled", rolls, len(apps))
	}
}

// replay takes one message that passed through the master.
func replay(t *testing.T, apps map[string]*rolled, message any, rolling bool) {
	of := func(task string) *rolled {
		id, _ := app.IDOfTask(task)
		return apps[id]
	}
	switch m := message.(type) {
	case *mesosscheduler.Call:
		for _, operation := range m.GetAccept().GetOperations() {
			for _, info := range operation.GetLaunch().GetTaskInfos() {
				r := of(info.TaskID.Value)
				r.alive[info.TaskID.Value] = true
				r.highest = max(r.highest, len(r.alive))
				if len(r.alive) > r.most {
					t.Errorf("%d alive at the launch of %s, at most %d of %d are allowed", len(r.alive), info.TaskID.Value, r.most, r.target.Instances)
				}
			}
		}
		if m.Type == mesosscheduler.Call_KILL {
			r := of(m.Kill.TaskID.Value)
			was := r.healthy[m.Kill.TaskID.Value]
			delete(r.healthy, m.Kill.TaskID.Value)
			r.killed[m.Kill.TaskID.Value] = true
			if rolling {
				r.lowest = min(r.lowest, len(r.healthy))
			}
			if was && len(r.healthy) < r.minimum {
				t.Errorf("%d healthy after the kill of %s, at least %d of %d have to be", len(r.healthy), m.Kill.TaskID.Value, r.minimum, r.target.Instances)
			}
		}
	case *mesosscheduler.Event:
		status := m.GetUpdate().GetStatus()
		r := of(status.TaskID.Value)
		if m.GetType() != mesosscheduler.Event_UPDATE || r == nil {
			return
		}
		switch {
		case status.GetState() == mesos.TASK_KILLED || status.GetState() == mesos.TASK_FAILED:
			delete(r.alive, status.TaskID.Value)
			delete(r.healthy, status.TaskID.Value)
		case status.GetState() == mesos.TASK_RUNNING && status.GetHealthy() && !r.killed[status.TaskID.Value]:
			r.healthy[status.TaskID.Value] = true
		}
	}
}
