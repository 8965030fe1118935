package scheduler

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"pacer/scheduler/api"
	"pacer/scheduler/identity"
	"pacer/scheduler/master"
	"pacer/scheduler/state"
)

// ErrFrameworkRemoved says that Mesos has removed the framework: it was torn
// down, or stayed away beyond its failover timeout. All its tasks are dead.
var ErrFrameworkRemoved = errors.New("mesos has removed the framework")

// ErrNoFramework says that a state tells of tasks, but not of whose. Under a
// new id they could not be reached, and would be launched a second time.
var ErrNoFramework = errors.New("framework id is missing")

// Scheduler runs apps on Mesos. It is the backend of the API.
type Scheduler struct {
	config  Config
	log     zerolog.Logger
	mesos   Mesos
	journal *state.Journal
	keys    map[string]ed25519.PublicKey
	inbox   *inbox
	calls   *calls
	core    *core
	shown   *shown
	metrics *metrics
	// unreadable nodes of the state.
	unreadable int
	events     *api.Events
}

// Open takes the lead of a state and loads it; from then on reads are served.
// key signs the identities of tasks; nil means the one that is stored, which
// is made when there is none.
func Open(ctx context.Context, config Config, store state.Store, client Mesos, key *identity.Key, log zerolog.Logger) (*Scheduler, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	journal, snapshot, err := state.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	if snapshot.FrameworkID == "" && len(snapshot.Tasks) > 0 && !config.ResetFramework {
		return nil, fmt.Errorf("%w: the state has %d task records and no framework id: restore a backup with 'pacer-scheduler state import'; or, if those tasks are dead, start once with --reset-framework, and all apps are launched anew", ErrNoFramework, len(snapshot.Tasks))
	}
	log.Info().Uint64(keyEpoch, journal.Epoch()).Str(keyFramework, snapshot.FrameworkID).
		Int(keyApps, len(snapshot.Apps)).Int(keyTasks, len(snapshot.Tasks)).Msg("state loaded")
	for _, bad := range snapshot.Corrupt {
		log.Error().Str(keyNode, bad.Key).AnErr(keyError, bad.Err).Msg("node of the state cannot be read and is left alone")
	}
	s := &Scheduler{
		config: config, log: log, mesos: client, journal: journal,
		keys: make(map[string]ed25519.PublicKey), inbox: newInbox(), metrics: newMetrics(), unreadable: len(snapshot.Corrupt), calls: newCalls(), shown: newShown(config),
		events: api.NewEvents(),
	}
	var first state.Change
	if key, err = chooseKey(key, snapshot, &first); err != nil {
		return nil, err
	}
	signer, err := identity.NewSigner(key, config.Times.TokenExpiry)
	if err != nil {
		return nil, err
	}
	for id, public := range snapshot.Keys {
		s.keys[id] = ed25519.PublicKey(public.Ed25519)
	}
	s.keys[key.ID()] = key.Public()
	if config.ResetFramework {
		resetFramework(snapshot, &first)
	}
	if s.core, err = newCore(s, snapshot, signer); err != nil {
		return nil, err
	}
	if !first.Empty() {
		s.core.startWith(&first)
	}
	s.core.publish()
	return s, nil
}

// chooseKey returns the key to sign with and stores what has to be stored.
func chooseKey(key *identity.Key, snapshot *state.Snapshot, change *state.Change) (*identity.Key, error) {
	var err error
	switch {
	case key != nil:
	case snapshot.Identity != nil:
		if key, err = identity.Parse(snapshot.Identity); err != nil {
			return nil, fmt.Errorf("signing key in the state: %w", err)
		}
	default:
		if key, err = identity.Generate(); err != nil {
			return nil, err
		}
		der, err := key.Marshal()
		if err != nil {
			return nil, fmt.Errorf("encode signing key: %w", err)
		}
		change.SetIdentity(der)
	}
	if _, stored := snapshot.Keys[key.ID()]; !stored {
		change.PutKey(state.PublicKey{ID: key.ID(), Ed25519: key.Public(), Created: time.Now()})
	}
	return key, nil
}

// resetFramework gives up the framework id and what ran under it.
func resetFramework(snapshot *state.Snapshot, change *state.Change) {
	snapshot.FrameworkID = ""
	change.SetFramework("")
	for id := range snapshot.Tasks {
		change.DropTask(id)
	}
	clear(snapshot.Tasks)
}

// Run subscribes and schedules until ctx ends (then it returns nil), or until
// it cannot or must not go on. Tasks are never harmed by its end.
func (s *Scheduler) Run(ctx context.Context) error {
	defer s.events.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.journal.Run(ctx) })
	group.Go(func() error { s.calls.run(ctx); return nil })
	group.Go(func() error { s.core.run(ctx); return nil })
	group.Go(func() error { return s.subscribe(ctx) })
	err := group.Wait()
	s.log.Info().AnErr(keyError, err).Msg("scheduler stopped; tasks go on")
	return err
}

// subscribe keeps the framework subscribed.
func (s *Scheduler) subscribe(ctx context.Context) error {
	subscribing, end := context.WithCancelCause(ctx)
	defer end(nil)
	err := s.mesos.Run(subscribing, func() master.Framework {
		// Subscribing ends the subscription of whoever leads. A scheduler that
		// was paused while another took over must not do that.
		if err := s.journal.Check(subscribing); err != nil {
			end(err)
		}
		return s.framework()
	}, handler{s})
	if cause := context.Cause(subscribing); cause != nil && ctx.Err() == nil {
		return fmt.Errorf("before subscribing: %w", cause)
	}
	if err == nil {
		return nil
	}
	id, tasks := s.shown.framework()
	if errors.Is(err, master.ErrRemoved) {
		return fmt.Errorf("%w (id %s, %d task records): its tasks have been killed and the id cannot be used again. To launch all apps anew under a new id, start once with --reset-framework: %w", ErrFrameworkRemoved, id, tasks, err)
	}
	return fmt.Errorf("subscribe framework %s: %w", id, err)
}

// framework is what to subscribe as. An id is kept for as long as it lives.
func (s *Scheduler) framework() master.Framework {
	id, _ := s.shown.framework()
	return master.Framework{Info: s.config.frameworkInfo(id)}
}

// PublicKeys is the JSON Web Key Set of all schedulers of this state.
func (s *Scheduler) PublicKeys(context.Context) ([]byte, error) { return identity.KeySet(s.keys) }
