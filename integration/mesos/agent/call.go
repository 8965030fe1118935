package agent

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	execv1 "github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/wire"
)

var errRecovering = wire.Refuse(http.StatusServiceUnavailable, "Agent has not finished recovery")

// serveExecutor answers one call of the executor API, checking in Mesos' order.
func (a *Agent) serveExecutor(w http.ResponseWriter, r *http.Request) {
	stream, refusal := a.executorCall(w, r)
	if refusal != nil {
		refusal.Write(w)
		return
	}
	if stream == nil {
		wire.Accepted(w)
		return
	}
	// The agent does not learn how the stream ends: it goes on writing into it.
	if err := stream.Serve(w, r); errors.Is(err, wire.ErrAborted) {
		panic(http.ErrAbortHandler)
	}
}

// executorCall does what a call asks for. It returns the stream of a SUBSCRIBE, or
// nil for 202.
func (a *Agent) executorCall(w http.ResponseWriter, r *http.Request) (*wire.Stream, *wire.Refusal) {
	owner, refusal := a.authenticate(r)
	if refusal != nil {
		return nil, refusal
	}
	if a.phaseIs(starting) {
		return nil, errRecovering
	}
	call := new(execv1.Call)
	present, refusal := wire.ReadCall(w, r, call)
	if refusal != nil {
		return nil, refusal
	}
	if err := validateCall(call, present); err != nil {
		return nil, wire.Refuse(http.StatusBadRequest, "Failed to validate Executor::Call: %v", err)
	}
	var accept wire.ContentType
	if call.Type == execv1.Call_SUBSCRIBE {
		if accept, refusal = wire.Negotiate(r.Header["Accept"]); refusal != nil {
			return nil, refusal
		}
	}
	if call.Type == execv1.Call_HEARTBEAT {
		return nil, nil
	}
	if refusal := a.updateFault(call.Type, r); refusal != nil {
		return nil, refusal
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == dead {
		panic(http.ErrAbortHandler)
	}
	if call.Type != execv1.Call_SUBSCRIBE && a.phase == recovering {
		return nil, errRecovering
	}
	f := a.frameworks[call.FrameworkID.Value]
	if f == nil {
		return nil, wire.Refuse(http.StatusBadRequest, "Framework cannot be found")
	}
	e := f.executors[call.ExecutorID.Value]
	if e == nil {
		return nil, wire.Refuse(http.StatusBadRequest, "Executor cannot be found")
	}
	if owner != nil && *owner != (claims{Framework: f.id, Executor: e.id, Container: e.container}) {
		return nil, wire.Refuse(http.StatusForbidden,
			"Authenticated principal's claims do not match the framework, executor and container of the call")
	}
	if e.state == executorRegistering && call.Type != execv1.Call_SUBSCRIBE {
		return nil, wire.Refuse(http.StatusForbidden, "Executor is not subscribed")
	}
	switch call.Type {
	case execv1.Call_SUBSCRIBE:
		stream := wire.NewStream(accept)
		a.subscribeLocked(e, stream, call.Subscribe)
		return stream, nil
	case execv1.Call_UPDATE:
		a.executorUpdateLocked(f, call.Update.Status)
		return nil, nil
	case execv1.Call_MESSAGE:
		if a.phase == running && !f.terminating {
			a.sendLocked(link.ExecutorMessage{
				AgentID: a.info.GetID().GetValue(), FrameworkID: f.id, ExecutorID: e.id, Data: call.Message.Data,
			})
		}
		return nil, nil
	}
	return nil, wire.NotImplemented()
}

func (a *Agent) phaseIs(p phase) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.phase == p
}

