package link_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"pacer/integration/mesos/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leadership is a Detector and the master it names.
type leadership struct {
	mu      sync.Mutex
	master  link.Master
	changed chan struct{}
}

func (l *leadership) Leader() (link.Master, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.master, l.changed
}

func (l *leadership) set(m link.Master) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.master = m
	if l.changed != nil {
		close(l.changed)
	}
	l.changed = make(chan struct{})
}

type acceptor struct{ ends chan *link.End }

func newAcceptor() *acceptor { return &acceptor{ends: make(chan *link.End, 10)} }

func (a *acceptor) Attach(e *link.End) error {
	a.ends <- e
	return nil
}

func dial(t *testing.T, line *link.Line, a *acceptor) (agent, master *link.End) {
	t.Helper()
	agent, err := line.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return agent, <-a.ends
}

func next(t *testing.T, e *link.End) link.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := e.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return m
}

func silent(t *testing.T, e *link.End, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if m, err := e.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %#v, %v within %v; want silence", m, err, d)
	}
}

func TestMessagesKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAcceptor()
		agent, master := dial(t, link.NewLine(&leadership{master: a}), a)
		for i := range 1000 {
			agent.Send(link.UnregisterAgent{AgentID: fmt.Sprint(i)})
			master.Send(link.Shutdown{Message: fmt.Sprint(i)})
		}
		for i := range 1000 {
			if got := next(t, master).(link.UnregisterAgent).AgentID; got != fmt.Sprint(i) {
				t.Fatalf("up: got %s, want %d", got, i)
			}
			if got := next(t, agent).(link.Shutdown).Message; got != fmt.Sprint(i) {
				t.Fatalf("down: got %s, want %d", got, i)
			}
		}
	})
}

func TestCutIsSeenByBothEndsAndDialWaitsForRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAcceptor()
		line := link.NewLine(&leadership{master: a})
		agent, master := dial(t, line, a)
		line.Cut()
		agent.Send(link.Pong{})
		for _, e := range []*link.End{agent, master} {
			if _, err := e.Next(t.Context()); !errors.Is(err, link.ErrBroken) {
				t.Errorf("after cut: %v, want ErrBroken", err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := line.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial over a cut line: %v, want it to wait", err)
		}
		time.AfterFunc(time.Second, line.Restore)
		agent, master = dial(t, line, a)
		agent.Send(link.Pong{})
		if _, ok := next(t, master).(link.Pong); !ok {
			t.Error("the new connection does not deliver")
		}
	})
}

func TestFreezeDelaysWithoutError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAcceptor()
		line := link.NewLine(&leadership{master: a})
		agent, master := dial(t, line, a)
		line.Freeze()
		agent.Send(link.Pong{})
		master.Send(link.Ping{Connected: true})
		silent(t, master, time.Hour)
		silent(t, agent, time.Hour)
		line.Thaw()
		if _, ok := next(t, master).(link.Pong); !ok {
			t.Error("what was sent while frozen was lost")
		}
		if _, ok := next(t, agent).(link.Ping); !ok {
			t.Error("what was sent while frozen was lost")
		}
	})
}

func TestDelayHoldsMessagesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAcceptor()
		line := link.NewLine(&leadership{master: a})
		agent, master := dial(t, line, a)
		line.SetDelay(3 * time.Second)
		start := time.Now()
		agent.Send(link.UnregisterAgent{AgentID: "1"})
		line.SetDelay(0)
		agent.Send(link.UnregisterAgent{AgentID: "2"})
		first := next(t, master).(link.UnregisterAgent).AgentID
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("first message after %v, want 3s", d)
		}
		if second := next(t, master).(link.UnregisterAgent).AgentID; first != "1" || second != "2" {
			t.Errorf("got %s, %s: a message overtook another", first, second)
		}
	})
}

func TestAnotherLeaderBreaksTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newAcceptor(), newAcceptor()
		who := &leadership{}
		line := link.NewLine(who)
		time.AfterFunc(time.Minute, func() { who.set(first) })
		agent, master := dial(t, line, first) // waits for the first leader
		time.AfterFunc(time.Minute, func() { who.set(second) })
		if _, err := agent.Next(t.Context()); !errors.Is(err, link.ErrBroken) {
			t.Fatalf("old connection: %v, want ErrBroken", err)
		}
		if _, err := master.Next(t.Context()); !errors.Is(err, link.ErrBroken) {
			t.Fatalf("old master's end: %v, want ErrBroken", err)
		}
		agent, master = dial(t, line, second)
		master.Send(link.Ping{})
		if _, ok := next(t, agent).(link.Ping); !ok {
			t.Error("the connection to the second leader does not deliver")
		}
	})
}
