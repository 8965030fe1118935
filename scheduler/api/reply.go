package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

// Keys of log lines.
const (
	logMethod = "method"
	logPath   = "path"
	logError  = "error"
)

// Messages of Marathon's that clients and people know.
const (
	messageMalformed = "Invalid JSON"
	messageInvalid   = "Object is not valid"
)

// deploymentHeader names the deployment that a request has started.
const deploymentHeader = "Marathon-Deployment-Id"

// refusal is an error with its own status.
type refusal struct {
	status  int
	message string
}

func (e *refusal) Error() string { return e.message }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// errorBody is the body of every error.
type errorBody struct {
	Message string        `json:"message"`
	Details []app.Problem `json:"details,omitempty"`
	// Deployments is there only when an app is locked: by this key clients
	// tell the two kinds of 409 apart.
	Deployments []idBody `json:"deployments,omitempty"`
}

type idBody struct {
	ID string `json:"id"`
}

type startedBody struct {
	Version      app.Version `json:"version"`
	DeploymentID string      `json:"deploymentId"`
	// Changes say what the deployment does, Pacer's own.
	Changes []effect `json:"changes,omitempty"`
}

// fail answers with an error. What is already under way cannot be answered
// any more: the connection is cut, so that the client notices.
func (s *server) fail(w *statusWriter, r *http.Request, err error) {
	status, body := errorReply(err)
	if status == http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.Error().Str(logMethod, r.Method).Str(logPath, r.URL.Path).AnErr(logError, err).Msg("request failed")
	}
	if w.code != 0 {
		panic(http.ErrAbortHandler)
	}
	switch status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="Pacer", charset="UTF-8"`)
	}
	w.Header().Del("ETag")
	_ = reply(w, status, body)
}

func errorReply(err error) (int, errorBody) {
	var (
		refused *refusal
		invalid *app.Error
		locked  *LockedError
		tooLong *http.MaxBytesError
	)
	switch {
	case errors.Is(err, access.ErrDenied):
		return http.StatusUnauthorized, errorBody{Message: "Invalid username or password."}
	case errors.As(err, &refused):
		return refused.status, errorBody{Message: refused.message}
	case errors.As(err, &invalid) && invalid.Malformed:
		return http.StatusBadRequest, errorBody{Message: messageMalformed, Details: invalid.Problems}
	case errors.As(err, &invalid):
		return http.StatusUnprocessableEntity, errorBody{Message: messageInvalid, Details: invalid.Problems}
	case errors.As(err, &locked):
		body := errorBody{Message: locked.Error()}
		for _, id := range locked.Deployments {
			body.Deployments = append(body.Deployments, idBody{id})
		}
		return http.StatusConflict, body
	case errors.As(err, &tooLong):
		return http.StatusRequestEntityTooLarge, errorBody{Message: fmt.Sprintf("The body is larger than %d bytes", tooLong.Limit)}
	case errors.Is(err, ErrChanged):
		return http.StatusConflict, errorBody{Message: "The app changed while it was being changed; try again"}
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable, errorBody{Message: err.Error()}
	case timedOut(err):
		return http.StatusServiceUnavailable, errorBody{Message: fmt.Sprintf("No answer within %s; whether anything changed is not known", requestTimeout)}
	}
	return http.StatusInternalServerError, errorBody{Message: "Internal error; the scheduler's log says more"}
}

// reply sends value as JSON.
func reply(w http.ResponseWriter, status int, value any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("render reply: %w", err)
	}
	setJSON(w)
	w.WriteHeader(status)
	// A client that has gone needs no answer.
	_, _ = w.Write(body.Bytes())
	return nil
}

func setJSON(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
}

// replyStarted answers a request that started a deployment, or, if that is
// nil, was to tell only what would happen.
func replyStarted(w http.ResponseWriter, status int, started *Started, effects []effect) error {
	if started == nil {
		return replyDryRun(w, effects)
	}
	w.Header().Set(deploymentHeader, started.DeploymentID)
	return reply(w, status, startedBody{started.Version, started.DeploymentID, effects})
}

// readBody reads a body of JSON. Other types than JSON are refused, because
// they are a mistake, or a form on a web page that wants to reach this API.
func readBody(r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "The body must be JSON: send it with the header Content-Type: application/json")
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			return nil, err
		}
		return nil, refuse(http.StatusBadRequest, "The body could not be read: it ended early or came too slowly")
	}
	return data, nil
}
