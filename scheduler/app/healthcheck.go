package app

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/healthcheck"
)

// CheckProtocol is how a [HealthCheck] asks, as the definition wrote it. The
// executor runs them all: Marathon's HTTP and Mesos' MESOS_HTTP are the same.
type CheckProtocol string

// Protocols of health checks.
const (
	CheckHTTP       CheckProtocol = "HTTP"
	CheckHTTPS      CheckProtocol = "HTTPS"
	CheckTCP        CheckProtocol = "TCP"
	CheckCommand    CheckProtocol = "COMMAND"
	CheckMesosHTTP  CheckProtocol = "MESOS_HTTP"
	CheckMesosHTTPS CheckProtocol = "MESOS_HTTPS"
	CheckMesosTCP   CheckProtocol = "MESOS_TCP"
)

var checkProtocols = []CheckProtocol{CheckHTTP, CheckHTTPS, CheckTCP, CheckCommand, CheckMesosHTTP, CheckMesosHTTPS, CheckMesosTCP}

// HTTP is true for checks that get a path.
func (p CheckProtocol) HTTP() bool { return p == CheckHTTP || p == CheckMesosHTTP || p.TLS() }

// TLS is true for HTTPS.
func (p CheckProtocol) TLS() bool { return p == CheckHTTPS || p == CheckMesosHTTPS }

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
	// before the first check; Interval between checks; Timeout of one. Whole
	// seconds, as Marathon's clients expect.
	GracePeriod time.Duration
	Delay       time.Duration
	Interval    time.Duration
	Timeout     time.Duration
	// MaxConsecutiveFailures after which the instance is replaced; 0 means
	// never.
	MaxConsecutiveFailures int
}

// defaultHealthCheck has Marathon's defaults.
func defaultHealthCheck() HealthCheck {
	return HealthCheck{
		Protocol:               CheckHTTP,
		GracePeriod:            300 * time.Second,
		Delay:                  15 * time.Second,
		Interval:               60 * time.Second,
		Timeout:                20 * time.Second,
		MaxConsecutiveFailures: 3,
	}
}

func (h *HealthCheck) clone() *HealthCheck { return clonePointer(h) }

// described is the check as labels add to it: without a port, which only a task
// has. It is nil for none.
func (h *HealthCheck) described() *healthcheck.Check {
	if h == nil {
		return nil
	}
	c := &healthcheck.Check{
		Delay: h.Delay, Interval: h.Interval, Timeout: h.Timeout, Grace: h.GracePeriod,
		Failures: h.MaxConsecutiveFailures, Successes: 1,
	}
	switch {
	case h.Protocol == CheckCommand:
		c.Command = &healthcheck.Command{Shell: h.Command}
	case h.Protocol.TLS():
		c.HTTP = &healthcheck.HTTP{Scheme: "https", Path: h.Path}
	case h.Protocol.HTTP():
		c.HTTP = &healthcheck.HTTP{Scheme: "http", Path: h.Path}
	default:
		c.TCP = new(healthcheck.TCP)
	}
	return c
}

// Mesos is the check for a task that has the given host ports, one for each
// of App.Ports. Mesos has no word for "never kill": it takes 0 failures as 1,
// so that MaxConsecutiveFailures 0 has to reach the executor another way.
func (h *HealthCheck) Mesos(ports []int) *mesos.HealthCheck {
	if h == nil {
		return nil
	}
	seconds := func(d time.Duration) *float64 { s := d.Seconds(); return &s }
	failures := uint32(h.MaxConsecutiveFailures)
	check := &mesos.HealthCheck{
		DelaySeconds:        seconds(h.Delay),
		IntervalSeconds:     seconds(h.Interval),
		TimeoutSeconds:      seconds(h.Timeout),
		GracePeriodSeconds:  seconds(h.GracePeriod),
		ConsecutiveFailures: &failures,
	}
	port := uint32(h.Port)
	if port == 0 && h.PortIndex < len(ports) {
		port = uint32(ports[h.PortIndex])
	}
	switch {
	case h.Protocol == CheckCommand:
		check.Type = mesos.HealthCheck_COMMAND
		shell := true
		check.Command = &mesos.CommandInfo{Shell: &shell, Value: &h.Command}
	case h.Protocol.HTTP():
		check.Type = mesos.HealthCheck_HTTP
		scheme := "http"
		if h.Protocol.TLS() {
			scheme = "https"
		}
		path := h.Path
		check.HTTP = &mesos.HealthCheck_HTTPCheckInfo{Port: port, Scheme: &scheme, Path: &path}
	default:
		check.Type = mesos.HealthCheck_TCP
		check.TCP = &mesos.HealthCheck_TCPCheckInfo{Port: port}
	}
	return check
}
