package registration

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/hashicorp/consul/api"

	"pacer/integration/hashicorp"
	zkserver "pacer/integration/zookeeper"
)

// server is a registry as its operators and clients know it.
type server interface {
	// settings are what the executor is told.
	settings() []string
	// find returns host:port of what a client finds under a name.
	find(name string) ([]string, error)
	// follow tells what a client finds, at each change, until ctx ends.
	follow(ctx context.Context, name string, tell func([]string))
	// stop and start are an outage.
	stop()
	start(ctx context.Context) error
	// gone is how long an entry outlives its executor at most, if nobody cleans
	// up after it: until it is not found, and until there is nothing of it.
	gone() (found, there time.Duration)
	// there returns how many entries there are, found or not.
	there(name string) (int, error)
}

// overRegistries runs a test with each kind of registry.
func overRegistries(t *testing.T, body func(t *testing.T, registry server)) {
	t.Run("ZooKeeper", func(t *testing.T) { body(t, newZooKeeper(t)) })
	t.Run("Consul", func(t *testing.T) { body(t, newConsul(t)) })
}

type zookeeper struct {
	server *zkserver.Server
	conn   *zk.Conn
}

const zkPrefix = "/services"

func newZooKeeper(t *testing.T) *zookeeper {
	t.Helper()
	s := zkserver.Start(t, zkserver.Options{})
	return &zookeeper{s, s.Connect(t)}
}

func (z *zookeeper) settings() []string { return []string{"PACER_ZK=" + z.server.URL(zkPrefix)} }

// member is an entry of a ServerSet.
type member struct {
	path, endpoint string
	owner          int64
}

func (z *zookeeper) members(name string) ([]member, error) {
	dir := zkPrefix + "/" + name
	names, _, err := z.conn.Children(dir)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return z.read(dir, names)
}

func (z *zookeeper) read(dir string, names []string) ([]member, error) {
	var list []member
	for _, child := range names {
		data, stat, err := z.conn.Get(dir + "/" + child)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var entry struct {
			ServiceEndpoint struct {
				Host string `json:"host"`
				Port int    `json:"port"`
			} `json:"serviceEndpoint"`
		}
		if err := json.Unmarshal(data, &entry); err != nil {
			return nil, err
		}
		list = append(list, member{dir + "/" + child, net.JoinHostPort(entry.ServiceEndpoint.Host, strconv.Itoa(entry.ServiceEndpoint.Port)), stat.EphemeralOwner})
	}
	return list, nil
}

func endpointsOf(list []member) []string {
	var endpoints []string
	for _, m := range list {
		endpoints = append(endpoints, m.endpoint)
	}
	return endpoints
}

func (z *zookeeper) find(name string) ([]string, error) {
	list, err := z.members(name)
	return endpointsOf(list), err
}

func (z *zookeeper) there(name string) (int, error) {
	list, err := z.members(name)
	return len(list), err
}

func (z *zookeeper) follow(ctx context.Context, name string, tell func([]string)) {
	dir := zkPrefix + "/" + name
	for ctx.Err() == nil {
		names, _, changed, err := z.conn.ChildrenW(dir)
		var list []member
		if err == nil {
			list, err = z.read(dir, names)
		}
		if err != nil {
			changed = nil
		} else {
			tell(endpointsOf(list))
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(time.Second): // also as clients do that miss an event
		}
	}
}

func (z *zookeeper) stop()                           { z.server.Stop() }
func (z *zookeeper) start(ctx context.Context) error { return z.server.Start(ctx) }

func (z *zookeeper) gone() (found, there time.Duration) {
	const session, slack = 10 * time.Second, 3 * time.Second
	return session + slack, session + slack
}

type consul struct{ server *hashicorp.Consul }

func newConsul(t *testing.T) *consul {
	t.Helper()
	return &consul{hashicorp.StartConsul(t, hashicorp.ConsulOptions{})}
}

func (c *consul) settings() []string { return []string{"PACER_CONSUL=" + c.server.Address} }

func (c *consul) find(name string) ([]string, error) {
	entries, _, err := c.server.Client.Health().Service(name, "", true, nil)
	return addresses(entries), err
}

func (c *consul) there(name string) (int, error) {
	entries, _, err := c.server.Client.Health().Service(name, "", false, nil)
	return len(entries), err
}

func addresses(entries []*api.ServiceEntry) []string {
	var endpoints []string
	for _, e := range entries {
		endpoints = append(endpoints, net.JoinHostPort(e.Service.Address, strconv.Itoa(e.Service.Port)))
	}
	return endpoints
}

func (c *consul) follow(ctx context.Context, name string, tell func([]string)) {
	var index uint64
	for ctx.Err() == nil {
		options := &api.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second}
		entries, meta, err := c.server.Client.Health().Service(name, "", true, options.WithContext(ctx))
		if err != nil {
			index = 0
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		index = meta.LastIndex
		tell(addresses(entries))
	}
}

func (c *consul) stop()                           { c.server.Stop() }
func (c *consul) start(ctx context.Context) error { return c.server.Start(ctx) }

func (c *consul) gone() (found, there time.Duration) {
	const ttl, slack = 15 * time.Second, 3 * time.Second
	return ttl + slack, 2 * time.Minute
}

// both is ZooKeeper and Consul, of which clients use the first.
type both struct {
	*zookeeper
	second *consul
}

func (b both) settings() []string { return append(b.zookeeper.settings(), b.second.settings()...) }

// serviceName is what the tests' definition registers an app as.
func serviceName(app string) string { return strings.ReplaceAll(strings.Trim(app, "/"), "/", "-") }
