package registration

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
)

// outage is how long a registry is stopped: longer than any session or TTL.
func outage() time.Duration {
	if testing.Short() {
		return 3 * time.Second
	}
	return 30 * time.Second
}

// repair is how long it may take until entries are right, once a registry
// accepts writes again.
const repair = 5 * time.Second

func TestP9_AnOutageOfTheRegistryTouchesNoTask(t *testing.T) {
	const app, n = "/shop/cart", 10
	t.Parallel()
	overRegistries(t, func(t *testing.T, registry server) {
		t.Parallel()
		s := newSite(t, registry, 2)
		tasks := s.deploy(app, n, nil)
		said := map[string]int{}
		for _, task := range tasks {
			said[task.ID] = len(s.statuses(task.ID))
		}
		c := startClient(t, registry, app, true)
		began := time.Now()
		registry.stop()
		time.Sleep(outage())
		if err := registry.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		// A registry may show for a moment what it knew before, and ends sessions
		// and TTLs late: what counts is the last moment at which something is wrong.
		wrong := back
		for now := back; now.Before(back.Add(repair + 2*time.Second)); now = time.Now() {
			if !slices.Equal(s.foundIfAny(app), endpoints(tasks)) {
				wrong = now
			}
			time.Sleep(20 * time.Millisecond)
		}
		if took := wrong.Sub(back); took > repair {
			t.Errorf("entries were wrong %v after writes were accepted", took)
		}
		t.Logf("stopped for %v, entries right for good %v after writes were accepted", back.Sub(began).Round(time.Millisecond), wrong.Sub(back).Round(time.Millisecond))
		if _, rate := c.done(t); rate < 100 {
			t.Errorf("only %.0f requests/s: too few to show anything", rate)
		}
		if len(c.changed) > 0 {
			t.Errorf("processes changed of %v", c.changed)
		}
		for _, task := range s.awaitHealthy(app, n) {
			if said[task.ID] == 0 {
				t.Errorf("%s is new", task.ID)
			}
		}
		for id, count := range said {
			if now := s.statuses(id); len(now) != count {
				t.Errorf("%s was reported again: %v", id, now[count:])
			}
		}
	})
}

// foundIfAny is found, or nothing where the registry does not answer yet.
func (s *site) foundIfAny(app string) []string {
	endpoints, err := s.registry.find(serviceName(app))
	if err != nil {
		return nil
	}
	slices.Sort(endpoints)
	return endpoints
}

// TestP2P6_AKillDuringAnOutageWaitsForItsDeadlineOnly ends one instance and
// starts another while the registry is away.
func TestP2P6_AKillDuringAnOutageWaitsForItsDeadlineOnly(t *testing.T) {
	const app = "/shop/cart"
	t.Parallel()
	overRegistries(t, func(t *testing.T, registry server) {
		t.Parallel()
		s := newSite(t, registry, 1)
		old := s.deploy(app, 1, nil, func(definition map[string]any) {
			// The old one goes first: the next could not be found.
			definition["upgradeStrategy"] = map[string]any{"minimumHealthCapacity": 0, "maximumOverCapacity": 0}
		})[0]
		registry.stop()
		s.call(http.MethodPost, "/v2/apps"+app+"/restart", nil, nil)
		_, asked := s.awaitStatus(old.ID, func(status mesosgo.TaskStatus) bool { return status.GetState() == mesosgo.TASK_KILLING })
		killed, at := s.awaitStatus(old.ID, func(status mesosgo.TaskStatus) bool { return status.GetState() == mesosgo.TASK_KILLED })
		if took := at.Sub(asked); took < 4*time.Second || took > 8*time.Second {
			t.Errorf("the kill took %v, want 5s for the registry and little more", took)
		}
		if message := killed.GetMessage(); !strings.Contains(message, "not known to be deregistered") {
			t.Errorf("TASK_KILLED says nothing about the registry: %q", message)
		}
		var next task
		s.eventually(time.Minute, "another instance was started", func() bool {
			for _, task := range s.tasks(app) {
				if next = task; task.ID != old.ID && task.State == "TASK_RUNNING" {
					return true
				}
			}
			return false
		})
		// It works, but nobody can find it: it is not healthy.
		time.Sleep(3 * time.Second)
		if list := s.tasks(app); len(list) != 1 || list[0].ID != next.ID || list[0].healthy() {
			t.Errorf("tasks while nothing can be registered: %+v", list)
		}
		if err := registry.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.eventually(repair, "entries are right again", func() bool { return slices.Equal(s.foundIfAny(app), []string{next.endpoint()}) })
		s.awaitHealthy(app, 1)
	})
}

// TestOptionalRegistration_TaskServesWithoutARegistry: service.required=false
// keeps trying beside the running task.
func TestOptionalRegistration_TaskServesWithoutARegistry(t *testing.T) {
	const app = "/shop/cart"
	t.Parallel()
	overRegistries(t, func(t *testing.T, registry server) {
		t.Parallel()
		s := newSite(t, registry, 1)
		registry.stop()
		tasks := s.deploy(app, 2, map[string]string{"service.required": "false"})
		if err := registry.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.eventually(repair, "entries are there", func() bool { return slices.Equal(s.foundIfAny(app), endpoints(tasks)) })
	})
}
