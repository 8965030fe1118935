package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"

	"pacer/executor"
	"pacer/executor/agent"
	"pacer/executor/logs"
	"pacer/executor/process"
	"pacer/healthcheck"
	"pacer/secrets"
	"pacer/secrets/vault"
)

// closeTimeout bounds the end of each part once no task is left.
const closeTimeout = 2 * time.Second

// run builds the executor from its settings, top to bottom, and takes it apart
// in the opposite order when it has ended.
func run(ctx context.Context, s settings, stderr io.Writer) (err error) {
	log := zerolog.New(stderr).Level(s.logLevel).With().Timestamp().Logger()
	log.Info().Str("version", version).Msg("pacer-executor starts")

	client, err := agent.New(s.agent, log)
	if err != nil {
		return err
	}
	supervisor, err := process.New(ctx, s.process, log)
	if err != nil {
		return fmt.Errorf("prepare for processes: %w", err)
	}
	defer closing(supervisor.Close, &err)

	parts := executor.Parts{
		Agent:     client,
		Processes: executor.FromSupervisor(supervisor),
		Output:    executor.FromLogs(logs.DefaultPolicy()),
		Checks:    executor.FromProber(healthcheck.NewProber(healthcheck.DefaultConcurrency)),
	}
	entries, limits, err := registries(s, log)
	if err != nil {
		return err
	}
	if entries != nil {
		defer closing(entries.Close, &err)
		parts.Registry = entries
	}
	if s.hasVault {
		store, err := vault.New(s.vault, log)
		if err != nil {
			return fmt.Errorf("prepare for Vault: %w", err)
		}
		defer store.Close()
		parts.Secrets = secrets.NewKeeper(store, log)
		defer closing(parts.Secrets.Close, &err)
	}
	tasks, err := executor.New(s.executor, parts, limits, log)
	if err != nil {
		return err
	}

	subscribed, unsubscribe := context.WithCancel(context.Background())
	lost := make(chan error, 1)
	go func() { lost <- client.Run(subscribed, tasks) }()
	err = tasks.Run(ctx)
	unsubscribe()
	return errors.Join(err, <-lost)
}

// closing closes a part within closeTimeout.
func closing(shut func(context.Context) error, err *error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	*err = errors.Join(*err, shut(ctx))
}