// authenticate returns the claims of the caller's token; nil when executors are not
// authenticated.
func (a *Agent) authenticate(r *http.Request) (*claims, *wire.Refusal) {
	if !a.cfg.AuthenticateExecutors {
		return nil, nil
	}
	challenge := `Bearer realm="mesos-agent-executor"`
	unauthorized := func(detail string) *wire.Refusal {
		refusal := wire.Refuse(http.StatusUnauthorized, "401 Unauthorized.")
		if detail != "" {
			challenge += fmt.Sprintf(`, error="invalid_token", error_description="Invalid JWT: %s"`, detail)
		}
		refusal.Header = http.Header{"Www-Authenticate": {challenge}}
		return refusal
	}
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, unauthorized("")
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || scheme != "Bearer" {
		return nil, unauthorized("")
	}
	c, err := a.verify(token)
	if err != nil {
		return nil, unauthorized(err.Error())
	}
	return &c, nil
}

// updateFault delays or refuses an UPDATE as the fault switches say.
func (a *Agent) updateFault(kind execv1.Call_Type, r *http.Request) *wire.Refusal {
	if kind != execv1.Call_UPDATE {
		return nil
	}
	a.mu.Lock()
	delay := a.faults.delay
	refuse := a.faults.refuse > 0
	if refuse {
		a.faults.refuse--
	}
	a.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-a.ctx.Done():
		}
		a.awaitThaw()
	}
	if refuse {
		return errRecovering
	}
	return nil
}

// validateCall checks what a call has to contain. Texts are Mesos'.
func validateCall(call *execv1.Call, present wire.Presence) error {
	if !present.Has("type") {
		return wording("Expecting 'type' to be present")
	}
	switch call.Type {
	case execv1.Call_SUBSCRIBE:
		if call.Subscribe == nil {
			return wording("Expecting 'subscribe' to be present")
		}
	case execv1.Call_MESSAGE:
		if call.Message == nil {
			return wording("Expecting 'message' to be present")
		}
	case execv1.Call_UPDATE:
		if call.Update == nil {
			return wording("Expecting 'update' to be present")
		}
		return validateUpdate(call)
	}
	return nil
}

func validateUpdate(call *execv1.Call) error {
	status := call.Update.Status
	executorID, frameworkID := call.ExecutorID.Value, call.FrameworkID.Value
	if status.UUID == nil {
		return wording("Expecting 'uuid' to be present")
	}
	if !validUUID(status.UUID) {
		return wording("Not a valid UUID")
	}
	if status.ExecutorID != nil && status.ExecutorID.Value != executorID {
		return wording(fmt.Sprintf("ExecutorID in Call: %s does not match ExecutorID in TaskStatus: %s",
			executorID, status.ExecutorID.Value))
	}
	if status.Source == nil || *status.Source != mesos.SOURCE_EXECUTOR {
		return wording(fmt.Sprintf("Received Call from executor %s of framework %s with invalid source, expecting 'SOURCE_EXECUTOR'",
			executorID, frameworkID))
	}
	if status.GetState() == mesos.TASK_STAGING {
		return wording(fmt.Sprintf("Received TASK_STAGING from executor %s of framework %s which is not allowed",
			executorID, frameworkID))
	}
	return validateCheckStatus(status.CheckStatus)
}

func validateCheckStatus(check *mesos.CheckStatusInfo) error {
	if check == nil {
		return nil
	}
	if check.Type == nil {
		return wording("CheckStatusInfo must specify 'type'")
	}
	for _, c := range []struct {
		kind    mesos.CheckInfo_Type
		name    string
		missing bool
	}{
		{mesos.CheckInfo_COMMAND, "command", check.Command == nil},
		{mesos.CheckInfo_HTTP, "http", check.HTTP == nil},
		{mesos.CheckInfo_TCP, "tcp", check.TCP == nil},
	} {
		if *check.Type == c.kind && c.missing {
			return wording(fmt.Sprintf("Expecting '%s' to be set for %s check's status", c.name, c.kind))
		}
	}
	if *check.Type == mesos.CheckInfo_UNKNOWN {
		return wording("'UNKNOWN' is not a valid check's status type")
	}
	return nil
}

// validUUID is Mesos' idea of one: 16 bytes of version 1 to 5, any variant.
func validUUID(id []byte) bool {
	return len(id) == 16 && id[6]>>4 >= 1 && id[6]>>4 <= 5
}

// wording is an error in Mesos' words.
type wording string

func (w wording) Error() string { return string(w) }
