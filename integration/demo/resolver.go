package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// resolver follows a ServerSet in ZooKeeper as Finagle's clients do: it is all
// that the demo's client knows of where the service runs.
type resolver struct {
	path string
	conn *zk.Conn

	mu        sync.Mutex
	endpoints []string // host:port
	next      int
}

// member is the part of a ServerSet node that clients read.
type member struct {
	ServiceEndpoint struct {
		Host string `json:"host"`
		Port int    `json:"port"`
	} `json:"serviceEndpoint"`
	Status string `json:"status"`
}

type quietLogger struct{}

func (quietLogger) Printf(string, ...any) {}

func newResolver(address, path string) (*resolver, error) {
	conn, _, err := zk.Connect([]string{address}, 10*time.Second, zk.WithLogger(quietLogger{}))
	if err != nil {
		return nil, fmt.Errorf("connect to ZooKeeper at %s: %w", address, err)
	}
	return &resolver{path: path, conn: conn}, nil
}

// followLoop keeps the list of endpoints current until ctx ends.
func (r *resolver) followLoop(ctx context.Context) {
	defer r.conn.Close()
	for ctx.Err() == nil {
		children, _, changed, err := r.conn.ChildrenW(r.path)
		if errors.Is(err, zk.ErrNoNode) {
			_, _, changed, err = r.conn.ExistsW(r.path)
		}
		if err != nil {
			changed = nil
		} else {
			r.replace(r.read(children))
		}
		again := time.NewTimer(time.Second)
		if err == nil {
			again.Stop()
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		}
	}
}

func (r *resolver) read(children []string) []string {
	var endpoints []string
	for _, child := range children {
		data, _, err := r.conn.Get(r.path + "/" + child)
		if err != nil {
			continue // gone meanwhile: the next event tells
		}
		var m member
		if json.Unmarshal(data, &m) == nil && m.Status == "ALIVE" {
			endpoints = append(endpoints, net.JoinHostPort(m.ServiceEndpoint.Host, strconv.Itoa(m.ServiceEndpoint.Port)))
		}
	}
	return endpoints
}

func (r *resolver) replace(endpoints []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints = endpoints
}

// pick returns endpoints in turn, or "" when there is none.
func (r *resolver) pick() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.endpoints) == 0 {
		return ""
	}
	r.next++
	return r.endpoints[r.next%len(r.endpoints)]
}

func (r *resolver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.endpoints)
}
