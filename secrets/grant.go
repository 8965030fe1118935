package secrets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Grant is what one task was given, for as long as it runs.
type Grant struct {
	// Bundle is complete. Wipe it when the process has been started.
	Bundle *Bundle

	keeper   *Keeper // nil when nothing has to be kept
	id       Identity
	declared Declarations
	session  Session
	changes  chan Change

	// ctx ends with Close, and what is done for the grant with it.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	// The keeper's mutex guards what follows.
	closed  bool
	timers  []*timer
	leases  []*lease
	values  []known
	pending *Change // is collected until it is announced
}

// Change says that secrets of a running task are not what they were. Several
// that come within a moment are one.
type Change struct {
	// Names are the variables and files, sorted, that a new launch would get
	// with another value.
	Names []string
	// Files are those files with their new content. Wipe it after use.
	Files []Value
}

// Wipe overwrites every value.
func (c Change) Wipe() {
	for _, f := range c.Files {
		f.Secret.Wipe()
	}
}

// Action is what the task's labels want done about a change, and for
// [ActionSignal] the name of the signal without "SIG".
func (g *Grant) Action() (action Action, signal string) {
	return g.declared.OnChange, g.declared.Signal
}

// Changes tells of secrets that have changed. It is nil where none ever will.
func (g *Grant) Changes() <-chan Change { return g.changes }

// lease is a lease with what it is for. The keeper's mutex guards it.
type lease struct {
	where location
	Lease
	// first is the duration that it was given for; ends is when it is over.
	first time.Duration
	ends  time.Time
	timer *timer
	// replace says that renewing has no future.
	replace bool
}

// Acquire gets every secret that d declares, or none. It returns when all are
// there, when ctx is done, or with an error that a repeat would not mend. While
// the source cannot answer it calls waiting with the reason, once for each
// change of it. A task with static secrets only has its login given back right
// away, beside its launch, unless it wants them refreshed; leases are kept until
// [Grant.Close]. Without declarations the source is asked for nothing.
func (k *Keeper) Acquire(ctx context.Context, id Identity, d Declarations, waiting func(reason string)) (*Grant, error) {
	if d.Empty() {
		return &Grant{Bundle: new(Bundle)}, nil
	}
	if k == nil || k.source == nil {
		return nil, fmt.Errorf("%d secrets are declared, but this executor has no secret store: set VAULT_ADDR and PACER_VAULT_AUTH for it", len(d.Variables)+len(d.VariableSets)+len(d.Files))
	}
	var launched atomic.Bool
	defer launched.Store(true)
	session, err := k.source.Open(ctx, id, func(reason string) {
		// Later, nobody waits.
		if waiting != nil && !launched.Load() {
			waiting(reason)
		}
	})
	if err != nil {
		return nil, err
	}
	g := &Grant{keeper: k, id: id, declared: d, session: session}
	g.ctx, g.cancel = context.WithCancel(k.ctx)
	found, err := read(ctx, session, d.locations())
	for where, content := range found {
		if content.Lease.ID != "" {
			g.leases = append(g.leases, &lease{where: where, Lease: content.Lease, first: content.Lease.Duration, ends: time.Now().Add(content.Lease.Duration)})
		}
	}
	if err == nil {
		g.Bundle, err = d.resolve(found)
	}
	wipe(found)
	if err != nil || len(g.leases) == 0 && d.Refresh == 0 {
		k.logOut(g)
		if err != nil {
			return nil, err
		}
		return &Grant{Bundle: g.Bundle, declared: d}, nil
	}
	slices.SortFunc(g.leases, func(a, b *lease) int { return strings.Compare(a.where.path, b.where.path) })
	g.changes = make(chan Change, 1)
	for name, value := range g.Bundle.all() {
		g.values = append(g.values, known{name, k.digest(value)})
	}
	g.values = slices.Clip(g.values)
	k.keep(g)
	return g, nil
}

// Close ends what the grant still holds at its source, bounded by ctx. It can
// be called more than once.
func (g *Grant) Close(ctx context.Context) error {
	if g.keeper == nil {
		g.Bundle.Wipe()
		return nil
	}
	if !g.keeper.drop(g) {
		return nil
	}
	g.cancel()
	g.work.Wait() // all calls end with g.ctx
	var errs []error
	for _, l := range g.leases {
		errs = append(errs, g.session.Revoke(ctx, l.Lease))
	}
	return errors.Join(append(errs, g.session.Close(ctx))...)
}

// wants reports whether new values of a location would reach the task.
func (g *Grant) wants(where location) bool {
	if g.declared.OnChange != ActionNone {
		return true
	}
	return slices.ContainsFunc(g.declared.Files, func(f File) bool { return locationOf(f.Ref) == where })
}

// took compares what was read again with what the task has, and announces the
// difference. It wipes the content.
func (g *Grant) took(found map[location]Content) error {
	defer wipe(found)
	b, err := g.declared.of(found).resolve(found)
	if err != nil {
		return err
	}
	defer b.wipeVariables()
	k := g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	var change Change
	for name, value := range b.all() {
		if g.learn(known{name, k.digest(value)}) {
			change.Names = append(change.Names, strings.TrimPrefix(name, filePrefix))
			if strings.HasPrefix(name, filePrefix) {
				change.Files = append(change.Files, value)
			}
		} else {
			value.Secret.Wipe()
		}
	}
	if len(change.Names) == 0 || g.closed {
		change.Wipe()
		return nil
	}
	k.log.Info().Str(keyTask, g.id.Task).Strs(keyNames, change.Names).Msg("secrets have changed")
	if g.pending != nil {
		g.pending.merge(change)
		return nil
	}
	g.pending = &change
	k.schedule(g, time.Now().Add(settleTime), func(context.Context) { g.announce() })
	return nil
}

// known is what the task has, by the name that Bundle.all gives it. A slice of
// them is a tenth of a map for the few that a task has.
type known struct {
	name string
	digest
}

// learn notes a value, and reports whether it is another one than before. The
// caller holds the keeper's mutex.
func (g *Grant) learn(value known) (changed bool) {
	i := slices.IndexFunc(g.values, func(have known) bool { return have.name == value.name })
	if i < 0 {
		g.values = append(g.values, value)
		return true
	}
	changed = g.values[i] != value
	g.values[i] = value
	return changed
}

// settleTime is how long changes are collected, so that a task is signalled
// once for several.
const settleTime = 2 * time.Second

// announce hands over what was collected, together with what has not been
// fetched yet.
func (g *Grant) announce() {
	g.keeper.mu.Lock()
	defer g.keeper.mu.Unlock()
	next := *g.pending
	g.pending = nil
	select {
	case earlier := <-g.changes:
		earlier.merge(next)
		next = earlier
	default:
	}
	g.changes <- next // its one place is free, and nobody else writes
}

// merge adds a later change.
func (c *Change) merge(later Change) {
	c.Names = append(c.Names, later.Names...)
	slices.Sort(c.Names)
	c.Names = slices.Compact(c.Names)
	for _, f := range later.Files {
		if i := slices.IndexFunc(c.Files, func(old Value) bool { return old.Name == f.Name }); i >= 0 {
			c.Files[i].Secret.Wipe()
			c.Files[i] = f
		} else {
			c.Files = append(c.Files, f)
		}
	}
}
