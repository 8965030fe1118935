package agent

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// containerSpecLocked collects what an executor's container is started from.
func (a *Agent) containerSpecLocked(e *executor) containerSpec {
	command := e.info.GetCommand()
	spec := containerSpec{
		ID:          e.container,
		Directory:   e.directory,
		RuntimeDir:  a.containerDir(e.container),
		Shell:       command == nil || command.Shell == nil || *command.Shell,
		Value:       command.GetValue(),
		Arguments:   command.GetArguments(),
		Environment: a.environmentLocked(e),
		UserName:    e.user,
		Cgroups:     a.cgroupsOf(e.container),
	}
	if e.user != "" {
		// The sandbox could be given to this user a moment ago.
		if owner, err := lookupUser(e.user); err == nil {
			spec.User = owner
		}
	}
	for _, uri := range command.GetURIs() {
		spec.URIs = append(spec.URIs, newFetchItem(uri))
	}
	return spec
}

// environmentLocked is an executor's environment: nothing of the agent's own, later
// variables over earlier ones.
func (a *Agent) environmentLocked(e *executor) []string {
	set := maps.Clone(a.cfg.ExecutorEnvironment)
	if set == nil {
		set = make(map[string]string)
	}
	set["LIBPROCESS_IP"] = a.hostIP()
	set["LIBPROCESS_PORT"] = "0"
	set["MESOS_FRAMEWORK_ID"] = e.framework.id
	set["MESOS_EXECUTOR_ID"] = e.id
	set["MESOS_DIRECTORY"] = e.directory
	set["MESOS_SLAVE_ID"] = a.info.GetID().GetValue()
	set["MESOS_SLAVE_PID"] = a.PID()
	set["MESOS_AGENT_ENDPOINT"] = a.cfg.Addr
	set["MESOS_HTTP_COMMAND_EXECUTOR"] = "0"
	set["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] = stoutDuration(e.gracePeriod(a))
	if e.framework.checkpoints() {
		set["MESOS_CHECKPOINT"] = "1"
		set["MESOS_RECOVERY_TIMEOUT"] = stoutDuration(a.cfg.RecoveryTimeout)
		set["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = stoutDuration(a.cfg.ExecutorReregistrationTimeout)
	} else {
		set["MESOS_CHECKPOINT"] = "0"
	}
	if len(a.cfg.JWTSecret) > 0 {
		set["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"] = a.token(claims{
			Framework: e.framework.id, Executor: e.id, Container: e.container,
		})
	}
	if a.cfg.DomainSocket != "" {
		set["MESOS_DOMAIN_SOCKET"] = a.cfg.DomainSocket
	}
	set["MESOS_SANDBOX"] = e.directory
	if variables := e.info.GetCommand().GetEnvironment(); variables != nil {
		for _, v := range variables.Variables {
			// Variables of type SECRET need a secret resolver module; there is none.
			if v.Value != nil {
				set[v.Name] = *v.Value
			}
		}
	}
	if _, ok := set["PATH"]; !ok {
		set["PATH"] = defaultPath
	}
	list := make([]string, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		list = append(list, name+"="+set[name])
	}
	return list
}

// hostIP is the address that the agent listens on.
func (a *Agent) hostIP() string {
	host, _, _ := net.SplitHostPort(a.cfg.Addr)
	return host
}

func isIPv6(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Is6() && !strings.Contains(host, ".")
}
