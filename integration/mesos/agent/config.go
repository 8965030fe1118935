package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"
)

// Config says what an agent is and how long it waits. DefaultConfig has Mesos'
// values; names are those of mesos-agent's flags.
type Config struct {
	// WorkDir holds sandboxes and checkpoints; the next life of the agent needs
	// the same. Its path has to be absolute. No default.
	WorkDir string
	// RuntimeDir holds what a container's helper writes down. Default: "run"
	// below WorkDir.
	RuntimeDir string
	// FetcherCacheDir holds what is fetched with cache=true. Default: "fetch"
	// below WorkDir.
	FetcherCacheDir string

	// Addr is where the agent listens: host:port with a numeric host. Port 0
	// takes a free one; a restarted agent must use the address that Agent.Addr
	// told before. Default 127.0.0.1:0.
	Addr string
	// Hostname is told to master and executors. Default: the host of Addr.
	Hostname string
	// DomainSocket is the path of a unix socket (less than 108 bytes) on which the
	// executor API is served, too. Default: none.
	DomainSocket string

	// Resources of the agent in Mesos' post-reservation-refinement format.
	Resources  []mesos.Resource
	Attributes []mesos.Attribute
	Domain     *mesos.DomainInfo
	// Version is the Mesos version that the agent claims. Default 1.12.0.
	Version string

	// SwitchUser runs executors as their command's user or the framework's.
	// Without it they run as the agent's own. Default: when the process is root.
	SwitchUser bool
	// ExecutorEnvironment is given to every executor, before all other variables.
	ExecutorEnvironment map[string]string
	// JWTSecret makes the agent give every executor a token.
	JWTSecret []byte
	// AuthenticateExecutors refuses executor calls without a valid token. It needs
	// JWTSecret.
	AuthenticateExecutors bool
	// Credentials switches on authentication of operators (HTTP basic): password by
	// name. Nil: off. The executor API is not affected.
	Credentials map[string]string
	// CgroupRoot makes the agent put every executor into a cgroup of its own below
	// this name, in every cgroup v1 hierarchy that Mesos uses or in the v2
	// hierarchy, as with --launcher=linux; it needs root. Agents of one machine need
	// different names: at its start an agent destroys what it does not know there.
	// Default "": the posix launcher.
	CgroupRoot string

	// ExecutorRegistrationTimeout is how long an executor may take from the launch
	// (fetching included) to its first SUBSCRIBE. Default 1 m.
	ExecutorRegistrationTimeout time.Duration
	// ExecutorReregistrationTimeout is how long a restarted agent waits for its
	// executors. It waits that long always. Default 2 s.
	ExecutorReregistrationTimeout time.Duration
	// ExecutorShutdownGracePeriod is how long an executor may live after SHUTDOWN,
	// unless its ExecutorInfo says otherwise. Default 5 s.
	ExecutorShutdownGracePeriod time.Duration
	// RecoveryTimeout is only told to executors. Default 15 m.
	RecoveryTimeout time.Duration
	// ExecutorHeartbeatInterval is the time between HEARTBEAT events. Default 30 m.
	ExecutorHeartbeatInterval time.Duration
	// StatusUpdateRetryMin and Max bound the time between repetitions of an update
	// that the scheduler has not acknowledged; it doubles. Default 10 s, 10 m.
	StatusUpdateRetryMin, StatusUpdateRetryMax time.Duration
	// ReapDelay is how long the agent takes to notice the end of an executor that an
	// earlier life of it has started and whose parent it therefore is not. Mesos looks
	// from time to time; 1.4 s to 1.8 s have been seen. Default 1.4 s.
	ReapDelay time.Duration
	// RegistrationBackoff bounds the pause before the first attempt to register,
	// which is 0.84 of it; later ones double up to a minute. Default 1 s.
	RegistrationBackoff time.Duration

	// Log gets one line per event.
	Log zerolog.Logger
}

