package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Errors of a [Reconciler].
var (
	// ErrClosed says that the registry has been closed.
	ErrClosed = errors.New("registry closed")
	// ErrSuperseded says that the opposite was asked for while the call waited.
	ErrSuperseded = errors.New("superseded by a later call")
)

// Error says that a wish was not fulfilled in time. It stands all the same.
type Error struct {
	// Op is "register" or "deregister".
	Op string
	// Registry is [Backend.Name].
	Registry string
	Key      Key
	// Tries were made in the time Elapsed; Err is the last one's error.
	Tries   int
	Elapsed time.Duration
	Err     error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s in %s: %v; tries: %d in %s", e.Op, e.Key.Name, e.Registry, e.Err, e.Tries, e.Elapsed.Round(time.Millisecond))
}

func (e *Error) Unwrap() error { return e.Err }

// Options of a [Reconciler]. The zero value has all defaults.
type Options struct {
	// Log gets a line for every instance that appears or goes, and one for
	// the first failure.
	Log zerolog.Logger
	// Interval is how often every entry is verified. Default 30 s.
	Interval time.Duration
	// Timeout of one call of the backend. Default 10 s.
	Timeout time.Duration
	// FirstRetry and LastRetry bound the pause between tries, which doubles
	// and is shortened by up to a half by chance. Defaults 100 ms and 5 s.
	FirstRetry, LastRetry time.Duration
	// Observe, if not nil, is told of every call that was fulfilled or failed
	// for good, for metrics. It must not block.
	Observe func(Operation)
	// Connected, if not nil, is told [Backend.Name] each time the backend has
	// reached its server, for the first time or again. It must not block.
	Connected func(registry string)
}

// Operation is a fulfilled or failed Register or Deregister of one instance.
type Operation struct {
	// Op is "register" or "deregister", Registry is [Backend.Name].
	Op, Registry string
	// Elapsed is the time that the caller waited.
	Elapsed time.Duration
	// Err is nil if the wish was fulfilled.
	Err error
}

// Reconciler is a [Registry] over a [Backend]. It keeps a table of what is
// wished and makes the backend match it: when a wish changes, when the backend
// says that something may have changed, and every [Options.Interval].
type Reconciler struct {
	backend Backend
	opts    Options

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	entries map[Key]*entry
}

// entry is the wish for one instance. Its fields are guarded by
// Reconciler.mu. While it is unsettled a worker goroutine is at it.
type entry struct {
	inst   Instance
	wanted bool
	// settled: the backend matched the wish when last asked.
	settled bool
	// version changes whenever the backend has to be asked (again).
	version uint64
	// wait is closed when the entry is settled or the wish superseded; the
	// latter sets superseded before.
	wait *wait
	// kick ends the pause between two tries.
	kick    chan struct{}
	tries   int
	lastErr error
	since   time.Time
}

type wait struct {
	done       chan struct{}
	superseded bool
}

func newWait() *wait { return &wait{done: make(chan struct{})} }

