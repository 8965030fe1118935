package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/go-zookeeper/zk"

	"pacer/scheduler/state"
)

// session is a leadership.
type session struct {
	store  *Store
	client *Client
	epoch  int32 // version of the epoch's node

	mu sync.Mutex // one transaction at a time
	// nodes that exist, relative to the state; see Store.list.
	nodes map[string]bool
	// commit is the version of the commit's node, count that of transactions.
	commit int32
	count  uint64
	// doubt is set while the outcome of a transaction is unknown, because its
	// context ended first. Nothing is written before it is known.
	doubt *transaction
}

var _ state.Session = (*session)(nil)

// transaction is a multi that may be sent more than once.
type transaction struct {
	requests []any
	mark     string // what it writes to the commit's node
	// added and removed are how it changes session.nodes.
	added   map[string]bool
	removed []string
}

// Epoch implements [state.Session].
func (s *session) Epoch() uint64 { return uint64(s.epoch) }

// Trouble implements [state.Session].
func (s *session) Trouble() error { return s.client.Trouble() }

// Check implements [state.Session].
func (s *session) Check(ctx context.Context) error {
	err := s.client.Repeat(ctx, func(conn *zk.Conn) error {
		_, err := conn.Multi(s.checkEpoch())
		return err
	})
	if errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNoNode) {
		return state.ErrFenced
	}
	return err
}

func (s *session) checkEpoch() *zk.CheckVersionRequest {
	return &zk.CheckVersionRequest{Path: s.store.epochPath(), Version: s.epoch}
}

// Load implements [state.Session].
func (s *session) Load(ctx context.Context, yield func(string, []byte) error) error {
	s.mu.Lock()
	nodes := maps.Clone(s.nodes)
	s.mu.Unlock()
	if err := s.store.load(ctx, nodes, yield); err != nil {
		return err
	}
	// What another leader changed meanwhile must not be taken for ours.
	return s.Check(ctx)
}

// Apply implements [state.Session]. It waits for a store that cannot be
// reached.
func (s *session) Apply(ctx context.Context, ops []state.Op) error {
	if err := state.CheckOps(ops); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubt != nil {
		if err := s.settle(ctx, s.doubt); err != nil && s.doubt != nil {
			return fmt.Errorf("outcome of an earlier write: %w", err)
		}
	}
	t, err := s.transaction(ops)
	if err != nil {
		return err
	}
	return s.settle(ctx, t)
}

// settle sends a transaction until its outcome is known.
func (s *session) settle(ctx context.Context, t *transaction) error {
	for {
		s.doubt = t
		var results []zk.MultiResponse
		err := s.client.Do(ctx, func(conn *zk.Conn) error {
			r, err := conn.Multi(t.requests...)
			results = r
			return err
		})
		switch {
		case err == nil:
			s.committed(t)
			return nil
		case s.client.Unanswered(err):
			if !sleep(ctx, repeatPause) {
				return errors.Join(ctx.Err(), err)
			}
			continue
		case ctx.Err() != nil, errors.Is(err, state.ErrClosed):
			return err
		}
		if len(results) == 0 { // nothing was sent
			s.doubt = nil
			return s.refused(t, len(t.requests), err)
		}
		// The first that failed says why; those behind it only that it did.
		at := 0
		for at < len(results) && results[at].Error == nil {
			at++
		}
		switch at {
		case 0:
			s.doubt = nil
			return state.ErrFenced
		case 1:
			return s.superseded(ctx, t)
		}
		s.doubt = nil
		return s.refused(t, at, err)
	}
}

// superseded finds out why the commit's node has another version: because the
// transaction was sent twice and counted the first time, or because somebody
// else writes here.
func (s *session) superseded(ctx context.Context, t *transaction) error {
	value, stat, err := s.store.get(ctx, s.store.commitPath())
	if err != nil {
		return err // still in doubt
	}
	s.doubt = nil
	if string(value) != t.mark {
		return fmt.Errorf("%w: %s says %.60q", state.ErrFenced, s.store.commitPath(), value)
	}
	s.committed(t)
	s.commit = stat.Version
	return nil
}

func (s *session) committed(t *transaction) {
	s.doubt = nil
	s.commit++
	maps.Copy(s.nodes, t.added)
	for _, key := range t.removed {
		delete(s.nodes, key)
	}
}

// refused explains what a server did not take.
func (s *session) refused(t *transaction, at int, err error) error {
	path := ""
	if at < len(t.requests) {
		switch r := t.requests[at].(type) {
		case *zk.CreateRequest:
			path = r.Path
		case *zk.SetDataRequest:
			path = r.Path
		case *zk.DeleteRequest:
			path = r.Path
		}
	}
	switch {
	case errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrNodeExists), errors.Is(err, zk.ErrNotEmpty):
		// Only the leader changes nodes; our list of them is worth nothing.
		return fmt.Errorf("%w: %s was changed by somebody else (%w)", state.ErrFenced, path, err)
	default:
		return s.client.explain("write "+path, err)
	}
}

// transaction makes the requests for ops. A later op on the same node counts.
func (s *session) transaction(ops []state.Op) (*transaction, error) {
	s.count++
	t := &transaction{mark: fmt.Sprintf("%d %d", s.epoch, s.count), added: make(map[string]bool)}
	t.requests = []any{
		s.checkEpoch(),
		&zk.SetDataRequest{Path: s.store.commitPath(), Data: []byte(t.mark), Version: s.commit},
	}
	removed := make(map[string]bool)
	exists := func(key string) bool {
		_, was := s.nodes[key]
		_, is := t.added[key]
		return (was || is) && !removed[key]
	}
	acl := s.client.ACL()
	size := 0
	for _, op := range ops {
		path := s.store.statePath() + "/" + op.Key
		size += len(path) + len(op.Value) + 64
		switch has := exists(op.Key); {
		case op.Value == nil && !has:
		case op.Value == nil:
			t.requests = append(t.requests, &zk.DeleteRequest{Path: path, Version: -1})
			removed[op.Key] = true
			delete(t.added, op.Key)
		case has:
			t.requests = append(t.requests, &zk.SetDataRequest{Path: path, Data: op.Value, Version: -1})
		default:
			for at, r := range op.Key {
				if parent := op.Key[:at]; r == '/' && !exists(parent) {
					above := s.store.statePath() + "/" + parent
					t.requests = append(t.requests, &zk.CreateRequest{Path: above, Acl: acl})
					t.added[parent] = false
					size += len(above) + aclSize(acl)
				}
			}
			t.requests = append(t.requests, &zk.CreateRequest{Path: path, Data: op.Value, Acl: acl})
			delete(removed, op.Key)
			t.added[op.Key] = true
			size += aclSize(acl)
		}
	}
	for key := range removed {
		t.removed = append(t.removed, key)
	}
	if size > maxRequest {
		return nil, &state.SizeError{Key: "transaction", Size: size, Limit: maxRequest}
	}
	return t, nil
}

func aclSize(acl []zk.ACL) int {
	size := 64
	for _, entry := range acl {
		size += 12 + len(entry.Scheme) + len(entry.ID)
	}
	return size
}

// readCommit takes note of the version of the commit's node.
func (s *session) readCommit(ctx context.Context) error {
	_, stat, err := s.store.get(ctx, s.store.commitPath())
	if err != nil {
		return s.client.explain("read "+strings.TrimPrefix(s.store.commitPath(), s.client.Root()+"/"), err)
	}
	s.commit = stat.Version
	return nil
}
