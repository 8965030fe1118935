package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// TestP7_P11_Storm runs schedulers for ten simulated hours each under random
// faults: kill -9 of the scheduler, outages of the store, failovers of the
// master, agents lost and found, calls lost with and without effect, tasks
// that fail or turn unhealthy, while apps are changed all the time. The
// promises are checked throughout, and everything must be right in the end.
func TestP7_P11_Storm(t *testing.T) {
	const seeds = 4
	hours := 10 * time.Hour
	if testing.Short() {
		hours = time.Hour
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newStorm(t, seed).run(hours) })
		})
	}
}

// storm is a scheduler's life under faults.
type storm struct {
	t      *testing.T
	random *rand.Rand
	memory *statetest.Memory
	world  *cluster
	life   *life
	config Config

	countsMu sync.Mutex
	counts   map[string]int

	mu   sync.Mutex
	dead bool // the process: nothing that it does counts any more
	// troubled is until when capacity may differ from what is promised for
	// reasons that are not the scheduler's.
	troubled time.Time
	outage   chan struct{} // closed when the store is back; nil when it is there
	lossy    bool
	losses   *rand.Rand // for calls, which are made by many goroutines

	// acknowledged is the version of each app that the API has answered with;
	// deleted ones are zero. doubtful are apps with a write that was not
	// answered.
	acknowledged map[string]app.Version
	doubtful     map[string]bool
	// instances that each app was given lately.
	instances map[string]int
}

func newStorm(t *testing.T, seed uint64) *storm {
	s := &storm{
		t: t, random: rand.New(rand.NewPCG(seed, 7)), losses: rand.New(rand.NewPCG(seed, 8)), memory: new(statetest.Memory), world: newCluster(t, 6),
		config: testConfig(), counts: make(map[string]int),
		acknowledged: make(map[string]app.Version), doubtful: make(map[string]bool), instances: make(map[string]int),
	}
	s.memory.Before(s.beforeWrite)
	s.world.intercept(s.beforeCall)
	s.life = start(t, s.config, s.memory, s.world)
	return s
}

// beforeWrite is asked before each transaction.
func (s *storm) beforeWrite(ops []state.Op) error {
	size := 0
	for _, op := range ops {
		size += op.Size()
		if len(op.Value) > state.MaxNode || strings.HasPrefix(op.Key, "tasks/") && len(op.Value) > state.MaxChunk {
			s.t.Errorf("P10: %s has %d bytes", op.Key, len(op.Value))
		}
	}
	if size > 64<<10 {
		s.t.Errorf("P10: a transaction of %d bytes", size)
	}
	s.mu.Lock()
	outage, dead := s.outage, s.dead
	s.mu.Unlock()
	if outage != nil && !dead {
		<-outage
		s.mu.Lock()
		dead = s.dead
		s.mu.Unlock()
	}
	if dead {
		return errors.New("the process is dead")
	}
	return nil
}

// beforeCall is asked before each call to the master, and watches what the
// scheduler does.
func (s *storm) beforeCall(call string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return master.ErrOutcomeUnknown
	}
	what, id, _ := strings.Cut(call, " ")
	if s.outage != nil && (what == "KILL" || what == "ACCEPT" || what == "SHUTDOWN") {
		s.count("suspended " + what)
	}
	if what == "KILL" && strings.HasPrefix(id, "steady.") && time.Now().After(s.troubled) {
		s.t.Errorf("P9: %s of an app that nothing happened to", call)
	}
	if s.lossy {
		switch s.losses.IntN(20) {
		case 0:
			s.count("call lost")
			return master.ErrOutcomeUnknown
		case 1:
			s.count("call's answer lost")
			return errAfter
		}
	}
	return nil
}

// count counts what happened, for the log.
func (s *storm) count(what string) {
	s.countsMu.Lock()
	defer s.countsMu.Unlock()
	s.counts[what]++
}

// trouble notes that capacity may suffer for a while.
func (s *storm) trouble(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := time.Now().Add(d); until.After(s.troubled) {
		s.troubled = until
	}
}

var stormApps = []string{"/a", "/b", "/c/d", "/c/e", "/f", "/g"}

func (s *storm) definition(id string) *app.App {
	over := []float64{0, 0.5, 1}[s.random.IntN(3)]
	least := []float64{0.5, 1}[s.random.IntN(2)]
	return web(id, s.random.IntN(5), version(s.random.IntN(3)), strategy(least, over), func(a *app.App) {
		a.CPUs = 200
		a.Unreachable = app.UnreachableStrategy{InactiveAfter: 5 * time.Minute, ExpungeAfter: 10 * time.Minute}
		a.Backoff.Max = time.Minute
	})
}

