package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"pacer/executor/labels"
)

// Task is what turns a declaration into instances.
type Task struct {
	ID string
	// App is the app's path, with or without the leading slash.
	App string
	// Host is what [AdvertisedHost] returned.
	Host string
	// Ports are the task's port numbers in the order of the definition.
	Ports []int
	// Shard is as in [Instance].
	Shard int
}

// Instances returns what is to be registered for a task. It fails if the task
// does not have the ports that the app's definition has.
func Instances(d *labels.Declaration, t Task) ([]Instance, error) {
	if len(d.Services) == 0 {
		return nil, nil
	}
	if err := validateHost(t.Host); err != nil {
		return nil, err
	}
	if len(t.Ports) != len(d.Ports) {
		return nil, fmt.Errorf("the task has %d ports, its labels were read for %d", len(t.Ports), len(d.Ports))
	}
	var errs []error
	for i, port := range t.Ports {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("port %d of the task is %d: want 1 to 65535", i, port))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var instances []Instance
	for _, s := range d.Services {
		inst := Instance{
			TaskID: t.ID, Name: s.Name, App: strings.Trim(t.App, "/"),
			Host: t.Host, Port: t.Ports[s.Port], Shard: t.Shard,
			Tags: s.Tags, Only: s.Only,
		}
		if s.Endpoints {
			for i, name := range d.Ports {
				if name == "" {
					continue
				}
				if inst.Endpoints == nil {
					inst.Endpoints = make(map[string]int)
				}
				inst.Endpoints[name] = t.Ports[i]
			}
		}
		instances = append(instances, inst)
	}
	return instances, nil
}

// AdvertisedHost is the host name or IP address at which clients find tasks:
// the setting (PACER_ADVERTISE_HOST) if there is one, else the agent's
// hostname. It is never empty and never an address that only means "this
// machine's addresses".
func AdvertisedHost(setting, agentHostname string) (string, error) {
	if setting != "" {
		if err := validateHost(setting); err != nil {
			return "", fmt.Errorf("PACER_ADVERTISE_HOST: %w", err)
		}
		return setting, nil
	}
	if err := validateHost(agentHostname); err != nil {
		return "", fmt.Errorf("hostname of the agent: %w; or set PACER_ADVERTISE_HOST", err)
	}
	return agentHostname, nil
}

func validateHost(h string) error {
	const want = "want a host name or an IP address, without port or brackets"
	if h == "" {
		return errors.New("is empty: " + want)
	}
	if addr, err := netip.ParseAddr(h); err == nil {
		if addr.IsUnspecified() || addr.IsMulticast() {
			return fmt.Errorf("%s is no address of one machine: %s", quote(h), want)
		}
		return nil
	}
	if len(h) > 255 || strings.ContainsFunc(h, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	}) || strings.Trim(h, "-.") == "" || h[0] == '-' {
		return fmt.Errorf("%s is no host: %s", quote(h), want)
	}
	return nil
}

// quote shows a setting's value, bounded.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.Quote(s)
}
