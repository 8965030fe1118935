package consul

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/rs/zerolog"

	"pacer/executor/registry"
	"pacer/integration/hashicorp"
)

// harness is a registry under test, and the server that it registers with.
type harness struct {
	*registry.Reconciler
	services *Services
	server   *hashicorp.Consul
	log      *logBuffer
}

func newHarness(t testing.TB, server *hashicorp.Consul, c Config) *harness {
	t.Helper()
	if c.Address == "" {
		c.Address = server.Address
	}
	h := &harness{server: server, log: new(logBuffer)}
	log := zerolog.New(h.log)
	var err error
	if h.services, err = New(c, log); err != nil {
		t.Fatal(err)
	}
	h.Reconciler = registry.New(h.services, registry.Options{Log: log})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	})
	return h
}

// close closes the registry, which must succeed.
func (h *harness) close(t testing.TB) {
	t.Helper()
	if err := h.Close(within(t, 10*time.Second)); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func (h *harness) register(t testing.TB, list ...registry.Instance) {
	t.Helper()
	if err := h.Register(within(t, 10*time.Second), list); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) deregister(t testing.TB, list ...registry.Instance) {
	t.Helper()
	if err := h.Deregister(within(t, 10*time.Second), list); err != nil {
		t.Fatal(err)
	}
}

// found is what clients find under a name.
func found(t testing.TB, server *hashicorp.Consul, name string) []*api.ServiceEntry {
	t.Helper()
	list, _, err := server.Client.Health().Service(name, "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) count(text string) int { return strings.Count(l.String(), text) }

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, longest time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", longest, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// instance makes one of a service that only this test has.
func instance(t testing.TB, n int) registry.Instance {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	return registry.Instance{
		TaskID: fmt.Sprintf("%s.%d", name, n), Name: name[:min(len(name), 60)], App: "shop/cart",
		Host: "10.0.0.7", Port: 31000 + n, Shard: n,
	}
}