// write makes a change, and notes what was answered.
func (s *storm) write(id string, next *app.App, do func(context.Context) (api.Started, error)) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	started, err := do(ctx)
	switch {
	case err == nil:
		s.count("write")
		s.doubtful[id] = false
		if next == nil {
			s.acknowledged[id] = 0
		} else {
			s.acknowledged[id] = started.Version
		}
	case errors.Is(err, api.ErrUnavailable):
		s.count("write refused")
		s.doubtful[id] = true
	case errors.Is(err, api.ErrChanged), errors.Is(err, api.ErrExists), errors.Is(err, api.ErrNotFound):
	default:
		s.t.Errorf("write of %s: %v", id, err)
	}
}

func (s *storm) put(a *app.App) {
	s.write(a.ID, a, func(ctx context.Context) (api.Started, error) {
		options := putOptions{Force: true}
		if current, err := s.life.App(ctx, a.ID, api.Embed{}); err == nil {
			options.Replaces = current.App.Version
		}
		return s.life.Put(ctx, a, options)
	})
}

// run goes on for that long, and then looks at what is left.
func (s *storm) run(d time.Duration) {
	s.put(web("/steady", 3, func(a *app.App) { a.CPUs = 200 }))
	s.life.settle()
	for end := time.Now().Add(d); time.Now().Before(end) && !s.t.Failed(); {
		time.Sleep(time.Duration(1+s.random.IntN(40)) * time.Second)
		s.happen()
		s.check()
	}
	s.calm()
	s.t.Logf("%v", s.counts)
}

// happen makes one thing happen.
func (s *storm) happen() {
	ids := slices.Sorted(maps.Keys(s.world.agents))
	agent := ids[s.random.IntN(len(ids))]
	id := stormApps[s.random.IntN(len(stormApps))]
	switch n := s.random.IntN(100); {
	case n < 30:
		s.put(s.definition(id))
	case n < 38:
		s.write(id, nil, func(ctx context.Context) (api.Started, error) { return s.life.Delete(ctx, id, true) })
	case n < 43:
		if current, err := s.life.App(s.t.Context(), id, api.Embed{}); err == nil {
			s.write(id, current.App, func(ctx context.Context) (api.Started, error) { return s.life.Restart(ctx, id, true) })
		}
	case n < 60:
		s.disturbTask(id)
	case n < 62:
		s.loseAgent(agent)
	case n < 65:
		s.failMaster()
	case n < 84:
		s.restart()
	case n < 92:
		s.loseStore()
	default:
		s.mu.Lock()
		s.lossy = !s.lossy
		s.mu.Unlock()
	}
}

func (s *storm) disturbTask(appID string) {
	var all []string
	for _, ids := range s.world.living(appID) {
		all = append(all, ids...)
	}
	if len(all) == 0 {
		return
	}
	id := slices.Min(all)
	switch s.random.IntN(3) {
	case 0:
		s.count("task failed")
		s.world.report(id, mesos.TASK_FAILED, false)
	case 1:
		s.count("task unhealthy")
		s.world.report(id, mesos.TASK_RUNNING, false)
		time.AfterFunc(20*time.Second, func() { s.world.report(id, mesos.TASK_RUNNING, true) })
	}
}

func (s *storm) loseAgent(id string) {
	s.world.mu.Lock()
	lost := s.world.agents[id].unreachable || s.world.agents[id].recovering
	s.world.mu.Unlock()
	if lost {
		return
	}
	s.count("agent lost")
	away := time.Duration(10+s.random.IntN(1500)) * time.Second
	s.trouble(away + 30*time.Minute)
	s.world.lose(id)
	time.AfterFunc(away, func() { s.world.find(id) })
}

func (s *storm) failMaster() {
	s.count("master failover")
	s.trouble(6 * time.Minute) // until all agents are back
	s.world.mu.Lock()
	var back []string
	for id, a := range s.world.agents {
		if !a.unreachable && s.random.IntN(2) == 0 {
			a.recovering = true
			back = append(back, id)
		}
	}
	s.world.mu.Unlock()
	for _, id := range back {
		time.AfterFunc(time.Duration(1+s.random.IntN(300))*time.Second, func() { s.world.find(id) })
	}
	select {
	case s.world.reset <- errors.New("master died"):
	default: // it is dying already
	}
}

// restart is kill -9 and a new process.
func (s *storm) restart() {
	s.count("scheduler killed")
	s.setDead(true)
	s.life.stop()
	s.endOutage()
	<-s.life.done
	close(s.life.done)
	s.setDead(false)
	time.Sleep(time.Duration(s.random.IntN(20)) * time.Second)
	s.life = start(s.t, s.config, s.memory, s.world)
}

func (s *storm) setDead(dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = dead
}

func (s *storm) loseStore() {
	s.mu.Lock()
	away := s.outage != nil
	if !away {
		s.outage = make(chan struct{})
	}
	s.mu.Unlock()
	if away {
		return
	}
	s.count("store lost")
	s.memory.SetTrouble(errors.New("no connection"))
	time.AfterFunc(time.Duration(1+s.random.IntN(120))*time.Second, s.endOutage)
}

