package registration

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestP1P2_BothRegistriesAtOnce: healthy means found in both, gone means gone
// from both, and the labels of marathon-consul are for Consul alone.
func TestP1P2_BothRegistriesAtOnce(t *testing.T) {
	const app = "/shop/cart"
	second := newConsul(t)
	s := newSite(t, both{newZooKeeper(t), second}, 1)
	tasks := s.deploy(app, 2, map[string]string{"service.http.name": "cart-http", "service.tags": "blue", "consul": "cart", "green": "tag"})
	inConsul := func(name string) []string {
		t.Helper()
		list, err := second.find(name)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return list
	}
	want := endpoints(tasks)
	for name, got := range map[string][]string{
		"ZooKeeper, first port": s.found(app), "ZooKeeper, by port": s.found("/cart-http"),
		"Consul, first port": inConsul("shop-cart"), "Consul, by port": inConsul("cart-http"), "marathon-consul's label": inConsul("cart"),
	} {
		if !slices.Equal(got, want) {
			t.Errorf("%s: found %v when healthy, want %v", name, got, want)
		}
	}
	if got := s.found("/cart"); len(got) != 0 {
		t.Errorf("what is for Consul alone is in ZooKeeper: %v", got)
	}
	entries, _, err := second.server.Client.Health().Service("cart", "marathon", true, nil)
	if err != nil || len(entries) != 2 || !slices.Contains(entries[0].Service.Tags, "green") {
		t.Errorf("marathon-consul would find %v, %v", entries, err)
	}
	s.call(http.MethodDelete, "/v2/apps"+app, nil, nil)
	s.eventually(20*time.Second, "everything is gone from both", func() bool {
		return len(s.found(app))+len(s.found("/cart-http"))+len(inConsul("shop-cart"))+len(inConsul("cart-http"))+len(inConsul("cart")) == 0
	})
}
