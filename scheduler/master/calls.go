package master

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"pacer/executor/mesosapi"
)

const (
	callTimeout = 15 * time.Second
	// attempts is how often a call that may be repeated is sent.
	attempts     = 3
	attemptPause = 200 * time.Millisecond
)

// Accept uses the offers, which must be of one agent, for the operations; what
// is left of them is declined for refuse (Mesos' default is 5 s; 0 means no
// filter). It is never repeated by the client. After an error that wraps
// [ErrOutcomeUnknown] the tasks may or may not have been launched.
func (c *Client) Accept(ctx context.Context, offerIDs []string, operations []mesos.Offer_Operation, refuse time.Duration) error {
	if len(offerIDs) == 0 || len(operations) == 0 {
		return fmt.Errorf("accept with %d offers and %d operations: give at least one of each", len(offerIDs), len(operations))
	}
	return c.once(ctx, &scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{
		OfferIDs: offers(offerIDs), Operations: operations, Filters: filters(refuse),
	}})
}

// Decline gives offers back for at least refuse.
func (c *Client) Decline(ctx context.Context, offerIDs []string, refuse time.Duration) error {
	if len(offerIDs) == 0 {
		return nil
	}
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_DECLINE, Decline: &scheduler.Call_Decline{
		OfferIDs: offers(offerIDs), Filters: filters(refuse),
	}})
}

// Revive asks for offers again for the roles (all when none is given), lifting
// filters and suppression. A role that is not the framework's makes Mesos drop
// the whole call silently.
func (c *Client) Revive(ctx context.Context, roles ...string) error {
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_REVIVE, Revive: &scheduler.Call_Revive{Roles: roles}})
}

// Suppress stops offers for the roles (all when none is given).
func (c *Client) Suppress(ctx context.Context, roles ...string) error {
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_SUPPRESS, Suppress: &scheduler.Call_Suppress{Roles: roles}})
}

// Kill asks for the end of a task. Mesos never confirms: repeat it until a
// terminal status arrives. agentID may be "" when unknown; policy may be nil.
func (c *Client) Kill(ctx context.Context, taskID, agentID string, policy *mesos.KillPolicy) error {
	if taskID == "" {
		return errors.New("kill: no task ID")
	}
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{
		TaskID: mesos.TaskID{Value: taskID}, AgentID: optionalAgent(agentID), KillPolicy: policy,
	}})
}

// Shutdown asks for the end of an executor and all its tasks.
func (c *Client) Shutdown(ctx context.Context, executorID, agentID string) error {
	if executorID == "" || agentID == "" {
		return fmt.Errorf("shut down executor %q on agent %q: give both IDs", executorID, agentID)
	}
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_SHUTDOWN, Shutdown: &scheduler.Call_Shutdown{
		ExecutorID: mesos.ExecutorID{Value: executorID}, AgentID: mesos.AgentID{Value: agentID},
	}})
}

// Acknowledge tells Mesos that status has been processed. A status without
// UUID needs none, and nothing is sent.
func (c *Client) Acknowledge(ctx context.Context, status mesos.TaskStatus) error {
	if len(status.UUID) == 0 {
		return nil
	}
	// A 400 would end the subscription; so what Mesos rejects is never sent.
	id, err := uuid.FromBytes(status.UUID)
	if err != nil || id.Version() < 1 || id.Version() > 5 || status.GetAgentID().GetValue() == "" || status.TaskID.Value == "" {
		return fmt.Errorf("acknowledge status of task %q: uuid of %d bytes, agent %q: not an update of Mesos",
			status.TaskID.Value, len(status.UUID), status.GetAgentID().GetValue())
	}
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{
		AgentID: *status.AgentID, TaskID: status.TaskID, UUID: status.UUID,
	}})
}

// Task names a task for reconciliation. Give the agent: without it an
// unreachable task is answered as unknown.
type Task struct {
	ID, AgentID string
}

