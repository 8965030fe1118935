package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"pacer/executor/labels"
	"pacer/executor/registry"
	"pacer/executor/registry/consul"
	"pacer/executor/registry/zookeeper"
)

// registries opens those that are configured, as one; nil where none is.
func registries(s settings, metrics *registry.Metrics, log zerolog.Logger) (registry.Registry, labels.Limits, error) {
	var limits labels.Limits
	var open []registry.Registry
	add := func(backend registry.Backend) {
		open = append(open, registry.New(backend, registry.Options{Log: log, Observe: metrics.Observe, Connected: metrics.Connected}))
	}
	if len(s.zookeeper.Servers) > 0 {
		serversets, err := zookeeper.New(s.zookeeper, log)
		if err != nil {
			return nil, limits, fmt.Errorf("prepare for ZooKeeper: %w", err)
		}
		add(serversets)
		limits.ZooKeeper = true
	}
	if s.consul.Address != "" {
		services, err := consul.New(s.consul, log)
		if err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
			defer cancel()
			return nil, limits, errors.Join(fmt.Errorf("prepare for Consul: %w", err), registry.All(open...).Close(ctx))
		}
		add(services)
		limits.Consul = true
	}
	if len(open) == 0 {
		return nil, limits, nil
	}
	return registry.All(open...), limits, nil
}
