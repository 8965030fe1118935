package leader_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	server "pacer/integration/zookeeper"
	"pacer/scheduler/leader"
	"pacer/scheduler/state/zookeeper"
)

func TestMain(m *testing.M) { os.Exit(server.Main(checked{m})) }

// checked runs the tests and then looks for goroutines that are left.
type checked struct{ m *testing.M }

func (c checked) Run() int {
	code := c.m.Run()
	if err := goleak.Find(goleak.IgnoreAnyFunction("pacer/integration/zookeeper.startAndWait"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var roots atomic.Int64

// candidate is one scheduler in an election.
type candidate struct {
	*leader.Election
	client *zookeeper.Client
	stop   context.CancelFunc
	leads  chan context.Context
	fail   chan error // makes lead return
	ended  chan error
}

func stand(t *testing.T, s *server.Server, root, name string) *candidate {
	t.Helper()
	config, err := zookeeper.ParseURL(s.URL(root))
	if err != nil {
		t.Fatal(err)
	}
	client, err := zookeeper.Connect(config, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &candidate{
		Election: leader.New(client, leader.Member{API: "http://" + name, Executor: name}, zerolog.Nop()),
		client:   client, stop: cancel,
		leads: make(chan context.Context, 1), fail: make(chan error, 1), ended: make(chan error, 1),
	}
	go func() {
		c.ended <- c.Run(ctx, func(ctx context.Context) error {
			c.leads <- ctx
			select {
			case <-ctx.Done():
				return nil
			case err := <-c.fail:
				return err
			}
		})
		close(c.ended)
	}()
	t.Cleanup(func() {
		cancel()
		for range c.ended {
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *candidate) elected(t *testing.T) context.Context {
	t.Helper()
	select {
	case ctx := <-c.leads:
		return ctx
	case err := <-c.ended:
		t.Fatalf("ended instead of being elected: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not elected")
	}
	return nil
}

func (c *candidate) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("Run does not end")
		return nil
	}
}

func (c *candidate) names(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		m, known := c.Leader()
		if known && m.API == "http://"+want {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("names %q as leader, want %s", m.API, want)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestElection_OneLeadsAndAllKnowIt(t *testing.T) {
	s, root := server.Shared(t), fmt.Sprint("/elections/", roots.Add(1))
	a := stand(t, s, root, "a")
	first := a.elected(t)
	b, c := stand(t, s, root, "b"), stand(t, s, root, "c")
	for _, who := range []*candidate{a, b, c} {
		who.names(t, "a")
	}
	members, err := c.Members(t.Context())
	if err != nil || members[0] != a.Self() {
		t.Errorf("members %v, %v", members, err)
	}
	select {
	case <-b.leads:
		t.Fatal("two lead")
	case <-c.leads:
		t.Fatal("two lead")
	default:
	}
	a.stop()
	if err := a.end(t); err != nil {
		t.Errorf("a: %v", err)
	}
	if first.Err() == nil {
		t.Error("the context of the lead did not end")
	}
	next, other := b, c
	select {
	case <-b.leads:
	case <-c.leads:
		next, other = c, b
	case <-time.After(time.Minute):
		t.Fatal("nobody follows")
	}
	name := next.Self().Executor
	other.names(t, name)
	// A leader that ends by itself makes room, too.
	next.fail <- errors.New("broken")
	if err := next.end(t); err == nil || err.Error() != "broken" {
		t.Errorf("err = %v", err)
	}
	other.elected(t)
}

func TestElection_LostSession(t *testing.T) {
	s, root := server.Shared(t), fmt.Sprint("/elections/", roots.Add(1))
	a := stand(t, s, root, "a")
	leading := a.elected(t)
	b := stand(t, s, root, "b")
	b.names(t, "a")
	// A standby that loses its session stands again.
	id, _ := b.client.Session()
	if err := s.KillSession(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	id, _ = a.client.Session()
	if err := s.KillSession(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := a.end(t); !errors.Is(err, leader.ErrLost) || leading.Err() == nil {
		t.Errorf("err = %v, context %v", err, leading.Err())
	}
	b.elected(t)
	b.names(t, "b")
}

func TestElection_EndsWithoutZooKeeper(t *testing.T) {
	s := server.Start(t, server.Options{})
	a := stand(t, s, "/pacer", "a")
	leading := a.elected(t)
	s.Kill()
	for a.client.Trouble() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if leading.Err() != nil {
		t.Error("a leader without ZooKeeper ended, though its session lives")
	}
	a.fail <- errors.New("broken")
	if err := a.end(t); err == nil || err.Error() != "broken" {
		t.Errorf("err = %v", err)
	}
}

func TestElection_SurvivesARestartOfZooKeeper(t *testing.T) {
	s := server.Start(t, server.Options{})
	a := stand(t, s, "/pacer", "a")
	leading := a.elected(t)
	b := stand(t, s, "/pacer", "b")
	b.names(t, "a")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Members(t.Context()); err != nil {
		t.Fatal(err)
	}
	if leading.Err() != nil {
		t.Error("the lead was lost")
	}
	a.stop()
	b.elected(t)
}
