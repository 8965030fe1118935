package master

import (
	"maps"
	"sync"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Registry is what masters persist of agents. A master that starts with the
// Registry of its predecessor knows which agents may come back.
type Registry struct {
	mu          sync.Mutex
	admitted    map[string]mesos.AgentInfo
	unreachable map[string]mesos.TimeInfo // since when
	gone        map[string]mesos.TimeInfo
	draining    map[string]mesos.DrainInfo
	deactivated map[string]bool
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{
		admitted:    make(map[string]mesos.AgentInfo),
		unreachable: make(map[string]mesos.TimeInfo),
		gone:        make(map[string]mesos.TimeInfo),
		draining:    make(map[string]mesos.DrainInfo),
		deactivated: make(map[string]bool),
	}
}

// agents returns a copy of the admitted agents.
func (r *Registry) agents() map[string]mesos.AgentInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.admitted)
}

// admit makes an agent a member, whatever it was.
func (r *Registry) admit(id string, info mesos.AgentInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admitted[id] = info
	delete(r.unreachable, id)
}

func (r *Registry) markUnreachable(id string, since mesos.TimeInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.admitted, id)
	r.unreachable[id] = since
}

func (r *Registry) markGone(id string, since mesos.TimeInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(id)
	r.gone[id] = since
}

func (r *Registry) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(id)
}

func (r *Registry) forgetLocked(id string) {
	delete(r.admitted, id)
	delete(r.unreachable, id)
	delete(r.draining, id)
	delete(r.deactivated, id)
}

func (r *Registry) unreachableSince(id string) (mesos.TimeInfo, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.unreachable[id]
	return t, ok
}

func (r *Registry) isGone(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.gone[id]
	return ok
}

func (r *Registry) countUnreachable() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.unreachable)
}

func (r *Registry) drain(id string) (mesos.DrainInfo, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.draining[id]
	return d, ok
}

func (r *Registry) setDrain(id string, d mesos.DrainInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining[id] = d
	r.deactivated[id] = true
}

func (r *Registry) isDeactivated(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deactivated[id]
}

func (r *Registry) deactivate(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deactivated[id] = true
}

// reactivate ends draining and deactivation.
func (r *Registry) reactivate(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.draining, id)
	delete(r.deactivated, id)
}
