package api

import (
	"encoding/json"
	"fmt"
	"strconv"
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
			b = appendTask(b, &status.Tasks[i], ports)
		}
		b = append(b, ']')
	}
	if p.lastFailure && status.LastTaskFailure != nil {
		b = append(b, `,"lastTaskFailure":`...)
		b = appendFailure(b, status.LastTaskFailure)
	}
	if p.readiness {
		b = append(b, `,"readinessCheckResults":[]`...)
	}
	return append(b, '}')
}

type taskBody struct {
	ID                 string        `json:"id"`
	AppID              string        `json:"appId"`
	Host               string        `json:"host"`
	SlaveID            string        `json:"slaveId"`
	State              string        `json:"state"`
	StagedAt           string        `json:"stagedAt,omitempty"`
	StartedAt          string        `json:"startedAt,omitempty"`
	Version            app.Version   `json:"version"`
	Ports              []int         `json:"ports"`
	ServicePorts       []int         `json:"servicePorts"`
	IPAddresses        []addressBody `json:"ipAddresses"`
	HealthCheckResults []healthBody  `json:"healthCheckResults,omitempty"`
}

type addressBody struct {
	IPAddress string `json:"ipAddress"`
	Protocol  string `json:"protocol"`
}

type healthBody struct {
	Alive               bool   `json:"alive"`
	ConsecutiveFailures int    `json:"consecutiveFailures"`
	FirstSuccess        string `json:"firstSuccess,omitempty"`
	LastSuccess         string `json:"lastSuccess,omitempty"`
	LastFailure         string `json:"lastFailure,omitempty"`
	LastFailureCause    string `json:"lastFailureCause,omitempty"`
	TaskID              string `json:"taskId"`
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

func appendTask(b []byte, t *Task, ports []int) []byte {
	body := taskBody{
		ID:           t.ID,
		AppID:        t.AppID,
		Host:         t.Host,
		SlaveID:      t.AgentID,
		State:        t.State,
		StagedAt:     timestamp(t.StagedAt),
		StartedAt:    timestamp(t.StartedAt),
		Version:      t.Version,
		Ports:        t.Ports,
		ServicePorts: ports,
		IPAddresses:  []addressBody{},
	}
	if body.Ports == nil {
		body.Ports = []int{}
	}
	if t.IP != "" {
		body.IPAddresses = append(body.IPAddresses, addressBody{t.IP, ipProtocol(t.IP)})
	}
	if h := t.Health; h != nil {
		result := healthBody{Alive: h.Alive, ConsecutiveFailures: h.ConsecutiveFailures, LastFailureCause: h.Cause, TaskID: t.ID}
		if h.Alive {
			result.FirstSuccess, result.LastSuccess = timestamp(h.Since), timestamp(h.Since)
		} else {
			result.LastFailure = timestamp(h.Since)
		}
		body.HealthCheckResults = []healthBody{result}
	}
	return appendJSON(b, &body)
}

func ipProtocol(ip string) string {
	for _, c := range ip {
		if c == ':' {
			return "IPv6"
		}
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
