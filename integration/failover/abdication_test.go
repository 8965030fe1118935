package failover_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"pacer/integration/zookeeper"
)

// TestAbdication: a leader that is asked to, through a standby, makes room for
// another one; no task notices.
func TestAbdication(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	a := w.start()
	w.leader(a)
	b := w.start().ready()
	w.put(a, "/web", 2, 1)
	before := w.deployed(a, "/web")
	status, _, answer := w.ask(http.MethodDelete, b.api+"/v2/leader", "")
	if status != http.StatusOK || !strings.Contains(string(answer), "Leadership abdicated") {
		t.Fatalf("%d %s", status, answer)
	}
	if code := a.exits(); code != 1 || !strings.Contains(a.text(), "abdicated") {
		t.Errorf("exit code %d, said %s", code, a.text())
	}
	w.leader(b)
	w.put(b, "/other", 1, 1)
	if after := w.deployed(b, "/web"); !slices.Equal(after, before) {
		t.Errorf("tasks were %v and are %v", before, after)
	}
}
