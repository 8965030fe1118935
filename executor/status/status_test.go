package status

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor"
	"pacer/executor/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func example(now time.Time) Report {
	no := false
	return Report{
		Versions: Versions{Executor: "1.2", Go: "go1.26", Payload: 1}, Started: now.Add(-90 * time.Minute), PID: 7,
		FrameworkID: "f", ExecutorID: "pacer-1", AgentID: "a", Unacknowledged: 2,
		Cgroups: process.Status{Mode: process.ModeNone, Reason: "no cgroup is ours", Caveats: []string{"limits are not enforced"}},
		Snapshot: executor.Snapshot{
			Connection: executor.Connection{State: executor.Disconnected, Since: now.Add(-1500 * time.Millisecond)},
			Received:   9,
			Tasks: []executor.TaskView{
				{ID: "cart.1", App: "/cart", State: "running", Since: now.Add(-time.Hour), Received: now.Add(-time.Hour), User: "www", PID: 11,
					Healthy: &no, LastFailure: "HTTP 503", Registered: "no", WaitsFor: "its health check to pass: \x1b[31mHTTP\t503", Waits: now.Add(-time.Minute)},
				{ID: "batch.1", App: "/batch", State: "staging", Since: now, Received: now, User: "www"},
			},
		},
	}
}

func serve(t *testing.T, c Config, log io.Writer) *Server {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pacer_test", Help: "x"})
	registry.MustRegister(gauge)
	s := Serve(c, func() Report { return example(now) }, registry, zerolog.New(log))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRead_WorksInASandboxWhosePathIsTooLongForASocket(t *testing.T) {
	sandbox := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	// A socket from an earlier life is no obstacle.
	for range 2 {
		serve(t, Config{Sandbox: sandbox}, t.Output())
	}
	got, err := Read(t.Context(), sandbox)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(sandbox, SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestRead_SaysWhatIsWrong(t *testing.T) {
	empty, ended := t.TempDir(), t.TempDir()
	d, err := openDirectory(ended)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.listen()
	if err != nil {
		t.Fatal(err)
	}
	l.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	l.Close()
	d.close()
	for _, tc := range []struct{ name, sandbox, text string }{
		{"no sandbox", filepath.Join(empty, "none"), "no such file"},
		{"nothing there", empty, "give the sandbox of a running executor"},
		{"executor ended", ended, "its executor has ended"},
	} {
		if _, err := Read(t.Context(), tc.sandbox); err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestServe_OnTCPToo(t *testing.T) {
	s := serve(t, Config{Sandbox: t.TempDir(), Listen: "127.0.0.1:0"}, t.Output())
	address := s.addresses[1]
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, tc := range []struct {
		path, text string
		code       int
	}{
		{"/", `"state": "running"`, 200},
		{"/metrics", "pacer_test 0", 200},
		{"/debug/pprof/", "", 404},
	} {
		response, err := client.Get("http://" + address + tc.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != tc.code || !strings.Contains(string(body), tc.text) {
			t.Errorf("%s: %s %v\n%s", tc.path, response.Status, err, body)
		}
	}
	// A second executor with the same setting goes on without.
	var log strings.Builder
	other := t.TempDir()
	serve(t, Config{Sandbox: other, Listen: address}, &log)
	if !strings.Contains(log.String(), EnvListen) {
		t.Errorf("log: %s", &log)
	}
	if _, err := Read(t.Context(), other); err != nil {
		t.Error(err)
	}
}

func TestConfigFromEnv_RefusesWhatIsNoAddress(t *testing.T) {
	for value, ok := range map[string]bool{"": true, ":9300": true, "[::1]:9300": true, "9300": false, "localhost": false, "host:port": false} {
		c, err := ConfigFromEnv(func(string) string { return value })
		if (err == nil) != ok || ok && c.Listen != value {
			t.Errorf("%q: %+v, %v", value, c, err)
		}
	}
}

func TestPrint_IsATableWithoutControlCharacters(t *testing.T) {
	now := time.Now()
	var out strings.Builder
	if err := example(now).Print(&out, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"executor   pacer-1, version 1.2 (go1.26, payload 1), pid 7, up 1h30m",
		"agent      a, disconnected for 2s",
		"cgroups    none: no cgroup is ours",
		"tasks      2, 9 received so far",
		"cart.1   running  1h0m  no       no          11   www   1m0s for its health check to pass:  [31mHTTP 503",
		"batch.1  staging  0s    -        -           -    www   -",
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no line %q in\n%s", want, &out)
		}
	}
}
