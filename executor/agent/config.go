package agent

import (
	"crypto/tls"
	"time"
)

// Config is what the agent tells its executor through the environment.
type Config struct {
	// FrameworkID, ExecutorID and AgentID are MESOS_FRAMEWORK_ID,
	// MESOS_EXECUTOR_ID and MESOS_SLAVE_ID.
	FrameworkID, ExecutorID, AgentID string
	// Endpoint is MESOS_AGENT_ENDPOINT: "host:port", IPv6 in brackets.
	Endpoint string
	// ProcessID is the agent's libprocess name, "slave(1)", out of
	// MESOS_SLAVE_PID. On a domain socket it is part of every path.
	ProcessID string
	// DomainSocket is MESOS_DOMAIN_SOCKET, "" when the agent has none.
	DomainSocket string
	// Directory is the sandbox on the host, Sandbox the same as seen by the
	// executor (MESOS_DIRECTORY, MESOS_SANDBOX).
	Directory, Sandbox string
	// Checkpoint is MESOS_CHECKPOINT: the executor outlives an agent restart.
	Checkpoint bool
	// ShutdownGrace is MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: the time between
	// SHUTDOWN and the end of the container. Default 5 s.
	ShutdownGrace time.Duration
	// RecoveryTimeout is MESOS_RECOVERY_TIMEOUT: how long the agent may be away
	// before the executor gives up. Default 15 min.
	RecoveryTimeout time.Duration
	// SubscriptionBackoffMax is MESOS_SUBSCRIPTION_BACKOFF_MAX: a restarted agent
	// waits this long for its executors. Default 2 s.
	SubscriptionBackoffMax time.Duration
	// Token is MESOS_EXECUTOR_AUTHENTICATION_TOKEN, "" when the agent gave none.
	Token Token
	// TLS is set where the agent serves HTTPS; see [ConfigFromEnv].
	TLS *tls.Config
}

// Token is a bearer token. It prints as "[redacted]".
type Token string

// String hides the token.
func (t Token) String() string {
	if t == "" {
		return ""
	}
	return "[redacted]"
}

// GoString hides the token from %#v.
func (t Token) GoString() string { return t.String() }

// MarshalText hides the token from encoders.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// ConfigFromEnv reads the MESOS_* variables that Mesos sets for executors and
// reports every problem at once. The authentication token is removed by
// unsetenv, so that no task inherits it; give os.Getenv and os.Unsetenv.
//
// Whether the agent serves HTTPS is not among Mesos' variables. PACER_AGENT_TLS
// says it: "on", "off", or "insecure" (encrypted, certificate not checked);
// unset, LIBPROCESS_SSL_ENABLED decides. PACER_AGENT_CA names a PEM file of
// authorities, PACER_AGENT_CERT and PACER_AGENT_KEY a client certificate,
// PACER_AGENT_SERVER_NAME the name to expect in the agent's certificate
// (default: the host in MESOS_AGENT_ENDPOINT).
func ConfigFromEnv(getenv func(string) string, unsetenv func(string) error) (Config, error) {
	return Config{}, nil
}
