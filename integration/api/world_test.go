package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	emulator "pacer/integration/mesos"
	mesosmaster "pacer/integration/mesos/master"
	"pacer/integration/mesos/simulated"
	"pacer/scheduler"
	"pacer/scheduler/api"
	"pacer/scheduler/master"
	"pacer/scheduler/state/bolt"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// newCluster starts a cluster of simulated agents whose tasks take life's
// times.
func newCluster(t emulator.T, agents int, life simulated.Life) *emulator.Cluster {
	return emulator.New(t, emulator.Config{
		Agents:    -1, // none with processes
		Master:    mesosmaster.Config{AllocationInterval: 20 * time.Millisecond},
		Simulated: &simulated.Config{Agents: agents, Life: life, Attributes: func(i int) string { return fmt.Sprintf("rack:r%d", i%3) }},
	})
}

// brisk is a life in which all takes a little time.
func brisk() simulated.Life {
	return simulated.Life{
		Executor: simulated.Always(5 * time.Millisecond), Staging: simulated.Span{Min: 5 * time.Millisecond, Max: 40 * time.Millisecond},
		Health: simulated.Span{Min: 5 * time.Millisecond, Max: 60 * time.Millisecond}, Kill: simulated.Span{Min: time.Millisecond, Max: 30 * time.Millisecond},
		Killing: true,
	}
}

// world is a scheduler with its API.
type world struct {
	t         testing.TB
	scheduler *scheduler.Scheduler
	url       string
	client    *http.Client
	stop      func()
}

// newWorld starts a scheduler on a cluster; change may change its settings.
func newWorld(t testing.TB, cluster *emulator.Cluster, change ...func(*scheduler.Config)) *world {
	t.Helper()
	log := zerolog.Nop()
	if testing.Verbose() && os.Getenv("PACER_TEST_LOG") != "" {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "15:04:05.000"}).With().Timestamp().Logger()
	}
	config := scheduler.DefaultConfig()
	config.Framework.User = "nobody"
	config.Executor.URI = "http://127.0.0.1:1/executor" // simulated agents fetch nothing
	config.Executor.SHA256 = strings.Repeat("ab", 32)
	config.Times.RefuseUnfit = 200 * time.Millisecond
	for _, f := range change {
		f(&config)
	}
	store, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := master.New(master.Config{Masters: cluster.MasterURL()}, log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config.Leader = listener.Addr().String()
	s, err := scheduler.Open(t.Context(), config, store, client, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, scheduler: s, url: "http://" + config.Leader, client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 200}}}
	ctx, cancel := context.WithCancel(context.Background())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	go func() {
		served <- api.Serve(ctx, listener, nil, api.New(api.Config{Backend: s, Log: log, Metrics: prometheus.NewRegistry(), LocalOnly: true}), log)
	}()
	w.stop = func() {
		w.stop = func() {}
		w.client.CloseIdleConnections()
		cancel()
		for what, err := range map[string]error{"scheduler": <-ran, "API": <-served, "store": store.Close()} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	t.Cleanup(func() { w.stop() })
	w.until("the scheduler is ready", func() bool { return s.Ready(t.Context()) == nil })
	return w
}

// until waits for a condition; what names it.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			queue, _ := w.scheduler.Queue(w.t.Context())
			for _, item := range queue {
				w.t.Logf("%d of %s wait: %s", item.Count, item.App.ID, item.Reason)
			}
			w.t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}

// settled waits until no deployment is under way.
func (w *world) settled() {
	w.t.Helper()
	w.until("all deployments end", func() bool {
		deployments, err := w.scheduler.Deployments(w.t.Context())
		return err == nil && len(deployments) == 0
	})
}

// do sends a request and decodes the reply into out, if that is not nil.
func (w *world) do(method, path, body string, out any) int {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewBufferString(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := w.client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			w.t.Fatalf("%s %s: %d %s", method, path, response.StatusCode, data)
		}
	}
	return response.StatusCode
}

// must is do for what has to succeed.
func (w *world) must(method, path, body string, out any) {
	w.t.Helper()
	var raw json.RawMessage
	if code := w.do(method, path, body, &raw); code >= 300 {
		w.t.Fatalf("%s %s: %d %s", method, path, code, raw)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			w.t.Fatal(err)
		}
	}
}
