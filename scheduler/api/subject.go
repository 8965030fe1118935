package api

import (
	"context"
	"net"
	"net/http"
	"strings"

	"pacer/scheduler/access"
)

// Keys of audit lines.
const (
	logSubject    = "subject"
	logClient     = "client"
	logStatus     = "status"
	logApps       = "apps"
	logChanges    = "changes"
	logTasks      = "tasks"
	logDeployment = "deployment"
)

// maxAudited apps or tasks are named in one line.
const maxAudited = 50

// audited is what the log says of a request that changes something, and who
// makes it.
type audited struct {
	subject    string
	deployment string
	effects    []effect
	tasks      []string
}

type auditKey struct{}

func withAudit(r *http.Request) (*http.Request, *audited) {
	record := new(audited)
	return r.WithContext(context.WithValue(r.Context(), auditKey{}, record)), record
}

func auditOf(r *http.Request) *audited {
	record, ok := r.Context().Value(auditKey{}).(*audited)
	if !ok {
		return new(audited) // of a handler without route
	}
	return record
}

// subjectOf is who makes the request; empty without access control.
func subjectOf(r *http.Request) string { return auditOf(r).subject }

// audit writes one line for every request that is meant to change something,
// refused ones too.
func (s *server) audit(record *audited, r *http.Request, status int) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return
	}
	line := s.log.Info().Str(logSubject, record.subject).Str(logClient, clientIP(r)).Str(logMethod, r.Method).
		Str(logPath, r.URL.Path).Int(logStatus, status)
	if record.deployment != "" {
		line.Str(logDeployment, record.deployment)
	}
	if len(record.effects) > 0 {
		var apps, changes []string
		for _, x := range record.effects[:min(len(record.effects), maxAudited)] {
			apps = append(apps, x.App)
			changes = append(changes, x.text())
		}
		line.Strs(logApps, apps).Strs(logChanges, changes).Int("count", len(record.effects))
	}
	if len(record.tasks) > 0 {
		line.Strs(logTasks, record.tasks[:min(len(record.tasks), maxAudited)]).Int("count", len(record.tasks))
	}
	line.Msg("audit")
}

// text names what is done and which fields change, never their values.
func (x effect) text() string {
	text := string(x.Action)
	if fields := append(append([]string{}, x.Because...), x.Unrestarted...); len(fields) > 0 {
		text += " " + strings.Join(fields, ",")
	}
	if x.From != nil {
		text += " instances"
	}
	return text
}

// identified asks who makes a request before it is served.
func (s *server) identified(serve handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		subject, err := s.access.Subject(r)
		if err != nil {
			return err
		}
		auditOf(r).subject = subject
		return serve(w, r)
	}
}

// mayView tells which apps the reply may show.
func (s *server) mayView(r *http.Request) func(string) bool {
	return s.access.Allowed(subjectOf(r), access.View)
}

// demand refuses a request whose subject may not do that with a path.
func (s *server) demand(r *http.Request, verb access.Verb, path string) error {
	if s.access.Allowed(subjectOf(r), verb)(path) {
		return nil
	}
	return refuse(http.StatusForbidden, "Not Authorized to perform this action!")
}

// mayReach refuses requests that name another host, where only this machine's
// own are expected.
func (s *server) mayReach(r *http.Request) error {
	if !s.local {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if Loopback(strings.Trim(host, "[]")) {
		return nil
	}
	return refuse(http.StatusMisdirectedRequest, "This API has no authentication and answers to this machine's loopback names only, e.g. localhost")
}

// clientIP is where a request comes from.
func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
