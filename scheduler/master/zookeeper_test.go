package master

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rs/zerolog"
)

func TestLowest(t *testing.T) {
	tests := []struct {
		children []string
		want     string
	}{
		{nil, ""},
		{[]string{"log_replicas", "info_0000000001", "json.info_", "json.info_x", "json.info_-1"}, ""},
		{[]string{"json.info_0000000010", "log_replicas", "json.info_0000000009", "json.info_0000000011"}, "json.info_0000000009"},
		{[]string{"info_0000000001", "json.info_0000000002"}, "json.info_0000000002"},
		{[]string{"json.info_9999999999", "json.info_10000000000"}, "json.info_9999999999"},
	}
	for _, tt := range tests {
		if got, found := lowest(tt.children); got != tt.want || found != (tt.want != "") {
			t.Errorf("%q: %q %v", tt.children, got, found)
		}
	}
}

// As a master of Mesos 1.12 writes it.
const masterInfo = `{"address":{"hostname":"m1.example.com","ip":"10.0.0.1","port":5050},"capabilities":[{"type":"AGENT_UPDATE"}],"hostname":"m1.example.com","id":"6b0c","ip":16777226,"pid":"master@10.0.0.1:5050","port":5050,"version":"1.12.0"}`

func TestParseMaster(t *testing.T) {
	tests := []struct {
		name, data, scheme string
		want               master
	}{
		{"http", masterInfo, "http", master{"http://10.0.0.1:5050", "10.0.0.1:5050"}},
		{"https: certificates are for names", masterInfo, "https", master{"https://m1.example.com:5050", "10.0.0.1:5050"}},
		{"IPv6", `{"address":{"ip":"::1","port":5050}}`, "http", master{"http://[::1]:5050", "[::1]:5050"}},
		{"pid only", `{"pid":"master@10.0.0.2:5051"}`, "https", master{"https://10.0.0.2:5051", "10.0.0.2:5051"}},
		{"strange name", `{"address":{"hostname":"a/b","ip":"10.0.0.1","port":1}}`, "https", master{"https://10.0.0.1:1", "10.0.0.1:1"}},
		{"empty", `{}`, "http", master{}},
		{"no JSON", "\x0a\x04", "http", master{}},
		{"port out of range", `{"address":{"ip":"10.0.0.1","port":99999}}`, "http", master{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseMaster([]byte(tt.data), tt.scheme)
			if got != tt.want || (err != nil) != (tt.want == master{}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func FuzzParseMaster(f *testing.F) {
	f.Add([]byte(masterInfo))
	f.Add([]byte(`{"pid":"master@h:1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseMaster(data, "http")
		if err == nil && checkHostPort(got.address) != nil {
			t.Errorf("address %q", got.address)
		}
	})
}

func FuzzNewFinder(f *testing.F) {
	for _, seed := range []string{oneMaster, threeMasters, "zk://u:p@z:2181/mesos", "zk://z:1,z:2/a/b", "https://[::1]:5050"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, masters string) {
		found, err := newFinder(Config{Masters: masters}, zerolog.Nop())
		if a, ok := found.(*addresses); ok && err == nil {
			for _, m := range a.all {
				if _, ok := redirect(m, "//host:1/x"); !ok {
					t.Errorf("%q gives the unusable %q", masters, m.url)
				}
			}
		}
	})
}

func FuzzRedirect(f *testing.F) {
	f.Add("//m2:5050/master/api/v1/scheduler")
	f.Add("http://m2:5050")
	f.Add("https://u:p@m2:5050/")
	f.Fuzz(func(t *testing.T, location string) {
		if got, ok := redirect(master{url: "https://m1:5050"}, location); ok && got.url[:8] != "https://" {
			t.Errorf("%q leads to %q", location, got.url)
		}
	})
}

func TestRedirect(t *testing.T) {
	tests := []struct{ from, location, want string }{
		{"http://m1:5050", "//m2:5050/master/api/v1/scheduler", "http://m2:5050"},
		{"https://m1:5050", "//m2:5050/master/api/v1/scheduler", "https://m2:5050"},
		{"http://m1:5050", "https://m2:5050/", "https://m2:5050"},
		{"https://m1:5050", "http://m2:5050/", ""},
		{"http://m1:5050", "", ""},
		{"http://m1:5050", "//m2/x", ""},
		{"http://m1:5050", "//u:p@m2:5050/", ""},
		{"http://m1:5050", "/elsewhere", "http://m1:5050"},
	}
	for _, tt := range tests {
		if got, _ := redirect(master{url: tt.from}, tt.location); got.url != tt.want {
			t.Errorf("%s -> %s: %q, want %q", tt.from, tt.location, got.url, tt.want)
		}
	}
}

// fakeZookeeper holds the nodes of one path in memory.
type fakeZookeeper struct {
	mu      sync.Mutex
	exists  bool
	nodes   map[string]string
	watches []chan zk.Event
	err     error
	reads   int
}

func (z *fakeZookeeper) watch() chan zk.Event {
	ch := make(chan zk.Event, 1)
	z.watches = append(z.watches, ch)
	return ch
}

func (z *fakeZookeeper) ChildrenW(string) ([]string, *zk.Stat, <-chan zk.Event, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.reads++
	switch {
	case z.err != nil:
		return nil, nil, nil, z.err
	case !z.exists:
		return nil, nil, nil, zk.ErrNoNode
	}
	var names []string
	for name := range z.nodes {
		names = append(names, name)
	}
	return names, nil, z.watch(), nil
}

func (z *fakeZookeeper) ExistsW(string) (bool, *zk.Stat, <-chan zk.Event, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.exists, nil, z.watch(), z.err
}

func (z *fakeZookeeper) Get(path string) ([]byte, *zk.Stat, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if data, ok := z.nodes[path[len("/mesos/"):]]; ok {
		return []byte(data), nil, nil
	}
	return nil, nil, zk.ErrNoNode
}

// change fires the watches.
func (z *fakeZookeeper) change(change func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	change()
	for _, watch := range z.watches {
		watch <- zk.Event{}
		close(watch)
	}
	z.watches = nil
}

func node(port int) string { return fmt.Sprintf(`{"pid":"master@10.0.0.1:%d"}`, port) }

func TestZookeeper_FollowsTheElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := newZookeeperFinder("z:2181/mesos", false, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		z := &fakeZookeeper{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.watch(ctx, z) }()
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			if got, _ := f.leader(short); got.address != want {
				t.Errorf("%s: leader %q, want %q", when, got.address, want)
			}
		}
		expect("no path", "")
		z.change(func() { z.exists = true })
		expect("no master", "")
		z.change(func() { z.nodes = map[string]string{"json.info_0000000003": node(3), "log_replicas": ""} })
		expect("one", "10.0.0.1:3")
		lead, _ := f.leader(ctx)
		moved := f.moved(lead)
		z.change(func() { z.nodes["json.info_0000000007"] = node(7) })
		expect("a second one", "10.0.0.1:3")
		select {
		case <-moved:
			t.Error("moved although the leader is the same")
		default:
		}
		z.change(func() { z.nodes = nil })
		expect("none: kept until another leads", "10.0.0.1:3")
		z.change(func() { z.nodes = map[string]string{"json.info_0000000007": node(7)} })
		expect("the second one takes over", "10.0.0.1:7")
		<-moved
		<-f.moved(lead)

		z.mu.Lock()
		z.reads = 0
		z.mu.Unlock()
		z.change(func() { z.err = errors.New("connection lost") })
		time.Sleep(time.Minute)
		expect("ZooKeeper away", "10.0.0.1:7")
		if z.reads > 62 {
			t.Errorf("%d attempts in a minute", z.reads)
		}
		z.change(func() { z.err, z.nodes = nil, map[string]string{"json.info_0000000008": "nonsense"} })
		time.Sleep(2 * time.Second)
		expect("a node that cannot be read", "10.0.0.1:7")
		z.change(func() { z.nodes = map[string]string{"json.info_0000000009": node(9)} })
		time.Sleep(2 * time.Second)
		expect("back again", "10.0.0.1:9")
		cancel()
		<-done
	})
}

// Nobody answers at the servers' address: Run must still end promptly.
func TestZookeeper_RunEndsWithItsContext(t *testing.T) {
	c, err := New(Config{Masters: "zk://u:p@127.0.0.1:1/mesos"}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := c.Run(ctx, func() Framework { return Framework{} }, &recorder{}); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
