package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// api is the scheduler's HTTP API as the demo uses it.
type api struct {
	url  string
	http http.Client
}

// task is what the demo reads of one of /v2/apps/ID/tasks.
type task struct {
	ID      string `json:"id"`
	AgentID string `json:"slaveId"`
	State   string `json:"state"`
	Health  []struct {
		Alive bool `json:"alive"`
	} `json:"healthCheckResults"`
}

func (t task) healthy() bool {
	return t.State == "TASK_RUNNING" && len(t.Health) > 0 && t.Health[0].Alive
}

func (a *api) do(ctx context.Context, method, path string, body, reply any) error {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := a.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(data))
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(data, reply)
}

func (a *api) put(ctx context.Context, definition map[string]any) error {
	return a.do(ctx, http.MethodPut, "/v2/apps"+definition["id"].(string), definition, nil)
}

func (a *api) tasks(ctx context.Context, app string) ([]task, error) {
	var reply struct {
		Tasks []task `json:"tasks"`
	}
	err := a.do(ctx, http.MethodGet, "/v2/apps"+app+"/tasks", nil, &reply)
	return reply.Tasks, err
}

// waiting says why instances of the app are not launched, or "".
func (a *api) waiting(ctx context.Context, app string) string {
	var reply struct {
		Queue []struct {
			App struct {
				ID string `json:"id"`
			} `json:"app"`
			Offers struct {
				Reasons []struct {
					Reason   string `json:"reason"`
					Declined int    `json:"declined"`
				} `json:"rejectSummaryLastOffers"`
			} `json:"processedOffersSummary"`
		} `json:"queue"`
	}
	if a.do(ctx, http.MethodGet, "/v2/queue", nil, &reply) != nil {
		return "" // the next poll asks again
	}
	var reasons []string
	for _, item := range reply.Queue {
		for _, r := range item.Offers.Reasons {
			if item.App.ID == app && r.Declined > 0 {
				reasons = append(reasons, r.Reason)
			}
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	return "; waiting: " + strings.Join(reasons, ", ")
}
