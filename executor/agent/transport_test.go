package agent

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/rs/zerolog"

	"pacer/executor/mesosapi/apitest"
)

// The client as an agent's environment makes it, over real sockets.
func TestTransports(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent.sock")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		path  string
		start func(handler http.Handler) (*httptest.Server, map[string]string)
	}{
		{"http", "/api/v1/executor", func(h http.Handler) (*httptest.Server, map[string]string) {
			server := httptest.NewServer(h)
			return server, map[string]string{"MESOS_AGENT_ENDPOINT": server.Listener.Addr().String()}
		}},
		{"https", "/api/v1/executor", func(h http.Handler) (*httptest.Server, map[string]string) {
			server := httptest.NewTLSServer(h)
			ca := filepath.Join(dir, "ca.pem")
			if err := os.WriteFile(ca, pemOf(server), 0o600); err != nil {
				t.Fatal(err)
			}
			return server, map[string]string{
				"MESOS_AGENT_ENDPOINT":    server.Listener.Addr().String(),
				"LIBPROCESS_SSL_ENABLED":  "1",
				"PACER_AGENT_CA":          ca,
				"PACER_AGENT_SERVER_NAME": "example.com",
			}
		}},
		{"domain socket", "/slave(1)/api/v1/executor", func(h http.Handler) (*httptest.Server, map[string]string) {
			server := &httptest.Server{Listener: unix, Config: &http.Server{Handler: h}}
			server.Start()
			return server, map[string]string{"MESOS_DOMAIN_SOCKET": socket}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requests := make(chan *http.Request, 10)
			server, changes := tt.start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests <- r
				w.Header().Set("Content-Type", "application/x-protobuf")
				w.Write(apitest.Record(subscribedEvent()))
				w.Write(apitest.Record(&executor.Event{Type: executor.Event_SHUTDOWN}))
			}))
			defer server.Close()
			env := mesosEnvironment()
			for name, value := range changes {
				env[name] = value
			}
			config, err := read(env)
			if err != nil {
				t.Fatal(err)
			}
			client, err := New(config, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- client.Run(ctx, &recorder{}) }()
			select {
			case r := <-requests:
				if r.URL.Path != tt.path || r.Header.Get("Authorization") != "Bearer hunter2" {
					t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
				}
			case <-time.After(10 * time.Second):
				t.Error("no SUBSCRIBE")
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
