package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Journal writes changes in the order in which they were submitted, several
// in one transaction. Its methods may be called from any goroutine.
type Journal struct {
	session Session
	chunks  *chunks // owned by Run

	mu      sync.Mutex
	pending []submission
	closed  error
	wake    chan struct{} // holds a token while pending may be non-empty

	transactions, bytes atomic.Uint64
}

type submission struct {
	change *Change
	ops    []Op // all but tasks
	done   func(error)
}

// Open takes the lead of a store and reads it. It fails with ErrFormat when
// any record is newer than this build. Nodes that cannot be read otherwise
// are listed in Snapshot.Corrupt and left alone.
func Open(ctx context.Context, store Store) (*Journal, *Snapshot, error) {
	session, err := store.Lead(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("lead state: %w", err)
	}
	j := &Journal{session: session, chunks: newChunks(), wake: make(chan struct{}, 1)}
	snap := newSnapshot()
	err = session.Load(ctx, func(key string, value []byte) error {
		err := j.load(snap, key, value)
		if err == nil {
			return nil
		}
		bad := &RecordError{Key: key, Err: err}
		// Without these nothing can be done safely.
		if errors.Is(err, ErrFormat) || strings.HasPrefix(key, kindMeta+"/") {
			return bad
		}
		snap.Corrupt = append(snap.Corrupt, bad)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("load state: %w", err)
	}
	for _, versions := range snap.Versions {
		slices.SortFunc(versions, func(a, b OldVersion) int {
			return strings.Compare(a.Definition.Version, b.Definition.Version)
		})
	}
	return j, snap, nil
}

func newSnapshot() *Snapshot {
	return &Snapshot{
		Executors:  make(map[string]Executor),
		Apps:       make(map[string]*App),
		Versions:   make(map[string][]OldVersion),
		Tasks:      make(map[string]*Task),
		Tombstones: make(map[string]Tombstone),
		Keys:       make(map[string]PublicKey),
	}
}

func (j *Journal) load(snap *Snapshot, key string, value []byte) error {
	kind, _, _ := strings.Cut(key, "/")
	switch kind {
	case kindMeta:
		var err error
		switch key {
		case keyFramework:
			snap.FrameworkID, err = decodeFramework(value)
		case keyIdentity:
			snap.Identity, err = decodeIdentity(value)
		default:
			err = fmt.Errorf("%w: unknown node", ErrFormat)
		}
		return err
	case kindExecutors:
		e, err := decodeExecutor(value)
		if err == nil {
			snap.Executors[e.Hash] = e
		}
		return err
	case kindApps:
		a, err := decodeApp(value)
		if err != nil {
			return err
		}
		if appKey(a.Path) != key {
			return fmt.Errorf("node holds app %q", a.Path)
		}
		snap.Apps[a.Path] = a
		return nil
	case kindVersions:
		v, err := decodeOldVersion(value)
		if err == nil {
			snap.Versions[v.Path] = append(snap.Versions[v.Path], v)
		}
		return err
	case kindTasks:
		n, err := chunkNumber(key)
		if err != nil {
			return err
		}
		// Never write over a chunk that cannot be read.
		j.chunks.next = max(j.chunks.next, n+1)
		tasks, err := decodeChunk(value)
		if err != nil {
			return err
		}
		for _, t := range tasks {
			if _, twice := snap.Tasks[t.ID]; twice {
				return fmt.Errorf("task %s has two records", t.ID)
			}
		}
		for _, t := range tasks {
			snap.Tasks[t.ID] = t
		}
		j.chunks.loaded(n, tasks)
		return nil
	case kindTombstones:
		t, err := decodeTombstone(value)
		if err == nil {
			snap.Tombstones[t.Path] = t
		}
		return err
	case kindKeys:
		k, err := decodePublicKey(value)
		if err == nil {
			snap.Keys[k.ID] = k
		}
		return err
	default:
		return fmt.Errorf("%w: unknown kind of node", ErrFormat)
	}
}

// Epoch of the leadership under which the journal writes.
func (j *Journal) Epoch() uint64 { return j.session.Epoch() }

// Check asks the store whether this journal still leads; see Session.Check.
func (j *Journal) Check(ctx context.Context) error { return j.session.Check(ctx) }

// Trouble is why the store cannot be reached now, or nil.
func (j *Journal) Trouble() error { return j.session.Trouble() }

// Written returns the transactions and bytes written since Open.
func (j *Journal) Written() (transactions, bytes uint64) {
	return j.transactions.Load(), j.bytes.Load()
}

// Submit queues a change and returns. done is called once, from Run's
// goroutine, when the change is stored (nil) or not: ErrTooLarge when it never
// can be, ErrFenced, ErrClosed, or the store's error. What fails has no effect
// on later changes.
func (j *Journal) Submit(c *Change, done func(error)) {
	s := submission{change: c, done: done}
	var err error
	if s.ops, err = c.encode(); err == nil {
		err = c.tasks.check()
	}
	if err == nil {
		err = j.enqueue(s)
	}
	if err != nil {
		done(err)
	}
}

func (j *Journal) enqueue(s submission) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed != nil {
		return j.closed
	}
	j.pending = append(j.pending, s)
	select {
	case j.wake <- struct{}{}:
	default: // Run has not taken the last token yet
	}
	return nil
}

