package failover_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pacer/integration/zookeeper"
)

// TestP7_KilledAgainAndAgain kills the leader at different moments of a
// change, six times over, while apps are created, scaled, replaced and
// deleted. What was acknowledged is there, and the cluster runs exactly that.
func TestP7_KilledAgainAndAgain(t *testing.T) {
	w := newWorld(t, zookeeper.Options{})
	leading := w.start()
	w.leader(leading)
	standby := w.start().ready()
	type wanted struct{ instances, version int }
	want := make(map[string]wanted)
	change := func(p *process, method, id string, next wanted) bool {
		status, _, answer := w.ask(method, p.api+"/v2/apps"+id+"?force=true", w.definition(id, next.instances, next.version))
		switch status {
		case http.StatusOK, http.StatusCreated:
			return true
		case 0, http.StatusBadGateway, http.StatusServiceUnavailable:
			return false // done or not
		}
		t.Fatalf("%s %s: %d %s", method, id, status, answer)
		return false
	}
	for round := range 6 {
		// A write that was not acknowledged may have been done; repeating it
		// until it is makes both the same.
		sure := func(method, id string, next wanted) {
			w.until("a scheduler takes a write", func() bool { return change(standby, method, id, next) })
			want[id] = next
		}
		fresh := fmt.Sprintf("/app-%d", round)
		sure("PUT", fresh, wanted{2, 1})
		killed := time.AfterFunc(time.Duration(round)*60*time.Millisecond, func() {
			_ = leading.cmd.Process.Signal(syscall.SIGKILL)
		})
		if round > 0 {
			sure("PUT", fmt.Sprintf("/app-%d", round-1), wanted{1, 2})
		}
		if round > 1 {
			id := fmt.Sprintf("/app-%d", round-2)
			w.until("a scheduler deletes "+id, func() bool {
				status, _, _ := w.ask("DELETE", standby.api+"/v2/apps"+id+"?force=true", "")
				return status == http.StatusOK || status == http.StatusNotFound
			})
			delete(want, id)
		}
		leading.exits()
		killed.Stop()
		leading = w.leader(standby)
		for id, next := range want {
			status, _, answer := w.ask("GET", leading.api+"/v2/apps"+id, "")
			if status != http.StatusOK || !strings.Contains(string(answer), fmt.Sprintf(`"VERSION":"%d"`, next.version)) || !strings.Contains(string(answer), fmt.Sprintf(`"instances":%d,`, next.instances)) {
				t.Errorf("%s after kill %d: %d %.400s; want %+v", id, round, status, answer, next)
			}
		}
		standby = w.start().ready()
	}
	var all []string
	for id := range want {
		all = append(all, w.deployed(leading, id)...)
	}
	slices.Sort(all)
	w.until("only what is wanted runs", func() bool { return slices.Equal(w.running(), all) })
	if len(all) != 1+2 {
		t.Errorf("%d tasks of %v", len(all), want)
	}
}
