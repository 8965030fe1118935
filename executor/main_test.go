package executor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pacer/executor/artifact"
	"pacer/executor/process"
)

func TestMain(m *testing.M) {
	process.RunShim()
	artifact.RunFetcher()
	if role := os.Getenv("PACER_TEST_ROLE"); role != "" {
		playRole(role)
	}
	goleak.VerifyTestMain(m)
}

// playRole is what this binary does as a task.
func playRole(role string) {
	if role != "serve" {
		fmt.Fprintln(os.Stderr, "unknown role")
		os.Exit(64)
	}
	// A service: healthy while the file "sick" is not there, and slow to go.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(65)
	}
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := os.Stat("sick"); err == nil {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
	}()
	<-ctx.Done()
	fmt.Println("finishing")
	time.Sleep(100 * time.Millisecond) // requests under way
	fmt.Println("bye")
	os.Exit(0)
}
