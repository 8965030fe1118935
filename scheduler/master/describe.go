package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	operator "github.com/mesos/mesos-go/api/v1/lib/master"
)

const (
	// describeTimeout is long, because the master describes the tasks of all
	// frameworks.
	describeTimeout = 60 * time.Second
	// maxDescription is far above what 100,000 tasks take.
	maxDescription = 512 << 20
)

// Described is a task as the master knows it.
type Described struct {
	mesos.Task
	// Hostname of its agent, or "" when the master does not know the agent.
	Hostname string
}

// Describe lists the framework's tasks that have not ended, those on agents
// that cannot be reached among them. It asks the master's operator API, which
// is dear on a large cluster: it is for tasks of which nothing else is known.
func (c *Client) Describe(ctx context.Context) ([]Described, error) {
	sub := c.current.Load()
	if sub == nil {
		return nil, fmt.Errorf("GET_TASKS: %w", ErrNotSubscribed)
	}
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: c.config.TLS, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if sub.address != "" {
			address = sub.address
		}
		if c.dial != nil {
			return c.dial(ctx, network, address)
		}
		return (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	tasks, err := c.ask(ctx, client, sub, operator.Call_GET_TASKS)
	if err != nil {
		return nil, err
	}
	agents, err := c.ask(ctx, client, sub, operator.Call_GET_AGENTS)
	if err != nil {
		return nil, err
	}
	hosts := make(map[string]string)
	for _, a := range agents.GetGetAgents().GetAgents() {
		hosts[a.AgentInfo.GetID().GetValue()] = a.AgentInfo.Hostname
	}
	var list []Described
	for _, some := range [][]mesos.Task{tasks.GetGetTasks().GetTasks(), tasks.GetGetTasks().GetUnreachableTasks()} {
		for _, t := range some {
			if t.FrameworkID.Value == sub.framework.Value {
				list = append(list, Described{Task: t, Hostname: hosts[t.AgentID.Value]})
			}
		}
	}
	return list, nil
}

// ask makes a call of the operator API.
func (c *Client) ask(ctx context.Context, client *http.Client, sub *subscription, kind operator.Call_Type) (*operator.Response, error) {
	const protobuf = "application/x-protobuf"
	body, err := (&operator.Call{Type: kind}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(sub.url, "/")+"/api/v1", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	r.Header.Set("Content-Type", protobuf)
	r.Header.Set("Accept", protobuf)
	if c.config.Principal != "" {
		r.SetBasicAuth(c.config.Principal, c.config.Secret)
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxDescription+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%v: %w", kind, err)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%v: master answers %s: %.200q", kind, answer.Status, data)
	case len(data) > maxDescription:
		return nil, fmt.Errorf("%v: the answer has more than %d bytes", kind, maxDescription)
	}
	response := new(operator.Response)
	if err := response.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("%v: %w", kind, errors.Join(errors.New("the answer is no protobuf"), err))
	}
	return response, nil
}
