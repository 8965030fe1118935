package registry

import (
	"context"
	"errors"
	"sync"
)

// All returns a registry of several: a call is made on all of them at the same
// time and is fulfilled when all are. All() registers nothing.
func All(registries ...Registry) Registry { return all(registries) }

type all []Registry

func (a all) each(f func(Registry) error) error {
	errs := make([]error, len(a))
	var wg sync.WaitGroup
	for i, r := range a {
		wg.Go(func() { errs[i] = f(r) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (a all) Register(ctx context.Context, instances []Instance) error {
	return a.each(func(r Registry) error { return r.Register(ctx, instances) })
}

func (a all) Deregister(ctx context.Context, instances []Instance) error {
	return a.each(func(r Registry) error { return r.Deregister(ctx, instances) })
}

func (a all) Close(ctx context.Context) error {
	return a.each(func(r Registry) error { return r.Close(ctx) })
}
