package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Rate of the demo's client: clientWorkers that each ask every clientPause.
const (
	clientWorkers = 4
	clientPause   = 40 * time.Millisecond
)

// client keeps asking the service through the registry. It never retries, and
// uses a new connection each time, so that every request that meets a stopped
// instance counts as failed.
type client struct {
	resolver *resolver
	proof    string // what instances with the right secret answer
	http     *http.Client

	mu       sync.Mutex
	total    int
	failed   int
	versions map[string]int
	last     string // the last failure
}

// counts is a moment's state of the client's counters.
type counts struct{ total, failed int }

func newClient(r *resolver, proof string) *client {
	return &client{
		resolver: r, proof: proof, versions: map[string]int{},
		http: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// askLoop runs until ctx ends.
func (c *client) askLoop(ctx context.Context) {
	var workers sync.WaitGroup
	for range clientWorkers {
		workers.Go(func() {
			tick := time.NewTicker(clientPause)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				version, err := c.ask(ctx)
				if ctx.Err() != nil {
					return // the demo's end is no failure of the service
				}
				c.record(version, err)
			}
		})
	}
	workers.Wait()
}

func (c *client) ask(ctx context.Context) (version string, err error) {
	endpoint := c.resolver.pick()
	if endpoint == "" {
		return "", fmt.Errorf("no instance is registered")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+endpoint+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var reply struct{ Version, Proof string }
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return "", fmt.Errorf("answer of %s: %w", endpoint, err)
	}
	if reply.Proof != c.proof {
		return "", fmt.Errorf("%s does not have the secret", endpoint)
	}
	return reply.Version, nil
}

func (c *client) record(version string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if err != nil {
		c.failed++
		c.last = err.Error()
		return
	}
	c.versions[version]++
}

func (c *client) counts() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return counts{c.total, c.failed}
}

// answered returns how many requests this version has answered.
func (c *client) answered(version string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.versions[version]
}

func (c *client) lastFailure() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
