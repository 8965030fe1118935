package executor

import (
	"strings"
	"testing"
	"testing/synctest"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/healthcheck"
)

func TestLastWords_AreFewPrintableAndWithoutSecrets(t *testing.T) {
	known := redactorOf("hunter22", "-----BEGIN KEY-----\nMIIEvAIBADANBgkq\nab\n-----END KEY-----")
	for _, tc := range []struct{ name, stderr, want string }{
		{"nothing", "", ""},
		{"one line", "bad thing\n", "bad thing"},
		{"no newline at the end", "a\nbad thing", "a | bad thing"},
		{"empty lines and colours", "\n\x1b[31mbad\x1b[0m\r\n\n", "[31mbad [0m"},
		{"the last ten lines", strings.Repeat("old\n", 50) + strings.Repeat("new\n", 10), strings.TrimSuffix(strings.Repeat("new | ", 10), " | ")},
		{"a secret", "login hunter22 failed\n", "login [redacted] failed"},
		{"the end of a key", "MIIEvAIBADANBgkq\nab\n-----END KEY-----\n", "[redacted] | ab | [redacted]"},
		{"a secret on the edge", "hunter22" + strings.Repeat("x", maxWordBytes-5), "[redacted]" + strings.Repeat("x", maxWordBytes-5)},
		{"cut off within a secret", "login hunter\n", "login [redacted]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tail := func(bytes int) string { return tc.stderr[max(0, len(tc.stderr)-bytes):] }
			if got := lastWords(tail, known); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
	if lastWords(nil, nil) != "" {
		t.Error("words out of nothing")
	}
}

func TestReal_TheLastLinesOfStderrAreInTheMessageOfAFailure(t *testing.T) {
	r := newReal(t)
	secret := func(info *mesos.TaskInfo, _ *payload.Task) {
		info.Labels = labelsFor("secret.env.PASSWORD", "secret/db#password")
	}
	r.run(t, "fails", "echo all is well; echo login with $PASSWORD failed >&2; printf 'giving up on can' >&2; exit 3", secret)
	s := r.inbox.wait(t, "fails", terminal)
	if want := "stderr: login with [redacted] failed | giving up on can"; s.GetState() != mesos.TASK_FAILED || !strings.HasSuffix(s.GetMessage(), want) {
		t.Errorf("%v %q, want %q at its end", s.GetState(), s.GetMessage(), want)
	}
	if out := r.file(t, "fails", "stderr"); !strings.Contains(out, "canary") {
		t.Errorf("the task's own file was changed: %q", out)
	}
	r.run(t, "ends", "echo noise >&2", secret)
	if s := r.inbox.wait(t, "ends", terminal); s.GetState() != mesos.TASK_FINISHED || strings.Contains(s.GetMessage(), "noise") {
		t.Errorf("%v %q", s.GetState(), s.GetMessage())
	}
}

func TestP5_HealthChecksDoNotCarrySecretsIntoStatuses(t *testing.T) {
	s := new(stage)
	staged(t, s, nil, func(t *testing.T, e *Executor) {
		e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
			info.Labels = labelsFor("secret.env.PASSWORD", "secret/db#password")
		}))
		synctest.Wait()
		s.mu.Lock()
		tell := s.tell
		s.mu.Unlock()
		tell(healthcheck.Event{Kind: healthcheck.Unhealthy, Result: healthcheck.Result{Message: "exit code 1: canary is wrong"}})
		synctest.Wait()
		if m := s.last(t).GetMessage(); !strings.Contains(m, "[redacted] is wrong") || strings.Contains(m, "canary") {
			t.Errorf("message %q", m)
		}
		if v := e.Snapshot().Tasks[0]; strings.Contains(v.LastFailure, "canary") {
			t.Errorf("operators see %q", v.LastFailure)
		}
	})
}