// Reconcile asks for the state of the tasks; with none, for the state of every
// task that the master knows. Answers come as updates without UUID; questions
// about agents that have not yet come back to a new master get none.
func (c *Client) Reconcile(ctx context.Context, tasks ...Task) error {
	body := &scheduler.Call_Reconcile{}
	for _, task := range tasks {
		body.Tasks = append(body.Tasks, scheduler.Call_Reconcile_Task{
			TaskID: mesos.TaskID{Value: task.ID}, AgentID: optionalAgent(task.AgentID),
		})
	}
	return c.repeat(ctx, &scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: body})
}

// Message sends data to an executor; delivery is not guaranteed.
func (c *Client) Message(ctx context.Context, executorID, agentID string, data []byte) error {
	if executorID == "" || agentID == "" {
		return fmt.Errorf("message to executor %q on agent %q: give both IDs", executorID, agentID)
	}
	if data == nil {
		data = []byte{} // the field is required
	}
	return c.once(ctx, &scheduler.Call{Type: scheduler.Call_MESSAGE, Message: &scheduler.Call_Message{
		ExecutorID: mesos.ExecutorID{Value: executorID}, AgentID: mesos.AgentID{Value: agentID}, Data: data,
	}})
}

// Teardown removes the framework and kills all its tasks, for good. The
// subscription ends with it.
func (c *Client) Teardown(ctx context.Context) error {
	return c.once(ctx, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
}

// once sends a call that must not be sent twice.
func (c *Client) once(ctx context.Context, call *scheduler.Call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.send(ctx, c.current.Load(), call)
}

// repeat sends a call that does no harm when it arrives twice: on the same
// subscription it is tried again unless the master has refused it.
func (c *Client) repeat(ctx context.Context, call *scheduler.Call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sub := c.current.Load()
	for n := 1; ; n++ {
		err := c.send(ctx, sub, call)
		code := mesosapi.StatusCode(err)
		if err == nil || n == attempts || code != 0 && code != http.StatusServiceUnavailable ||
			sub == nil || c.current.Load() != sub || !sleep(ctx, time.Duration(n)*attemptPause, nil) {
			return err
		}
	}
}

// send makes one attempt and classes its error.
func (c *Client) send(ctx context.Context, sub *subscription, call *scheduler.Call) error {
	if sub == nil {
		return fmt.Errorf("%v: %w", call.Type, ErrNotSubscribed)
	}
	call.FrameworkID = &sub.framework
	err := sub.api.Call(ctx, call, sub.header)
	code := mesosapi.StatusCode(err)
	switch {
	case err == nil:
		return nil
	case code == http.StatusTemporaryRedirect, code == http.StatusBadRequest, code == http.StatusUnauthorized, code == http.StatusForbidden:
		// Another leads, or the stream is not the current one any more. What this
		// client sends is well-formed, so that 400 means nothing else.
		sub.end(fmt.Errorf("%v: %w", call.Type, err))
		return fmt.Errorf("%v: %w: %w", call.Type, ErrCallRefused, err)
	case code != 0:
		return fmt.Errorf("%v: %w: %w", call.Type, ErrCallRefused, err)
	case errors.Is(err, mesosapi.ErrNotSent):
		return fmt.Errorf("%v: %w: %w", call.Type, ErrNotSubscribed, err)
	default:
		return fmt.Errorf("%v: %w: %w", call.Type, ErrOutcomeUnknown, err)
	}
}

func offers(ids []string) []mesos.OfferID {
	offers := make([]mesos.OfferID, len(ids))
	for i, id := range ids {
		offers[i].Value = id
	}
	return offers
}

// filters says how long resources are refused. Mesos takes a negative time for
// its default of 5 s.
func filters(refuse time.Duration) *mesos.Filters {
	seconds := max(0, refuse).Seconds()
	return &mesos.Filters{RefuseSeconds: &seconds}
}

func optionalAgent(id string) *mesos.AgentID {
	if id == "" {
		return nil
	}
	return &mesos.AgentID{Value: id}
}
