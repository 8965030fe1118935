package election_test

import (
	"context"
	"encoding/json"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/goleak"

	"pacer/integration/mesos/election"
	"pacer/integration/zookeeper"
)

// binary runs the tests with the server that they share.
type binary struct{ m *testing.M }

func (b binary) Run() int { return zookeeper.Main(b.m) }

func TestMain(m *testing.M) { goleak.VerifyTestMain(binary{m}) }

const (
	sessionTimeout = time.Second
	patience       = 30 * time.Second
)

// info is what a master with this id publishes.
func info(id string) *mesos.MasterInfo {
	port, host, version, pid := uint32(5050), "127.0.0.1", "1.12.0", "master@127.0.0.1:5050"
	return &mesos.MasterInfo{
		ID: id, IP: 16777343, Port: &port, PID: &pid, Hostname: &host, Version: &version,
		Address: &mesos.Address{Hostname: &host, IP: &host, Port: 5050},
		Capabilities: []mesos.MasterInfo_Capability{
			{Type: mesos.MasterInfo_Capability_AGENT_UPDATE}, {Type: mesos.MasterInfo_Capability_AGENT_DRAINING},
		},
	}
}

func join(t *testing.T, s *zookeeper.Server, id string, changes ...func(*election.Config)) *election.Member {
	t.Helper()
	config := election.Config{URL: s.URL(group(t)), SessionTimeout: sessionTimeout}
	if id != "" {
		config.Info = info(id)
	}
	for _, change := range changes {
		change(&config)
	}
	m, err := election.Join(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func group(t *testing.T) string { return "/" + t.Name() + "/mesos" }

// await waits until a member knows this leader, "" for none.
func await(t *testing.T, m *election.Member, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		leader, changed := m.Leader()
		got := ""
		if leader != nil {
			got = leader.ID
		}
		if got == id {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("leader %q, want %q", got, id)
		}
	}
}

func TestLowestNumberLeads(t *testing.T) {
	s := zookeeper.Shared(t)
	first := join(t, s, "m1")
	await(t, first, "m1")
	second, watcher := join(t, s, "m2"), join(t, s, "")
	for _, m := range []*election.Member{second, watcher} {
		await(t, m, "m1")
	}
	first.Close()
	for _, m := range []*election.Member{second, watcher} {
		await(t, m, "m2")
	}
	second.Close()
	await(t, watcher, "")
}

func TestNodesAreAsMesosMakesThem(t *testing.T) {
	s := zookeeper.Shared(t)
	replicated := func(c *election.Config) { c.Replicated = true }
	await(t, join(t, s, "m1", replicated), "m1")
	conn := s.Connect(t)
	awaitChildren(t, conn, group(t), 2)
	await(t, join(t, s, "m2", replicated), "m1")
	awaitChildren(t, conn, group(t)+"/log_replicas", 2)
	children, _, err := conn.Children(group(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range children {
		node := path.Join(group(t), name)
		acl, stat, err := conn.GetACL(node)
		if err != nil {
			t.Fatal(err)
		}
		if len(acl) != 1 || acl[0] != (zk.ACL{Perms: zk.PermAll, Scheme: "world", ID: "anyone"}) {
			t.Errorf("%s: ACL %v", name, acl)
		}
		if ephemeral := stat.EphemeralOwner != 0; ephemeral != strings.HasPrefix(name, "json.info_") {
			t.Errorf("%s: ephemeral %v", name, ephemeral)
		}
	}
	// The counter is shared with log_replicas.
	data, _, err := conn.Get(group(t) + "/json.info_0000000002")
	if err != nil {
		t.Fatalf("children %v: %v", children, err)
	}
	const want = `{"address":{"hostname":"127.0.0.1","ip":"127.0.0.1","port":5050},` +
		`"capabilities":[{"type":"AGENT_UPDATE"},{"type":"AGENT_DRAINING"}],"hostname":"127.0.0.1","id":"m2",` +
		`"ip":16777343,"pid":"master@127.0.0.1:5050","port":5050,"version":"1.12.0"}`
	if string(data) != want {
		t.Errorf("content %s\nwant %s", data, want)
	}
	if !json.Valid(data) {
		t.Error("no JSON")
	}
}

func awaitChildren(t *testing.T, conn *zk.Conn, node string, n int) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		children, _, watch, err := conn.ChildrenW(node)
		if err == nil && len(children) == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v, %v; want %d children", node, children, err, n)
		}
		if err != nil {
			watch = nil
		}
		select {
		case <-watch:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestDeathIsSeenWhenTheSessionExpires(t *testing.T) {
	s := zookeeper.Shared(t)
	first := join(t, s, "m1")
	await(t, first, "m1")
	second := join(t, s, "m2")
	await(t, second, "m1")
	started := time.Now()
	first.Abandon()
	await(t, second, "m2")
	if d := time.Since(started); d < sessionTimeout/2 {
		t.Errorf("the next one leads %v after the death, before the session can have expired", d)
	}
}

func TestFrozenMemberIsReplacedAndLearnsOfIt(t *testing.T) {
	s := zookeeper.Shared(t)
	first := join(t, s, "m1")
	await(t, first, "m1")
	second := join(t, s, "m2")
	await(t, second, "m1")
	first.Freeze()
	await(t, second, "m2")
	if leader, _ := first.Leader(); leader == nil || leader.ID != "m1" {
		t.Error("a stopped process has learned something")
	}
	first.Thaw()
	await(t, first, "m2") // contends again, behind the other
}

func TestSilentZooKeeperEndsTheSession(t *testing.T) {
	s := zookeeper.Start(t, zookeeper.Options{})
	m := join(t, s, "m1")
	await(t, m, "m1")
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	await(t, m, "")
	if d := time.Since(started); d < sessionTimeout {
		t.Errorf("given up after %v, session timeout %v", d, sessionTimeout)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	await(t, m, "m1")
}

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		name, url string
		servers   int
		root      string
	}{
		{"one server", "zk://a:1/mesos", 1, "/mesos"},
		{"several", "zk://a:1,b:2,c:3/some/mesos/", 3, "/some/mesos"},
		{"no path", "zk://a:1", 0, ""},
		{"root", "zk://a:1/", 0, ""},
		{"another scheme", "http://a:1/mesos", 0, ""},
		{"no server", "zk:///mesos", 0, ""},
		{"empty server", "zk://a:1,/mesos", 0, ""},
		{"credentials", "zk://user:pass@a:1/mesos", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			servers, root, err := election.ParseURL(c.url)
			if c.servers == 0 {
				if err == nil {
					t.Fatal("accepted")
				}
				if strings.Contains(err.Error(), "pass") {
					t.Errorf("the error shows credentials: %v", err)
				}
				return
			}
			if err != nil || len(servers) != c.servers || root != c.root {
				t.Errorf("got %v, %q, %v", servers, root, err)
			}
		})
	}
	if _, err := election.Join(election.Config{URL: "zk://a:1"}); err == nil {
		t.Error("joined without a path")
	}
	if _, err := election.Join(election.Config{URL: "zk://a:1/mesos", SessionTimeout: -1}); err == nil {
		t.Error("joined with a negative timeout")
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("zk://a:1,b:2/mesos")
	f.Add("zk://a/..")
	f.Fuzz(func(t *testing.T, url string) {
		servers, root, err := election.ParseURL(url)
		if err == nil && (len(servers) == 0 || !path.IsAbs(root) || root == "/" || path.Clean(root) != root) {
			t.Errorf("%q: %v, %q", url, servers, root)
		}
	})
}
