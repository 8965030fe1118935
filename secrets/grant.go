package secrets

import (
	"context"
	"fmt"
	"time"
)

// logoutTimeout bounds giving a login back, which happens beside the task and
// must not hold it up for long.
const logoutTimeout = 5 * time.Second

// Grant is what one task was given, for as long as it runs.
type Grant struct {
	// Bundle is complete. Wipe it when the process has been started.
	Bundle *Bundle
}

// Acquire gets every secret that d declares, or none. It returns when all are
// there, when ctx is done, or with an error that a repeat would not mend. While
// the source cannot answer it calls waiting with the reason, once for each
// change of it. The login is given back before Acquire returns: static secrets
// need none afterwards. Without declarations it asks the source for nothing.
func Acquire(ctx context.Context, source Source, id Identity, d Declarations, waiting func(reason string)) (*Grant, error) {
	if d.Empty() {
		return &Grant{Bundle: new(Bundle)}, nil
	}
	if source == nil {
		return nil, fmt.Errorf("%d secrets are declared, but this executor has no secret store: set VAULT_ADDR and PACER_VAULT_AUTH for it", len(d.Variables)+len(d.VariableSets)+len(d.Files))
	}
	session, err := source.Open(ctx, id, waiting)
	if err != nil {
		return nil, err
	}
	defer func() {
		// The task has what it needs. A login that cannot be given back ends by
		// itself with its period, and the source has logged why.
		logout, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
		defer cancel()
		_ = session.Close(logout)
	}()
	bundle, err := Fetch(ctx, session, d)
	if err != nil {
		return nil, err
	}
	return &Grant{Bundle: bundle}, nil
}

// Close ends what the grant still holds at its source, bounded by ctx.
func (g *Grant) Close(context.Context) error {
	g.Bundle.Wipe()
	return nil
}
