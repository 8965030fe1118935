package consul

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"pacer/executor/registry"
	"pacer/integration/hashicorp"
)

// TestServices has one server for what neither stops nor configures it.
func TestServices(t *testing.T) {
	server := hashicorp.StartConsul(t, hashicorp.ConsulOptions{})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *hashicorp.Consul)
	}{
		{"P1_RegisteredMeansFindable", registeredMeansFindable},
		{"RegisterIsIdempotent", registerIsIdempotent},
		{"BeatsKeepEntriesPassing", beatsKeepEntriesPassing},
		{"DeletedByOthersComesBack", deletedByOthersComesBack},
		{"DeletedFromTheCatalogComesBack", deletedFromTheCatalogComesBack},
		{"LeftoversOfDeadExecutors", leftoversOfDeadExecutors},
		{"MaintenanceIsNotFound", maintenanceIsNotFound},
		{"TLS", overTLS},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, server) })
	}
}

func registeredMeansFindable(t *testing.T, server *hashicorp.Consul) {
	h := newHarness(t, server, Config{})
	defer h.close(t)
	inst := instance(t, 3)
	inst.Tags, inst.Endpoints = []string{"v2", "canary"}, map[string]int{"admin": 31900, "not a key": 1}
	for range 20 {
		h.register(t, inst)
		got := found(t, server, inst.Name)
		if len(got) != 1 {
			t.Fatalf("%d entries when Register returned, want one", len(got))
		}
		service := got[0].Service
		if service.Address != inst.Host || service.Port != inst.Port || service.ID != inst.TaskID+"_"+inst.Name+"_31003" {
			t.Fatalf("entry %s at %s:%d", service.ID, service.Address, service.Port)
		}
		if want := []string{"marathon", "marathon-task:" + inst.TaskID, "v2", "canary"}; !slices.Equal(service.Tags, want) {
			t.Fatalf("tags %q, want %q", service.Tags, want)
		}
		if diff := cmp.Diff(map[string]string{
			"pacer-task": inst.TaskID, "pacer-app": "shop/cart", "pacer-shard": "3", "pacer-port-admin": "31900",
		}, service.Meta); diff != "" {
			t.Fatal(diff)
		}
		h.deregister(t, inst)
		if got := found(t, server, inst.Name); len(got) != 0 {
			t.Fatalf("%d entries when Deregister returned, want none", len(got))
		}
	}
}

func registerIsIdempotent(t *testing.T, server *hashicorp.Consul) {
	h := newHarness(t, server, Config{})
	defer h.close(t)
	list := []registry.Instance{instance(t, 1), instance(t, 2)}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := h.Register(within(t, 10*time.Second), list); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := found(t, server, list[0].Name); len(got) != 2 {
		t.Errorf("%d entries for two instances registered ten times", len(got))
	}
	for range 2 {
		h.deregister(t, list...)
	}
	if got := found(t, server, list[0].Name); len(got) != 0 {
		t.Errorf("%d entries after deregistration", len(got))
	}
}

func beatsKeepEntriesPassing(t *testing.T, server *hashicorp.Consul) {
	h := newHarness(t, server, Config{TTL: 2 * time.Second})
	inst := instance(t, 1)
	h.register(t, inst)
	// Beyond the TTL, any moment without a beat would show.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if len(found(t, server, inst.Name)) != 1 {
			t.Fatal("a living executor's entry stopped passing")
		}
	}
	// Without an executor nobody says that it is healthy.
	if err := h.services.Close(within(t, time.Second)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 4*time.Second, "a dead executor's entry stops passing", func() bool { return len(found(t, server, inst.Name)) == 0 })
	// The rest of the reconciler has nothing to close any more.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Close(ctx); err == nil {
		t.Error("Close deregistered without its backend")
	}
}

func deletedByOthersComesBack(t *testing.T, server *hashicorp.Consul) {
	h := newHarness(t, server, Config{TTL: 3 * time.Second})
	defer h.close(t)
	inst := instance(t, 1)
	h.register(t, inst)
	if err := server.Client.Agent().ServiceDeregister(serviceID(inst)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "an entry that others deregistered is back", func() bool { return len(found(t, server, inst.Name)) == 1 })
}

func deletedFromTheCatalogComesBack(t *testing.T, server *hashicorp.Consul) {
	h := newHarness(t, server, Config{})
	defer h.close(t)
	inst := instance(t, 1)
	h.register(t, inst)
	if _, err := server.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "agent", ServiceID: serviceID(inst)}, nil); err != nil {
		t.Fatal(err)
	}
	// As the reconciler does every 30 s, and this asks the servers now and then.
	h.services.mu.Lock()
	h.services.entries[inst.Key()].seen = time.Now().Add(-lookPeriod)
	h.services.mu.Unlock()
	if err := h.services.Put(within(t, 10*time.Second), inst); err != nil {
		t.Fatal(err)
	}
	if len(found(t, server, inst.Name)) != 1 {
		t.Error("verified, and not found")
	}
}

