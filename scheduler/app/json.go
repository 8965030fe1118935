package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// definition is an App in JSON, with Marathon's names and in a fixed order.
// What marathon-lb and others read without asking whether it is there (labels,
// healthChecks, portDefinitions, networks ...) is always there.
type definition struct {
	ID                         string            `json:"id"`
	Cmd                        string            `json:"cmd,omitempty"`
	Args                       []string          `json:"args,omitempty"`
	User                       string            `json:"user,omitempty"`
	Env                        map[string]string `json:"env"`
	Instances                  int               `json:"instances"`
	CPUs                       amount            `json:"cpus"`
	Mem                        amount            `json:"mem"`
	Disk                       amount            `json:"disk"`
	GPUs                       amount            `json:"gpus"`
	Constraints                [][]string        `json:"constraints"`
	AcceptedResourceRoles      []string          `json:"acceptedResourceRoles,omitempty"`
	Fetch                      []artifactJSON    `json:"fetch"`
	PortDefinitions            []portJSON        `json:"portDefinitions"`
	RequirePorts               bool              `json:"requirePorts"`
	Networks                   []networkJSON     `json:"networks"`
	BackoffSeconds             seconds           `json:"backoffSeconds"`
	BackoffFactor              float64           `json:"backoffFactor"`
	MaxLaunchDelaySeconds      seconds           `json:"maxLaunchDelaySeconds"`
	HealthChecks               []healthCheckJSON `json:"healthChecks"`
	UpgradeStrategy            upgradeJSON       `json:"upgradeStrategy"`
	KillSelection              KillSelection     `json:"killSelection"`
	UnreachableStrategy        any               `json:"unreachableStrategy"`
	TaskKillGracePeriodSeconds *seconds          `json:"taskKillGracePeriodSeconds,omitempty"`
	Labels                     map[string]string `json:"labels"`
	Deployment                 *deploymentJSON   `json:"deployment,omitempty"`
	Dependencies               []string          `json:"dependencies,omitempty"`
	Version                    string            `json:"version,omitempty"`
	VersionInfo                *versionInfoJSON  `json:"versionInfo,omitempty"`
}

type networkJSON struct {
	Mode string `json:"mode"`
}

type portJSON struct {
	Port     uint16            `json:"port"`
	Protocol Protocol          `json:"protocol"`
	Name     string            `json:"name,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

type artifactJSON struct {
	URI        string `json:"uri"`
	Extract    bool   `json:"extract"`
	Executable bool   `json:"executable"`
	Cache      bool   `json:"cache"`
	DestPath   string `json:"destPath,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
}

type healthCheckJSON struct {
	Protocol               CheckProtocol `json:"protocol"`
	Path                   string        `json:"path,omitempty"`
	PortIndex              *int          `json:"portIndex,omitempty"`
	Port                   uint16        `json:"port,omitempty"`
	Command                *commandJSON  `json:"command,omitempty"`
	GracePeriodSeconds     seconds       `json:"gracePeriodSeconds"`
	DelaySeconds           seconds       `json:"delaySeconds"`
	IntervalSeconds        seconds       `json:"intervalSeconds"`
	TimeoutSeconds         seconds       `json:"timeoutSeconds"`
	MaxConsecutiveFailures int           `json:"maxConsecutiveFailures"`
}

type commandJSON struct {
	Value string `json:"value"`
}

type upgradeJSON struct {
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity"`
	MaximumOverCapacity   float64 `json:"maximumOverCapacity"`
}

type unreachableJSON struct {
	InactiveAfterSeconds seconds `json:"inactiveAfterSeconds"`
	ExpungeAfterSeconds  seconds `json:"expungeAfterSeconds"`
}

type deploymentJSON struct {
	DeadlineSeconds seconds `json:"deadlineSeconds"`
	MaxFailures     int     `json:"maxFailures"`
	Rollback        bool    `json:"rollback"`
}

type versionInfoJSON struct {
	LastScalingAt      string `json:"lastScalingAt"`
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
}

// amount is a Milli as a JSON number without exponent.
type amount Milli

// MarshalJSON writes e.g. 0.25.
func (a amount) MarshalJSON() ([]byte, error) { return []byte(Milli(a).String()), nil }

