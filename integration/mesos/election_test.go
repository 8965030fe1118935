package mesos_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
	"pacer/integration/zookeeper"
)

const sessionTimeout = time.Second

// elected starts a cluster whose masters elect their leader.
func elected(t *testing.T, s *zookeeper.Server, config emulator.Config) *emulator.Cluster {
	t.Helper()
	config.ZooKeeper = s.URL("/" + strings.ReplaceAll(t.Name(), "/", "-") + "/mesos")
	config.ZooKeeperSessionTimeout = sessionTimeout
	return emulator.New(t, config)
}

func leader(t *testing.T, c *emulator.Cluster, other *master.Master) (*emulator.Seat, *master.Master) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), probe.Patience)
	defer cancel()
	for {
		m, err := c.AwaitLeader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Seats() {
			if s.Master() == m && m != other {
				return s, m
			}
		}
	}
}

// answer is what a request gets: the status, Location and text, or "refused".
func answer(t *testing.T, method, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), probe.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case err != nil:
		return "broken"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "broken"
	}
	words := []string{response.Status[:3]}
	if location := response.Header.Get("Location"); location != "" {
		words = append(words, location)
	}
	return strings.TrimSpace(strings.Join(append(words, string(text)), " "))
}

// awaitAnswer asks until it gets this answer.
func awaitAnswer(t *testing.T, url, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(probe.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = answer(t, http.MethodPost, url); got == want {
			return
		}
	}
	t.Fatalf("%s: %s, want %s", url, got, want)
}

func TestAnswersWhileAMasterStarts(t *testing.T) {
	s := zookeeper.Shared(t)
	c := elected(t, s, emulator.Config{
		Agents: -1, Masters: 2, PersistRegistry: true, Master: master.Config{InitializationTime: 200 * time.Millisecond},
	})
	leader(t, c, nil)
	first, second := c.Seats()[0], c.Seats()[1]
	first.Kill()
	second.Kill()
	url := first.URL() + "/api/v1/scheduler"
	var seen []string
	var mu sync.Mutex
	see := func(a string) {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 || seen[len(seen)-1] != a {
			seen = append(seen, a)
		}
	}
	see(answer(t, http.MethodPost, url))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			see(answer(t, http.MethodPost, url))
		}
	})
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	// Without a quorum it does not get further.
	awaitAnswer(t, url, "503 Master has not finished recovery")
	if got := answer(t, http.MethodGet, first.URL()+"/health"); got != "200" {
		t.Errorf("/health while recovering: %s", got)
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if _, m := leader(t, c, nil); m != first.Master() {
		t.Error("the other one leads")
	}
	const served = "400 Expecting 'Content-Type' to be present"
	awaitAnswer(t, url, served)
	cancel()
	group.Wait()
	// The dead leader's session may have outlived it.
	seen = slices.DeleteFunc(seen, func(a string) bool {
		return a == "broken" || strings.HasPrefix(a, "307 ")
	})
	want := []string{"refused", "404 404 Not Found.", "503 No leader elected", "503 Master has not finished recovery", served}
	if !slices.Equal(slices.Compact(seen), want) {
		t.Errorf("answers\n%s\nwant\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
}

func TestFollowersRedirectToTheLeaderEvenWhenItIsDead(t *testing.T) {
	c := elected(t, zookeeper.Shared(t), emulator.Config{Agents: -1, Masters: 3, PersistRegistry: true})
	first, m := leader(t, c, nil)
	var follower *emulator.Seat
	for _, s := range c.Seats() {
		if s != first {
			follower = s
		}
	}
	awaitAnswer(t, follower.URL()+"/api/v1/scheduler", "307 //"+first.Address()+"/master/api/v1/scheduler")
	for _, r := range []struct{ method, path, want string }{
		{"POST", "/api/v1/scheduler", "307 //" + first.Address() + "/master/api/v1/scheduler"},
		{"POST", "/master/api/v1/scheduler?x=1", "307 //" + first.Address() + "/master/api/v1/scheduler?x=1"},
		{"GET", "/api/v1/scheduler", "307 //" + first.Address() + "/master/api/v1/scheduler"},
		{"POST", "/api/v1", "307 //" + first.Address() + "/master/api/v1"},
		{"GET", "/state", "307 //" + first.Address() + "/master/state"},
		{"GET", "/redirect", "307 //" + first.Address()},
		{"GET", "/health", "200"},
	} {
		if got := answer(t, r.method, follower.URL()+r.path); got != r.want {
			t.Errorf("%s %s: %s, want %s", r.method, r.path, got, r.want)
		}
	}
	if got, want := answer(t, "GET", first.URL()+"/redirect"), "307 //"+first.Address(); got != want {
		t.Errorf("/redirect at the leader: %s, want %s", got, want)
	}
	first.Kill()
	if got, want := answer(t, "POST", follower.URL()+"/api/v1/scheduler"), "307 //"+first.Address()+"/master/api/v1/scheduler"; got != want {
		t.Errorf("just after the leader's death: %s, want %s", got, want)
	}
	if got := answer(t, "POST", first.URL()+"/api/v1/scheduler"); got != "refused" {
		t.Errorf("at the dead leader: %s", got)
	}
	second, next := leader(t, c, m)
	if second == first {
		t.Fatal("the dead one leads")
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, first.URL()+"/api/v1/scheduler", "307 //"+second.Address()+"/master/api/v1/scheduler")
	if c.Master() != next {
		t.Error("the lead has changed back")
	}
}

// TestFailoverByElection is what a scheduler sees when the next master takes over.
func TestFailoverByElection(t *testing.T) {
	for _, persisted := range []bool{true, false} {
		name := "registry in memory"
		if persisted {
			name = "registry persisted"
		}
		t.Run(name, func(t *testing.T) {
			c := elected(t, zookeeper.Shared(t), emulator.Config{Masters: 2, Quorum: 1, PersistRegistry: persisted, Agent: quickAgent()})
			first, m := leader(t, c, nil)
			x := &trial{t: t, cluster: c, node: c.Node(0)}
			x.scheduler = probe.Connect(t, first.URL(), wire.Protobuf, probe.FrameworkInfo())
			x.run("t1")

			first.Kill()
			x.scheduler.Broken()
			x.executor.Update("t1", mesos.TASK_KILLING) // there is no leader, and the agent takes it
			c.Node(0).Pause()                           // registers with the next one when told to
			second, _ := leader(t, c, m)
			x.scheduler = probe.Connect(t, second.URL(), wire.Protobuf, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) {
				info.ID = &mesos.FrameworkID{Value: x.scheduler.ID}
			}))
			x.scheduler.Reconcile("t1", x.agentID)
			if persisted {
				x.scheduler.Silent()
				c.Node(0).Resume()
			} else {
				x.expect("t1 TASK_UNKNOWN SOURCE_MASTER REASON_RECONCILIATION")
				c.Node(0).Resume()
				x.expect("t1 TASK_KILLING SOURCE_MASTER REASON_AGENT_REREGISTERED")
			}
			x.expect("t1 TASK_KILLING SOURCE_EXECUTOR -")
			ctx, cancel := context.WithTimeout(t.Context(), probe.Patience)
			defer cancel()
			if err := c.AwaitAgents(ctx, 1); err != nil {
				t.Error(err)
			}
			x.executor.Update("t1", mesos.TASK_KILLED)
			for {
				status := x.scheduler.Status()
				if status.UUID != nil && status.GetState() == mesos.TASK_KILLED {
					return
				}
			}
		})
	}
}

