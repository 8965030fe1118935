package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

// maxTries of a change that others overtake.
const maxTries = 10

// effect is what a change does with one app.
type effect struct {
	App    string     `json:"app"`
	Action ActionKind `json:"action"`
	// Restarts is how many instances are replaced or ended, and by which
	// fields.
	Restarts int      `json:"restarts"`
	Because  []string `json:"because,omitempty"`
	// Unrestarted are fields that change and that only the scheduler reads.
	Unrestarted []string `json:"withoutRestart,omitempty"`
	// From and To are numbers of instances, if they differ.
	From *int `json:"instancesFrom,omitempty"`
	To   *int `json:"instancesTo,omitempty"`
}

// apply makes the edits that build returns, again when somebody else was
// faster. Nothing is done where the request asks for a dry run; Started is nil
// then.
func (s *server) apply(r *http.Request, build func(context.Context) ([]Edit, error)) (*Started, []effect, error) {
	return s.applyForced(r, r.Method == http.MethodDelete, build)
}

// applyForced is apply with another default for "force".
func (s *server) applyForced(r *http.Request, otherwise bool, build func(context.Context) ([]Edit, error)) (*Started, []effect, error) {
	force, err := flag(r, "force", otherwise)
	if err != nil {
		return nil, nil, err
	}
	dry, err := flag(r, "dryRun", false)
	if err != nil {
		return nil, nil, err
	}
	ctx := r.Context()
	for range maxTries {
		edits, err := build(ctx)
		if err != nil {
			return nil, nil, err
		}
		if err := s.demandEdits(r, edits); err != nil {
			return nil, nil, err
		}
		effects, err := s.effects(ctx, edits)
		if err != nil {
			return nil, nil, err
		}
		if dry {
			return nil, effects, nil
		}
		started, err := s.backend.Change(ctx, edits, ChangeOptions{Force: force})
		if overtaken(err, edits) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		s.announce(r, &started, effects)
		return &started, effects, nil
	}
	return nil, nil, ErrChanged
}

// overtaken tells whether an error comes from what others did since the edits
// were made. An app that was to be created and exists is the client's affair,
// unless it was looked for.
func overtaken(err error, edits []Edit) bool {
	if errors.Is(err, ErrChanged) {
		return true
	}
	if errors.Is(err, ErrNotFound) {
		return slices.ContainsFunc(edits, func(e Edit) bool { return e.Replaces != 0 })
	}
	return errors.Is(err, ErrExists) && slices.ContainsFunc(edits, func(e Edit) bool { return e.Sought })
}

// effects say what edits do to the apps as they are now.
func (s *server) effects(ctx context.Context, edits []Edit) ([]effect, error) {
	var list []effect
	for _, e := range edits {
		current, err := s.backend.App(ctx, e.ID, Embed{})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if err != nil && e.Next == nil {
			return nil, noApp(e.ID)
		}
		counts := current.Counts
		running := counts.Staged + counts.Running
		x := effect{App: e.ID}
		switch {
		case e.Delete:
			x.Action, x.Restarts = StopApplication, running
		case e.Restart:
			x.Action, x.Restarts = RestartApplication, running
		case current.App == nil:
			x.Action = StartApplication
			x.To = &e.Next.Instances
		default:
			change := app.Compare(current.App, e.Next)
			if change.Effect() == app.NoChange && len(e.Kill) == 0 {
				continue
			}
			x.Action, x.Because, x.Unrestarted = ScaleApplication, change.Replacing, change.Scheduling
			if change.Effect() == app.Replace {
				x.Action, x.Restarts = RestartApplication, running
			}
			if change.Scaled {
				x.From, x.To = &current.App.Instances, &e.Next.Instances
			}
		}
		list = append(list, x)
	}
	return list, nil
}

type dryRunBody struct {
	Steps   []stepBody `json:"steps"`
	Changes []effect   `json:"changes"`
}

// replyDryRun answers as Marathon does for groups: with the steps that a
// deployment would take, which are one here.
func replyDryRun(w http.ResponseWriter, effects []effect) error {
	body := dryRunBody{Steps: []stepBody{}, Changes: append([]effect{}, effects...)}
	step := stepBody{Actions: []actionBody{}}
	for _, x := range effects {
		step.Actions = append(step.Actions, actionBody{Action: x.Action, App: x.App})
	}
	if len(step.Actions) > 0 {
		body.Steps = append(body.Steps, step)
	}
	return reply(w, http.StatusOK, body)
}

// demandEdits asks for the rights that edits need, in one pass.
func (s *server) demandEdits(r *http.Request, edits []Edit) error {
	for _, e := range edits {
		verb := access.Update
		switch {
		case e.Delete:
			verb = access.Delete
		case e.Next != nil && e.Replaces == 0:
			verb = access.Create
		}
		if err := s.demand(r, verb, e.ID); err != nil {
			return err
		}
	}
	return nil
}

// announce tells readers of events and of the log what was changed, and by
// whom.
func (s *server) announce(r *http.Request, started *Started, effects []effect) {
	record := auditOf(r)
	record.deployment = started.DeploymentID
	record.effects = effects
	for _, x := range effects {
		s.backend.Events().posted(clientIP(r), r.URL.Path, x.App, started.Version)
	}
}

// condition applies If-Match and If-None-Match of a request that changes an
// app, nil if there is none. The number behind the "+" of a tag tells states of
// the instances apart and does not count.
func condition(r *http.Request, current *app.App) error {
	if r == nil {
		return nil
	}
	if r.Header.Get("If-None-Match") == "*" && current != nil {
		return refuse(http.StatusPreconditionFailed, "The app exists already, in version %s", current.Version)
	}
	wanted := r.Header.Get("If-Match")
	switch {
	case wanted == "":
		return nil
	case current == nil:
		return refuse(http.StatusPreconditionFailed, "The app does not exist")
	case wanted == "*":
		return nil
	}
	for tag := range strings.SplitSeq(wanted, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		version, _, _ := strings.Cut(tag, "+")
		if version == current.Version.String() {
			return nil
		}
	}
	return refuse(http.StatusPreconditionFailed, "The app is now version %s: read it again", current.Version)
}

// problems gathers what is wrong with several edits.
type problems struct {
	all       []app.Problem
	malformed bool
}

// take is false for an error that is no list of problems.
func (p *problems) take(err error) bool {
	var refused *app.Error
	switch {
	case err == nil:
		return true
	case errors.As(err, &refused):
		p.all = append(p.all, refused.Problems...)
		p.malformed = p.malformed || refused.Malformed
		return true
	}
	return false
}

func (p *problems) err() error {
	if len(p.all) == 0 {
		return nil
	}
	return &app.Error{Malformed: p.malformed, Problems: p.all}
}
