package agent

import (
	"net/http"

	"pacer/integration/mesos/wire"
)

type counters struct {
	launchErrors, validUpdates, invalidUpdates, validMessages, invalidMessages int64
	fetched, fetchErrors                                                       int64
}

func (a *Agent) countFetch(ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok {
		a.counters.fetched++
	} else {
		a.counters.fetchErrors++
	}
}

func (a *Agent) serveOperator(w http.ResponseWriter, r *http.Request) { wire.NotImplemented().Write(w) }
func (a *Agent) serveVersion(w http.ResponseWriter, r *http.Request)  { wire.NotImplemented().Write(w) }
func (a *Agent) serveMetrics(w http.ResponseWriter, r *http.Request)  { wire.NotImplemented().Write(w) }
func (a *Agent) serveContainers(w http.ResponseWriter, r *http.Request) {
	wire.NotImplemented().Write(w)
}
func (a *Agent) serveBrowse(w http.ResponseWriter, r *http.Request)   { wire.NotImplemented().Write(w) }
func (a *Agent) serveRead(w http.ResponseWriter, r *http.Request)     { wire.NotImplemented().Write(w) }
func (a *Agent) serveDownload(w http.ResponseWriter, r *http.Request) { wire.NotImplemented().Write(w) }
