package standin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"pacer/integration/zookeeper"
)

func TestMain(m *testing.M) {
	code := zookeeper.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func connect(t *testing.T, address string) *zk.Conn {
	t.Helper()
	conn, events, err := zk.Connect([]string{address}, 4*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn
			}
		case <-ctx.Done():
			t.Fatal("no session within 20s")
		}
	}
}

// The same life on the stand-in and on the real server.
func TestZooKeeper_BehavesAsTheRealServer(t *testing.T) {
	for _, kind := range []string{"stand-in", "real"} {
		t.Run(kind, func(t *testing.T) {
			var address string
			if kind == "real" {
				address = zookeeper.Shared(t).Addr()
			} else {
				server, err := StartZooKeeper()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(server.Close)
				address = server.Address()
			}
			reader, owner := connect(t, address), connect(t, address)
			acl := zk.WorldACL(zk.PermAll)
			root := fmt.Sprintf("/standin-%d", time.Now().UnixNano())
			if _, err := reader.Create(root+"/a", nil, 0, acl); !errors.Is(err, zk.ErrNoNode) {
				t.Errorf("create below nothing: %v", err)
			}
			if _, err := reader.Create(root, []byte("r"), 0, acl); err != nil {
				t.Fatal(err)
			}
			if _, err := reader.Create(root, nil, 0, acl); !errors.Is(err, zk.ErrNodeExists) {
				t.Errorf("create again: %v", err)
			}
			_, _, changed, err := reader.ChildrenW(root)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				path, err := owner.Create(root+"/member_", []byte("x"), zk.FlagEphemeral|zk.FlagSequence, acl)
				if want := fmt.Sprintf("%s/member_%010d", root, i); err != nil || path != want {
					t.Errorf("created %s, %v, want %s", path, err, want)
				}
			}
			if _, err := owner.Create(root+"/member_0000000000/x", nil, 0, acl); !errors.Is(err, zk.ErrNoChildrenForEphemerals) {
				t.Errorf("child of an ephemeral: %v", err)
			}
			if event := <-changed; event.Type != zk.EventNodeChildrenChanged || event.Path != root {
				t.Errorf("event %+v", event)
			}
			data, stat, err := reader.Get(root + "/member_0000000001")
			if err != nil || string(data) != "x" || stat.EphemeralOwner != owner.SessionID() {
				t.Errorf("got %q, %+v, %v", data, stat, err)
			}
			if err := owner.Delete(root+"/member_0000000001", 7); !errors.Is(err, zk.ErrBadVersion) {
				t.Errorf("delete of another version: %v", err)
			}
			if err := owner.Delete(root+"/member_0000000001", -1); err != nil {
				t.Error(err)
			}
			if err := owner.Delete(root, -1); !errors.Is(err, zk.ErrNotEmpty) {
				t.Errorf("delete with children: %v", err)
			}
			children, _, gone, err := reader.ChildrenW(root)
			slices.Sort(children)
			if err != nil || !slices.Equal(children, []string{"member_0000000000", "member_0000000002"}) {
				t.Errorf("children %v, %v", children, err)
			}
			if _, err := reader.Set(root, []byte("s"), 0); err != nil {
				t.Error(err)
			}
			if exists, _, err := reader.Exists(root + "/none"); exists || err != nil {
				t.Errorf("exists: %v, %v", exists, err)
			}
			owner.Close()
			<-gone
			for deadline := time.Now().Add(10 * time.Second); ; {
				children, _, again, err := reader.ChildrenW(root)
				if err != nil {
					t.Fatal(err)
				}
				if len(children) == 0 {
					break
				}
				select {
				case <-again:
				case <-time.After(time.Until(deadline)):
					t.Fatalf("ephemerals %v outlive their session", children)
				}
			}
		})
	}
}

func TestZooKeeper_EndsSessionsThatFallSilent(t *testing.T) {
	server, err := StartZooKeeper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	reader := connect(t, server.Address())

	// A client by hand, which can die without a word.
	conn, err := net.Dial("tcp", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	silent := &zkConn{net: conn}
	var hello writer
	hello.int32(0)
	hello.int64(0)
	hello.int32(2000)
	hello.int64(0)
	hello.bytes(make([]byte, 16))
	silent.send(hello)
	if _, err := silent.read(); err != nil {
		t.Fatal(err)
	}
	var create writer
	create.int32(1)
	create.int32(opCreate)
	create.string("/silent")
	create.bytes(nil)
	create.int32(0)
	create.int32(flagEphemeral)
	silent.send(create)
	if _, err := silent.read(); err != nil {
		t.Fatal(err)
	}
	exists, _, changed, err := reader.ExistsW("/silent")
	if err != nil || !exists {
		t.Fatalf("exists: %v, %v", exists, err)
	}
	select {
	case event := <-changed:
		if event.Type != zk.EventNodeDeleted {
			t.Errorf("event %+v", event)
		}
	case <-time.After(20 * time.Second):
		t.Error("the node outlives a session that fell silent")
	}
}

func FuzzRequest(f *testing.F) {
	var create writer
	create.int32(1)
	create.int32(opCreate)
	create.string("/a")
	create.bytes([]byte("x"))
	create.int32(0)
	create.int32(flagSequential)
	f.Add([]byte(create))
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 101, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, request []byte) {
		near, far := net.Pipe()
		near.Close()
		defer far.Close()
		server := &ZooKeeper{tree: newTree(), sessions: map[int64]*zkSession{}}
		c := &zkConn{server: server, net: far, session: &zkSession{id: 1}}
		c.handle(&reader{rest: request})
		for path, n := range server.tree.nodes {
			if path != "/" && n.created == 0 {
				t.Errorf("node %q was never created", path)
			}
		}
	})
}
