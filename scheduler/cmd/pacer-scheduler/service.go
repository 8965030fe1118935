package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"pacer/scheduler"
	"pacer/scheduler/access"
	"pacer/scheduler/api"
	"pacer/scheduler/identity"
	"pacer/scheduler/leader"
	"pacer/scheduler/state"
)

// service is a scheduler that leads, or waits for its turn.
type service struct {
	config  scheduler.Config
	log     zerolog.Logger
	store   state.Store
	mesos   scheduler.Mesos
	key     *identity.Key // nil means the one in the state
	metrics *prometheus.Registry
	guard   *access.Guard // nil where everybody on this machine may use the API
	// election is nil for a state that no other scheduler has.
	election *leader.Election
	self     leader.Member

	leads   atomic.Pointer[scheduler.Scheduler] // nil for a standby
	handler atomic.Pointer[http.Handler]        // of the API
}

// start makes the service a standby.
func (s *service) start() *leader.Standby {
	standby := leader.NewStandby(leader.StandbyConfig{
		Leader: s.leader, Self: s.self.ID, Log: s.log,
		Metrics: promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{Registry: s.metrics}),
	})
	s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pacer_scheduler_leads", Help: "1 if this scheduler leads, 0 if it is a standby.",
	}, func() float64 {
		if s.leads.Load() != nil {
			return 1
		}
		return 0
	}))
	var handler http.Handler = standby
	s.handler.Store(&handler)
	return standby
}

func (s *service) leader() (leader.Member, bool) {
	if s.election == nil {
		return s.self, true // always, or about to
	}
	return s.election.Leader()
}

// run leads when it is our turn. It returns when that has ended.
func (s *service) run(ctx context.Context) error {
	if s.election == nil {
		return s.lead(ctx)
	}
	return s.election.Run(ctx, s.lead)
}

func (s *service) lead(ctx context.Context) error {
	lead, err := scheduler.Open(ctx, s.config, s.store, s.mesos, s.key, s.log)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // stopped while waiting for the store
		}
		return err
	}
	config := api.Config{Backend: lead, Log: s.log, Metrics: s.metrics, Access: s.guard, LocalOnly: s.guard == nil}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if s.election != nil {
		config.Abdicate = func() { end(errAbdicated) }
	}
	handler := api.New(config)
	s.metrics.MustRegister(lead)
	s.leads.Store(lead)
	s.handler.Store(&handler)
	err = lead.Run(ctx)
	if errors.Is(context.Cause(ctx), errAbdicated) {
		return errors.Join(errAbdicated, err)
	}
	return err
}

// errAbdicated ends the process, so that it comes back as a standby.
var errAbdicated = errors.New("abdicated as asked by DELETE /v2/leader: start again to be a standby")

// ServeHTTP is the API, which changes when the lead is taken.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.handler.Load()).ServeHTTP(w, r)
}

// publicKeys are those of all schedulers, whether or not this one leads.
func (s *service) publicKeys(ctx context.Context) ([]byte, error) {
	if lead := s.leads.Load(); lead != nil {
		return lead.PublicKeys(ctx)
	}
	stored, err := state.PublicKeys(ctx, s.store)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]ed25519.PublicKey, len(stored)+1)
	for id, k := range stored {
		keys[id] = ed25519.PublicKey(k.Ed25519)
	}
	if s.key != nil {
		keys[s.key.ID()] = s.key.Public()
	}
	return identity.KeySet(keys)
}

// members finds schedulers that serve another executor.
func (s *service) members(ctx context.Context) ([]leader.Member, error) {
	if s.election == nil {
		return nil, nil
	}
	return s.election.Members(ctx)
}
