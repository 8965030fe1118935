package consul

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"pacer/executor/registry"
)

// Keys of an entry's meta data.
const (
	metaTask      = "pacer-task"
	metaApp       = "pacer-app"
	metaShard     = "pacer-shard"
	metaPort      = "pacer-port-"
	metaFramework = "pacer-framework"
	metaLock      = "pacer-lock"
)

// tagTask begins the tag by which marathon-consul finds a task's entries.
const tagTask = "marathon-task:"

// Consul's bounds for meta data, see ValidateServiceMetadata of its agent.
const (
	maxMeta      = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

// deregisterAfter is how long an entry may be critical until the agent removes
// it: Consul's minimum.
const deregisterAfter = "1m"

// beatOutput is constant, so that no beat makes the agent tell the servers.
const beatOutput = "healthy: checked by pacer-executor, which says so here"

// serviceID identifies an entry within its agent.
func serviceID(inst registry.Instance) string {
	return inst.TaskID + "_" + inst.Name + "_" + strconv.Itoa(inst.Port)
}

func checkID(service string) string { return "service:" + service }

// registration renders an instance.
func (c Config) registration(inst registry.Instance) (*api.AgentServiceRegistration, error) {
	if inst.Host == "" || inst.Port < 1 || inst.Port > 65535 || inst.Name == "" || inst.TaskID == "" {
		return nil, fmt.Errorf("instance %s of %s has no usable address (%q, port %d)", inst.TaskID, inst.Name, inst.Host, inst.Port)
	}
	id := serviceID(inst)
	meta := map[string]string{}
	set := func(key, value string) {
		// What does not fit is left out: the entry itself matters more.
		if value != "" && len(value) <= maxMetaValue && len(meta) < maxMeta && validMetaKey(key) {
			meta[key] = value
		}
	}
	set(metaFramework, c.Owner.Framework)
	set(metaLock, c.Owner.lockFile())
	set(metaTask, inst.TaskID)
	set(metaApp, inst.App)
	if inst.Shard >= 0 {
		set(metaShard, strconv.Itoa(inst.Shard))
	}
	for _, name := range slices.Sorted(maps.Keys(inst.Endpoints)) {
		set(metaPort+name, strconv.Itoa(inst.Endpoints[name]))
	}
	tags := []string{c.Tag, tagTask + inst.TaskID}
	for _, tag := range inst.Tags {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return &api.AgentServiceRegistration{
		ID: id, Name: inst.Name, Address: inst.Host, Port: inst.Port, Tags: tags, Meta: meta,
		Check: &api.AgentServiceCheck{
			CheckID: checkID(id), Name: "pacer-executor", TTL: c.TTL.String(),
			Status: api.HealthPassing, DeregisterCriticalServiceAfter: deregisterAfter,
		},
	}, nil
}

func validMetaKey(key string) bool {
	return len(key) <= maxMetaKey && !strings.ContainsFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

// same tells whether the agent has what we want it to have.
func same(have *api.AgentService, want *api.AgentServiceRegistration) bool {
	return have.Service == want.Name && have.Address == want.Address && have.Port == want.Port &&
		slices.Equal(have.Tags, want.Tags) && maps.Equal(have.Meta, want.Meta)
}
