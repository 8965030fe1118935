package state

import (
	"context"
	"errors"
	"strings"
)

// Limits on what is written.
const (
	// MaxNode is the largest value of a node, in bytes.
	MaxNode = 64 << 10
	// MaxBatch is the most that one transaction carries, keys and values and
	// 256 bytes for each op, in bytes. ZooKeeper's limit is 1 MiB.
	MaxBatch = 512 << 10
	// MaxChunk is the largest chunk of task records, in bytes.
	MaxChunk = 4 << 10
)

var (
	// ErrFenced says that another scheduler has taken the lead of this state
	// since. Nothing was written. The process must end.
	ErrFenced = errors.New("another scheduler leads this state")
	// ErrLocked says that another process has the state open.
	ErrLocked = errors.New("state is in use by another process")
	// ErrFormat says that a record was written by a newer scheduler.
	ErrFormat = errors.New("record was written by a newer scheduler")
	// ErrTooLarge says that a node or a transaction would exceed the limits.
	// Nothing was written, and trying again will not help.
	ErrTooLarge = errors.New("too large for the store")
	// ErrClosed says that the store, session or journal was closed.
	ErrClosed = errors.New("state is closed")
)

// Store keeps nodes: small values under keys of slash-separated parts.
type Store interface {
	// Lead raises the epoch and returns the session of the new leader. What
	// other sessions of this state write from then on fails with ErrFenced.
	Lead(ctx context.Context) (Session, error)
	// Read is Session.Load without leading. What is changed meanwhile may be
	// seen or not. With kinds (first parts of keys) only their nodes are read.
	Read(ctx context.Context, yield func(key string, value []byte) error, kinds ...string) error
	// Close releases the store. Sessions fail with ErrClosed afterwards.
	Close() error
}

// Session is a leader's access to a store.
type Session interface {
	// Epoch is the number of this leadership: 1 for a new state, then rising.
	Epoch() uint64
	// Load calls yield for every node, in no order, until yield fails. The
	// value belongs to yield's caller and is valid only during the call.
	Load(ctx context.Context, yield func(key string, value []byte) error) error
	// Apply does all ops or none. While the store cannot be reached it waits.
	// It fails with ErrFenced, ErrTooLarge or ErrClosed; with another error
	// that says why nothing was written; or, when ctx ends first, with ctx's,
	// and the outcome is unknown.
	Apply(ctx context.Context, ops []Op) error
	// Check asks the store whether this session still leads, and fails with
	// ErrFenced if not. It waits for a store that cannot be reached.
	Check(ctx context.Context) error
	// Trouble is why the store cannot be reached now, or nil.
	Trouble() error
}

// Op changes one node.
type Op struct {
	// Key as in the package's documentation, e.g. "apps/0f/shop_cart".
	Key string
	// Value to put; nil deletes the node. Deleting what is not there is no
	// error.
	Value []byte
}

// Size of the op in bytes: key and value.
func (o Op) Size() int { return len(o.Key) + len(o.Value) }

// opCost is what an op takes in a transaction beside key and value, in bytes:
// the path above the key, access control, perhaps a new bucket.
const opCost = 256

func (o Op) cost() int { return o.Size() + opCost }

// IsBucket tells whether the second part of a key is a bucket. Nodes that are
// not in a bucket are not named like one.
func IsBucket(part string) bool {
	return len(part) == 2 && strings.Trim(part, "0123456789abcdef") == ""
}

// CheckOps refuses what no store should take: nodes above [MaxNode],
// transactions above [MaxBatch], and empty keys. Stores call it in Apply.
func CheckOps(ops []Op) error {
	size := 0
	for _, op := range ops {
		if op.Key == "" {
			return errors.New("operation without key")
		}
		if len(op.Value) > MaxNode {
			return &SizeError{Key: op.Key, Size: len(op.Value), Limit: MaxNode}
		}
		size += op.cost()
	}
	if size > MaxBatch {
		return &SizeError{Key: "transaction", Size: size, Limit: MaxBatch}
	}
	return nil
}
