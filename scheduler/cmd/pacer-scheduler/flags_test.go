package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParse_RefusesInOneLine(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"no master":          {nil, []string{"--master"}},
		"unknown flag":       {[]string{"--master=http://h:1", "--mastre=x"}, []string{"--mastre"}},
		"master":             {[]string{"--master=h:5050"}, []string{"--master=h:5050", "zk://"}},
		"state":              {[]string{"--master=http://h:1", "--state=/tmp/x"}, []string{"--state=/tmp/x", "bolt:"}},
		"listen":             {[]string{"--master=http://h:1", "--listen=8080"}, []string{"--listen=8080", "host:port"}},
		"listen beyond":      {[]string{"--master=http://h:1", "--listen=0.0.0.0:8080"}, []string{"--listen=0.0.0.0:8080", "127.0.0.1:8080", "authentication"}},
		"listen everywhere":  {[]string{"--master=http://h:1", "--listen=:8080"}, []string{"--listen=:8080", "127.0.0.1:8080"}},
		"advertise":          {[]string{"--master=http://h:1", "--advertise=host:1"}, []string{"--advertise=host:1", "http://host:port"}},
		"rules alone":        {[]string{"--master=http://h:1", "--rules-file=r"}, []string{"--rules-file=r", "--users-file"}},
		"users alone":        {[]string{"--master=http://h:1", "--users-file=u"}, []string{"--rules-file", "--users-file"}},
		"certificate alone":  {[]string{"--master=http://h:1", "--tls-cert=c"}, []string{"--tls-key", "--tls-cert"}},
		"duration":           {[]string{"--master=http://h:1", "--failover-timeout=7d"}, []string{"--failover-timeout", "7d"}},
		"number":             {[]string{"--master=http://h:1", "--executor-cpus=many"}, []string{"--executor-cpus", "many"}},
		"negative":           {[]string{"--master=http://h:1", "--executor-mem=-1"}, []string{"--executor-mem=-1", "positive"}},
		"environment":        {[]string{"--master=http://h:1", "--executor-env=FOO"}, []string{"--executor-env=FOO", "NAME=VALUE"}},
		"sha without uri":    {[]string{"--master=http://h:1", "--executor-sha256=ab"}, []string{"--executor-sha256=ab", "--executor-uri"}},
		"principal alone":    {[]string{"--master=http://h:1", "--principal=p"}, []string{"--secret-file", "--principal"}},
		"placement":          {[]string{"--master=http://h:1", "--placement=best"}, []string{"--placement=best", "spread or pack"}},
		"log level":          {[]string{"--master=http://h:1", "--log-level=loud"}, []string{"--log-level=loud", "debug"}},
		"two at once":        {[]string{"--master=x", "--state=y"}, []string{"--master=x", "--state=y"}},
		"stray argument":     {[]string{"--master=http://h:1", "now"}, []string{"now"}},
		"no value of a flag": {[]string{"--master"}, []string{"--master"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			f, err := parse(test.args, &out)
			if err == nil {
				t.Fatalf("took %v: %+v", test.args, f)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if out.Len() > 0 {
				t.Errorf("printed %q beside the error", out.String())
			}
		})
	}
}

func TestParse_EnvironmentVariables(t *testing.T) {
	t.Setenv("PACER_MASTER", "zk://a:1/mesos")
	t.Setenv("PACER_PUBLIC_LISTEN", ":9999")
	t.Setenv("PACER_EXECUTOR_URI", "http://h/x")
	t.Setenv("PACER_EXECUTOR_SHA256", "ab")
	t.Setenv("PACER_EXECUTOR_ENV", "PACER_ALLOWED_USERS=a,b\nVAULT_ADDR=https://v:8200?a=b\n")
	f, err := parse([]string{"--public-listen=:1"}, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	if f.Master != "zk://a:1/mesos" || f.PublicListen != ":1" || f.ExecutorSHA256 != "ab" {
		t.Errorf("master %q, public-listen %q, executor-sha256 %q; a flag counts more than a variable", f.Master, f.PublicListen, f.ExecutorSHA256)
	}
	config, err := f.config()
	if err != nil {
		t.Fatal(err)
	}
	got := config.Executor.Environment
	if len(got) != 2 || got["PACER_ALLOWED_USERS"] != "a,b" || got["VAULT_ADDR"] != "https://v:8200?a=b" {
		t.Errorf("environment of executors: %v", got)
	}
}

func TestParse_HelpAndVersion(t *testing.T) {
	for arg, want := range map[string]string{"--help": "--executor-shutdown-grace", "--version": version} {
		var out bytes.Buffer
		f, err := parse([]string{arg}, &out)
		if f != nil || err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %v, printed %q", arg, f, err, out.String())
		}
	}
	var out bytes.Buffer
	if _, err := parse([]string{"--help"}, &out); err != nil {
		t.Fatal(err)
	}
	flags := strings.Count(out.String(), "($PACER_")
	if defaults := strings.Count(strings.ReplaceAll(out.String(), "\n", " "), "Default:"); defaults < flags-2 {
		t.Errorf("%d flags, %d say their default:\n%s", flags, defaults, out.String())
	}
}

func TestRun_SecondSchedulerIsRefused(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "pacer-executor")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := parse([]string{
		"--master=http://127.0.0.1:1", "--state=bolt:" + filepath.Join(dir, "state.db"), "--listen=127.0.0.1:0",
		"--public-listen=127.0.0.1:0", "--executor=" + binary, "--user=nobody",
	}, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	started := &waiter{text: `"started"`, seen: make(chan struct{})}
	first := make(chan error, 1)
	go func() { first <- run(ctx, f, started) }()
	select {
	case <-started.seen:
	case err := <-first:
		t.Fatalf("first: %v", err)
	}
	var out bytes.Buffer
	if err := run(ctx, f, &out); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second: %v", err)
	}
	cancel()
	if err := <-first; err != nil {
		t.Errorf("first after its context ended: %v", err)
	}
}

// waiter tells when a text has been written.
type waiter struct {
	text string
	seen chan struct{}
	mu   sync.Mutex
	done bool
}

func (w *waiter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done && strings.Contains(string(p), w.text) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}
