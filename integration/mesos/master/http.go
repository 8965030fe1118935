package master

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/integration/mesos/wire"
)

const streamIDHeader = "Mesos-Stream-Id"

// handler routes by prefix as libprocess does: every path also works below
// /master, and what follows a known path does not matter.
func (m *Master) handler() http.Handler {
	routes := []struct {
		path   string
		handle func(http.ResponseWriter, *http.Request) *wire.Refusal
	}{
		{"/api/v1/scheduler", m.serveScheduler},
		{"/api/v1", m.serveOperator},
		{"/health", serveHealth},
		{"/version", m.serveVersion},
		{"/metrics/snapshot", m.serveMetrics},
		{"/redirect", m.serveRedirect},
		{"/state", m.serveState("/state")},
		{"/slaves", m.serveState("/slaves", "slaves")},
		{"/frameworks", m.serveState("/frameworks", "frameworks", "completed_frameworks", "unregistered_frameworks")},
		{"/tasks", m.serveTasks},
		{"/teardown", m.serveTeardown},
		{"/files", serveNoFile},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.enter() != nil {
			panic(http.ErrAbortHandler)
		}
		m.tasks.Add(1)
		m.mu.Unlock()
		defer m.tasks.Done()
		select {
		case <-m.ready:
		default:
			wire.NotFound().Write(w)
			return
		}
		path := strings.TrimPrefix(r.URL.Path, "/master")
		refusal := wire.NotFound()
		for _, route := range routes {
			if path == route.path || strings.HasPrefix(path, route.path+"/") {
				refusal = route.handle(w, r)
				break
			}
		}
		if refusal != nil {
			refusal.Write(w)
		}
	})
}

// serveNoFile answers for a master that shows no log: it has no files.
func serveNoFile(http.ResponseWriter, *http.Request) *wire.Refusal {
	return wire.Refuse(http.StatusNotFound, "")
}

// locked runs action with the lock held. A master that dies meanwhile breaks the
// connection.
func (m *Master) locked(action func(c *core)) {
	if m.enter() != nil {
		panic(http.ErrAbortHandler)
	}
	defer m.mu.Unlock()
	action(m.core)
}

// notLeading is the answer of a master that does not lead or is not ready yet.
func (m *Master) notLeading(r *http.Request, path string) (refusal *wire.Refusal) {
	m.locked(func(c *core) {
		switch {
		case m.leader == "":
			refusal = wire.Refuse(http.StatusServiceUnavailable, "No leader elected")
		case !m.led || m.leader != m.Address():
			// The leader may be this master's former life, whose session lives on.
			refusal = redirect(m.leader, path, r)
		case c.recovering:
			refusal = wire.Refuse(http.StatusServiceUnavailable, "Master has not finished recovery")
		}
	})
	return refusal
}

// redirect answers with the leader's address without a scheme.
func redirect(leader, path string, r *http.Request) *wire.Refusal {
	location := "//" + leader + path
	if path != "" && r.URL.RawQuery != "" {
		location += "?" + r.URL.RawQuery
	}
	return &wire.Refusal{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {location}}}
}

func (m *Master) serveRedirect(_ http.ResponseWriter, r *http.Request) (refusal *wire.Refusal) {
	m.locked(func(*core) {
		if m.leader == "" {
			refusal = wire.Refuse(http.StatusServiceUnavailable, "No leader elected")
			return
		}
		refusal = redirect(m.leader, "", r)
	})
	return refusal
}

// authenticate returns the principal of a scheduler's request.
func (m *Master) authenticate(r *http.Request) (principal string, refusal *wire.Refusal) {
	if m.config.Credentials == nil {
		return "", nil
	}
	principal, secret, ok := r.BasicAuth()
	if ok {
		if known, exists := m.config.Credentials[principal]; exists && known == secret {
			return principal, nil
		}
	}
	return "", wire.Unauthorized("mesos-master-scheduler")
}