// New returns a registry over the backend and starts verifying. Close it.
func New(b Backend, o Options) *Reconciler {
	if o.Interval <= 0 {
		o.Interval = 30 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.FirstRetry <= 0 {
		o.FirstRetry = 100 * time.Millisecond
	}
	if o.LastRetry <= 0 {
		o.LastRetry = 5 * time.Second
	}
	o.Log = o.Log.With().Str(keyRegistry, b.Name()).Logger()
	r := &Reconciler{backend: b, opts: o, entries: make(map[Key]*entry)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	b.Watch(r.noticed)
	r.wg.Go(r.verifyLoop)
	return r
}

// Keys of log fields.
const (
	keyRegistry = "registry"
	keyTask     = "task_id"
	keyService  = "service"
	keyTries    = "tries"
	keyElapsed  = "elapsed"
)

// Register implements [Registry].
func (r *Reconciler) Register(ctx context.Context, instances []Instance) error {
	return r.wish(ctx, instances, true)
}

// Deregister implements [Registry].
func (r *Reconciler) Deregister(ctx context.Context, instances []Instance) error {
	return r.wish(ctx, instances, false)
}

func (r *Reconciler) wish(ctx context.Context, instances []Instance, wanted bool) error {
	start := time.Now()
	var waits []*wait
	var keys []Key
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	for _, inst := range instances {
		if inst.Only != "" && inst.Only != r.backend.Name() {
			continue
		}
		if w := r.wishLocked(inst, wanted); w != nil {
			waits, keys = append(waits, w), append(keys, inst.Key())
		}
	}
	r.mu.Unlock()

	var errs []error
	for i, w := range waits {
		err := r.await(ctx, w, keys[i], wanted, start)
		if r.opts.Observe != nil {
			r.opts.Observe(Operation{Op: op(wanted), Registry: r.backend.Name(), Elapsed: time.Since(start), Err: err})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wishLocked notes the wish and returns what to wait for, nil if it is
// fulfilled already.
func (r *Reconciler) wishLocked(inst Instance, wanted bool) *wait {
	e := r.entries[inst.Key()]
	switch {
	case e == nil && !wanted:
		return nil
	case e == nil:
		e = &entry{inst: inst, wanted: true, settled: true, kick: make(chan struct{}, 1)}
		r.entries[inst.Key()] = e
	case e.wanted == wanted && (!wanted || e.inst.equal(inst)):
		if e.settled {
			return nil
		}
		return e.wait
	default:
		e.wanted = wanted
		if wanted {
			e.inst = inst
		}
		if !e.settled {
			e.wait.superseded = true
			close(e.wait.done)
			e.wait = newWait()
		}
	}
	e.tries, e.lastErr, e.since = 0, nil, time.Now()
	r.unsettleLocked(e)
	return e.wait
}

// unsettleLocked has the backend asked (again) about the entry.
func (r *Reconciler) unsettleLocked(e *entry) {
	e.version++
	if e.settled {
		e.settled = false
		e.wait = newWait()
		r.wg.Go(func() { r.settle(e) })
		return
	}
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

func (r *Reconciler) await(ctx context.Context, w *wait, k Key, wanted bool, start time.Time) error {
	fail := func(err error) error {
		e := &Error{Op: op(wanted), Registry: r.backend.Name(), Key: k, Elapsed: time.Since(start), Err: err}
		r.mu.Lock()
		if entry := r.entries[k]; entry != nil {
			e.Tries = entry.tries
			if entry.lastErr != nil && !errors.Is(err, ErrSuperseded) && !errors.Is(err, ErrClosed) {
				e.Err = entry.lastErr
			}
		}
		r.mu.Unlock()
		return e
	}
	// An answer that is there counts, even when the time is over.
	select {
	case <-w.done:
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-r.ctx.Done():
			return fail(ErrClosed)
		}
	}
	if w.superseded {
		return fail(ErrSuperseded)
	}
	return nil
}

// settle asks the backend until the entry matches its wish.
func (r *Reconciler) settle(e *entry) {
	pause := r.opts.FirstRetry
	for {
		r.mu.Lock()
		inst, wanted, version := e.inst, e.wanted, e.version
		r.mu.Unlock()

		ctx, cancel := context.WithTimeout(r.ctx, r.opts.Timeout)
		var err error
		if wanted {
			err = r.backend.Put(ctx, inst)
		} else {
			err = r.backend.Delete(ctx, inst)
		}
		cancel()
		if r.ctx.Err() != nil {
			return
		}

		r.mu.Lock()
		e.tries++
		e.lastErr = err
		if e.version != version {
			// Something changed meanwhile: what was found may be outdated.
			pause = r.opts.FirstRetry
			drain(e.kick)
			r.mu.Unlock()
			continue
		}
		if err == nil {
			r.settledLocked(e)
			r.mu.Unlock()
			return
		}
		tries := e.tries
		r.mu.Unlock()
		r.logFailure(inst, wanted, tries, err)

		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
			pause = min(2*pause, r.opts.LastRetry)
		case <-e.kick:
			timer.Stop()
			pause = r.opts.FirstRetry
		case <-r.ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (r *Reconciler) settledLocked(e *entry) {
	e.settled = true
	close(e.wait.done)
	if !e.wanted {
		delete(r.entries, e.inst.Key())
	}
	tries := e.tries
	e.tries = 0
	if e.since.IsZero() {
		return // a verification, not a wish
	}
	msg := "registered"
	if !e.wanted {
		msg = "deregistered"
	}
	r.opts.Log.Info().Str(keyTask, e.inst.TaskID).Str(keyService, e.inst.Name).
		Int(keyTries, tries).Dur(keyElapsed, time.Since(e.since)).Msg(msg)
	e.since = time.Time{}
}

// logFailure says the first time that something does not work. That the
// server is away has been said by the backend.
func (r *Reconciler) logFailure(inst Instance, wanted bool, tries int, err error) {
	level := zerolog.DebugLevel
	if tries == 1 && !errors.Is(err, ErrUnavailable) {
		level = zerolog.WarnLevel
	}
	r.opts.Log.WithLevel(level).Str(keyTask, inst.TaskID).Str(keyService, inst.Name).
		Int(keyTries, tries).Err(err).Msg(op(wanted) + " failed, will retry")
}

// noticed is called by the backend.
func (r *Reconciler) noticed(k Key) {
	if k == (Key{}) && r.opts.Connected != nil {
		r.opts.Connected(r.backend.Name())
	}
	r.changed(k)
}

// changed has the entry of a key asked about, or with the zero Key all.
func (r *Reconciler) changed(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if k != (Key{}) {
		if e := r.entries[k]; e != nil {
			r.unsettleLocked(e)
		}
		return
	}
	for _, e := range r.entries {
		r.unsettleLocked(e)
	}
}

func (r *Reconciler) verifyLoop() {
	t := time.NewTicker(r.opts.Interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.changed(Key{})
		case <-r.ctx.Done():
			return
		}
	}
}

// Close implements [Registry].
func (r *Reconciler) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	r.closed = true
	var waits []*wait
	var keys []Key
	for k, e := range r.entries {
		if w := r.wishLocked(e.inst, false); w != nil {
			waits, keys = append(waits, w), append(keys, k)
		}
	}
	r.mu.Unlock()

	var errs []error
	for i, w := range waits {
		errs = append(errs, r.await(ctx, w, keys[i], false, time.Now()))
	}
	r.cancel()
	errs = append(errs, r.backend.Close(ctx))
	r.wg.Wait()
	return errors.Join(errs...)
}

func op(wanted bool) string {
	if wanted {
		return "register"
	}
	return "deregister"
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}
