package secrets

import (
	"context"
	"errors"
	"time"
)

// Identity says on whose behalf secrets are read.
type Identity struct {
	// App is the app's path without a leading slash, e.g. "shop/cart".
	App string
	// Task is the task's id.
	Task string
	// Token is the signed token of this very task, empty where the host's own
	// credential is used.
	Token Secret
	// Fresh gets another token when Token has ended. It asks until one comes or
	// ctx ends. Nil means that there is nobody to ask.
	Fresh func(ctx context.Context) (Secret, error)
}

// Source is where secrets come from: vault.Client in this module.
type Source interface {
	// Open logs in on behalf of one task. It retries what may pass and calls
	// waiting with the reason each time that reason changes; waiting must not
	// block. It returns when it has a session, when ctx is done, or with an
	// error that a repeat would not mend.
	Open(ctx context.Context, id Identity, waiting func(reason string)) (Session, error)
}

// Session reads secrets with the rights of one task. Retries and errors of its
// methods are as for [Source.Open].
type Session interface {
	// Read returns all keys of a secret. Version 0 is the newest. Each read of
	// what gives leases makes a lease of its own.
	Read(ctx context.Context, path string, version int) (Content, error)
	// Login is the login's own lease; a zero duration means that it need not be
	// renewed.
	Login() Lease
	// RenewLogin prolongs the login and returns its lease. Leases end with the
	// login that they were read with. [ErrEnded] says that it is over: then
	// Relogin makes another.
	RenewLogin(ctx context.Context) (Lease, error)
	Relogin(ctx context.Context) error
	// Renew prolongs a lease and returns what it is now. [ErrEnded] says that
	// it is over.
	Renew(ctx context.Context, lease Lease) (Lease, error)
	// Revoke ends a lease, unless Close would.
	Revoke(ctx context.Context, lease Lease) error
	// Close gives the login and its leases back. It is bounded by ctx and can
	// be called more than once.
	Close(ctx context.Context) error
}

// ErrEnded says that a lease or a login is over and cannot be renewed.
var ErrEnded = errors.New("lease has ended")

// Content is one secret as it was read.
type Content struct {
	Keys map[string]Secret
	// Lease has no ID for a static secret.
	Lease Lease
}

// Lease is for how long something was given.
type Lease struct {
	// ID names the lease at its source. It is no credential, but not shown.
	ID        string
	Duration  time.Duration
	Renewable bool
}
