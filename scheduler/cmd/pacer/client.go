package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// requestTimeout is longer than the API's own, which then says more.
	requestTimeout = 30 * time.Second
	// maxReply is above what the largest cluster's list takes.
	maxReply = 256 << 20
)

// client of the scheduler's API.
type client struct {
	base *url.URL
	http *http.Client
	// authorization is the header of that name, or empty.
	authorization string
}

func newClient(base *url.URL, authorization string, trusted *x509.CertPool) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if trusted != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	}
	return &client{base: base, http: &http.Client{Transport: transport}, authorization: authorization}
}

// readCredentials is the header that a file of credentials stands for: Basic
// for name:password, Bearer for a token, which has no colon.
func readCredentials(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", misused("--credentials-file: %w", err)
	}
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case text == "" || strings.ContainsAny(text, "\r\n\x00"):
		return "", misused("--credentials-file is %s: expected one line with a token or name:password", path)
	case strings.Contains(text, ":"):
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)), nil
	default:
		return "Bearer " + text, nil
	}
}

// readCA is the pool of a PEM file; nil means the system's.
func readCA(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, misused("--ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, misused("--ca-file is %s: expected PEM with at least one certificate", path)
	}
	return pool, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// apiError is a refusal of the API.
type apiError struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
	Details []struct {
		Path   string   `json:"path"`
		Errors []string `json:"errors"`
	} `json:"details"`
	// Deployments lock the app that was to be changed.
	Deployments []deploymentView `json:"deployments"`
}

// Error is the message and every field that is wrong, in one line.
func (e *apiError) Error() string {
	if len(e.Deployments) > 0 {
		return fmt.Sprintf("deployment %s is changing it: wait for its end, or end it with --force", e.Deployments[0].ID)
	}
	var b strings.Builder
	b.WriteString(e.Message)
	for i, d := range e.Details {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		b.WriteString(d.Path + " " + strings.Join(d.Errors, ", "))
	}
	return b.String()
}

// notFound is true for a 404 of the API.
func notFound(err error) bool {
	var refused *apiError
	return errors.As(err, &refused) && refused.Status == http.StatusNotFound
}

// temporary is true for errors that may go away when asked again.
func temporary(err error) bool {
	var refused *apiError
	return !errors.As(err, &refused) || refused.Status >= 500 || refused.Status == http.StatusTooManyRequests
}

// do sends a request and returns the body of the reply. Body is JSON or nil.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body []byte) ([]byte, error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, requestTimeout)
	defer cancel()
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if c.authorization != "" {
		request.Header.Set("Authorization", c.authorization)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(outer, err)
	}
	defer reply.Body.Close()
	data, err := io.ReadAll(io.LimitReader(reply.Body, maxReply))
	if err != nil {
		return nil, c.unreachable(outer, err)
	}
	if reply.StatusCode < 300 {
		return data, nil
	}
	refused := &apiError{Status: reply.StatusCode}
	if json.Unmarshal(data, refused) != nil || refused.Message == "" {
		refused.Message = fmt.Sprintf("%s answered %s, not as a Pacer scheduler does", c.base.Redacted(), reply.Status)
	}
	return nil, refused
}

// unreachable says why there is no answer, and what to look at.
func (c *client) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errors.New("interrupted before the scheduler answered: it may have done what was asked")
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", requestTimeout)
	}
	return fmt.Errorf("ask the scheduler at %s: %w; is it running, and is --url right?", c.base.Redacted(), err)
}

// get reads what is at path into value.
func (c *client) get(ctx context.Context, path string, value any) error {
	data, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	return c.decode(data, value)
}

// change sends a write; the reply is read into value.
func (c *client) change(ctx context.Context, method, path string, query url.Values, body []byte, value any) error {
	data, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	return c.decode(data, value)
}

func (c *client) decode(data []byte, value any) error {
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("read the reply of %s: %w; is it a Pacer scheduler?", c.base.Redacted(), err)
	}
	return nil
}

// started is the reply to a write.
type started struct {
	Version      string `json:"version"`
	DeploymentID string `json:"deploymentId"`
}

// appView is what the commands read of an app.
type appView struct {
	ID              string            `json:"id"`
	Cmd             string            `json:"cmd"`
	Args            []string          `json:"args"`
	User            string            `json:"user"`
	Instances       int               `json:"instances"`
	CPUs            float64           `json:"cpus"`
	Mem             float64           `json:"mem"`
	Labels          map[string]string `json:"labels"`
	HealthChecks    []json.RawMessage `json:"healthChecks"`
	Version         string            `json:"version"`
	TasksStaged     int               `json:"tasksStaged"`
	TasksRunning    int               `json:"tasksRunning"`
	TasksHealthy    int               `json:"tasksHealthy"`
	TasksUnhealthy  int               `json:"tasksUnhealthy"`
	Deployments     []deploymentView  `json:"deployments"`
	Tasks           []taskView        `json:"tasks"`
	LastTaskFailure *failureView      `json:"lastTaskFailure"`
}

type deploymentView struct {
	ID string `json:"id"`
}

type taskView struct {
	ID                 string `json:"id"`
	Host               string `json:"host"`
	Ports              []int  `json:"ports"`
	State              string `json:"state"`
	StagedAt           string `json:"stagedAt"`
	StartedAt          string `json:"startedAt"`
	Version            string `json:"version"`
	HealthCheckResults []struct {
		Alive            bool   `json:"alive"`
		LastFailureCause string `json:"lastFailureCause"`
	} `json:"healthCheckResults"`
}

type failureView struct {
	TaskID    string `json:"taskId"`
	Host      string `json:"host"`
	State     string `json:"state"`
	Message   string `json:"message"`
	Timestamp string `json:"timestamp"`
}

// app reads one app, with the JSON as it came.
func (c *client) app(ctx context.Context, id string) (view appView, raw json.RawMessage, err error) {
	var reply struct {
		App json.RawMessage `json:"app"`
	}
	if err = c.get(ctx, "/v2/apps"+id, &reply); err != nil {
		return view, nil, err
	}
	err = c.decode(reply.App, &view)
	return view, reply.App, err
}

// waiting is why instances of the app are not launched; empty if none waits.
func (c *client) waiting(ctx context.Context, id string) (count int, reason string, err error) {
	var reply struct {
		Queue []struct {
			Count int `json:"count"`
			App   struct {
				ID string `json:"id"`
			} `json:"app"`
			Reason string `json:"reason"`
			Delay  struct {
				TimeLeftSeconds int `json:"timeLeftSeconds"`
			} `json:"delay"`
		} `json:"queue"`
	}
	if err = c.get(ctx, "/v2/queue", &reply); err != nil {
		return 0, "", err
	}
	for _, item := range reply.Queue {
		if item.App.ID != id {
			continue
		}
		reason = item.Reason
		if reason == "" && item.Delay.TimeLeftSeconds > 0 {
			reason = fmt.Sprintf("next try in %ds", item.Delay.TimeLeftSeconds)
		}
		return item.Count, reason, nil
	}
	return 0, "", nil
}
