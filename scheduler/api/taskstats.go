package api

import (
	"slices"
	"time"
)

// taskStats is Marathon's "taskStats": the instances of an app in overlapping
// groups. A group without instances is left out.
type taskStats struct {
	StartedAfterLastScaling *statsBody `json:"startedAfterLastScaling,omitempty"`
	WithLatestConfig        *statsBody `json:"withLatestConfig,omitempty"`
	WithOutdatedConfig      *statsBody `json:"withOutdatedConfig,omitempty"`
	TotalSummary            *statsBody `json:"totalSummary,omitempty"`
}

type statsBody struct {
	Stats struct {
		Counts   statsCounts `json:"counts"`
		LifeTime *lifeTime   `json:"lifeTime,omitempty"`
	} `json:"stats"`
}

type statsCounts struct {
	Staged    int `json:"staged"`
	Running   int `json:"running"`
	Healthy   int `json:"healthy"`
	Unhealthy int `json:"unhealthy"`
}

type lifeTime struct {
	AverageSeconds float64 `json:"averageSeconds"`
	MedianSeconds  float64 `json:"medianSeconds"`
}

func newTaskStats(status *AppStatus, now time.Time) taskStats {
	a := status.App
	count := func(which func(*Task) bool) *statsBody { return newStats(status.Tasks, now, which) }
	return taskStats{
		StartedAfterLastScaling: count(func(t *Task) bool { return !t.StagedAt.Before(a.LastScaling.Time()) }),
		WithLatestConfig:        count(func(t *Task) bool { return t.Version >= a.LastConfigChange }),
		WithOutdatedConfig:      count(func(t *Task) bool { return t.Version < a.LastConfigChange }),
		TotalSummary:            count(func(*Task) bool { return true }),
	}
}

func newStats(tasks []*Task, now time.Time, which func(*Task) bool) *statsBody {
	body := new(statsBody)
	counts := &body.Stats.Counts
	var ages []float64
	found := false
	for _, t := range tasks {
		if !which(t) {
			continue
		}
		found = true
		if !t.StartedAt.IsZero() {
			ages = append(ages, now.Sub(t.StartedAt).Seconds())
		}
		switch t.State {
		case "TASK_STAGING", "TASK_STARTING":
			counts.Staged++
		case "TASK_RUNNING", "TASK_KILLING", "TASK_UNKNOWN":
			counts.Running++
		}
		switch {
		case t.Health == nil:
		case t.Health.Alive:
			counts.Healthy++
		default:
			counts.Unhealthy++
		}
	}
	if !found {
		return nil
	}
	if n := len(ages); n > 0 {
		slices.Sort(ages)
		sum := 0.0
		for _, age := range ages {
			sum += age
		}
		body.Stats.LifeTime = &lifeTime{AverageSeconds: sum / float64(n), MedianSeconds: (ages[(n-1)/2] + ages[n/2]) / 2}
	}
	return body
}