// serveScheduler is the scheduler API. The order of its checks is Mesos'.
func (m *Master) serveScheduler(w http.ResponseWriter, r *http.Request) *wire.Refusal {
	principal, refusal := m.authenticate(r)
	if refusal != nil {
		return refusal
	}
	if refusal := m.notLeading(r, "/master/api/v1/scheduler"); refusal != nil {
		return refusal
	}
	call := new(scheduler.Call)
	given, refusal := wire.ReadCall(w, r, call)
	if refusal != nil {
		return refusal
	}
	if problem := validateCall(call, given, principal); problem != "" {
		return wire.Refuse(http.StatusBadRequest, "Failed to validate scheduler::Call: %s", problem)
	}
	var contentType wire.ContentType
	if call.Type == scheduler.Call_SUBSCRIBE || call.Type == scheduler.Call_RECONCILE_OPERATIONS {
		if contentType, refusal = wire.Negotiate(r.Header.Values("Accept")); refusal != nil {
			return refusal
		}
	}
	if call.Type == scheduler.Call_SUBSCRIBE {
		if len(r.Header.Values(streamIDHeader)) > 0 {
			return wire.Refuse(http.StatusBadRequest, "Subscribe calls should not include the 'Mesos-Stream-Id' header")
		}
		if principal != "" && call.Subscribe.FrameworkInfo.Principal == nil {
			call.Subscribe.FrameworkInfo.Principal = &principal
		}
		m.serveSubscription(w, r, call, contentType)
		return nil
	}
	var answer *wire.Refusal
	m.locked(func(c *core) {
		breakIf(c.faults.loseCalls, call.Type)
		answer = c.call(call, given, principal, r.Header.Values(streamIDHeader))
		breakIf(c.faults.loseAnswers, call.Type)
	})
	if answer != nil {
		return answer
	}
	if call.Type == scheduler.Call_UPDATE_FRAMEWORK {
		w.Header().Set("Content-Length", "0")
		w.Header()["Content-Type"] = nil // net/http would guess one
		w.WriteHeader(http.StatusOK)
		return nil
	}
	wire.Accepted(w)
	return nil
}

// serveSubscription answers SUBSCRIBE and stays until the stream ends.
func (m *Master) serveSubscription(w http.ResponseWriter, r *http.Request, call *scheduler.Call, contentType wire.ContentType) {
	streamID := uuid.NewString()
	w.Header().Set(streamIDHeader, streamID)
	stream := wire.NewStream(contentType)
	var frameworkID string
	m.locked(func(c *core) {
		c.trace(call.FrameworkID.GetValue(), "master", call)
		frameworkID = c.subscribe(call.Subscribe, stream, streamID)
	})
	err := stream.Serve(w, r)
	if m.enter() == nil {
		m.core.streamEnded(frameworkID, stream)
		m.mu.Unlock()
	}
	if errors.Is(err, wire.ErrAborted) {
		panic(http.ErrAbortHandler)
	}
}

