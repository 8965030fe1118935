package registration

import (
	"net/http"
	"slices"
	"testing"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
)

// TestP1P2_RollingRestartLosesNoRequest replaces ten instances while a client
// asks more than a hundred times a second and never retries.
func TestP1P2_RollingRestartLosesNoRequest(t *testing.T) {
	const app, n = "/shop/cart", 10
	overRegistries(t, func(t *testing.T, registry server) {
		s := newSite(t, registry, 2)
		before := s.deploy(app, n, map[string]string{"drain": "2s"})
		runs := 3
		if testing.Short() {
			runs = 1
		}
		for run := range runs {
			c := startClient(t, registry, app, false)
			began := time.Now()
			s.call(http.MethodPost, "/v2/apps"+app+"/restart", nil, nil)
			var after []task
			s.eventually(2*time.Minute, "all instances replaced", func() bool {
				after = s.tasks(app)
				return len(after) == n && !slices.ContainsFunc(after, func(now task) bool {
					return !now.healthy() || slices.ContainsFunc(before, func(old task) bool { return old.ID == now.ID })
				})
			})
			// The last ones drain and end, too.
			for _, old := range before {
				s.awaitStatus(old.ID, func(status mesosgo.TaskStatus) bool { return status.GetState() == mesosgo.TASK_KILLED })
			}
			took := time.Since(began)
			total, rate := c.done(t)
			t.Logf("run %d: %d instances replaced in %v, %d requests, %.0f/s, %d failed", run+1, n, took.Round(100*time.Millisecond), total, rate, len(c.failures))
			if rate < 100 {
				t.Errorf("only %.0f requests/s: too few to show anything", rate)
			}
			if got := s.found(app); !slices.Equal(got, endpoints(after)) {
				t.Errorf("found %v, want %v", got, endpoints(after))
			}
			before = after
		}
	})
}
