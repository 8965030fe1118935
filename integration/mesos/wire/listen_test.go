package wire

import (
	"net"
	"testing"
	"time"
)

func TestListen_WaitsForAPortThatIsBeingFreed(t *testing.T) {
	old, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	time.AfterFunc(50*time.Millisecond, func() { old.Close(); close(closed) })
	listener, err := Listen(old.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	<-closed
}
