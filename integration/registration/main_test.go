package registration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"pacer/integration/binaries"
)

// serviceRole makes this test binary the service that tasks run.
const serviceRole = "PACER_REGISTRATION_SERVICE"

// programs are the scheduler and the executor.
var programs binaries.Built

func TestMain(m *testing.M) {
	if os.Getenv(serviceRole) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	var err error
	if programs, err = binaries.Build(binaries.Executor, binaries.Scheduler); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer programs.Remove()
	return m.Run()
}

// answer is what the service says to anybody.
type answer struct {
	Task string `json:"task"`
	PID  int    `json:"pid"`
}

// serviceTime is how long the service works on each request, so that some are
// always under way.
const serviceTime = 20 * time.Millisecond

// serve answers until SIGTERM, and then finishes what it has begun.
func serve() error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(serviceTime)
		// A client that is gone needs no answer.
		_ = json.NewEncoder(w).Encode(answer{os.Getenv("MESOS_TASK_ID"), os.Getpid()})
	})
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1) // so that the goroutine ends when nobody reads
	go func() { served <- server.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-stop.Done():
	}
	finish, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(finish)
}