func (s *storm) endOutage() {
	s.memory.SetTrouble(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage != nil {
		close(s.outage)
		s.outage = nil
	}
}

// check looks at what must hold at any time.
func (s *storm) check() {
	synctest.Wait()
	for id, version := range s.acknowledged {
		status, err := s.life.App(s.t.Context(), id, api.Embed{})
		switch {
		case s.doubtful[id]:
		case version == 0 && err == nil:
			s.t.Errorf("P7: %s is back, its deletion was acknowledged", id)
		case version != 0 && (err != nil || status.App.Version != version):
			s.t.Errorf("P7: %s was acknowledged as %s, now it is %v, %v", id, version, status.App, err)
		}
	}
	s.mu.Lock()
	quiet := time.Now().After(s.troubled)
	s.mu.Unlock()
	if !quiet {
		return
	}
	s.count("quiet checks")
	if alive := s.world.count("/steady"); alive != 3 {
		s.t.Errorf("P8: /steady has %d instances", alive)
	}
	if s.life.Ready(s.t.Context()) != nil {
		clear(s.instances) // nothing is scaled down now
		return
	}
	stored := read(s.t, s.memory)
	for _, id := range stormApps {
		status, err := s.life.App(s.t.Context(), id, api.Embed{})
		if err != nil {
			continue
		}
		most := int(float64(status.App.Instances) * (1 + status.App.UpgradeStrategy.MaximumOverCapacity))
		if most == status.App.Instances {
			most++
		}
		if n := s.wanted(id, stored); n > most && s.last(id) == status.App.Instances {
			s.t.Errorf("P8: %s has %d instances that are meant to go on, at most %d are allowed: %v", id, n, most, s.world.living(id))
		}
		s.instances[id] = status.App.Instances
	}
}

// last is how many instances the app had at the last check.
func (s *storm) last(id string) int {
	if n, known := s.instances[id]; known {
		return n
	}
	return -1
}

// wanted counts living tasks of an app that are meant to go on, by what is
// stored of them.
func (s *storm) wanted(appID string, stored *state.Snapshot) int {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	n := 0
	for id, t := range s.world.tasks {
		if t.payload.App != appID || isTerminal(t.state) || t.agent.unreachable {
			continue
		}
		record, known := stored.Tasks[id]
		if known && (record.Intent == state.IntentKill || record.Version <= stored.Tombstones[appID].Version) {
			continue // on its way out
		}
		n++
	}
	return n
}

// calm ends all faults and looks whether everything becomes right.
func (s *storm) calm() {
	s.endOutage()
	s.mu.Lock()
	s.lossy = false
	s.mu.Unlock()
	for id := range s.world.agents {
		s.world.find(id)
	}
	time.Sleep(45 * time.Minute)
	s.life.settle()
	time.Sleep(30 * time.Minute)
	synctest.Wait()
	s.check()
	total := 0
	for _, id := range append([]string{"/steady"}, stormApps...) {
		want := 0
		status, err := s.life.App(s.t.Context(), id, api.Embed{Tasks: true})
		if err == nil {
			want = status.App.Instances
			if status.Counts.Healthy != want || len(status.Tasks) != want {
				s.t.Errorf("%s: %+v, %d tasks shown, want %d", id, status.Counts, len(status.Tasks), want)
			}
			if alive := s.world.living(id); want > 0 && len(alive[status.App.LastConfigChange.String()]) != want {
				s.t.Errorf("%s: versions %v, want %d of %s", id, alive, want, status.App.LastConfigChange)
			}
		}
		if got := s.world.count(id); got != want {
			s.t.Errorf("%s has %d living tasks, want %d", id, got, want)
		}
		total += want
	}
	snapshot := read(s.t, s.memory)
	if len(snapshot.Tasks) != total {
		s.t.Errorf("the store has %d records of %d tasks", len(snapshot.Tasks), total)
	}
	for path, versions := range snapshot.Versions {
		if len(versions) > s.config.KeepVersions {
			s.t.Errorf("%d old versions of %s are kept", len(versions), path)
		}
		if snapshot.Apps[path] == nil {
			s.t.Errorf("old versions of %s, which does not exist, are kept", path)
		}
	}
}

// read returns what a state holds, from a copy of it.
func read(t *testing.T, memory *statetest.Memory) *state.Snapshot {
	t.Helper()
	backup := new(statetest.Memory)
	session, err := backup.Open().Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range memory.Nodes() {
		if err := session.Apply(t.Context(), []state.Op{{Key: key, Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	_, snapshot, err := state.Open(t.Context(), backup.Open())
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Corrupt) > 0 {
		t.Errorf("nodes that cannot be read: %v", snapshot.Corrupt)
	}
	return snapshot
}
