package failover_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"testing"

	"pacer/integration/binaries"
	"pacer/scheduler/api"
)

// serviceRole makes this test binary the service that tasks run.
const serviceRole = "PACER_TEST_SERVICE"

var (
	programs binaries.Built
	executor *api.Executor
)

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
	if executor, err = api.OpenExecutor(programs.Path(binaries.Executor)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer executor.Close()
	return m.Run()
}

// serve answers until SIGTERM.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{
		Addr:    "127.0.0.1:" + os.Getenv("PORT0"),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }),
	}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	if err := server.Shutdown(context.Background()); err != nil {
		return err
	}
	<-served
	return nil
}

// self is the user that everything runs as.
func self(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}
