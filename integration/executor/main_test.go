package executor_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// serviceRole makes this test binary the service that tasks run.
const serviceRole = "TEST_SERVICE"

// binary is the executor, built once.
var binary string

func TestMain(m *testing.M) {
	if role := os.Getenv(serviceRole); role != "" {
		play := serve
		if strings.HasPrefix(role, "write ") {
			play = write
		}
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pacer-executor-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Agents run executors as other users, too.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "pacer-executor")
	build := exec.Command("go", "build", "-o", binary, "pacer/executor/cmd/pacer-executor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the executor: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// write is a task that writes lines at a rate, and says how many bytes it could.
func write() error {
	var rate, seconds int
	if _, err := fmt.Sscanf(os.Getenv(serviceRole), "write %d MB/s for %d s", &rate, &seconds); err != nil {
		return err
	}
	block := bytes.Repeat(append(bytes.Repeat([]byte("x"), 99), '\n'), 100)
	sent := 0
	for start := time.Now(); time.Since(start) < time.Duration(seconds)*time.Second; time.Sleep(time.Millisecond) {
		for ; float64(sent) < time.Since(start).Seconds()*float64(rate)*1e6; sent += len(block) {
			if _, err := os.Stdout.Write(block); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(os.Stderr, sent)
	return nil
}

// serve is a service that finishes its requests after SIGTERM. When that comes
// it prints how many members its ServerSet has, if it is told where that is.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		return err
	}
	var conn *zk.Conn
	if servers := os.Getenv("ZK"); servers != "" {
		if conn, _, err = zk.Connect([]string{servers}, 10*time.Second, zk.WithLogInfo(false)); err != nil {
			return err
		}
		defer conn.Close()
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println("environment", strings.Join(os.Environ(), " "))
	<-ctx.Done()
	if conn != nil {
		members, _, err := conn.Children(os.Getenv("SERVERSET"))
		if err != nil {
			return err
		}
		fmt.Println("members at SIGTERM", len(members))
	}
	if err := server.Shutdown(context.Background()); err != nil {
		return err
	}
	<-served
	fmt.Println("bye")
	return nil
}
