package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"pacer/executor"
	"pacer/executor/agent"
	"pacer/executor/artifact"
	"pacer/executor/logs"
	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/executor/registry"
	"pacer/executor/status"
	"pacer/healthcheck"
	"pacer/secrets"
	"pacer/secrets/vault"
)

// closeTimeout bounds the end of each part once no task is left.
const closeTimeout = 2 * time.Second

// artifactsDir is where files for several tasks are kept in the sandbox.
const artifactsDir = "artifacts"

// run builds the executor from its settings, top to bottom, and takes it apart
// in the opposite order when it has ended.
func run(ctx context.Context, s settings, stderr *os.File) (err error) {
	started := time.Now()
	own := logs.NewOwn(stderr, s.agent.Sandbox, s.logs)
	log := zerolog.New(own).Level(s.logLevel).With().Timestamp().Logger()
	log.Info().Str("version", version).Bool("log_rotates", own.Reason() == nil).AnErr("log_rotates_not", own.Reason()).Msg("pacer-executor starts")
	defer dumpAtQuit(log)()

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
		Scheduler: client,
		Processes: executor.FromSupervisor(supervisor),
		Output:    executor.FromLogs(s.logs),
		Checks:    executor.FromProber(healthcheck.NewProber(healthcheck.DefaultConcurrency)),
	}
	cache, err := artifact.OpenCache(filepath.Join(s.agent.Sandbox, artifactsDir), s.artifacts.Cache)
	if err != nil {
		return err
	}
	parts.Artifacts = artifact.NewFetcher(supervisor, cache, s.artifacts.Limits, os.Getenv)
	registrations := registry.NewMetrics()
	entries, limits, err := registries(s, registrations, log)
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

	metrics := prometheus.NewRegistry()
	metrics.MustRegister(tasks, registrations, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versions(), unacknowledged(client))
	endpoint := status.Serve(s.status, func() status.Report {
		return status.Report{
			Versions: status.Versions{Executor: version, Go: runtime.Version(), Payload: payload.Version},
			Started:  started, PID: os.Getpid(),
			FrameworkID: s.agent.FrameworkID, ExecutorID: s.agent.ExecutorID, AgentID: s.agent.AgentID,
			Unacknowledged: client.Unacknowledged(), Cgroups: supervisor.Status(), Snapshot: tasks.Snapshot(),
		}
	}, metrics, log)
	defer closing(endpoint.Close, &err)

	subscribed, unsubscribe := context.WithCancel(context.Background())
	lost := make(chan error, 1)
	go func() { lost <- client.Run(subscribed, tasks) }()
	err = tasks.Run(ctx)
	unsubscribe()
	return errors.Join(err, <-lost)
}

func versions() prometheus.Collector {
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pacer_executor_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()}})
	build.Set(1)
	return build
}

func unacknowledged(client *agent.Client) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pacer_executor_statuses_unacknowledged",
		Help: "Statuses that wait for the agent's acknowledgement."}, func() float64 { return float64(client.Unacknowledged()) })
}

// closing closes a part within closeTimeout.
func closing(shut func(context.Context) error, err *error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	*err = errors.Join(*err, shut(ctx))
}
