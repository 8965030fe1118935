package api

import (
	"errors"
	"net/http"

	"pacer/scheduler/app"
)

type deploymentBody struct {
	ID             string       `json:"id"`
	Version        app.Version  `json:"version"`
	AffectedApps   []string     `json:"affectedApps"`
	AffectedPods   []string     `json:"affectedPods"`
	Steps          []stepBody   `json:"steps"`
	CurrentActions []actionBody `json:"currentActions"`
	CurrentStep    int          `json:"currentStep"`
	TotalSteps     int          `json:"totalSteps"`
	StartedAt      string       `json:"startedAt,omitempty"`
}

type stepBody struct {
	Actions []actionBody `json:"actions"`
}

type actionBody struct {
	Action   ActionKind `json:"action"`
	App      string     `json:"app"`
	Progress string     `json:"progress,omitempty"`
}

// listDeployments shows each deployment as one step, for its actions run
// together.
func (s *server) listDeployments(w http.ResponseWriter, r *http.Request) error {
	deployments, err := s.backend.Deployments(r.Context())
	if err != nil {
		return err
	}
	bodies := make([]deploymentBody, 0, len(deployments))
	for _, d := range deployments {
		body := deploymentBody{
			ID:             d.ID,
			Version:        d.Version,
			AffectedApps:   []string{},
			AffectedPods:   []string{},
			CurrentActions: []actionBody{},
			CurrentStep:    1,
			TotalSteps:     1,
			StartedAt:      timestamp(d.Started),
		}
		step := stepBody{Actions: []actionBody{}}
		for _, a := range d.Actions {
			body.AffectedApps = append(body.AffectedApps, a.AppID)
			body.CurrentActions = append(body.CurrentActions, actionBody{Action: a.Kind, App: a.AppID, Progress: a.Progress})
			step.Actions = append(step.Actions, actionBody{Action: a.Kind, App: a.AppID})
		}
		body.Steps = []stepBody{step}
		bodies = append(bodies, body)
	}
	return reply(w, http.StatusOK, bodies)
}

func (s *server) cancelDeployment(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	force, err := flag(r, "force", false)
	if err != nil {
		return err
	}
	started, err := s.backend.CancelDeployment(r.Context(), id, force)
	switch {
	case errors.Is(err, ErrNotFound):
		return refuse(http.StatusNotFound, "DeploymentPlan %s does not exist", id)
	case err != nil:
		return err
	case force:
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return replyStarted(w, http.StatusOK, started)
}
