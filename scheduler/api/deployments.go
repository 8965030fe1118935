package api

import (
	"errors"
	"net/http"
	"slices"

	"pacer/scheduler/access"
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
	Stalled  string     `json:"stalled,omitempty"`
}

// listDeployments shows each deployment as one step, for its actions run
// together.
func (s *server) listDeployments(w http.ResponseWriter, r *http.Request) error {
	deployments, err := s.backend.Deployments(r.Context())
	if err != nil {
		return err
	}
	if s.unchanged(w, r, s.listTag(r)) {
		return nil
	}
	allowed := s.mayView(r)
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
			if !allowed(a.AppID) {
				continue
			}
			body.AffectedApps = append(body.AffectedApps, a.AppID)
			body.CurrentActions = append(body.CurrentActions, actionBody{Action: a.Kind, App: a.AppID, Progress: a.Progress, Stalled: a.Stalled})
			step.Actions = append(step.Actions, actionBody{Action: a.Kind, App: a.AppID})
		}
		if len(step.Actions) == 0 {
			continue
		}
		body.Steps = []stepBody{step}
		bodies = append(bodies, body)
	}
	return reply(w, http.StatusOK, bodies)
}

// cancelDeployment ends a deployment. Of a batch, "app" chooses the parts to
// end; all if it is not given.
func (s *server) cancelDeployment(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	force, err := flag(r, "force", false)
	if err != nil {
		return err
	}
	var apps []string
	for _, path := range r.URL.Query()["app"] {
		apps = append(apps, app.CanonicalID(path))
	}
	if err := s.demandDeployment(r, id, apps); err != nil {
		return err
	}
	started, err := s.backend.CancelDeployment(r.Context(), id, apps, force)
	switch {
	case errors.Is(err, ErrNotFound):
		return refuse(http.StatusNotFound, "DeploymentPlan %s does not exist", id)
	case err != nil:
		return err
	case force:
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	auditOf(r).deployment = started.DeploymentID
	return replyStarted(w, http.StatusOK, &started, nil)
}

// demandDeployment asks for the right to update every app that ending a
// deployment concerns.
func (s *server) demandDeployment(r *http.Request, id string, apps []string) error {
	deployments, err := s.backend.Deployments(r.Context())
	if err != nil {
		return err
	}
	for _, d := range deployments {
		if d.ID != id {
			continue
		}
		for _, a := range d.Actions {
			if len(apps) == 0 || slices.Contains(apps, a.AppID) {
				if err := s.demand(r, access.Update, a.AppID); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
