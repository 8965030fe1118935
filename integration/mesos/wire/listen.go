package wire

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// rebindLimit bounds how long Listen waits for a port that is still in use.
const rebindLimit = 5 * time.Second

// Listen listens on a TCP address that a dead server may have had a moment ago.
// Closing a listener does not free its port at once: a child process that is
// being made at that moment has a copy of it until it executes its program.
func Listen(address string) (net.Listener, error) {
	for deadline := time.Now().Add(rebindLimit); ; {
		listener, err := net.Listen("tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return listener, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
