package failover_test

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pacer/integration/binaries"
	"pacer/integration/zookeeper"
)

// TestP7_LeaderKilled kills the leader right after a write was acknowledged.
func TestP7_LeaderKilled(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	a := w.start()
	w.leader(a)
	b, c := w.start().ready(), w.start().ready()
	// Through a standby, which passes it on.
	w.put(b, "/web", 3, 1)
	before := w.deployed(c, "/web")
	w.put(c, "/web", 4, 1)
	a.signal(syscall.SIGKILL)
	next := w.leader(b, c)
	after := w.deployed(next, "/web")
	if len(after) != 4 {
		t.Errorf("%d instances, the acknowledged write said 4", len(after))
	}
	for _, id := range before {
		if !slices.Contains(after, id) {
			t.Errorf("%s did not survive the failover", id)
		}
	}
	if alive := w.running(); !slices.Equal(alive, after) {
		t.Errorf("the master runs %v, the scheduler knows %v", alive, after)
	}
	// SIGTERM makes room at once.
	begin := time.Now()
	next.signal(syscall.SIGTERM)
	if code := next.exits(); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	last := w.leader(others(next, b, c)...)
	w.put(last, "/web", 2, 1)
	t.Logf("SIGTERM to the next leader's first write: %s", time.Since(begin).Round(time.Millisecond))
	if ids := w.deployed(last, "/web"); len(ids) != 2 {
		t.Errorf("%d instances", len(ids))
	}
}

// TestP8_PausedLeader stops the leader, lets another one take over and change
// things, and continues the old one.
func TestP8_PausedLeader(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	a := w.start()
	w.leader(a)
	b := w.start().ready()
	w.put(a, "/web", 3, 1)
	w.deployed(a, "/web")
	a.signal(syscall.SIGSTOP)
	w.leader(b)
	w.put(b, "/web", 2, 2)
	want := w.deployed(b, "/web")
	a.signal(syscall.SIGCONT)
	if code := a.exits(); code != 1 {
		t.Errorf("the old leader ended with code %d", code)
	}
	if text := a.text(); strings.Count(text, `"subscribed"`) != 1 {
		t.Error("the old leader subscribed again")
	}
	w.put(b, "/other", 1, 1)
	w.deployed(b, "/other")
	if got := w.deployed(b, "/web"); !slices.Equal(got, want) {
		t.Errorf("tasks %v became %v", want, got)
	}
	if text := b.text(); strings.Count(text, `"subscribed"`) != 1 {
		t.Error("the new leader lost its subscription")
	}
	if alive := w.running(); len(alive) != 3 {
		t.Errorf("the master runs %v", alive)
	}
}

func TestSessionLost(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	a := w.start()
	w.leader(a)
	b := w.start().ready()
	w.put(a, "/web", 2, 1)
	want := w.deployed(a, "/web")
	conn := w.zookeeper.Connect(t)
	names, _, err := conn.Children("/pacer/election")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, stat, err := conn.Get("/pacer/election/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), a.api) {
			if err := w.zookeeper.KillSession(t.Context(), stat.EphemeralOwner); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Whatever it hears of first.
	if code := a.exits(); code != 1 || !strings.Contains(a.text(), "lost the lead") && !strings.Contains(a.text(), "Framework failed over") {
		t.Errorf("exit code %d", code)
	}
	w.leader(b)
	if got := w.deployed(b, "/web"); !slices.Equal(got, want) {
		t.Errorf("tasks %v became %v", want, got)
	}
}

func TestP9_ZooKeeperDown(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	a := w.start()
	w.leader(a)
	b := w.start().ready()
	w.put(a, "/web", 2, 1)
	want := w.deployed(a, "/web")
	w.zookeeper.Kill()
	w.until("writes are refused", func() bool {
		status, header, _ := w.ask("PUT", b.api+"/v2/apps/web?force=true", w.definition("/web", 3, 1))
		return status == http.StatusServiceUnavailable && header.Get("Retry-After") != ""
	})
	for _, p := range []*process{a, b} {
		if got, healthy := w.tasks(p, "/web"); !slices.Equal(got, want) || !healthy {
			t.Errorf("%s reads %v, healthy %v; want %v", p.api, got, healthy, want)
		}
	}
	// Longer than the session: it cannot expire where nobody counts.
	time.Sleep(2 * session)
	if alive := w.running(); !slices.Equal(alive, want) {
		t.Errorf("the master runs %v, want %v", alive, want)
	}
	if err := w.zookeeper.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("writes are taken again", func() bool {
		status, _, _ := w.ask("PUT", b.api+"/v2/apps/web?force=true", w.definition("/web", 3, 1))
		return status == http.StatusOK
	})
	if got := w.deployed(b, "/web"); len(got) != 3 || !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) {
		t.Errorf("tasks %v became %v", want, got)
	}
	w.leader(a, b)
}

// TestStandby_ServesAgentsAndVault asks a standby for what must be there
// whoever leads.
func TestStandby_ServesAgentsAndVault(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	w.flags = slices.DeleteFunc(w.flags, func(flag string) bool {
		return strings.HasPrefix(flag, "--executor-uri") || strings.HasPrefix(flag, "--executor-sha256")
	})
	w.flags = append(w.flags, "--advertise=http://stable.example:8081", "--executor="+programs.Path(binaries.Executor))
	a := w.start()
	w.leader(a)
	_, _, keys := w.ask("GET", a.public+"/.well-known/jwks.json", "")
	b := w.start("--executor=" + programs.Path(binaries.Scheduler)).ready() // any other file
	if status, _, got := w.ask("GET", b.public+"/.well-known/jwks.json", ""); status != http.StatusOK || string(got) != string(keys) || !strings.Contains(string(keys), "Ed25519") {
		t.Errorf("%d, keys %s, the leader's are %s", status, got, keys)
	}
	status, _, got := w.ask("GET", b.public+executor.Path(), "")
	if status != http.StatusOK || len(got) < 1<<20 {
		t.Errorf("executor of the other version: %d, %d bytes", status, len(got))
	}
}
