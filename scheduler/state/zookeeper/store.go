package zookeeper

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"pacer/scheduler/state"
)

// readers is how many reads are under way at once when a state is loaded.
const readers = 64

// maxRequest is below jute.maxbuffer, ZooKeeper's limit of 1 MiB on requests.
const maxRequest = 1<<20 - 8<<10

// Store is a state in ZooKeeper.
type Store struct {
	client *Client
	name   string
}

var _ state.Store = (*Store)(nil)

// NewStore returns the state below the client's root. name is written into
// the state for people: who leads. The client is closed with the store.
func NewStore(client *Client, name string) *Store { return &Store{client: client, name: name} }

// Close ends the client's session.
func (s *Store) Close() error { return s.client.Close() }

func (s *Store) epochPath() string  { return s.client.Root() + "/epoch" }
func (s *Store) commitPath() string { return s.client.Root() + "/commit" }
func (s *Store) statePath() string  { return s.client.Root() + "/state" }

// Lead raises the epoch. Only whoever has been elected should.
func (s *Store) Lead(ctx context.Context) (state.Session, error) {
	for _, path := range []string{s.epochPath(), s.commitPath(), s.statePath()} {
		if err := s.client.Ensure(ctx, path); err != nil {
			return nil, err
		}
	}
	epoch, err := s.raiseEpoch(ctx)
	if err != nil {
		return nil, err
	}
	session := &session{store: s, client: s.client, epoch: epoch}
	// Only we write from here on, so that what is read now stays true.
	if err := session.readCommit(ctx); err != nil {
		return nil, err
	}
	if session.nodes, err = s.list(ctx); err != nil {
		return nil, err
	}
	return session, nil
}

// raiseEpoch returns the version that the epoch's node has got. The change is
// made under a condition, so that it can be repeated when its answer is lost.
func (s *Store) raiseEpoch(ctx context.Context) (int32, error) {
	mark := s.name + " " + uuid.NewString()
	for {
		value, stat, err := s.get(ctx, s.epochPath())
		switch {
		case err != nil:
			return 0, s.client.explain("read epoch", err)
		case string(value) == mark:
			return stat.Version, nil
		}
		err = s.client.Do(ctx, func(conn *zk.Conn) error {
			_, err := conn.Set(s.epochPath(), []byte(mark), stat.Version)
			return err
		})
		if err != nil && !errors.Is(err, zk.ErrBadVersion) && !s.client.Unanswered(err) {
			return 0, s.client.explain("raise epoch", err)
		}
	}
}

func (s *Store) get(ctx context.Context, path string) ([]byte, *zk.Stat, error) {
	var value []byte
	var stat *zk.Stat
	err := s.client.Repeat(ctx, func(conn *zk.Conn) (err error) {
		value, stat, err = conn.Get(path)
		return err
	})
	if err != nil {
		return nil, nil, err // the request may still be writing to the others
	}
	return value, stat, nil
}

func (s *Store) children(ctx context.Context, path string) ([]string, error) {
	var names []string
	err := s.client.Repeat(ctx, func(conn *zk.Conn) (err error) {
		names, _, err = conn.Children(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// list finds all nodes below the state, or those of some kinds: true for those
// that are values, false for those that hold others.
func (s *Store) list(ctx context.Context, only ...string) (map[string]bool, error) {
	nodes := make(map[string]bool)
	kinds, err := s.children(ctx, s.statePath())
	if err != nil {
		return nil, s.client.explain("list state", err)
	}
	if len(only) > 0 {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return !slices.Contains(only, kind) })
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, kind := range kinds {
		names, err := s.children(ctx, s.statePath()+"/"+kind)
		if err != nil {
			return nil, errors.Join(s.client.explain("list "+kind, err), group.Wait())
		}
		mu.Lock()
		nodes[kind] = false
		mu.Unlock()
		for _, name := range names {
			key := kind + "/" + name
			bucket := state.IsBucket(name)
			mu.Lock()
			nodes[key] = !bucket
			mu.Unlock()
			if !bucket {
				continue
			}
			group.Go(func() error {
				leaves, err := s.children(ctx, s.statePath()+"/"+key)
				if err != nil {
					return s.client.explain("list "+key, err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, leaf := range leaves {
					nodes[key+"/"+leaf] = true
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return nodes, nil
}

// Read implements [state.Store].
func (s *Store) Read(ctx context.Context, yield func(key string, value []byte) error, kinds ...string) error {
	nodes, err := s.list(ctx, kinds...)
	if errors.Is(err, zk.ErrNoNode) {
		return nil // nobody has ever led here
	}
	if err != nil {
		return err
	}
	return s.load(ctx, nodes, yield)
}

// load reads the values among nodes.
func (s *Store) load(ctx context.Context, nodes map[string]bool, yield func(string, []byte) error) error {
	var mu sync.Mutex // of yield and stopped
	stopped := false
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for key, isValue := range nodes {
		if !isValue {
			continue
		}
		if reading.Err() != nil {
			break
		}
		group.Go(func() error {
			value, _, err := s.get(reading, s.statePath()+"/"+key)
			switch {
			case errors.Is(err, zk.ErrNoNode):
				return nil
			case err != nil:
				return s.client.explain("read "+key, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if stopped {
				return nil
			}
			err = yield(key, value)
			stopped = err != nil
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
