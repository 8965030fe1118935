package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"pacer/scheduler/state"
)

// lockWait is how long Open waits for another process to let go of the file:
// long enough for a scheduler that is just being restarted.
const lockWait = 2 * time.Second

var (
	nodesBucket = []byte("nodes")
	metaBucket  = []byte("meta")
	epochKey    = []byte("epoch")
)

// Store is a state in a file.
type Store struct {
	db *bbolt.DB
}

var _ state.Store = (*Store)(nil)

// Open opens the file at path, making it and its folder when missing. It fails
// with [state.ErrLocked] when another process has it open.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make folder for state file: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("open state file %s: %w: stop the other scheduler, or give each its own file", path, state.ErrLocked)
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrVersionMismatch), errors.Is(err, bbolterrors.ErrChecksum):
		return nil, fmt.Errorf("open state file %s: %w: it is no state file or is damaged; restore a backup or name another file", path, err)
	case err != nil:
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{nodesBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare state file %s: %w", path, err), db.Close())
	}
	return &Store{db: db}, nil
}

// Close unlocks the file.
func (s *Store) Close() error { return s.db.Close() }

// Lead raises the epoch.
func (s *Store) Lead(ctx context.Context) (state.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var epoch uint64
	err := s.db.Update(func(tx *bbolt.Tx) error {
		epoch = readEpoch(tx) + 1
		return tx.Bucket(metaBucket).Put(epochKey, binary.BigEndian.AppendUint64(nil, epoch))
	})
	if err != nil {
		return nil, translate(err)
	}
	return &session{db: s.db, epoch: epoch}, nil
}

// Read implements [state.Store].
func (s *Store) Read(ctx context.Context, yield func(string, []byte) error, kinds ...string) error {
	return translate(s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(nodesBucket).ForEach(func(key, value []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if kind, _, _ := strings.Cut(string(key), "/"); len(kinds) > 0 && !slices.Contains(kinds, kind) {
				return nil
			}
			return yield(string(key), value)
		})
	}))
}

type session struct {
	db    *bbolt.DB
	epoch uint64
}

func (s *session) Epoch() uint64 { return s.epoch }

func (s *session) Load(ctx context.Context, yield func(string, []byte) error) error {
	return translate(s.db.View(func(tx *bbolt.Tx) error {
		if readEpoch(tx) != s.epoch {
			return state.ErrFenced
		}
		return tx.Bucket(nodesBucket).ForEach(func(key, value []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return yield(string(key), value)
		})
	}))
}

func (s *session) Apply(ctx context.Context, ops []state.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := state.CheckOps(ops); err != nil {
		return err
	}
	return translate(s.db.Update(func(tx *bbolt.Tx) error {
		if readEpoch(tx) != s.epoch {
			return state.ErrFenced
		}
		nodes := tx.Bucket(nodesBucket)
		for _, op := range ops {
			var err error
			if op.Value == nil {
				err = nodes.Delete([]byte(op.Key))
			} else {
				err = nodes.Put([]byte(op.Key), op.Value)
			}
			if err != nil {
				return fmt.Errorf("node %s: %w", op.Key, err)
			}
		}
		return nil
	}))
}

func (s *session) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return translate(s.db.View(func(tx *bbolt.Tx) error {
		if readEpoch(tx) != s.epoch {
			return state.ErrFenced
		}
		return nil
	}))
}

// Trouble is always nil: a local file can be reached.
func (s *session) Trouble() error { return nil }

func readEpoch(tx *bbolt.Tx) uint64 {
	value := tx.Bucket(metaBucket).Get(epochKey)
	if len(value) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

func translate(err error) error {
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return state.ErrClosed
	}
	return err
}