// lastWrites is how long the end of Run is delayed for what is queued, when
// the store cannot be reached.
const lastWrites = 3 * time.Second

// Run writes until ctx ends or another scheduler takes the lead (ErrFenced).
// What is queued when ctx ends is still written, if the store takes it soon;
// what comes later fails with ErrClosed.
func (j *Journal) Run(ctx context.Context) error {
	// A write that has begun is finished even when ctx ends meanwhile.
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { cancelLate(ctx, ended, cancel) })
	defer watch.Wait()
	defer close(ended)
	for {
		select {
		case <-j.wake:
			if err := j.drain(writing); err != nil {
				j.close(err)
				return err
			}
		case <-ctx.Done():
			j.mu.Lock()
			j.closed = ErrClosed
			j.mu.Unlock()
			err := j.drain(writing)
			j.close(ErrClosed)
			return err
		}
	}
}

// cancelLate cancels a while after ctx has ended, unless ended is closed.
func cancelLate(ctx context.Context, ended <-chan struct{}, cancel func()) {
	select {
	case <-ctx.Done():
	case <-ended:
		return
	}
	timer := time.NewTimer(lastWrites)
	defer timer.Stop()
	select {
	case <-timer.C:
		cancel()
	case <-ended:
	}
}

func (j *Journal) close(err error) {
	j.mu.Lock()
	j.closed = err
	rest := j.pending
	j.pending = nil
	j.mu.Unlock()
	for _, s := range rest {
		s.done(err)
	}
}

// drain writes until nothing is pending.
func (j *Journal) drain(ctx context.Context) error {
	for {
		group := j.take()
		if len(group) == 0 {
			return nil
		}
		err := j.write(ctx, group)
		for _, s := range group {
			s.done(err)
		}
		// A write that was given up leaves its outcome unknown.
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return err
		}
	}
}

// take removes from pending what goes into the next transaction: as much as
// surely fits, and at least one.
func (j *Journal) take() []submission {
	j.mu.Lock()
	defer j.mu.Unlock()
	size, n := 0, 0
	touched := make(map[uint32]bool)
	for _, s := range j.pending {
		for _, op := range s.ops {
			size += op.cost()
		}
		for id, t := range s.change.tasks {
			if chunk, ok := j.chunks.of[id]; ok && !touched[chunk] {
				touched[chunk] = true
				size += j.chunks.size[chunk] + opCost
			}
			if t != nil {
				size += recordSize(t)
			}
		}
		// Chunks that were open may be written again in full.
		if n > 0 && size > MaxBatch-maxCandidates*MaxChunk {
			break
		}
		n++
	}
	group := slices.Clone(j.pending[:n])
	j.pending = slices.Delete(j.pending, 0, n)
	return group
}

func (j *Journal) write(ctx context.Context, group []submission) error {
	// Of several values of a node the last one counts.
	values := make(map[string][]byte)
	tasks := make(change)
	for _, s := range group {
		for _, op := range s.ops {
			values[op.Key] = op.Value
		}
		maps.Copy(tasks, s.change.tasks)
	}
	touched := j.chunks.plan(tasks)
	for n, list := range touched {
		if len(list) == 0 {
			values[chunkKey(n)] = nil
			continue
		}
		data, err := encodeChunk(list)
		if err != nil {
			return err
		}
		values[chunkKey(n)] = data
	}
	if len(values) == 0 {
		return nil
	}
	ops := make([]Op, 0, len(values))
	size := 0
	for _, key := range slices.Sorted(maps.Keys(values)) {
		op := Op{Key: key, Value: values[key]}
		size += op.Size()
		ops = append(ops, op)
	}
	if err := j.session.Apply(ctx, ops); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	j.chunks.commit(touched)
	j.transactions.Add(1)
	j.bytes.Add(uint64(size))
	return nil
}
