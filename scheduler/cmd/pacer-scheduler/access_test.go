package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tokenSum is what "printf %s t0ken | sha256sum" prints.
const tokenSum = "b46c09677343261f0b439a472422225e3a230c9c094d6ab16762e2036b597053"

// With users and rules the API listens beyond loopback, and asks who it is.
func TestRun_GuardedBeyondLoopback(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	users := write("users", "ci:sha256:"+tokenSum+"\n")
	rules := write("rules", "/shop * ci\n")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--master=http://127.0.0.1:1", "--state=bolt:" + filepath.Join(dir, "state.db"), "--listen=0.0.0.0:" + port, "--public-listen=127.0.0.1:0",
		"--executor=" + write("pacer-executor", "#!/bin/sh\n"), "--user=nobody",
	}
	if _, err := parse(args, os.Stdout); err == nil || !strings.Contains(err.Error(), "--users-file") {
		t.Fatalf("without users: %v", err)
	}
	f, err := parse(append(args, "--users-file="+users, "--rules-file="+rules), os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	started := &waiter{text: `"started"`, seen: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- run(ctx, f, started) }()
	select {
	case <-started.seen:
	case err := <-done:
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, test := range []struct {
		authorization, path string
		status              int
	}{
		{"", "/ping", 200},
		{"", "/v2/apps", 401},
		{"Bearer other", "/v2/apps", 401},
		{"Bearer t0ken", "/v2/apps", 200},
		{"Bearer t0ken", "/v2/apps/web", 403},
		{"Bearer t0ken", "/v2/apps/shop/cart", 404},
	} {
		deadline := time.Now().Add(30 * time.Second)
		for {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", test.authorization)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			// Until the state is loaded it is a standby without a leader.
			if response.StatusCode == test.status {
				break
			}
			if response.StatusCode < 500 || time.Now().After(deadline) {
				t.Errorf("%s as %q: %d, want %d", test.path, test.authorization, response.StatusCode, test.status)
				break
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
