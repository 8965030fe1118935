package registry

import (
	"context"
	"maps"
	"slices"
)

// Registry makes instances findable. It is safe for concurrent use. A call
// states a wish that stands until the opposite call for the same instance:
// when ctx ends before it is fulfilled the call returns an error and the
// registry goes on trying beside the running task.
type Registry interface {
	// Register returns nil when every instance can be found by clients: at
	// once if it already can. No instances, no effect.
	Register(ctx context.Context, instances []Instance) error
	// Deregister returns nil when none of the instances can be found: at once
	// if none can. Instances that were never registered are gone.
	Deregister(ctx context.Context, instances []Instance) error
	// Close deregisters whatever is registered, waits for that until ctx ends,
	// and releases everything. Nothing else may be called afterwards.
	Close(ctx context.Context) error
}

// Instance is one entry in a registry: one name of one task.
type Instance struct {
	// TaskID and Name identify the instance.
	TaskID string
	Name   string
	// App is the app's path without the leading slash, e.g. "shop/cart".
	App string
	// Host and Port are where clients connect to.
	Host string
	Port int
	// Endpoints are further ports of the task by their name.
	Endpoints map[string]int
	// Shard is the number of the instance among its app's; negative means none.
	Shard int
	// Tags are for registries that know them (Consul).
	Tags []string
	// Only is the [Backend.Name] of the one registry that the instance is for;
	// empty means every registry.
	Only string
}

func (i Instance) equal(o Instance) bool {
	return i.TaskID == o.TaskID && i.Name == o.Name && i.App == o.App && i.Host == o.Host &&
		i.Port == o.Port && i.Shard == o.Shard && i.Only == o.Only &&
		maps.Equal(i.Endpoints, o.Endpoints) && slices.Equal(i.Tags, o.Tags)
}