// call handles every call of a subscribed framework; nil means success.
func (c *core) call(call *scheduler.Call, given wire.Presence, principal string, streamIDs []string) *wire.Refusal {
	id := call.FrameworkID.Value
	c.trace(id, "master", call)
	f := c.frameworks[id]
	switch {
	case f == nil:
		return wire.Refuse(http.StatusBadRequest, "Framework cannot be found")
	case principal != "" && principal != f.info.GetPrincipal():
		return wire.Refuse(http.StatusBadRequest,
			"Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", principal, f.info.GetPrincipal())
	case !f.connected():
		return wire.Refuse(http.StatusForbidden, "Framework is not subscribed")
	case len(streamIDs) == 0:
		return wire.Refuse(http.StatusBadRequest, "All non-subscribe calls should include the 'Mesos-Stream-Id' header")
	case streamIDs[0] != f.streamID:
		return wire.Refuse(http.StatusBadRequest,
			"The stream ID '%s' included in this request didn't match the stream ID currently associated with framework ID %s",
			streamIDs[0], id)
	}
	switch call.Type {
	case scheduler.Call_TEARDOWN:
		c.removeFramework(f)
	case scheduler.Call_ACCEPT:
		c.rescindAccepted(call.Accept)
		c.accept(f, call.Accept, given)
	case scheduler.Call_DECLINE:
		c.decline(f, call.Decline)
	case scheduler.Call_REVIVE:
		c.revive(f, rolesIn(call.Revive))
	case scheduler.Call_SUPPRESS:
		c.suppress(f, rolesIn(call.Suppress))
	case scheduler.Call_KILL:
		c.kill(f, call.Kill)
	case scheduler.Call_SHUTDOWN:
		c.shutdown(f, call.Shutdown)
	case scheduler.Call_ACKNOWLEDGE:
		c.acknowledge(f, call.Acknowledge)
	case scheduler.Call_RECONCILE:
		c.reconcile(f, call.Reconcile.Tasks)
	case scheduler.Call_MESSAGE:
		c.message(f, call.Message)
	case scheduler.Call_UPDATE_FRAMEWORK:
		return c.change(f, call.UpdateFramework)
	case scheduler.Call_UNKNOWN:
		// Mesos fails a CHECK in the framework's call metrics.
		c.log.Error().Str(keyFramework, id).Msg("call of type UNKNOWN: the master aborts, as Mesos does")
		c.m.abortLocked()
		panic(http.ErrAbortHandler)
	default:
		// REQUEST and the calls about inverse offers and operations: accepted, and
		// without effect here.
	}
	return nil
}

// rolesIn reads REVIVE's or SUPPRESS's roles; both messages may be missing.
func rolesIn[T interface{ GetRoles() []string }](message T) []string {
	return message.GetRoles()
}

// validateCall returns what Mesos says of a malformed call, "" for a good one.
func validateCall(call *scheduler.Call, given wire.Presence, principal string) string {
	if !given.Has("type") {
		return "Expecting 'type' to be present"
	}
	expecting := func(name string) string {
		if given.Has(name) {
			return ""
		}
		return fmt.Sprintf("Expecting '%s' to be present", name)
	}
	if call.Type == scheduler.Call_SUBSCRIBE {
		if problem := expecting("subscribe"); problem != "" {
			return problem
		}
		info := call.Subscribe.FrameworkInfo
		if info.GetID().GetValue() != call.FrameworkID.GetValue() || (info.ID == nil) != (call.FrameworkID == nil) {
			return "'framework_id' differs from 'subscribe.framework_info.id'"
		}
		if principal != "" && info.Principal != nil && *info.Principal != principal {
			return fmt.Sprintf("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", principal, *info.Principal)
		}
		return ""
	}
	if problem := expecting("framework_id"); problem != "" {
		return problem
	}
	switch call.Type {
	case scheduler.Call_TEARDOWN, scheduler.Call_REVIVE, scheduler.Call_SUPPRESS, scheduler.Call_UNKNOWN:
		return ""
	}
	if problem := expecting(strings.ToLower(call.Type.String())); problem != "" {
		return problem
	}
	switch call.Type {
	case scheduler.Call_ACKNOWLEDGE:
		if !validUUID(call.Acknowledge.UUID) {
			return "Not a valid UUID"
		}
	case scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		if !validUUID(call.AcknowledgeOperationStatus.UUID) {
			return "Not a valid UUID"
		}
		if call.AcknowledgeOperationStatus.AgentID == nil {
			return "Expecting 'agent_id' to be present"
		}
	case scheduler.Call_UPDATE_FRAMEWORK:
		if call.UpdateFramework.FrameworkInfo.GetID().GetValue() != call.FrameworkID.Value {
			return "'framework_id' differs from 'update_framework.framework_info.id'"
		}
	}
	return ""
}

// validUUID is stout's rule: 16 bytes with a version from 1 to 5.
func validUUID(b []byte) bool {
	if len(b) != 16 {
		return false
	}
	version := b[6] >> 4
	return version >= 1 && version <= 5
}
