package registration

import (
	"slices"
	"testing"
	"time"
)

// TestP9_AnExpiredSessionIsReplaced ends the executor's session by its id, as
// ZooKeeper does for one that it has not heard of for too long.
func TestP9_AnExpiredSessionIsReplaced(t *testing.T) {
	const app, n = "/shop/cart", 10
	registry := newZooKeeper(t)
	s := newSite(t, registry, 1)
	tasks := s.deploy(app, n, nil)
	members, err := registry.members(serviceName(app))
	if err != nil || len(members) != n {
		t.Fatalf("members %v, %v", members, err)
	}
	session := members[0].owner
	if slices.ContainsFunc(members, func(m member) bool { return m.owner != session }) {
		t.Fatalf("one executor has several sessions: %+v", members)
	}
	if err := registry.server.KillSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	s.eventually(repair, "all entries are back", func() bool { return slices.Equal(s.found(app), endpoints(tasks)) })
	t.Logf("all entries back %v after the end of the session", time.Since(ended).Round(time.Millisecond))
	if members, err = registry.members(serviceName(app)); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if m.owner == session || m.owner != members[0].owner {
			t.Errorf("%s belongs to session %#x, want one new session", m.path, m.owner)
		}
	}
	for _, now := range s.awaitHealthy(app, n) {
		if !slices.ContainsFunc(tasks, func(old task) bool { return old.ID == now.ID }) {
			t.Errorf("%s is new", now.ID)
		}
	}
}
