package registration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Rate of the client: each worker asks every workerPause, whatever the answers
// take.
const (
	workers     = 8
	workerPause = 40 * time.Millisecond
)

// client asks the service that it finds in the registry. It never retries, and
// connects anew each time, so that any request that meets an instance on its
// way out fails.
type client struct {
	http *http.Client
	stop func()

	mu        sync.Mutex
	endpoints []string
	next      int
	total     int
	failures  []string
	pids      map[string]int // by task
	changed   []string       // tasks whose process changed
	began     time.Time
}

// startClient starts one that takes what it finds as it is, or, if it keeps the
// last, holds on to what it knew while it finds nothing at all: so do clients
// that are to outlive an outage of their registry.
func startClient(t *testing.T, registry server, app string, keepsLast bool) *client {
	t.Helper()
	c := &client{
		http:  &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
		pids:  map[string]int{},
		began: time.Now(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	first := make(chan struct{})
	known := sync.OnceFunc(func() { close(first) })
	running.Go(func() {
		registry.follow(ctx, serviceName(app), func(endpoints []string) {
			c.mu.Lock()
			if len(endpoints) > 0 || !keepsLast {
				c.endpoints = endpoints
			}
			c.mu.Unlock()
			known()
		})
	})
	select {
	case <-first:
	case <-time.After(10 * time.Second):
		t.Fatal("the client cannot resolve")
	}
	for range workers {
		running.Go(func() { c.askLoop(ctx) })
	}
	c.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(c.stop)
	return c
}

func (c *client) askLoop(ctx context.Context) {
	tick := time.NewTicker(workerPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		reply, err := c.ask(ctx)
		if ctx.Err() != nil {
			return // the test's end is no failure of the service
		}
		c.record(reply, err)
	}
}

func (c *client) ask(ctx context.Context) (reply answer, err error) {
	c.mu.Lock()
	if len(c.endpoints) == 0 {
		c.mu.Unlock()
		return reply, fmt.Errorf("nothing is registered")
	}
	c.next++
	endpoint := c.endpoints[c.next%len(c.endpoints)]
	c.mu.Unlock()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+endpoint+"/", nil)
	if err != nil {
		return reply, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return reply, err
	}
	defer response.Body.Close()
	return reply, json.NewDecoder(response.Body).Decode(&reply)
}

func (c *client) record(reply answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if err != nil {
		c.failures = append(c.failures, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.000"), err))
		return
	}
	if pid, ok := c.pids[reply.Task]; ok && pid != reply.PID {
		c.changed = append(c.changed, reply.Task)
	}
	c.pids[reply.Task] = reply.PID
}

// done stops the client and fails the test for each request that failed, and if
// there were too few.
func (c *client) done(t *testing.T) (total int, rate float64) {
	t.Helper()
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	rate = float64(c.total) / time.Since(c.began).Seconds()
	for i, f := range c.failures {
		if i == 5 {
			t.Errorf("and %d more", len(c.failures)-i)
			break
		}
		t.Errorf("failed request: %s", f)
	}
	return c.total, rate
}
