package registry

import (
	"context"
	"errors"
)

// ErrUnavailable is wrapped by errors of a [Backend] whose server cannot be
// reached. The backend logs that once by itself, and calls the function given
// to [Backend.Watch] when it is back.
var ErrUnavailable = errors.New("registry unavailable")

// Key identifies an instance. The zero Key stands for all instances.
type Key struct{ TaskID, Name string }

// Key returns the instance's identity.
func (i Instance) Key() Key { return Key{TaskID: i.TaskID, Name: i.Name} }

// Backend is one kind of registry. A [Reconciler] makes a [Registry] of it: it
// retries, repeats and serialises the calls, at most one at a time for each
// Key. A Backend remembers what it wrote under which Key.
type Backend interface {
	// Name is used in logs and metrics, and for [Instance.Only].
	Name() string
	// Put makes the entry of inst exist with the right content and returns
	// nil when clients can find it. It is also called to make sure of that
	// again, and then writes only if something is missing or wrong. When it
	// fails the outcome may be unknown; the next call finds out.
	Put(ctx context.Context, inst Instance) error
	// Delete returns nil when the entry of inst is gone, or never was.
	Delete(ctx context.Context, inst Instance) error
	// Watch is called once, before anything else. The backend calls changed,
	// which does not block, when the entry of a Key may have vanished or
	// changed, and with the zero Key when all may have or when the server is
	// reachable again.
	Watch(changed func(Key))
	// Close releases the backend, at the latest when ctx ends; calls under
	// way return.
	Close(ctx context.Context) error
}
