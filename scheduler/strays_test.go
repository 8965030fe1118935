package scheduler

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/state"
	"pacer/scheduler/state/statetest"
)

// backup copies a state, as export and import do.
func backup(t *testing.T, memory *statetest.Memory) *bytes.Buffer {
	t.Helper()
	var data bytes.Buffer
	if _, err := state.Export(t.Context(), memory.Open(), &data); err != nil {
		t.Fatal(err)
	}
	return &data
}

func restoreBackup(t *testing.T, data *bytes.Buffer) *statetest.Memory {
	t.Helper()
	memory := new(statetest.Memory)
	if _, err := state.Import(t.Context(), memory.Open(), data, false); err != nil {
		t.Fatal(err)
	}
	return memory
}

// TestP11_RestoredBackup restores a backup from before everything changed:
// nothing is killed, and nothing is launched beside tasks that run already.
func TestP11_RestoredBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 4)
		l := start(t, testConfig(), memory, world)
		l.put(web("/replaced", 3))
		l.put(web("/scaled", 2))
		l.put(web("/again", 2))
		l.settle()
		if _, err := l.Delete(t.Context(), "/again", true); err != nil {
			t.Fatal(err)
		}
		l.settle()
		data := backup(t, memory)
		l.put(web("/replaced", 3, version(2))) // all tasks of the backup are gone
		l.put(web("/scaled", 4))
		l.put(web("/again", 2, version(2))) // after a deletion that the backup knows
		l.put(web("/new", 2))               // nobody will know it
		l.settle()
		before := slices.Sorted(maps.Keys(world.tasks))
		l.end()
		kills := world.called("KILL")

		l = start(t, testConfig(), restoreBackup(t, data), world)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := world.called("KILL") - kills; n != 0 {
			t.Errorf("%d tasks were killed", n)
		}
		if after := slices.Sorted(maps.Keys(world.tasks)); !slices.Equal(before, after) {
			t.Errorf("%d tasks were launched", len(after)-len(before))
		}
		if status := l.status("/replaced"); len(status.Tasks) != 3 || status.Counts.Healthy != 3 {
			t.Errorf("/replaced has not adopted its tasks: %+v", status.Counts)
		}
		info, err := l.Info(t.Context())
		if err != nil || info.QuarantineCount != 2+2+2 {
			t.Errorf("quarantine of %d, %v; want two each of /scaled, /again, /new", info.QuarantineCount, err)
		}
		// The apps are in charge of what they have adopted.
		l.put(web("/replaced", 3, version(3)))
		l.settle()
		if alive := world.living("/replaced"); len(alive) != 1 || world.count("/replaced") != 3 {
			t.Errorf("after another roll: %v", alive)
		}
	})
}

func TestAdopt_KeepsWhatTheTaskIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 3)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 3))
		l.settle()
		want := l.status("/a").Tasks
		l.end()
		lost := new(statetest.Memory)
		session, err := lost.Open().Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range memory.Nodes() {
			if !strings.HasPrefix(key, "tasks/") {
				if err := session.Apply(t.Context(), []state.Op{{Key: key, Value: value}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		l = start(t, testConfig(), lost, world)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := l.status("/a").Tasks
		if len(got) != len(want) || world.count("/a") != 3 {
			t.Fatalf("%d tasks shown, %d run", len(got), world.count("/a"))
		}
		for _, w := range want {
			at := slices.IndexFunc(got, func(g *api.Task) bool { return g.ID == w.ID })
			if at < 0 || got[at].Host != w.Host || got[at].AgentID != w.AgentID || got[at].Version != w.Version || !slices.Equal(got[at].Ports, w.Ports) {
				t.Errorf("%+v became %+v", w, got)
			}
		}
		if n := len(read(t, lost).Tasks); n != 3 {
			t.Errorf("%d records", n)
		}
	})
}

// TestAdopt_MasterDoesNotTell goes on without adopting when the master's
// operator API cannot be used.
func TestAdopt_MasterDoesNotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 3)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/a", 2))
		l.settle()
		l.end()
		world.anew = true
		world.intercept(func(call string) error {
			if call == "DESCRIBE" {
				return errors.New("403 Forbidden")
			}
			return nil
		})
		l = start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/b", 1))
		l.settle()
		if world.count("/a") != 2 || world.called("KILL") != 0 {
			t.Errorf("%d of 2 unknown tasks run", world.count("/a"))
		}
	})
}

// TestP11_ThousandUnknownTasks starts on an empty store above 1,000 tasks.
func TestP11_ThousandUnknownTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 50)
		l := start(t, testConfig(), new(statetest.Memory), world)
		small := func(a *app.App) { a.CPUs, a.Ports = 10, nil }
		for n := range 10 {
			l.put(web(fmt.Sprintf("/a%d", n), 100, small, func(a *app.App) { a.HealthCheck = nil }))
		}
		l.settle()
		l.end()
		world.anew = true
		l = start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/b", 1))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		alive := 0
		for n := range 10 {
			alive += world.count(fmt.Sprintf("/a%d", n))
		}
		if alive != 1000 || world.called("KILL") != 0 || world.called("SHUTDOWN") != 0 {
			t.Errorf("%d of 1000 tasks run after %d kills and %d shutdowns", alive, world.called("KILL"), world.called("SHUTDOWN"))
		}
		info, err := l.Info(t.Context())
		if err != nil || info.QuarantineCount != 1000 {
			t.Errorf("quarantine of %d, %v", info.QuarantineCount, err)
		}
	})
}

// TestOpen_RefusesTasksWithoutFramework: with a new framework id the tasks of
// the old one would be lost, and launched a second time.
func TestOpen_RefusesTasksWithoutFramework(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 1)
		l := start(t, testConfig(), memory, world)
		l.put(web("/a", 1))
		l.settle()
		l.end()
		session, err := memory.Open().Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Apply(t.Context(), []state.Op{{Key: "meta/framework"}}); err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), testConfig(), memory.Open(), world, nil, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), "framework id") || !strings.Contains(err.Error(), "--reset-framework") {
			t.Errorf("err = %v", err)
		}
	})
}

// TestCorrupt_OnlyThatAppSuffers damages one app's node and one chunk of
// records: everything else goes on, and no task is killed or doubled.
func TestCorrupt_OnlyThatAppSuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, world := new(statetest.Memory), newCluster(t, 4)
		l := start(t, testConfig(), memory, world)
		l.put(web("/good", 3))
		l.put(web("/shop/bad", 2))
		l.settle()
		l.end()
		session, err := memory.Open().Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key := range memory.Nodes() {
			if strings.HasSuffix(key, "/shop_bad") || strings.HasPrefix(key, "tasks/") {
				if err := session.Apply(t.Context(), []state.Op{{Key: key, Value: []byte("\xff\xff")}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		l = start(t, testConfig(), memory, world)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if world.called("KILL") != 0 || len(world.tasks) != 5 {
			t.Errorf("%d kills, %d tasks in all, want 5", world.called("KILL"), len(world.tasks))
		}
		if status := l.status("/good"); status.Counts.Healthy != 3 {
			t.Errorf("/good: %+v", status.Counts)
		}
		_, err = l.Put(t.Context(), web("/shop/bad", 2), putOptions{})
		if err == nil || !strings.Contains(err.Error(), "apps/") || !strings.Contains(err.Error(), "shop_bad") {
			t.Errorf("an app whose node cannot be read was overwritten: %v", err)
		}
		l.put(web("/good", 4))
		l.settle()
		if world.count("/good") != 4 {
			t.Errorf("/good has %d tasks", world.count("/good"))
		}
	})
}
