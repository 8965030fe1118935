package main

import (
	"context"
	"fmt"
	"time"
)

// instances of the service, and the versions it is rolled through.
const (
	appID     = "/demo/web"
	instances = 5
	firstVer  = "1"
	secondVer = "2"
)

// result is a line of the summary.
type result struct {
	step          string
	took          time.Duration
	total, failed int
	remark        string
}

// demonstrate takes the steps in order.
func (s *stage) demonstrate(ctx context.Context) error {
	for _, step := range []struct {
		name string
		run  func(context.Context) (remark string, err error)
	}{
		{"deploy", s.deploy},
		{"roll", s.roll},
		{"replace", s.replace},
	} {
		started, before := time.Now(), s.client.counts()
		remark, err := step.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		after := s.client.counts()
		s.results = append(s.results, result{step.name, time.Since(started), after.total - before.total, after.failed - before.failed, remark})
	}
	return nil
}

// deploy puts the app up and waits until every instance can be found.
func (s *stage) deploy(ctx context.Context) (string, error) {
	s.p.say("deploy %s: %d instances, each with a health check, a secret from Vault and a registration in ZooKeeper", appID, instances)
	if err := s.api.put(ctx, s.definition(firstVer)); err != nil {
		return "", err
	}
	if err := s.await(ctx, "healthy and registered", func(tasks []task) int {
		return min(count(tasks, func(t task) bool { return t.healthy() }), s.resolver.count())
	}); err != nil {
		return "", err
	}
	s.startAsking()
	if err := s.await(ctx, "answered with the right secret", func([]task) int {
		return min(instances, s.client.answered(firstVer))
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d instances healthy, findable and given their secret", instances), nil
}

// roll replaces every instance by the next version, one by one.
func (s *stage) roll(ctx context.Context) (string, error) {
	s.p.say("roll %s to version %s, never below %d healthy instances, while a client asks %d times a second and never retries",
		appID, secondVer, instances, int(clientWorkers*time.Second/clientPause))
	old, err := s.api.tasks(ctx, appID)
	if err != nil {
		return "", err
	}
	wasThere := map[string]bool{}
	for _, t := range old {
		wasThere[t.ID] = true
	}
	if err := s.api.put(ctx, s.definition(secondVer)); err != nil {
		return "", err
	}
	lowest := instances
	if err := s.await(ctx, "replaced", func(tasks []task) int {
		healthy := count(tasks, func(t task) bool { return t.healthy() })
		lowest = min(lowest, healthy)
		if len(tasks) != instances || healthy != instances {
			return min(instances-1, count(tasks, func(t task) bool { return t.healthy() && !wasThere[t.ID] }))
		}
		return count(tasks, func(t task) bool { return !wasThere[t.ID] })
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("never fewer than %d healthy", lowest), nil
}

// replace kills an agent with all that runs on it and waits for its instances
// to be healthy elsewhere.
func (s *stage) replace(ctx context.Context) (string, error) {
	tasks, err := s.api.tasks(ctx, appID)
	if err != nil {
		return "", err
	}
	perAgent := map[string]int{}
	for _, t := range tasks {
		perAgent[t.AgentID]++
	}
	agent, lost := "", 0
	for id, n := range perAgent {
		if n > lost || n == lost && id < agent {
			agent, lost = id, n
		}
	}
	s.p.say("kill agent %s with its executor and %d instances: no process says goodbye", agent, lost)
	if err := s.killAgent(agent); err != nil {
		return "", err
	}
	if err := s.await(ctx, "healthy and registered on the other agents", func(tasks []task) int {
		return min(count(tasks, func(t task) bool { return t.healthy() && t.AgentID != agent }), s.resolver.count())
	}); err != nil {
		return "", err
	}
	if err := s.awaitGone(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d instances replaced; requests fail until the dead executor's ZooKeeper session ends", lost), nil
}

func count(tasks []task, ok func(task) bool) int {
	n := 0
	for _, t := range tasks {
		if ok(t) {
			n++
		}
	}
	return n
}

// await polls until done reaches the number of instances, and shows how far it
// is and what the scheduler's queue says about the rest.
func (s *stage) await(ctx context.Context, words string, done func([]task) int) error {
	for {
		tasks, err := s.api.tasks(ctx, appID)
		if err != nil {
			return err
		}
		n := done(tasks)
		waiting := ""
		if n < instances {
			waiting = s.api.waiting(ctx, appID)
		}
		s.p.show(n, instances, words+waiting)
		if n >= instances {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d instances %s: %w", n, instances, words, err)
		}
	}
}

// awaitGone waits until no dead instance is registered any more.
func (s *stage) awaitGone(ctx context.Context) error {
	for s.resolver.count() > instances {
		s.p.show(instances, s.resolver.count(), "entries in ZooKeeper are alive, the others end with their session")
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("dead instances are still registered: %w", err)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// summarise prints what happened and where to look.
func (s *stage) summarise() {
	s.p.say("")
	fmt.Fprintf(s.p.out, "  %-10s %8s %10s %8s\n", "step", "seconds", "requests", "failed")
	for _, r := range s.results {
		fmt.Fprintf(s.p.out, "  %-10s %8.1f %10d %8d   %s\n", r.step, r.took.Seconds(), r.total, r.failed, r.remark)
	}
	if last := s.client.lastFailure(); last != "" {
		fmt.Fprintf(s.p.out, "  last failed request: %s\n", last)
	}
	fmt.Fprintf(s.p.out, "\n  API        %s/v2/apps\n  Mesos      %s\n  ZooKeeper  %s (%s)\n  Vault      %s (stand-in)\n  logs       %s\n",
		s.api.url, s.masterURL, s.zookeeper, s.zookeeperKind, s.vault.URL(), s.dir)
}
