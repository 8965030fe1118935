package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pacer/scheduler/api"
	"pacer/scheduler/api/apitest"
	"pacer/scheduler/app"
)

// renderedBackend lists apps that are rendered already, as the scheduler's are.
type renderedBackend struct {
	*apitest.Backend
	apps []api.AppStatus
}

func (b renderedBackend) Apps(_ context.Context, _ api.Embed, yield func(api.AppStatus) bool) error {
	for _, status := range b.apps {
		if !yield(status) {
			break
		}
	}
	return nil
}

// countingWriter is a client that reads at once.
type countingWriter struct {
	header http.Header
	size   int
}

func (w *countingWriter) Header() http.Header { return w.header }
func (w *countingWriter) WriteHeader(int)     {}
func (w *countingWriter) Write(p []byte) (int, error) {
	w.size += len(p)
	return len(p), nil
}

// Everything that marathon-lb asks for, of 1,500 apps with 10,000 tasks.
func BenchmarkListAppsWithTasks(b *testing.B) {
	const apps, tasks = 1500, 10_000
	backend := renderedBackend{Backend: apitest.New()}
	for i := range apps {
		id := fmt.Sprintf("/team-%d/app-%d", i%50, i)
		definition, err := app.Parse([]byte(fmt.Sprintf(`{"id":%q,"cmd":"./app","labels":{"HAPROXY_GROUP":"external","secret.env.PW":"secret/app#pw"},"healthChecks":[{"path":"/health"}]}`, id)))
		if err != nil {
			b.Fatal(err)
		}
		status := api.AppStatus{App: definition, JSON: definition.JSON()}
		for j := range tasks / apps {
			status.Tasks = append(status.Tasks, &api.Task{
				ID: fmt.Sprintf("team_app.%d.%d", i, j), AppID: id, State: "TASK_RUNNING", Host: "node1.example.com", AgentID: "a-S1", IP: "10.0.0.1", Ports: []int{31000 + j},
				StagedAt: apitest.Epoch, StartedAt: apitest.Epoch.Add(time.Second), Version: 1772366400007, Health: &api.Health{Alive: true, Since: apitest.Epoch},
			})
		}
		backend.apps = append(backend.apps, status)
	}
	handler := api.New(api.Config{Backend: backend, Log: zerolog.Nop(), Metrics: prometheus.NewRegistry()})
	for name, target := range map[string]string{"apps": "/v2/apps", "apps and tasks": "/v2/apps?embed=apps.tasks"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				w := &countingWriter{header: http.Header{}}
				handler.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), "GET", target, nil))
				size = w.size
			}
			b.ReportMetric(float64(size), "bytes/reply")
		})
	}
}
