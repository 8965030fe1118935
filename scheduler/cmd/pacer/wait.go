package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// pollInterval is how often a deployment is looked at.
const pollInterval = 500 * time.Millisecond

// waiter waits for a deployment and says how it goes.
type waiter struct {
	*session
	id      string
	started started
	// last is the line of progress that was printed last.
	last string
}

// wait returns nil once the deployment has ended and the app is as wanted.
func (s *session) wait(id string, begun started, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	w := &waiter{session: s, id: id, started: begun}
	reason := "nothing is known of it yet"
	for {
		done, state, err := w.look(ctx)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			reason = state
		case ctx.Err() != nil: // said below
		case final(err):
			return err
		default:
			state = err.Error()
		}
		if ctx.Err() == nil {
			w.progress(state)
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			if s.ctx.Err() != nil {
				return fmt.Errorf("%s: interrupted; deployment %s goes on", id, begun.DeploymentID)
			}
			return fmt.Errorf("%s: deployment %s has not ended after %s: %s", id, begun.DeploymentID, timeout, reason)
		}
	}
}

// progress prints what is new.
func (w *waiter) progress(state string) {
	if state = oneLine(state); state != w.last {
		fmt.Fprintf(w.stderr, "%s: %s\n", w.id, state)
		w.last = state
	}
}

// failed is the end of a deployment that did not reach what it was for.
type failed struct{ error }

// final is true for errors that asking again does not change.
func final(err error) bool {
	var end failed
	return errors.As(err, &end) || !temporary(err)
}

// look asks once.
func (w *waiter) look(ctx context.Context) (done bool, state string, err error) {
	view, _, err := w.api.app(ctx, w.id)
	if notFound(err) {
		return false, "", failed{fmt.Errorf("%s: was deleted meanwhile", w.id)}
	}
	if err != nil {
		return false, "", err
	}
	count, reason, err := w.api.waiting(ctx, w.id)
	if err != nil {
		return false, "", err
	}
	state = instances(view)
	if count > 0 {
		state += fmt.Sprintf("; %d waiting: %s", count, reason)
	}
	if f := view.LastTaskFailure; f != nil && f.Timestamp >= w.started.Version {
		state += fmt.Sprintf("; task %s on %s: %s %s", f.TaskID, f.Host, f.State, f.Message)
	}
	switch {
	case contains(view.Deployments, w.started.DeploymentID):
		return false, state, nil
	case view.Version > w.started.Version:
		err = failed{fmt.Errorf("%s: deployment %s was ended by version %s, a rollback or another change: %s", w.id, w.started.DeploymentID, view.Version, state)}
	case !complete(view):
		err = failed{fmt.Errorf("%s: deployment %s failed: %s", w.id, w.started.DeploymentID, state)}
	}
	return err == nil, state, err
}

func contains(deployments []deploymentView, id string) bool {
	return slices.ContainsFunc(deployments, func(d deploymentView) bool { return d.ID == id })
}

// complete is true when all instances run, in good health as far as known.
func complete(view appView) bool {
	return view.TasksRunning >= view.Instances && view.TasksUnhealthy == 0 &&
		(len(view.HealthChecks) == 0 || view.TasksHealthy >= view.Instances)
}

// instances says how many there are, in one line.
func instances(view appView) string {
	text := fmt.Sprintf("%d of %d instances running", view.TasksRunning, view.Instances)
	if len(view.HealthChecks) > 0 {
		text += fmt.Sprintf(", %d healthy", view.TasksHealthy)
	}
	if view.TasksUnhealthy > 0 {
		text += fmt.Sprintf(", %d unhealthy", view.TasksUnhealthy)
	}
	if view.TasksStaged > 0 {
		text += fmt.Sprintf(", %d starting", view.TasksStaged)
	}
	return text
}

// waitGone returns nil once the deployment that deletes an app has ended.
func (s *session) waitGone(id string, begun started, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	for {
		var running []deploymentView
		err := s.api.get(ctx, "/v2/deployments", &running)
		if err == nil && !contains(running, begun.DeploymentID) {
			return nil
		}
		if err != nil && ctx.Err() == nil && !temporary(err) {
			return err
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("%s: interrupted; deployment %s goes on", id, begun.DeploymentID)
			}
			return fmt.Errorf("%s: instances have not ended after %s; deployment %s goes on", id, timeout, begun.DeploymentID)
		}
	}
}
