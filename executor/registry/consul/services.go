package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/rs/zerolog"

	"pacer/executor/labels"
	"pacer/executor/registry"
)

// Name is the [registry.Backend.Name] of Consul.
const Name = labels.Consul

// Services is a [registry.Backend] over one Consul agent.
type Services struct {
	config Config
	log    zerolog.Logger
	lock   *os.File
	// calls are answered at once, watches wait for a change: those must not
	// wait for these.
	calls, watches *api.Client
	closers        []func()

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	changed func(registry.Key)
	up      bool // the agent answers and its servers have a leader
	since   time.Time
	problem error // why it is not up
	entries map[registry.Key]*entry
}

var _ registry.Backend = (*Services)(nil)

// entry is what is known about the service of one instance. The reconciler
// makes one call at a time for each; mu of Services guards it.
type entry struct {
	id string
	// registered: the agent has been told, and has acknowledged it.
	registered bool
	// leaving: beats would be in vain.
	leaving bool
	// known: the agent has not said that it does not know the entry.
	known bool
	// seen is when the servers last listed the entry; zero if they have to be
	// asked again.
	seen time.Time
	// beatAt is when the check is due.
	beatAt time.Time
}

// New begins to watch the agent, in the background. The error is about the
// Config; that no agent answers is logged and otherwise no error. Close it.
func New(c Config, log zerolog.Logger) (*Services, error) {
	if c.TTL <= 0 {
		c.TTL = DefaultTTL
	}
	if c.Tag == "" {
		c.Tag = DefaultTag
	}
	s := &Services{
		config:  c,
		log:     log.With().Str(keyRegistry, Name).Str(keyServer, c.Address).Logger(),
		since:   time.Now(),
		entries: make(map[registry.Key]*entry),
	}
	for _, client := range []**api.Client{&s.calls, &s.watches} {
		made, closer, err := c.client()
		if err != nil {
			return nil, fmt.Errorf("consul: %w", err)
		}
		*client = made
		s.closers = append(s.closers, closer)
	}
	var err error
	if s.lock, err = c.Owner.lock(); err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.beatLoop)
	return s, nil
}

// Keys of log fields.
const (
	keyRegistry = "registry"
	keyServer   = "server"
	keyTask     = "task_id"
	keyEntry    = "entry"
	keyOutage   = "outage"
)

// Name implements [registry.Backend].
func (s *Services) Name() string { return Name }

// Watch implements [registry.Backend].
func (s *Services) Watch(changed func(registry.Key)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
	if s.up {
		changed(registry.Key{})
	}
}

