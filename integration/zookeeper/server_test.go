package zookeeper

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestSessionPassword_IsWhatTheServerGives(t *testing.T) {
	s := Shared(t)
	// killSession proves the password for an id that the server chose.
	conn := s.Connect(t)
	if err := s.KillSession(t.Context(), conn.SessionID()); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(sessionPassword(1), sessionPassword(2)) {
		t.Error("passwords do not depend on the session")
	}
}

func TestKillSession_EphemeralsAreGone(t *testing.T) {
	s := Shared(t)
	conn, other := s.Connect(t), s.Connect(t)
	path := "/" + t.Name()
	if _, err := conn.Create(path, nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	_, stat, err := other.Exists(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.KillSession(t.Context(), stat.EphemeralOwner); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := other.Exists(path); err != nil || ok {
		t.Errorf("ephemeral node after KillSession: exists=%v, error %v; want it gone", ok, err)
	}
	if err := s.KillSession(t.Context(), stat.EphemeralOwner); err == nil {
		t.Error("killing a dead session succeeded")
	}
}

func TestRestart_KeepsDataAndPort(t *testing.T) {
	s := Start(t, Options{})
	addr := s.Addr()
	conn := s.Connect(t)
	if _, err := conn.Create("/kept", []byte("x"), 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []func(){s.Stop, s.Kill} {
		stop()
		if _, err := s.Ask(t.Context(), "srvr"); err == nil {
			t.Fatal("a stopped server answers")
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		data, _, err := s.Connect(t).Get("/kept")
		if err != nil || string(data) != "x" || s.Addr() != addr {
			t.Fatalf("after restart: data %q at %s, error %v; want %q at %s", data, s.Addr(), err, "x", addr)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	if err := Installed(); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		start := time.Now()
		s, err := Run(b.Context(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-to-ready")
		s.Close()
	}
}
