package api

import (
	"net"
	"testing"
	"time"
)

// More connections than there are slots wait until one is closed.
func TestLimit_BoundsConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimit(inner, 2)
	accepted := make(chan net.Conn, 3)
	done := make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				done <- err
				return
			}
			accepted <- conn
		}
	}()
	for range 3 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Error("a third connection is accepted beside two")
	case <-time.After(100 * time.Millisecond): // it must not come at all
	}
	for range 2 { // closing twice frees one slot
		_ = first.Close()
	}
	third := <-accepted
	if len(l.slots) != 2 {
		t.Errorf("%d slots are taken", len(l.slots))
	}
	// Closing the listener ends waiting for a slot, too.
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("no error of a closed listener")
	}
	for _, conn := range []net.Conn{second, third} {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
