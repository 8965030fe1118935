package scheduler

import (
	"strings"
	"testing"

	"pacer/scheduler/app"
)

func TestMayDrain(t *testing.T) {
	for _, tc := range []struct {
		name, setting, drain string
		refused              string // what the error has
	}{
		{"none", "", "", ""},
		{"the default's limit", "", "5m", ""},
		{"above the default's limit", "", "5m1s", "at most 5m0s"},
		{"the operator allows more", "1h", "30m", ""},
		{"the operator allows less", "10s", "30s", "at most 10s"},
		{"a setting that the executor refuses", "soon", "6m", "at most 5m0s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := new(core)
			c.config.Executor.Environment = map[string]string{maxDrain: tc.setting}
			a := &app.App{Labels: map[string]string{}}
			if tc.drain != "" {
				a.Labels["drain"] = tc.drain
			}
			err := c.mayDrain(a)
			if (err != nil) != (tc.refused != "") || err != nil && (!strings.Contains(err.Error(), tc.refused) || !strings.Contains(err.Error(), "/labels/drain")) {
				t.Errorf("error %v, want %q", err, tc.refused)
			}
		})
	}
}