func leftoversOfDeadExecutors(t *testing.T, server *hashicorp.Consul) {
	const framework = "fw-1"
	inst := instance(t, 1)
	run := func(framework string, n int) (*harness, registry.Instance) {
		t.Helper()
		h := newHarness(t, server, Config{Owner: Owner{Framework: framework, Dir: t.TempDir()}})
		mine := instance(t, n)
		h.register(t, mine)
		return h, mine
	}
	// die is what a crash does: the lock goes, the entries stay.
	die := func(h *harness) {
		t.Helper()
		if err := h.services.Close(within(t, time.Second)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.Close(ctx); err == nil {
			t.Error("Close deregistered without its backend")
		}
	}
	alive, _ := run(framework, 1)
	defer alive.close(t)
	dead, gone := run(framework, 2)
	stranger, others := run("fw-2", 3)
	die(dead)
	die(stranger)
	defer func() {
		if err := server.Client.Agent().ServiceDeregister(serviceID(others)); err != nil {
			t.Error(err)
		}
	}()
	if got := found(t, server, inst.Name); len(got) != 3 {
		t.Fatalf("%d entries before anybody looks for leftovers, want 3", len(got))
	}
	next, _ := run(framework, 4)
	defer next.close(t)
	eventually(t, 5*time.Second, "the dead executor's entry is gone", func() bool {
		return !slices.ContainsFunc(found(t, server, inst.Name), func(e *api.ServiceEntry) bool { return e.Service.ID == serviceID(gone) })
	})
	if got := found(t, server, inst.Name); len(got) != 3 {
		t.Errorf("%d entries, want those of two living executors and of another framework's", len(got))
	}
}

func maintenanceIsNotFound(t *testing.T, server *hashicorp.Consul) {
	h := newHarness(t, server, Config{})
	defer h.close(t)
	if err := server.Client.Agent().EnableNodeMaintenance("test"); err != nil {
		t.Fatal(err)
	}
	inst := instance(t, 1)
	err := h.Register(within(t, 1500*time.Millisecond), []registry.Instance{inst})
	var failure *registry.Error
	if !errors.As(err, &failure) || failure.Op != "register" {
		t.Errorf("Register on a node in maintenance: %v", err)
	}
	if err := h.services.Put(within(t, time.Second), inst); err == nil || !strings.Contains(err.Error(), "Maintenance") {
		t.Errorf("the error does not say what is in the way: %v", err)
	}
	if err := server.Client.Agent().DisableNodeMaintenance(); err != nil {
		t.Fatal(err)
	}
	h.register(t, inst)
}

func TestRegistration_IsRepairedAfterRestarts(t *testing.T) {
	for _, test := range []struct {
		name   string
		forget bool
	}{{"the agent remembers", false}, {"the agent has forgotten everything", true}} {
		t.Run(test.name, func(t *testing.T) {
			server := hashicorp.StartConsul(t, hashicorp.ConsulOptions{})
			h := newHarness(t, server, Config{})
			defer h.close(t)
			var list []registry.Instance
			for n := range 20 {
				list = append(list, instance(t, n))
			}
			h.register(t, list...)
			server.Stop()
			inst := instance(t, 20)
			err := h.Register(within(t, 300*time.Millisecond), []registry.Instance{inst})
			if !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Register without an agent: %v", err)
			}
			// One that ends during the outage must not come back.
			if err := h.Deregister(within(t, 300*time.Millisecond), list[:1]); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Deregister without an agent: %v", err)
			}
			if test.forget {
				if err := server.Forget(); err != nil {
					t.Fatal(err)
				}
			}
			if err := server.Start(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
			eventually(t, 5*time.Second, "all entries are as wished", func() bool {
				got := found(t, server, inst.Name)
				return len(got) == 20 && !slices.ContainsFunc(got, func(e *api.ServiceEntry) bool { return e.Service.ID == serviceID(list[0]) })
			})
			// Once for each outage, not for each of the many calls that failed. An
			// agent on a busy machine can fall silent again while it starts.
			if n := h.log.count("Consul does not answer"); n < 1 || n > 3 {
				t.Errorf("the outage was logged %d times", n)
			}
		})
	}
}

func TestP9_APausedAgentDelaysCallsByTheirDeadlineOnly(t *testing.T) {
	server := hashicorp.StartConsul(t, hashicorp.ConsulOptions{})
	h := newHarness(t, server, Config{})
	defer h.close(t)
	inst := instance(t, 1)
	h.register(t, inst)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := h.Deregister(within(t, 500*time.Millisecond), []registry.Instance{inst}); err == nil {
		t.Error("Deregister was confirmed by a paused agent")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Deregister with a deadline of 500ms took %v", took)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the entry goes when the agent answers", func() bool { return len(found(t, server, inst.Name)) == 0 })
}