// Put implements [registry.Backend].
func (s *Services) Put(ctx context.Context, inst registry.Instance) error {
	began := time.Now()
	want, err := s.config.registration(inst)
	if err != nil {
		return err
	}
	e, old := s.entry(inst.Key(), want.ID)
	if old != "" { // cannot happen while the task lives
		if err := s.forget(ctx, old); err != nil {
			return explain("deregister", old, err)
		}
	}
	if err := s.ensure(ctx, e, want); err != nil {
		s.note(began, err)
		return explain("register", want.ID, err)
	}
	if s.wasSeen(e) {
		return nil
	}
	err = s.await(ctx, inst.Name, want.ID, true, patience)
	if errors.Is(err, errNotYet) {
		if err = s.explainAbsence(inst.Name, want.ID); errors.Is(err, errUnlisted) && ctx.Err() == nil {
			err = s.repeat(ctx, e, want)
		}
	}
	if err != nil {
		s.note(began, err)
		return explain("find", want.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// An outage that has been noticed meanwhile casts doubt on it.
	if s.since.Before(began) {
		e.seen = time.Now()
	}
	return nil
}

// lookPeriod is how long it is taken for granted that the servers list what the
// agent has and what they have listed before: the agent sees to it. To ask them
// each time would be a load on their leader that grows with the cluster.
const lookPeriod = 5 * time.Minute

func (s *Services) wasSeen(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !e.seen.IsZero() && time.Since(e.seen) < lookPeriod
}

// repeat makes an entry again that the agent has and the servers do not list.
// The agent believes that they know, and would tell them only when it next
// compares all it has with theirs.
func (s *Services) repeat(ctx context.Context, e *entry, want *api.AgentServiceRegistration) error {
	s.log.Info().Str(keyEntry, want.ID).Msg("the agent has an entry that the servers do not list, making it again")
	if err := s.forget(ctx, want.ID); err != nil {
		return err
	}
	if err := s.register(ctx, e, want); err != nil {
		return err
	}
	return s.await(ctx, want.Name, want.ID, true, 0)
}

// patience is how long the servers may take to list what the agent has.
const patience = 2 * time.Second

// entry returns what is known about an instance, and the service that it had
// under another id.
func (s *Services) entry(k registry.Key, id string) (e *entry, old string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e = s.entries[k]
	if e != nil && e.id != id {
		old = e.id
		e = nil
	}
	if e == nil {
		e = &entry{id: id}
		s.entries[k] = e
	}
	e.leaving = false
	return e, old
}

// ensure makes the agent have the service, passing.
func (s *Services) ensure(ctx context.Context, e *entry, want *api.AgentServiceRegistration) error {
	s.mu.Lock()
	registered := e.registered
	s.mu.Unlock()
	if registered {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		have, _, err := s.calls.Agent().Service(want.ID, new(api.QueryOptions).WithContext(call))
		switch {
		case status(err) == http.StatusNotFound:
			s.log.Info().Str(keyEntry, want.ID).Msg("entry is gone, making it again")
		case err != nil:
			return err
		case !same(have, want):
			s.log.Info().Str(keyEntry, want.ID).Msg("entry has other data, writing it again")
		default:
			if err := s.beat(ctx, e); err == nil || status(err) == 0 {
				return err
			}
			s.log.Info().Str(keyEntry, want.ID).Msg("check of the entry is not as it was, making it again")
		}
	}
	return s.register(ctx, e, want)
}

func (s *Services) register(ctx context.Context, e *entry, want *api.AgentServiceRegistration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.calls.Agent().ServiceRegisterOpts(want, api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The first beat follows soon: an agent that restarts remembers the last beat,
	// but not that the entry began as passing.
	e.registered, e.known, e.beatAt, e.seen = true, true, time.Time{}, time.Time{}
	return nil
}

// forget removes a service from the agent.
func (s *Services) forget(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.calls.Agent().ServiceDeregisterOpts(id, new(api.QueryOptions).WithContext(ctx))
	if status(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// Delete implements [registry.Backend].
func (s *Services) Delete(ctx context.Context, inst registry.Instance) error {
	began := time.Now()
	id := serviceID(inst)
	s.mu.Lock()
	e := s.entries[inst.Key()]
	if e != nil {
		e.leaving = true
		id = e.id
	}
	s.mu.Unlock()
	if err := s.forget(ctx, id); err != nil {
		s.note(began, err)
		return explain("deregister", id, err)
	}
	if err := s.await(ctx, inst.Name, id, false, 0); err != nil {
		s.note(began, err)
		return explain("deregistered with the agent, but the servers may still list", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[inst.Key()] == e {
		delete(s.entries, inst.Key())
	}
	return nil
}

var errNotYet = errors.New("not yet")

// await returns nil when the servers list the service as passing, or do not,
// as wanted; errNotYet when that takes longer than longest, if given.
func (s *Services) await(ctx context.Context, name, id string, listed bool, longest time.Duration) error {
	const (
		waitTime = time.Second // an answer comes at a change, or after this time
		pace     = 10 * time.Millisecond
	)
	began := time.Now()
	var index uint64
	for {
		asked := time.Now()
		options := &api.QueryOptions{
			Filter:    "Service.ID == " + strconv.Quote(id),
			WaitIndex: index, WaitTime: waitTime,
		}
		call, cancel := context.WithTimeout(ctx, waitTime+callTimeout)
		entries, meta, err := s.watches.Health().Service(name, "", true, options.WithContext(call))
		cancel()
		if err != nil {
			if ctx.Err() != nil && index > 0 {
				return errNotYet
			}
			return err
		}
		if (len(entries) > 0) == listed {
			return nil
		}
		if longest > 0 && time.Since(began) >= longest {
			return errNotYet
		}
		if index == meta.LastIndex && time.Since(asked) < pace {
			// Something between us and Consul does not wait as it should.
			select {
			case <-time.After(pace):
			case <-ctx.Done():
			}
		}
		index = max(meta.LastIndex, 1) // 0 would not wait
	}
}

// errUnlisted says that the servers do not know of an entry of the agent's.
var errUnlisted = fmt.Errorf("%w: registered with the agent, but the servers do not list it", errNotYet)

// explainAbsence says why an entry that the agent has is not found. The time of
// the call may be over; this only looks.
func (s *Services) explainAbsence(name, id string) error {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	options := &api.QueryOptions{Filter: "Service.ID == " + strconv.Quote(id)}
	entries, _, err := s.calls.Health().Service(name, "", false, options.WithContext(ctx))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		for _, check := range entry.Checks {
			if check.Status != api.HealthPassing {
				return fmt.Errorf("%w: registered, but the check %q on Consul's node %s is %s", errNotYet, check.Name, entry.Node.Node, check.Status)
			}
		}
	}
	return errUnlisted
}

// Close implements [registry.Backend]. Entries stay: with the TTL they stop
// passing and are removed.
func (s *Services) Close(context.Context) error {
	s.cancel()
	s.wg.Wait()
	for _, closer := range s.closers {
		closer()
	}
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}
