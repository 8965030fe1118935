package main

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"pacer/executor"
	"pacer/executor/agent"
	"pacer/executor/artifact"
	"pacer/executor/logs"
	"pacer/executor/process"
	"pacer/executor/registry/consul"
	"pacer/executor/registry/zookeeper"
	"pacer/executor/status"
	"pacer/secrets/vault"
)

const help = `Runs tasks for a Mesos agent, which starts it and sets MESOS_*. Further settings are environment variables:

    PACER_ALLOWED_USERS    Unix users that tasks may run as, comma-separated
                           (default FrameworkInfo.user, unless that is root)
    PACER_ADVERTISE_HOST   host under which tasks are registered (default the
                           agent's hostname)
    PACER_ZK               ZooKeeper for registration, zk://host:port,.../prefix
    PACER_ZK_PATH          path of a service there (default /<prefix>/{name})
    PACER_ZK_AUTH_FILE     file with credentials and ACL
    PACER_CONSUL           Consul agent for registration, http://127.0.0.1:8500;
                           with PACER_ZK too, tasks are registered in both
    PACER_CONSUL_TOKEN_FILE, PACER_CONSUL_TAG (default marathon)
    PACER_CONSUL_CACERT, PACER_CONSUL_CLIENT_CERT, PACER_CONSUL_CLIENT_KEY,
    PACER_CONSUL_TLS_SERVER_NAME
                           files and name for https://
    VAULT_ADDR, ...        Vault for secrets, as Vault's own command line has it
    PACER_VAULT_AUTH       how to log in: jwt (default), approle, cert or token
    PACER_VAULT_ROLE       role to log in with (default pacer)
    PACER_VAULT_MOUNT      where the method is mounted (default its name)
    PACER_VAULT_ROLE_ID_FILE, PACER_VAULT_SECRET_ID_FILE
                           for approle, files on the host
    PACER_VAULT_SECRET_ID_WRAPPED
                           1 if the secret id's file has a wrapping token
    PACER_VAULT_TOKEN_FILE for token, a file on the host
    PACER_SECRETS_TEMPLATE paths that an app may name, secret/data/{app}/*
    PACER_CGROUP_PARENT    cgroup for tasks where Mesos makes none
    PACER_TASK_PIDS        most processes and threads of one task (default none)
    PACER_KILL_GRACE       between SIGTERM and SIGKILL for tasks that do not say
                           (default 3s)
    PACER_MAX_DRAIN        longest drain delay that a label may ask for
                           (default 5m)
    PACER_ONE_TASK         1 to end with the only task
    PACER_AGENT_TLS, ...   HTTPS towards the agent: on, off or insecure
    PACER_LOG_MIB          size at which a task's stdout and stderr, and the
                           executor's own, begin a new file (default 10)
    PACER_LOG_FILES        older files that are kept of each (default 5)
    PACER_FETCH_MIB        largest file that a task may have fetched (default
                           4096; an archive's contents four times as much)
    PACER_FETCH_CACHE_MIB  files with a SHA-256 that are kept for further tasks
                           (default 1024)
    PACER_STATUS_LISTEN    host:port for status and metrics over HTTP, beside
                           the socket pacer.sock in the sandbox (default none)
    PACER_LOG_LEVEL        debug, info, warn or error (default info)`

// envLogLevel is the setting that no part of the executor reads by itself.
const envLogLevel = "PACER_LOG_LEVEL"

// settingsError joins what is wrong with the settings.
type settingsError struct{ problems error }

func (e *settingsError) Error() string { return e.problems.Error() }
func (e *settingsError) Unwrap() error { return e.problems }

// settings are everything that the environment says.
type settings struct {
	logLevel  zerolog.Level
	agent     agent.Config
	executor  executor.Config
	process   process.Config
	zookeeper zookeeper.Config
	consul    consul.Config
	vault     vault.Config
	hasVault  bool
	logs      logs.Policy
	status    status.Config
	artifacts artifact.Config
}

// settingsFromEnv reads every part's settings and reports all problems at once.
func settingsFromEnv(getenv func(string) string, unsetenv func(string) error) (settings, error) {
	var s settings
	var problems []error
	note := func(err error) { problems = append(problems, err) }
	var err error
	s.agent, err = agent.ConfigFromEnv(getenv, unsetenv)
	note(err)
	s.executor, err = executor.ConfigFromEnv(getenv)
	note(err)
	s.process, err = process.ConfigFromEnv(getenv)
	note(err)
	s.zookeeper, err = zookeeper.ConfigFromEnv(getenv)
	note(err)
	s.consul, err = consul.ConfigFromEnv(getenv)
	note(err)
	s.vault, s.hasVault, err = vault.ConfigFromEnv(getenv)
	note(err)
	s.logs, err = logs.PolicyFromEnv(getenv)
	note(err)
	s.status, err = status.ConfigFromEnv(getenv)
	note(err)
	s.artifacts, err = artifact.ConfigFromEnv(getenv)
	note(err)
	s.status.Sandbox = s.agent.Sandbox
	s.executor.Sandbox, s.executor.ShutdownGrace = s.agent.Sandbox, s.agent.ShutdownGrace
	s.consul.Owner = consul.Owner{Framework: s.agent.FrameworkID, Dir: s.agent.Sandbox, HostDir: s.agent.Directory}
	s.logLevel = zerolog.InfoLevel
	if value := getenv(envLogLevel); value != "" {
		level, err := zerolog.ParseLevel(value)
		if err != nil || level < zerolog.DebugLevel || level > zerolog.ErrorLevel {
			note(fmt.Errorf("%s=%q: write debug, info, warn or error", envLogLevel, value))
		}
		s.logLevel = level
	}
	if err := errors.Join(problems...); err != nil {
		return s, &settingsError{err}
	}
	return s, nil
}

// protect keeps this process, which sees secrets and tokens, from leaving a
// core file and from being read by its tasks' users. A kernel that refuses has
// neither prctl nor rlimits to offer, which nothing here could replace.
func protect() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var core unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	core.Cur = 0
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &core)
}
