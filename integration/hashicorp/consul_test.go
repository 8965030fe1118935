package hashicorp

import (
	"context"
	"testing"

	"github.com/hashicorp/consul/api"
)

func TestConsul_KeepsServicesOverARestartUnlessToldToForget(t *testing.T) {
	c := StartConsul(t, ConsulOptions{})
	ctx := t.Context()
	if err := c.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "web", Address: "127.0.0.1", Port: 1}); err != nil {
		t.Fatal(err)
	}
	restart := func() map[string]*api.AgentService {
		t.Helper()
		if err := c.Start(context.WithoutCancel(ctx)); err != nil {
			t.Fatal(err)
		}
		services, err := c.Client.Agent().Services()
		if err != nil {
			t.Fatal(err)
		}
		return services
	}
	c.Stop()
	if services := restart(); services["web"] == nil {
		t.Errorf("after a restart: %v", services)
	}
	c.Stop()
	if err := c.Forget(); err != nil {
		t.Fatal(err)
	}
	if services := restart(); len(services) != 0 {
		t.Errorf("after forgetting: %v", services)
	}
}
