package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"pacer/scheduler"
	"pacer/scheduler/access"
	"pacer/scheduler/api"
	"pacer/scheduler/identity"
	"pacer/scheduler/leader"
	"pacer/scheduler/master"
)

// run builds everything from top to bottom and runs it until ctx ends.
func run(ctx context.Context, f *flags, stderr io.Writer) (err error) {
	level, err := zerolog.ParseLevel(f.LogLevel)
	if err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	log := zerolog.New(stderr).Level(level).With().Timestamp().Logger()
	config, err := f.config()
	if err != nil {
		return err
	}

	guard, secure, err := f.access(log)
	if err != nil {
		return err
	}

	// Listeners first: their addresses are part of what follows, and a second
	// scheduler by mistake ends here.
	listener, err := api.Listen(ctx, f.Listen, guard != nil)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer closing(listener, &err)
	config.Leader = listener.Addr().String()
	apiURL := "http://" + config.Leader
	if secure != nil {
		apiURL = "https://" + config.Leader
	}
	if f.AdvertiseAPI != "" {
		apiURL = strings.TrimSuffix(f.AdvertiseAPI, "/")
	}
	config.Framework.WebUI = apiURL
	var listen net.ListenConfig
	public, err := listen.Listen(ctx, "tcp", f.PublicListen)
	if err != nil {
		return fmt.Errorf("--public-listen: %w", err)
	}
	defer closing(public, &err)

	var executor *api.Executor
	if f.ExecutorURI == "" {
		if executor, err = openExecutor(f, public.Addr(), &config); err != nil {
			return err
		}
		defer closing(executor, &err)
	}

	key, err := signingKey(f.IdentityKey)
	if err != nil {
		return err
	}
	secret, err := f.secret()
	if err != nil {
		return err
	}
	client, err := master.New(master.Config{Masters: f.Master, Principal: f.Principal, Secret: secret}, log)
	if err != nil {
		return fmt.Errorf("--master: %w", err)
	}
	store, session, err := f.openState(hostname()+" "+apiURL, log)
	if err != nil {
		return err
	}
	defer closing(store, &err)

	publicURL, err := reachable(public.Addr())
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s := &service{
		config: config, log: log, store: store, mesos: client, key: key, metrics: metrics, guard: guard,
		self: leader.Member{ID: uuid.NewString(), API: apiURL, Public: publicURL, Version: version},
	}
	if executor != nil {
		s.self.Executor = executor.SHA256()
	}
	if session != nil {
		s.election = leader.New(session, s.self, log)
	}
	defer s.start().Close()
	log.Info().Str("version", version).Str("api", apiURL).Str("public", publicURL).Str("executor", config.Executor.URI).Msg("started")

	// What is first to end ends all others; SIGTERM ends ctx. Tasks go on.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.run(ctx) })
	group.Go(func() error { giveBack(ctx); return nil })
	group.Go(func() error { return api.Serve(ctx, listener, secure, s, log) })
	group.Go(func() error {
		handler := api.NewPublic(api.PublicConfig{Executor: executor, Keys: s.publicKeys, Log: log})
		return api.ServePublic(ctx, public, leader.Executors(s.self, s.members, handler), log)
	})
	return group.Wait()
}

// access is who may use the API, and its certificate; nil where the flags name
// none.
func (f *flags) access(log zerolog.Logger) (guard *access.Guard, secure *tls.Config, err error) {
	if f.UsersFile != "" {
		if guard, err = access.Open(f.UsersFile, f.RulesFile, log); err != nil {
			return nil, nil, fmt.Errorf("--users-file, --rules-file: %w", err)
		}
	}
	if f.TLSCert != "" {
		if secure, err = api.LoadTLS(f.TLSCert, f.TLSKey); err != nil {
			return nil, nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
	}
	return guard, secure, nil
}

// openExecutor opens the binary and says where agents find it.
func openExecutor(f *flags, public net.Addr, config *scheduler.Config) (*api.Executor, error) {
	path, err := f.executorPath()
	if err != nil {
		return nil, err
	}
	base, err := f.advertised(public)
	if err != nil {
		return nil, err
	}
	executor, err := api.OpenExecutor(path)
	if err != nil {
		return nil, fmt.Errorf("--executor: %w", err)
	}
	config.Executor.SHA256 = executor.SHA256()
	config.Executor.URI = base + executor.Path()
	return executor, nil
}

// signingKey reads the operator's key; nil means the one in the state.
func signingKey(path string) (*identity.Key, error) {
	if path == "" {
		return nil, nil
	}
	key, err := identity.Read(path)
	if err != nil {
		return nil, fmt.Errorf("--identity-key: %w", err)
	}
	return key, nil
}

// closing closes c and adds its error to err. Listeners are closed by their
// servers before.
func closing(c io.Closer, err *error) {
	if failed := c.Close(); failed != nil && !errors.Is(failed, net.ErrClosed) {
		*err = errors.Join(*err, failed)
	}
}
