package executor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/agent"
	"pacer/executor/payload"
	"pacer/executor/process"
)

// directory knows users as a directory service would.
type directory struct{ *stage }

func (d directory) LookupUser(_ context.Context, name string) (process.User, error) {
	if name != "toor" {
		return process.User{}, fmt.Errorf("user %q: neither in /etc/passwd nor known to getent", name)
	}
	return process.User{Name: name}, nil // uid 0
}

func TestStart_RefusesUsersThatADirectoryDoesNotKnowOrKnowsToBeRoot(t *testing.T) {
	for _, tc := range []struct {
		name, user string
		listed     []string
		text       string // of the message
	}{
		{"unknown", "nobody-knows", []string{"nobody-knows"}, "neither in /etc/passwd nor known to getent"},
		{"root by another name", "toor", nil, "root's uid 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := new(stage)
			staged(t, s, func(c *Config) { c.AllowedUsers = tc.listed }, func(t *testing.T, e *Executor) {
				e.parts.Processes = directory{s}
				e.Subscribed(agent.Subscription{Framework: mesos.FrameworkInfo{User: tc.user}})
				e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) { info.HealthCheck, info.Labels = nil, nil }))
				synctest.Wait()
				if last := s.last(t); last.GetState() != mesos.TASK_FAILED || !strings.Contains(last.GetMessage(), tc.text) {
					t.Errorf("%v %q", last.GetState(), last.GetMessage())
				}
			})
		})
	}
}