func TestFrozenLeaderIsReplacedAndEnds(t *testing.T) {
	c := elected(t, zookeeper.Shared(t), emulator.Config{Masters: 2})
	first, m := leader(t, c, nil)
	s := probe.Connect(t, first.URL(), wire.Protobuf, probe.FrameworkInfo())
	s.Offers()
	first.Freeze()
	second, _ := leader(t, c, m)
	again := probe.Connect(t, second.URL(), wire.Protobuf, probe.FrameworkInfo(func(info *mesos.FrameworkInfo) {
		info.ID = &mesos.FrameworkID{Value: s.ID}
	}))
	again.Offers() // agents have followed
	if code, err := s.Try(&scheduler.Call{Type: scheduler.Call_REVIVE}, brief); err == nil {
		t.Errorf("the stopped leader answers %d", code)
	}
	first.Thaw()
	s.Broken()
	awaitAnswer(t, first.URL()+"/api/v1/scheduler", "refused")
}

func TestLeaderEndsWithoutZooKeeper(t *testing.T) {
	server := zookeeper.Start(t, zookeeper.Options{})
	c := elected(t, server, emulator.Config{Agents: -1, Masters: 2})
	first, _ := leader(t, c, nil)
	var follower *emulator.Seat
	for _, s := range c.Seats() {
		if s != first {
			follower = s
		}
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, first.URL()+"/api/v1/scheduler", "refused")
	awaitAnswer(t, follower.URL()+"/api/v1/scheduler", "503 No leader elected")
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if next, _ := leader(t, c, nil); next != follower {
		t.Error("the ended one leads")
	}
}

func TestSeveralMastersNeedZooKeeper(t *testing.T) {
	for name, config := range map[string]emulator.Config{
		"no ZooKeeper":    {Masters: 2},
		"no path":         {ZooKeeper: "zk://127.0.0.1:1"},
		"negative":        {Masters: -1},
		"negative quorum": {Quorum: -1},
		"no port":         {Master: master.Config{Listen: "127.0.0.1"}},
		"not a port":      {Master: master.Config{Listen: "127.0.0.1:http"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := emulator.Start(config)
			if err == nil {
				t.Error("started", c.Close())
			}
		})
	}
	c := emulator.New(t, emulator.Config{Agents: -1})
	if _, err := c.AddMaster(); err == nil {
		t.Error("a second master without ZooKeeper")
	}
}
