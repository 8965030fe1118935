package app

import (
	"time"
)

// CheckProtocol is how a [HealthCheck] asks, in Mesos' terms: Marathon's own
// HTTP, HTTPS and TCP checks run in the executor too and are the same.
type CheckProtocol string

// Protocols of health checks.
const (
	CheckHTTP    CheckProtocol = "MESOS_HTTP"
	CheckHTTPS   CheckProtocol = "MESOS_HTTPS"
	CheckTCP     CheckProtocol = "MESOS_TCP"
	CheckCommand CheckProtocol = "COMMAND"
)

// HealthCheck is how the executor finds out whether an instance works.
type HealthCheck struct {
	Protocol CheckProtocol
	// Path to get, for HTTP and HTTPS.
	Path string
	// PortIndex into App.Ports, unless Port, a fixed number, is above 0. Both
	// are meaningless for a command.
	PortIndex int
	Port      uint16
	// Command for the shell, for CheckCommand.
	Command string

	// GracePeriod after the start in which failures do not count; Delay
	// before the first check; Interval between checks; Timeout of one.
	GracePeriod time.Duration
	Delay       time.Duration
	Interval    time.Duration
	Timeout     time.Duration
	// MaxConsecutiveFailures after which the instance is replaced; 0 means
	// never.
	MaxConsecutiveFailures int
}

func (h *HealthCheck) clone() *HealthCheck { return clonePointer(h) }
