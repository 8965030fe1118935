package consul

import (
	"slices"
	"testing"
	"time"

	"pacer/executor/registry"
	"pacer/integration/hashicorp"
)

// BenchmarkRegister is the time from the call until clients find the instance,
// and until they do not, with a local Consul that writes to disk; budget p99
// 50 ms. With a hundred other instances, which beat meanwhile.
func BenchmarkRegister(b *testing.B) {
	server := hashicorp.StartConsul(b, hashicorp.ConsulOptions{})
	h := newHarness(b, server, Config{})
	defer h.close(b)
	var others []registry.Instance
	for n := range 100 {
		others = append(others, instance(b, n+2))
	}
	h.register(b, others...)
	list := []registry.Instance{instance(b, 1)}
	var found, gone []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := h.Register(b.Context(), list); err != nil {
			b.Fatal(err)
		}
		found = append(found, time.Since(start))
		start = time.Now()
		if err := h.Deregister(b.Context(), list); err != nil {
			b.Fatal(err)
		}
		gone = append(gone, time.Since(start))
	}
	b.ReportMetric(quantile(found, 50), "ms-found-p50")
	b.ReportMetric(quantile(found, 99), "ms-found-p99")
	b.ReportMetric(quantile(gone, 50), "ms-gone-p50")
	b.ReportMetric(quantile(gone, 99), "ms-gone-p99")
}

// quantile is in milliseconds.
func quantile(list []time.Duration, percent int) float64 {
	slices.Sort(list)
	return list[(len(list)-1)*percent/100].Seconds() * 1000
}

// BenchmarkBeat is what a registered task costs three times in each TTL.
func BenchmarkBeat(b *testing.B) {
	server := hashicorp.StartConsul(b, hashicorp.ConsulOptions{})
	h := newHarness(b, server, Config{})
	defer h.close(b)
	inst := instance(b, 1)
	h.register(b, inst)
	h.services.mu.Lock()
	e := h.services.entries[inst.Key()]
	h.services.mu.Unlock()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.services.beat(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}
