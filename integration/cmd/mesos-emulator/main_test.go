package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, arguments ...string) flags {
	t.Helper()
	var f flags
	parser, err := kong.New(&f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRunServesUntilItIsInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "work")
	f := parse(t, "--agents=2", "--port=0", "--work-dir="+dir, "--attributes=rack:r1", "--log-level=error")
	ctx, interrupt := context.WithTimeout(t.Context(), time.Minute)
	defer interrupt()
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, f, write, io.Discard)
		write.Close()
		done <- err
	}()
	lines := bufio.NewScanner(read)
	var urls []string
	for lines.Scan() && lines.Text() != "interrupt to end" {
		for _, word := range strings.Fields(lines.Text()) {
			if strings.HasPrefix(word, "http://") {
				urls = append(urls, word)
			}
		}
	}
	if len(urls) != 3 {
		t.Fatalf("printed %v, want the master and two agents", urls)
	}
	for _, url := range urls {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s/health: %s", url, response.Status)
		}
	}
	interrupt()
	for lines.Scan() {
		t.Errorf("printed %q after the end", lines.Text())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "agent-1")); err != nil {
		t.Errorf("a work directory that was asked for is kept: %v", err)
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, want string
		arguments  []string
	}{
		{"agents", "--agents -1", []string{"--agents=-1"}},
		{"port", "--port 70000", []string{"--port=70000"}},
		{"resources", `"cpus"`, []string{"--port=0", "--resources=cpus"}},
		{"attributes", `"rack"`, []string{"--port=0", "--attributes=rack"}},
		{"interval", "AllocationInterval", []string{"--port=0", "--allocation-interval=-1s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := run(t.Context(), parse(t, c.arguments...), io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to name %s", err, c.want)
			}
		})
	}
}
