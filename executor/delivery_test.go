package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/executor/payload"
	"pacer/secrets"
)

func TestChanges_ReachTheTaskAsItsLabelsAsk(t *testing.T) {
	for _, tc := range []struct {
		name, onChange string
		labels         []string
		want           string
	}{
		{"file", "noop", []string{"secret.file.f", "secret/db#password"}, "file f"},
		{"file and signal", "signal:HUP", []string{"secret.file.f", "secret/db#password"}, "file f, signal SIGHUP"},
		{"variable and signal", "signal:USR1", []string{"secret.env.A", "secret/db#password"}, "signal SIGUSR1"},
		{"variable and restart", "restart", []string{"secret.env.A", "secret/db#password"}, "TASK_RUNNING"},
		{"variable", "noop", []string{"secret.env.A", "secret/db#password"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &stage{lease: secrets.Lease{ID: "l", Duration: time.Hour}, onTerm: time.Second}
			staged(t, s, nil, func(t *testing.T, e *Executor) {
				e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
					info.HealthCheck = nil
					info.Labels = labelsFor(append(tc.labels, "secret.on-change", tc.onChange)...)
				}))
				time.Sleep(30 * time.Minute)
				before := s.trace()
				if !strings.HasSuffix(before, "TASK_RUNNING") {
					t.Fatalf("before the change: %s", before)
				}
				time.Sleep(29 * time.Minute)
				after := strings.TrimPrefix(strings.TrimPrefix(s.trace(), before), ", ")
				if after != tc.want {
					t.Errorf("the change did %q, want %q", after, tc.want)
				}
				if wish := labelsOf(s.last(t).Labels)[payload.LabelRestart]; (wish != "") != (tc.onChange == "restart") {
					t.Errorf("wish %q", wish)
				}
				e.Kill("t.1", nil)
				time.Sleep(time.Minute)
				if all := s.trace(); !strings.Contains(all, "TASK_KILLED, revoke") {
					t.Errorf("the lease is not given back: %s", all)
				}
			})
		})
	}
}

// TestSecrets_LaunchSaysWhatItWaitsForAndGivesUp: one status for each reason, at
// most one in a minute, and the last reason at the end.
func TestSecrets_LaunchSaysWhatItWaitsForAndGivesUp(t *testing.T) {
	for _, tc := range []struct {
		name        string
		reason      func(n int) string
		least, most int // statuses that say what is waited for
		last        string
	}{
		{"one reason", func(int) string { return "Vault is sealed" }, 1, 1, "Vault is sealed"},
		{"many reasons", func(n int) string { return fmt.Sprint("reason ", n) }, 14, 15, "reason 129"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := 0
			s := &stage{secretsWait: func() string { n++; return tc.reason(n) }}
			staged(t, s, nil, func(t *testing.T, e *Executor) {
				e.Launch(taskInfo(t, "t.1", func(info *mesos.TaskInfo, _ *payload.Task) {
					info.Labels = labelsFor("secret.env.A", "secret/db#password")
				}))
				time.Sleep(launchDeadline - time.Second)
				said := 0
				for _, status := range s.all() {
					if status.GetState() != mesos.TASK_STARTING {
						t.Errorf("%v before the deadline", status.GetState())
					}
					if strings.HasPrefix(status.GetMessage(), "waiting for ") {
						said++
					}
				}
				if said < tc.least || said > tc.most {
					t.Errorf("%d statuses say what is waited for, want %d to %d", said, tc.least, tc.most)
				}
				time.Sleep(2 * time.Second)
				end := s.last(t)
				if end.GetState() != mesos.TASK_FAILED || !strings.Contains(end.GetMessage(), "15m0s") || !strings.Contains(end.GetMessage(), tc.last) ||
					labelsOf(end.Labels)[payload.LabelFailure] != payload.FailureSecrets {
					t.Errorf("%v %q %v", end.GetState(), end.GetMessage(), end.Labels)
				}
			})
		})
	}
}

func TestRotated_WishTravelsWithEachStatus(t *testing.T) {
	r := rules{checked: true}
	st := newState(r)
	at := time.Unix(1_800_000_000, 0)
	var said []report
	feed := func(events ...event) {
		for _, ev := range events {
			var actions []action
			at = at.Add(time.Second)
			st, actions = st.next(at, ev)
			for _, a := range actions {
				if r, ok := a.(report); ok {
					said = append(said, r)
				}
			}
		}
	}
	wished := func(r report) bool {
		for _, l := range r.labels {
			if l == [2]string{payload.LabelRestart, restartForSecrets} {
				return true
			}
		}
		return false
	}
	feed(launch{}, prepared{}, rotated{names: "A"}, spawned{})
	if last := said[len(said)-1]; last.state != mesos.TASK_RUNNING || !wished(last) || !strings.Contains(last.message, "A") {
		t.Fatalf("said %+v, want the wish with TASK_RUNNING", last)
	}
	n := len(said)
	feed(tick{}, tick{})
	if len(said) != n {
		t.Errorf("the wish was repeated: %+v", said[n:])
	}
	feed(becameHealthy{}, rotated{names: "B"})
	for _, r := range said[n:] {
		if !wished(r) {
			t.Errorf("%+v is without the wish", r)
		}
	}
	if last := said[len(said)-1]; !strings.Contains(last.message, "B") {
		t.Errorf("a second change: %+v", last)
	}
	n = len(said)
	feed(kill{}, rotated{names: "C"}, treeEnded{})
	for _, r := range said[n:] {
		if r.state == mesos.TASK_RUNNING || wished(r) {
			t.Errorf("while it ends: %+v", r)
		}
	}
}

// post is a scheduler that answers when it is there.
type postStage struct {
	mu     sync.Mutex
	asked  []time.Duration
	began  time.Time
	broken bool
}

func (p *postStage) Message(data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := payload.DecodeMessage(data)
	if err != nil || len(m.GetTokensWanted()) != 1 || m.GetTokensWanted()[0] != "web.1" {
		return errors.New("not the question")
	}
	p.asked = append(p.asked, time.Since(p.began))
	if p.broken {
		return errors.New("not connected")
	}
	return nil
}

func TestTokens_AreAskedForUntilTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &postStage{began: time.Now(), broken: true}
		tokens := newTokens(p, zerolog.Nop())
		type result struct {
			token secrets.Secret
			err   error
		}
		got := make(chan result, 2)
		for range 2 {
			go func() {
				token, err := tokens.fresh(t.Context(), "web.1")
				got <- result{token, err}
			}()
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		p.mu.Lock()
		if n := len(p.asked); n < 2*20 || n > 2*30 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		p.mu.Unlock()
		tokens.take(&payload.Message{Tokens: []*payload.Token{{TaskId: "other", IdentityToken: "x"}, {TaskId: "web.1", IdentityToken: "fresh"}}})
		for range 2 {
			if r := <-got; r.err != nil || string(r.token.Reveal()) != "fresh" {
				t.Errorf("got %v", r.err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if _, err := tokens.fresh(ctx, "web.1"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if len(tokens.waiting) != 0 {
			t.Errorf("%d still wait", len(tokens.waiting))
		}
	})
}
