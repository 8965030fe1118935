package executor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"pacer/healthcheck"
)

func TestCheckup_AllHaveToBeHealthyAndOneIsEnoughToBeUnhealthy(t *testing.T) {
	say := func(check string, kind healthcheck.EventKind) healthcheck.Event {
		return healthcheck.Event{Check: check, Kind: kind, Result: healthcheck.Result{Message: "m"}}
	}
	for _, tc := range []struct {
		name   string
		checks int
		heard  []healthcheck.Event
		want   []event
	}{
		{"one check speaks for itself", 1, []healthcheck.Event{say("", healthcheck.Healthy), say("", healthcheck.Unhealthy), say("", healthcheck.Failure), say("", healthcheck.Threshold), say("", healthcheck.Healthy)},
			[]event{becameHealthy{}, becameUnhealthy{"m"}, failedAgain{"m"}, reachedThreshold{"m"}, becameHealthy{}}},
		{"two healthy checks", 2, []healthcheck.Event{say("", healthcheck.Healthy), say("db", healthcheck.Healthy)}, []event{becameHealthy{}}},
		{"one of two never gets healthy", 2, []healthcheck.Event{say("", healthcheck.Healthy), say("db", healthcheck.Unhealthy), say("db", healthcheck.Threshold)},
			[]event{becameUnhealthy{"check db: m"}, reachedThreshold{"check db: m"}}},
		{"both fail and recover", 2, []healthcheck.Event{
			say("", healthcheck.Healthy), say("db", healthcheck.Healthy),
			say("db", healthcheck.Unhealthy), say("", healthcheck.Unhealthy), say("db", healthcheck.Healthy), say("", healthcheck.Healthy)},
			[]event{becameHealthy{}, becameUnhealthy{"check db: m"}, failedAgain{"m"}, becameHealthy{}}},
		{"a snooze changes nothing", 1, []healthcheck.Event{say("", healthcheck.Snoozed)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []event
			c := newCheckup(tc.checks, func(ev event) { got = append(got, ev) })
			for _, e := range tc.heard {
				c.take(e)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(becameUnhealthy{}, failedAgain{}, reachedThreshold{})); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
