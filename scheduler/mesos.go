package scheduler

import (
	"context"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/scheduler/master"
)

// Mesos is what the scheduler needs of [master.Client], whose documentation
// says what each method does. Calls block; they return nil after the 202.
type Mesos interface {
	Run(ctx context.Context, framework func() master.Framework, h master.Handler) error
	Accept(ctx context.Context, offerIDs []string, operations []mesos.Offer_Operation, refuse time.Duration) error
	Decline(ctx context.Context, offerIDs []string, refuse time.Duration) error
	Revive(ctx context.Context, roles ...string) error
	Suppress(ctx context.Context, roles ...string) error
	Kill(ctx context.Context, taskID, agentID string, policy *mesos.KillPolicy) error
	Shutdown(ctx context.Context, executorID, agentID string) error
	Acknowledge(ctx context.Context, status mesos.TaskStatus) error
	Reconcile(ctx context.Context, tasks ...master.Task) error
	Describe(ctx context.Context) ([]master.Described, error)
	Message(ctx context.Context, executorID, agentID string, data []byte) error
}

var _ Mesos = (*master.Client)(nil)

// frameworkInfo is what the framework is in Mesos' words.
func (c Config) frameworkInfo(id string) mesos.FrameworkInfo {
	f := c.Framework
	timeout := f.FailoverTimeout.Seconds()
	checkpoint := true
	info := mesos.FrameworkInfo{
		User:            f.User,
		Name:            f.Name,
		FailoverTimeout: &timeout,
		Checkpoint:      &checkpoint,
		Roles:           []string{f.Role},
		Capabilities: []mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE},
			{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE},
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE},
			{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
			{Type: mesos.FrameworkInfo_Capability_REGION_AWARE},
		},
	}
	if id != "" {
		info.ID = &mesos.FrameworkID{Value: id}
	}
	if f.Principal != "" {
		info.Principal = &f.Principal
	}
	if f.WebUI != "" {
		info.WebUiURL = &f.WebUI
	}
	return info
}

// handler turns events of Mesos into events of the core.
type handler struct{ s *Scheduler }

var _ master.Handler = handler{}

func (h handler) Subscribed(sub master.Subscription) {
	h.s.inbox.post(func(c *core) { c.subscribed(sub) })
}

func (h handler) Disconnected(reason error) {
	h.s.inbox.post(func(c *core) { c.disconnected(reason) })
}

func (h handler) Offers(offers []mesos.Offer) {
	h.s.inbox.post(func(c *core) { c.offered(offers) })
}

func (h handler) Rescind(offerID string) {
	h.s.inbox.post(func(c *core) { c.rescinded(offerID) })
}

func (h handler) Update(status mesos.TaskStatus) {
	h.s.inbox.post(func(c *core) { c.updated(status) })
}

func (h handler) Message(agentID, executorID string, data []byte) {
	h.s.inbox.post(func(c *core) { c.heard(agentID, executorID, data) })
}

func (h handler) Failure(agentID, executorID string, status int32) {
	h.s.inbox.post(func(c *core) { c.failure(agentID, executorID, status) })
}
