package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// leased gives credentials with a lease, as a database engine does:
//
//	read  MOUNT/creds/NAME          username, password; the lease is renewable
//	write MOUNT/config ttl=N max_ttl=N fail_renew=B fail_revoke=B
//	read  MOUNT/stats               issued, renewed, revoked
//
// The configuration applies to all names of the mount.
type leased struct {
	*framework.Backend

	mu                       sync.Mutex
	ttl, maxTTL              time.Duration
	failRenew, failRevoke    bool
	issued, renewed, revoked int
}

func leasedFactory(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
	b := &leased{ttl: time.Minute, maxTTL: time.Hour}
	b.Backend = &framework.Backend{
		BackendType: logical.TypeLogical,
		Secrets: []*framework.Secret{{
			Type:   "leased",
			Fields: map[string]*framework.FieldSchema{"username": {Type: framework.TypeString}},
			Renew:  b.renew,
			Revoke: b.revoke,
		}},
		Paths: []*framework.Path{
			{
				Pattern:    "creds/" + framework.GenericNameRegex("name"),
				Fields:     map[string]*framework.FieldSchema{"name": {Type: framework.TypeString}},
				Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{Callback: b.issue}},
			},
			{
				Pattern: "config",
				Fields: map[string]*framework.FieldSchema{
					"ttl": {Type: framework.TypeDurationSecond}, "max_ttl": {Type: framework.TypeDurationSecond},
					"fail_renew": {Type: framework.TypeBool}, "fail_revoke": {Type: framework.TypeBool},
				},
				Operations: map[logical.Operation]framework.OperationHandler{logical.UpdateOperation: &framework.PathOperation{Callback: b.configure}},
			},
			{
				Pattern:    "stats",
				Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{Callback: b.stats}},
			},
		},
	}
	return b, b.Setup(ctx, config)
}

func (b *leased) issue(_ context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.issued++
	user := fmt.Sprintf("%s-%d", data.Get("name"), b.issued)
	response := b.Secret("leased").Response(map[string]any{"username": user, "password": "pw-" + user}, map[string]any{"username": user})
	response.Secret.TTL, response.Secret.MaxTTL, response.Secret.Renewable = b.ttl, b.maxTTL, true
	return response, nil
}

func (b *leased) renew(_ context.Context, request *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failRenew {
		return nil, fmt.Errorf("told to fail renewals")
	}
	b.renewed++
	response := &logical.Response{Secret: request.Secret}
	response.Secret.TTL, response.Secret.MaxTTL = b.ttl, b.maxTTL
	return response, nil
}

func (b *leased) revoke(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failRevoke {
		return nil, fmt.Errorf("told to fail revocations")
	}
	b.revoked++
	return nil, nil
}

func (b *leased) configure(_ context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, field := range map[string]*time.Duration{"ttl": &b.ttl, "max_ttl": &b.maxTTL} {
		if seconds, ok := data.GetOk(name); ok {
			*field = time.Duration(seconds.(int)) * time.Second
		}
	}
	for name, field := range map[string]*bool{"fail_renew": &b.failRenew, "fail_revoke": &b.failRevoke} {
		if value, ok := data.GetOk(name); ok {
			*field = value.(bool)
		}
	}
	return nil, nil
}

func (b *leased) stats(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &logical.Response{Data: map[string]any{"issued": b.issued, "renewed": b.renewed, "revoked": b.revoked}}, nil
}