// DefaultConfig returns Mesos' defaults: 4 CPUs, 4 GiB of memory and of disk and
// the ports 31000-32000, on loopback.
func DefaultConfig() Config {
	return Config{
		Addr:                          "127.0.0.1:0",
		Resources:                     defaultResources(),
		Version:                       "1.12.0",
		SwitchUser:                    os.Geteuid() == 0,
		ExecutorRegistrationTimeout:   time.Minute,
		ExecutorReregistrationTimeout: 2 * time.Second,
		ExecutorShutdownGracePeriod:   5 * time.Second,
		RecoveryTimeout:               15 * time.Minute,
		ExecutorHeartbeatInterval:     30 * time.Minute,
		StatusUpdateRetryMin:          10 * time.Second,
		StatusUpdateRetryMax:          10 * time.Minute,
		ReapDelay:                     1400 * time.Millisecond,
		RegistrationBackoff:           time.Second,
		Log:                           zerolog.Nop(),
	}
}

func defaultResources() []mesos.Resource {
	scalar := func(name string, value float64) mesos.Resource {
		kind := mesos.SCALAR
		return mesos.Resource{Name: name, Type: &kind, Scalar: &mesos.Value_Scalar{Value: value}}
	}
	ranges := mesos.RANGES
	return []mesos.Resource{
		scalar("cpus", 4), scalar("mem", 4096), scalar("disk", 4096),
		{Name: "ports", Type: &ranges, Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 31000, End: 32000}}}},
	}
}

// Validate reports everything that is wrong, each with its remedy.
func (c Config) Validate() error {
	var problems []error
	problem := func(format string, arguments ...any) {
		problems = append(problems, fmt.Errorf(format, arguments...))
	}
	if !filepath.IsAbs(c.WorkDir) {
		problem("WorkDir %q: give an absolute path", c.WorkDir)
	}
	if host, _, err := net.SplitHostPort(c.Addr); err != nil {
		problem("Addr %q: %w; give host:port", c.Addr, err)
	} else if net.ParseIP(host) == nil {
		problem("Addr %q: give a numeric address, executors are told it as it is", c.Addr)
	}
	if len(c.DomainSocket) >= 108 {
		problem("DomainSocket: path of %d bytes, unix sockets take less than 108", len(c.DomainSocket))
	}
	if c.SwitchUser && os.Geteuid() != 0 {
		problem("SwitchUser: only root can; unset it")
	}
	if c.CgroupRoot != "" && os.Geteuid() != 0 {
		problem("CgroupRoot: only root can create cgroups; unset it")
	}
	if strings.ContainsAny(c.CgroupRoot, "/ ") {
		problem("CgroupRoot %q: give a name, not a path", c.CgroupRoot)
	}
	if c.AuthenticateExecutors && len(c.JWTSecret) == 0 {
		problem("AuthenticateExecutors: needs JWTSecret")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"ExecutorRegistrationTimeout", c.ExecutorRegistrationTimeout},
		{"ExecutorReregistrationTimeout", c.ExecutorReregistrationTimeout},
		{"ExecutorShutdownGracePeriod", c.ExecutorShutdownGracePeriod},
		{"RecoveryTimeout", c.RecoveryTimeout},
		{"ExecutorHeartbeatInterval", c.ExecutorHeartbeatInterval},
		{"StatusUpdateRetryMin", c.StatusUpdateRetryMin},
		{"StatusUpdateRetryMax", c.StatusUpdateRetryMax},
	} {
		if d.value <= 0 {
			problem("%s %v: give a positive duration", d.name, d.value)
		}
	}
	if c.ReapDelay < 0 {
		problem("ReapDelay %v: give zero or more", c.ReapDelay)
	}
	if c.RegistrationBackoff < 0 {
		problem("RegistrationBackoff %v: give zero or more", c.RegistrationBackoff)
	}
	return errors.Join(problems...)
}

// withDerived fills in what follows from other fields.
func (c Config) withDerived() Config {
	if c.RuntimeDir == "" {
		c.RuntimeDir = filepath.Join(c.WorkDir, "run")
	}
	if c.FetcherCacheDir == "" {
		c.FetcherCacheDir = filepath.Join(c.WorkDir, "fetch")
	}
	if c.Hostname == "" {
		c.Hostname, _, _ = net.SplitHostPort(c.Addr)
	}
	return c
}
