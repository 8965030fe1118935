package consul

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"pacer/executor/registry"
)

const (
	// beatsPerTTL is how often the executor says in each TTL that it lives.
	beatsPerTTL = 3
	// tickPeriod is how often the agent hears from us at least, while there are
	// entries, so that a restart does not stay unnoticed.
	tickPeriod = 500 * time.Millisecond
	// retryPeriod is how often an agent that is away is asked whether it is back.
	retryPeriod = 100 * time.Millisecond
	// sweepPeriod is the time between two looks for leftovers.
	sweepPeriod = time.Minute
	// noticeAfter is how long the first connection may take before that is
	// logged.
	noticeAfter = 5 * time.Second
)

// beatLoop keeps the entries passing, notices outages and their ends, and
// removes leftovers.
func (s *Services) beatLoop() {
	timer := time.NewTimer(tickPeriod)
	defer timer.Stop()
	noticed := false
	var sweepAt time.Time
	for {
		period := tickPeriod
		if s.isUp() || s.lookForLeader() {
			noticed = true
			if now := time.Now(); !now.Before(sweepAt) && s.sweep() {
				sweepAt = now.Add(sweepPeriod)
			}
		} else {
			sweepAt, period = time.Time{}, retryPeriod
			if since, problem := s.outage(); !noticed && time.Since(since) >= noticeAfter {
				noticed = true
				s.log.Warn().AnErr("error", problem).Msg("no answer from Consul, still trying")
			}
		}
		// Without servers, too: the agent must not take the tasks for dead.
		s.beatAll()
		timer.Reset(period)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Services) isUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

func (s *Services) outage() (since time.Time, problem error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.problem
}

// lookForLeader reports whether the agent answers and there is a leader; the
// first time, it has everything verified.
func (s *Services) lookForLeader() bool {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	leader, err := s.calls.Status().LeaderWithQueryOptions(new(api.QueryOptions).WithContext(ctx))
	if err == nil && leader == "" {
		err = errors.New("its servers have no leader")
	}
	s.mu.Lock()
	s.problem = err
	if err != nil {
		s.mu.Unlock()
		return false
	}
	outage := time.Since(s.since)
	s.up, s.since = true, time.Now()
	for _, e := range s.entries {
		e.seen = time.Time{}
	}
	changed := s.changed
	s.mu.Unlock()
	s.log.Info().Dur(keyOutage, outage).Str("leader", leader).Msg("connected to Consul")
	if changed != nil {
		changed(registry.Key{})
	}
	return true
}

// note takes note of an error of any call, which began at a time: an outage is
// logged once, and from then on the agent is asked whether it is back. A call
// that began in an outage says nothing about the time after it.
func (s *Services) note(began time.Time, err error) {
	if err == nil || !unavailable(err) || s.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	if s.up && began.Before(s.since) {
		s.mu.Unlock()
		return
	}
	first := s.up
	if first {
		s.up, s.since = false, time.Now()
		s.hastenLocked()
	}
	s.problem = err
	s.mu.Unlock()
	if first {
		s.log.Warn().Err(err).Msg("Consul does not answer, still trying")
	}
}

// hastenLocked makes all entries due: an agent that was away may have forgotten
// them, or remembers them as critical.
func (s *Services) hastenLocked() {
	for _, e := range s.entries {
		e.beatAt = time.Time{}
	}
}

// beatAll says of every entry that is due, and of one in any case, that it is
// healthy.
func (s *Services) beatAll() {
	now := time.Now()
	s.mu.Lock()
	due := map[registry.Key]*entry{}
	var next registry.Key
	for k, e := range s.entries {
		if !e.registered || e.leaving {
			continue
		}
		if !now.Before(e.beatAt) {
			due[k] = e
		}
		if first := s.entries[next]; first == nil || e.beatAt.Before(first.beatAt) {
			next = k
		}
	}
	if e := s.entries[next]; e != nil && len(due) == 0 {
		due[next] = e
	}
	changed := s.changed
	s.mu.Unlock()
	for k, e := range due {
		began := time.Now()
		err := s.beat(s.ctx, e)
		switch {
		case err == nil:
		case s.ctx.Err() != nil:
			return
		case status(err) == 0:
			// No answer: the others would wait in vain.
			s.note(began, err)
			return
		case s.isLeaving(e):
			// Its check went while it was asked about.
		case status(err) == http.StatusNotFound:
			// Somebody removed the service, or the agent has forgotten everything.
			s.forgotten(e)
			if changed != nil {
				changed(k)
			}
		default:
			s.postpone(e)
			s.log.Warn().Err(explain("keep up", e.id, err)).Str(keyTask, k.TaskID).Msg("check of an entry not updated")
			if changed != nil {
				changed(k)
			}
		}
	}
}

func (s *Services) isLeaving(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.leaving
}

// beat says that the entry's instance is healthy.
func (s *Services) beat(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.calls.Agent().UpdateTTLOpts(checkID(e.id), beatOutput, api.HealthPassing, new(api.QueryOptions).WithContext(ctx))
	if err == nil {
		s.postpone(e)
	}
	return err
}

// forgotten notes that the agent does not know an entry: it may not know the
// others, either.
func (s *Services) forgotten(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.known {
		s.hastenLocked()
	}
	e.known, e.beatAt = false, time.Now().Add(s.config.TTL/beatsPerTTL)
}

func (s *Services) postpone(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.beatAt = time.Now().Add(s.config.TTL / beatsPerTTL)
}

// sweep deregisters what dead executors of our framework left, and what we
// ourselves no longer know of. It reports whether the agent answered.
func (s *Services) sweep() bool {
	if s.config.Owner == (Owner{}) {
		return true
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, 5*callTimeout)
	defer cancel()
	filter := `"` + metaLock + `" in Meta and Meta["` + metaFramework + `"] == ` + strconv.Quote(s.config.Owner.Framework)
	services, err := s.calls.Agent().ServicesWithFilterOpts(filter, new(api.QueryOptions).WithContext(ctx))
	if err != nil {
		if s.ctx.Err() == nil {
			s.note(began, err)
			s.log.Warn().Err(explain("look for leftovers of", s.config.Owner.Framework, err)).Msg("leftovers not looked for")
		}
		return !unavailable(err)
	}
	dead := map[string]bool{}
	for id, service := range services {
		lock := service.Meta[metaLock]
		if lock == s.config.Owner.lockFile() {
			if s.knows(id) {
				continue
			}
		} else {
			if _, asked := dead[lock]; !asked {
				dead[lock] = provenDead(lock)
			}
			if !dead[lock] {
				continue
			}
		}
		if err := s.forget(ctx, id); err != nil {
			s.note(began, err)
			s.log.Warn().Err(explain("deregister", id, err)).Msg("leftover not removed")
			continue
		}
		s.log.Info().Str(keyTask, service.Meta[metaTask]).Str(keyEntry, id).Msg("leftover of a dead executor removed")
	}
	return true
}

func (s *Services) knows(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.id == id {
			return true
		}
	}
	return false
}
