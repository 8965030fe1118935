package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
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
	e := environment{getenv: getenv}
	config := Config{
		FrameworkID:  e.required("MESOS_FRAMEWORK_ID", "the framework's ID"),
		ExecutorID:   e.required("MESOS_EXECUTOR_ID", "this executor's ID"),
		AgentID:      e.required("MESOS_SLAVE_ID", "the agent's ID"),
		Endpoint:     e.required("MESOS_AGENT_ENDPOINT", "host:port of the agent"),
		DomainSocket: getenv("MESOS_DOMAIN_SOCKET"),
		Directory:    e.required("MESOS_DIRECTORY", "the sandbox's path"),
		Sandbox:      getenv("MESOS_SANDBOX"),
		Checkpoint:   e.flag("MESOS_CHECKPOINT"),

		ShutdownGrace:          e.duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", defaultShutdownGrace),
		RecoveryTimeout:        e.duration("MESOS_RECOVERY_TIMEOUT", defaultRecoveryTimeout),
		SubscriptionBackoffMax: e.duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", defaultSubscriptionBackoffMax),

		Token: Token(getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN")),
	}
	if config.Sandbox == "" {
		config.Sandbox = config.Directory
	}
	if config.Endpoint != "" {
		if err := checkEndpoint(config.Endpoint); err != nil {
			e.wrong("MESOS_AGENT_ENDPOINT", config.Endpoint, err.Error())
		}
	}
	if pid := getenv("MESOS_SLAVE_PID"); pid != "" {
		process, _, found := strings.Cut(pid, "@")
		if !found || process == "" || strings.ContainsAny(process, "/?# ") {
			e.wrong("MESOS_SLAVE_PID", pid, "write it as slave(1)@ip:port")
		}
		config.ProcessID = process
	} else if config.DomainSocket != "" {
		e.problem("MESOS_SLAVE_PID is not set, and MESOS_DOMAIN_SOCKET needs it: write it as slave(1)@ip:port")
	}
	if config.DomainSocket != "" && !filepath.IsAbs(config.DomainSocket) {
		e.wrong("MESOS_DOMAIN_SOCKET", config.DomainSocket, "give an absolute path")
	}
	config.TLS = e.tls()
	if config.Token != "" {
		if err := unsetenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"); err != nil {
			e.problem(fmt.Sprintf("MESOS_EXECUTOR_AUTHENTICATION_TOKEN cannot be removed from the environment: %v", err))
		}
	}
	if len(e.problems) > 0 {
		return Config{}, fmt.Errorf("environment of a Mesos executor (is this process started by a Mesos agent?): %w", errors.Join(e.problems...))
	}
	return config, nil
}

const (
	defaultShutdownGrace          = 5 * time.Second
	defaultRecoveryTimeout        = 15 * time.Minute
	defaultSubscriptionBackoffMax = 2 * time.Second
)

// withDefaults fills in durations that are not set.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&c.ShutdownGrace, defaultShutdownGrace},
		{&c.RecoveryTimeout, defaultRecoveryTimeout},
		{&c.SubscriptionBackoffMax, defaultSubscriptionBackoffMax},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	return c
}

// Validate reports everything that a client cannot work with; a Config of
// [ConfigFromEnv] is valid.
func (c Config) Validate() error {
	var problems []error
	for _, id := range []struct{ name, value string }{
		{"FrameworkID", c.FrameworkID}, {"ExecutorID", c.ExecutorID}, {"AgentID", c.AgentID},
	} {
		if id.value == "" {
			problems = append(problems, fmt.Errorf("%s is empty", id.name))
		}
	}
	if err := checkEndpoint(c.Endpoint); err != nil {
		problems = append(problems, fmt.Errorf("endpoint %q: %w", c.Endpoint, err))
	}
	if c.DomainSocket != "" && c.ProcessID == "" {
		problems = append(problems, errors.New("DomainSocket is set without ProcessID"))
	}
	if c.ShutdownGrace < 0 || c.RecoveryTimeout < 0 || c.SubscriptionBackoffMax < 0 {
		problems = append(problems, errors.New("a duration is negative"))
	}
	if len(problems) > 0 {
		return fmt.Errorf("agent configuration: %w", errors.Join(problems...))
	}
	return nil
}

// url is where calls are POSTed.
func (c Config) url() string {
	switch {
	case c.DomainSocket != "":
		// On the socket only the long path is served, never by TLS; the host is
		// of no meaning.
		return "http://agent/" + c.ProcessID + "/api/v1/executor"
	case c.TLS != nil:
		return "https://" + c.Endpoint + "/api/v1/executor"
	default:
		return "http://" + c.Endpoint + "/api/v1/executor"
	}
}

func checkEndpoint(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil {
		// What an address may consist of is for the URL to say.
		var parsed *url.URL
		if parsed, err = url.Parse("http://" + endpoint); err == nil && parsed.Host != endpoint {
			err = errors.New("more than an address")
		}
	}
	if err != nil || host == "" {
		return errors.New("write it as host:port, IPv6 addresses in brackets")
	}
	return nil
}
