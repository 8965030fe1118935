package scheduler

import (
	"fmt"
	"maps"
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
	"pacer/scheduler/app"
	"pacer/scheduler/state"
)

// describeTask is a task in Mesos' words, without resources and executor.
func describeTask(a *app.App, record *state.Task, token string) (mesos.TaskInfo, error) {
	data, err := payload.Encode(describePayload(a, record, token))
	if err != nil {
		return mesos.TaskInfo{}, err
	}
	ports := make([]int, 0, len(record.Ports))
	for _, port := range record.Ports {
		ports = append(ports, int(port))
	}
	info := mesos.TaskInfo{
		Name:        a.TaskPrefix(),
		TaskID:      mesos.TaskID{Value: record.ID},
		AgentID:     mesos.AgentID{Value: record.AgentID},
		Data:        data,
		Labels:      taskLabels(a, record),
		HealthCheck: a.HealthCheck.Mesos(ports),
		Discovery:   discovery(a, record),
	}
	if a.KillGrace != nil {
		info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: a.KillGrace.Nanoseconds()}}
	}
	return info, nil
}

// describePayload is what Mesos has no field for.
func describePayload(a *app.App, record *state.Task, token string) *payload.Task {
	p := &payload.Task{
		App:           a.ID,
		AppVersion:    record.Version,
		Command:       &payload.Command{Shell: a.Cmd, Argv: a.Args},
		User:          a.User,
		Unhealthy:     payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS,
		IdentityToken: token,
		Shard:         int32(record.Shard),
	}
	if a.HealthCheck != nil && a.HealthCheck.MaxConsecutiveFailures == 0 {
		p.Unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_NEVER_KILL
	}
	p.Environment = servicePorts(a, record)
	for _, name := range slices.Sorted(maps.Keys(a.Env)) {
		p.Environment = append(p.Environment, &payload.Variable{Name: name, Value: a.Env[name]})
	}
	for _, f := range a.Fetch {
		p.Uris = append(p.Uris, &payload.URI{
			Value: f.URI, Executable: f.Executable, Extract: f.Extract, Cache: f.Cache, OutputFile: f.OutputFile, Sha256: f.SHA256,
		})
	}
	return p
}

// servicePorts names the ports that a definition gives another number than the
// instance has, as Marathon does: PORT_10000 for the definition's 10000. All
// other variables for ports are the executor's to make.
func servicePorts(a *app.App, record *state.Task) []*payload.Variable {
	var variables []*payload.Variable
	for n, number := range record.Ports {
		if declared := a.Ports[n].Number; declared != 0 && uint32(declared) != number {
			variables = append(variables, &payload.Variable{Name: fmt.Sprintf("PORT_%d", declared), Value: fmt.Sprint(number)})
		}
	}
	return variables
}

// taskLabels are the app's, unchanged, and the version by which a scheduler
// without records adopts the task.
func taskLabels(a *app.App, record *state.Task) *mesos.Labels {
	labels := labelsOf(a.Labels)
	if labels == nil {
		labels = new(mesos.Labels)
	}
	version := record.Version
	labels.Labels = append(labels.Labels, mesos.Label{Key: payload.LabelVersion, Value: &version})
	return labels
}

func labelsOf(m map[string]string) *mesos.Labels {
	if len(m) == 0 {
		return nil
	}
	labels := new(mesos.Labels)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		value := m[key]
		labels.Labels = append(labels.Labels, mesos.Label{Key: key, Value: &value})
	}
	return labels
}

// discovery lists the ports in the order of the definition.
func discovery(a *app.App, record *state.Task) *mesos.DiscoveryInfo {
	name := a.TaskPrefix()
	info := &mesos.DiscoveryInfo{Visibility: mesos.FRAMEWORK, Name: &name}
	if len(record.Ports) == 0 {
		return info
	}
	info.Ports = new(mesos.Ports)
	for n, number := range record.Ports {
		definition := a.Ports[n]
		port := mesos.Port{Number: number, Labels: labelsOf(definition.Labels)}
		protocol := string(definition.Protocol)
		port.Protocol = &protocol
		if definition.Name != "" {
			port.Name = &definition.Name
		}
		info.Ports.Ports = append(info.Ports.Ports, port)
	}
	return info
}
