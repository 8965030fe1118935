package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/healthcheck"
)

// healthCheck turns Mesos' description into ours. Its error joins every
// mistake, each naming the field.
func healthCheck(m *mesos.HealthCheck, policy payload.UnhealthyPolicy) (*healthcheck.Check, error) {
	c := healthcheck.Default()
	var problems []error
	seconds := func(field string, value float64) time.Duration {
		d, err := healthcheck.Seconds("health_check."+field, value)
		if err != nil {
			problems = append(problems, err)
		}
		return d
	}
	// The getters know Mesos' defaults.
	c.Delay = seconds("delay_seconds", m.GetDelaySeconds())
	c.Interval = seconds("interval_seconds", m.GetIntervalSeconds())
	c.Timeout = seconds("timeout_seconds", m.GetTimeoutSeconds())
	c.Grace = seconds("grace_period_seconds", m.GetGracePeriodSeconds())
	c.Failures = int(min(max(m.GetConsecutiveFailures(), 1), maxFailures))
	if policy == payload.UnhealthyPolicy_UNHEALTHY_POLICY_NEVER_KILL {
		c.Failures = healthcheck.Never
	}
	if err := target(&c, m); err != nil {
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		if err := c.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("health_check: %w", err))
		}
	}
	return &c, errors.Join(problems...)
}

// maxFailures keeps a threshold within what an int holds everywhere.
const maxFailures = 1 << 30

// target sets what is asked. Where no type is given, as Mesos allows, the field
// that is set tells.
func target(c *healthcheck.Check, m *mesos.HealthCheck) error {
	kind := m.Type
	if kind == mesos.HealthCheck_UNKNOWN {
		switch {
		case m.HTTP != nil:
			kind = mesos.HealthCheck_HTTP
		case m.TCP != nil:
			kind = mesos.HealthCheck_TCP
		case m.Command != nil:
			kind = mesos.HealthCheck_COMMAND
		}
	}
	switch {
	case kind == mesos.HealthCheck_HTTP && m.HTTP != nil:
		c.HTTP = &healthcheck.HTTP{
			Scheme: m.HTTP.GetScheme(),
			IPv6:   m.HTTP.GetProtocol() == mesos.IPv6,
			Port:   int(m.HTTP.Port),
			Path:   m.HTTP.GetPath(),
		}
		for _, status := range m.HTTP.Statuses {
			c.HTTP.Statuses = append(c.HTTP.Statuses, healthcheck.StatusRange{First: int(status), Last: int(status)})
		}
	case kind == mesos.HealthCheck_TCP && m.TCP != nil:
		c.TCP = &healthcheck.TCP{IPv6: m.TCP.GetProtocol() == mesos.IPv6, Port: int(m.TCP.Port)}
	case kind == mesos.HealthCheck_COMMAND && m.Command != nil:
		c.Command = checkCommand(m.Command)
	default:
		return fmt.Errorf("health_check: type is %s without the field of that name: set type HTTP with http, TCP with tcp, or COMMAND with command", kind)
	}
	return nil
}

func checkCommand(m *mesos.CommandInfo) *healthcheck.Command {
	c := &healthcheck.Command{Env: map[string]string{}}
	switch {
	case m.GetShell():
		c.Shell = m.GetValue()
	case len(m.Arguments) == 0:
		c.Argv = []string{m.GetValue()}
	default:
		// Mesos takes the program from value and argv[0] from the arguments.
		c.Argv = append([]string{m.GetValue()}, m.Arguments[1:]...)
	}
	for _, v := range m.GetEnvironment().GetVariables() {
		c.Env[v.Name] = v.GetValue()
	}
	return c
}

// check is TaskInfo.check: its results are reported, and decide nothing.
type check struct {
	kind  mesos.CheckInfo_Type
	probe healthcheck.Check
}

func newCheck(m *mesos.CheckInfo) (*check, error) {
	c := &check{kind: m.Type, probe: healthcheck.Default()}
	var problems []error
	seconds := func(field string, value float64) time.Duration {
		d, err := healthcheck.Seconds("check."+field, value)
		if err != nil {
			problems = append(problems, err)
		}
		return d
	}
	c.probe.Delay = seconds("delay_seconds", m.GetDelaySeconds())
	c.probe.Interval = max(seconds("interval_seconds", m.GetIntervalSeconds()), healthcheck.MinInterval)
	c.probe.Timeout = seconds("timeout_seconds", m.GetTimeoutSeconds())
	switch {
	case m.Type == mesos.CheckInfo_HTTP && m.HTTP != nil:
		c.probe.HTTP = &healthcheck.HTTP{Port: int(m.HTTP.Port), Path: m.HTTP.GetPath()}
	case m.Type == mesos.CheckInfo_TCP && m.TCP != nil:
		c.probe.TCP = &healthcheck.TCP{Port: int(m.TCP.Port)}
	case m.Type == mesos.CheckInfo_COMMAND && m.Command != nil:
		c.probe.Command = checkCommand(&m.Command.Command)
	default:
		problems = append(problems, fmt.Errorf("check: type is %s without the field of that name: set type HTTP with http, TCP with tcp, or COMMAND with command", m.Type))
	}
	if len(problems) == 0 {
		if err := c.probe.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("check: %w", err))
		}
	}
	return c, errors.Join(problems...)
}

// status is a result as Mesos reports it. Without one (before the first, and
// when a probe came to nothing) there is the type with an empty message.
func (c *check) status(r *healthcheck.Result) *mesos.CheckStatusInfo {
	s := &mesos.CheckStatusInfo{Type: c.kind.Enum()}
	switch c.kind {
	case mesos.CheckInfo_HTTP:
		s.HTTP = new(mesos.CheckStatusInfo_Http)
		if r != nil && r.Status > 0 {
			code := uint32(r.Status)
			s.HTTP.StatusCode = &code
		}
	case mesos.CheckInfo_TCP:
		s.TCP = new(mesos.CheckStatusInfo_Tcp)
		if r != nil && r.Reason != healthcheck.ReasonTimeout {
			succeeded := r.OK()
			s.TCP.Succeeded = &succeeded
		}
	case mesos.CheckInfo_COMMAND:
		s.Command = new(mesos.CheckStatusInfo_Command)
		if r != nil && (r.OK() || r.Reason == healthcheck.ReasonExitCode) {
			code := int32(r.ExitCode)
			s.Command.ExitCode = &code
		}
	}
	return s
}

// checkLoop probes until ctx ends and posts every result that differs.
func (t *task) checkLoop(ctx context.Context, c *check, subject healthcheck.Task) {
	last := c.status(nil)
	for pause := c.probe.Delay; sleep(ctx, pause); pause = c.probe.Interval {
		result := t.parts.Checks.Probe(ctx, c.probe, subject)
		if ctx.Err() != nil {
			return
		}
		if status := c.status(&result); !status.Equal(last) {
			last = status
			t.post(checkChanged{status: status})
		}
	}
}