// seconds is a duration as a JSON number of seconds.
type seconds time.Duration

// MarshalJSON writes e.g. 1.5.
func (s seconds) MarshalJSON() ([]byte, error) {
	return []byte(Milli(time.Duration(s).Milliseconds()).String()), nil
}

// JSON is the definition as the API shows it, with its version but without
// what is known of the instances: an object to which further members can be
// added before its last byte. Equal apps give equal bytes.
func (a *App) JSON() []byte {
	d := definition{
		ID:                    a.ID,
		Cmd:                   a.Cmd,
		Args:                  a.Args,
		User:                  a.User,
		Env:                   orEmpty(a.Env),
		Instances:             a.Instances,
		CPUs:                  amount(a.CPUs),
		Mem:                   amount(a.Mem),
		Disk:                  amount(a.Disk),
		GPUs:                  amount(a.GPUs),
		Constraints:           make([][]string, 0, len(a.Constraints)),
		AcceptedResourceRoles: a.AcceptedResourceRoles,
		Fetch:                 make([]artifactJSON, 0, len(a.Fetch)),
		PortDefinitions:       make([]portJSON, 0, len(a.Ports)),
		RequirePorts:          a.RequirePorts,
		Networks:              []networkJSON{{Mode: "host"}},
		BackoffSeconds:        seconds(a.Backoff.Initial),
		BackoffFactor:         a.Backoff.Factor,
		MaxLaunchDelaySeconds: seconds(a.Backoff.Max),
		HealthChecks:          []healthCheckJSON{},
		UpgradeStrategy:       upgradeJSON(a.UpgradeStrategy),
		KillSelection:         a.KillSelection,
		UnreachableStrategy: unreachableJSON{
			InactiveAfterSeconds: seconds(a.Unreachable.InactiveAfter),
			ExpungeAfterSeconds:  seconds(a.Unreachable.ExpungeAfter),
		},
		TaskKillGracePeriodSeconds: (*seconds)(a.KillGrace),
		Labels:                     orEmpty(a.Labels),
		Dependencies:               a.Dependencies,
		Version:                    a.Version.String(),
	}
	for _, c := range a.Constraints {
		parts := []string{c.Field, string(c.Operator)}
		if c.Value != "" {
			parts = append(parts, c.Value)
		}
		d.Constraints = append(d.Constraints, parts)
	}
	for _, f := range a.Fetch {
		d.Fetch = append(d.Fetch, artifactJSON{f.URI, f.Extract, f.Executable, f.Cache, f.OutputFile, f.SHA256})
	}
	for _, p := range a.Ports {
		d.PortDefinitions = append(d.PortDefinitions, portJSON{p.Number, p.Protocol, p.Name, p.Labels})
	}
	if a.HealthCheck != nil {
		d.HealthChecks = append(d.HealthChecks, a.HealthCheck.json())
	}
	if a.Unreachable.Disabled {
		d.UnreachableStrategy = "disabled"
	}
	if p := a.Deployment; p != (DeploymentPolicy{}) {
		d.Deployment = &deploymentJSON{seconds(p.Deadline), p.MaxFailures, p.Rollback}
	}
	if a.LastConfigChange != 0 {
		d.VersionInfo = &versionInfoJSON{a.LastScaling.String(), a.LastConfigChange.String()}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&d); err != nil {
		// Strings, maps of strings and finite numbers cannot fail to encode.
		panic(fmt.Sprintf("render app %s: %v", a.ID, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func (h *HealthCheck) json() healthCheckJSON {
	out := healthCheckJSON{
		Protocol:               h.Protocol,
		Path:                   h.Path,
		Port:                   h.Port,
		GracePeriodSeconds:     seconds(h.GracePeriod),
		DelaySeconds:           seconds(h.Delay),
		IntervalSeconds:        seconds(h.Interval),
		TimeoutSeconds:         seconds(h.Timeout),
		MaxConsecutiveFailures: h.MaxConsecutiveFailures,
	}
	switch {
	case h.Protocol == CheckCommand:
		out.Command = &commandJSON{h.Command}
	case h.Port == 0:
		out.PortIndex = &h.PortIndex
	}
	return out
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
