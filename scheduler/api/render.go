package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pacer/scheduler/app"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// timestamp as the API writes it; empty for the zero time.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

// appendApp writes an app: its definition as it was rendered when it changed,
// and what is known of its instances.
func appendApp(b []byte, status *AppStatus, p parts) []byte {
	b = append(b, status.JSON[:len(status.JSON)-1]...)
	counter := func(name string, value int) {
		b = append(b, `,"`...)
		b = append(b, name...)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, int64(value), 10)
	}
	counter("tasksStaged", status.Counts.Staged)
	counter("tasksRunning", status.Counts.Running)
	counter("tasksHealthy", status.Counts.Healthy)
	counter("tasksUnhealthy", status.Counts.Unhealthy)
	b = append(b, `,"deployments":[`...)
	for i, id := range status.Deployments {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, idBody{id})
	}
	b = append(b, ']')
	if p.tasks {
		b = append(b, `,"tasks":[`...)
		ports := servicePorts(status.App)
		for i := range status.Tasks {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTask(b, status.Tasks[i], ports)
		}
		b = append(b, ']')
	}
	if p.lastFailure && status.LastTaskFailure != nil {
		b = append(b, `,"lastTaskFailure":`...)
		b = appendFailure(b, status.LastTaskFailure)
	}
	if f := status.LastDeploymentFailure; p.lastFailure && f != nil {
		b = append(b, `,"lastDeploymentFailure":`...)
		b = appendJSON(b, deploymentFailureBody{f.DeploymentID, f.Version, f.Message, timestamp(f.Timestamp)})
	}
	if p.readiness {
		b = append(b, `,"readinessCheckResults":[]`...)
	}
	if p.stats {
		b = append(b, `,"taskStats":`...)
		b = appendJSON(b, newTaskStats(status, p.now))
	}
	return append(b, '}')
}

type deploymentFailureBody struct {
	DeploymentID string      `json:"deploymentId"`
	Version      app.Version `json:"version"`
	Message      string      `json:"message"`
	Timestamp    string      `json:"timestamp"`
}

type failureBody struct {
	AppID     string      `json:"appId"`
	TaskID    string      `json:"taskId"`
	Host      string      `json:"host"`
	SlaveID   string      `json:"slaveId"`
	State     string      `json:"state"`
	Message   string      `json:"message"`
	Timestamp string      `json:"timestamp"`
	Version   app.Version `json:"version"`
}

// appendTask writes a task. Lists have tens of thousands of them, which is
// why this does without encoding/json.
func appendTask(b []byte, t *Task, servicePorts []int) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, t.ID)
	b = appendMember(b, "appId", t.AppID)
	b = appendMember(b, "host", t.Host)
	b = appendMember(b, "slaveId", t.AgentID)
	b = appendMember(b, "state", t.State)
	b = appendTime(b, "stagedAt", t.StagedAt)
	b = appendTime(b, "startedAt", t.StartedAt)
	b = appendMember(b, "version", t.Version.String())
	b = appendPorts(b, "ports", t.Ports)
	b = appendPorts(b, "servicePorts", servicePorts)
	b = appendIP(b, t.IP)
	if t.Health != nil {
		b = append(b, `,"healthCheckResults":[`...)
		b = appendHealth(b, t)
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendIP(b []byte, ip string) []byte {
	b = append(b, `,"ipAddresses":[`...)
	if ip != "" {
		b = append(b, `{"ipAddress":`...)
		b = appendString(b, ip)
		b = appendMember(b, "protocol", ipProtocol(ip))
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendHealth(b []byte, t *Task) []byte {
	h := t.Health
	b = append(b, `{"alive":`...)
	b = strconv.AppendBool(b, h.Alive)
	b = append(b, `,"consecutiveFailures":`...)
	b = strconv.AppendInt(b, int64(h.ConsecutiveFailures), 10)
	if h.Alive {
		b = appendTime(b, "firstSuccess", h.Since)
		b = appendTime(b, "lastSuccess", h.Since)
	} else {
		b = appendTime(b, "lastFailure", h.Since)
	}
	if h.Cause != "" {
		b = appendMember(b, "lastFailureCause", h.Cause)
	}
	b = appendMember(b, "taskId", t.ID)
	return append(b, '}')
}

func appendName(b []byte, name string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	return append(b, `":`...)
}

func appendMember(b []byte, name, value string) []byte {
	return appendString(appendName(b, name), value)
}

// appendTime leaves out the zero time.
func appendTime(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b = append(appendName(b, name), '"')
	b = t.UTC().AppendFormat(b, timeLayout)
	return append(b, '"')
}

func appendPorts(b []byte, name string, ports []int) []byte {
	b = append(appendName(b, name), '[')
	for i, port := range ports {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(port), 10)
	}
	return append(b, ']')
}

// appendString writes a JSON string; nearly all are plain.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendJSON(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func ipProtocol(ip string) string {
	if strings.Contains(ip, ":") {
		return "IPv6"
	}
	return "IPv4"
}

func appendFailure(b []byte, f *TaskFailure) []byte {
	return appendJSON(b, failureBody{f.AppID, f.TaskID, f.Host, f.AgentID, f.State, f.Message, timestamp(f.Timestamp), f.Version})
}

// servicePorts of an app's tasks, which are all alike.
func servicePorts(a *app.App) []int {
	ports := make([]int, 0, 4)
	if a != nil {
		for _, p := range a.Ports {
			ports = append(ports, int(p.Number))
		}
	}
	return ports
}

// appendJSON writes one of the bodies above, which cannot fail to encode.
func appendJSON(b []byte, value any) []byte {
	out, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("render %T: %v", value, err))
	}
	return append(b, out...)
}
