package master

import (
	"context"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Accept uses the offers, which must be of one agent, for the operations; what
// is left of them is declined for refuse (Mesos' default is 5 s; 0 means no
// filter). It is never repeated by the client. After an error that wraps
// [ErrOutcomeUnknown] the tasks may or may not have been launched.
func (c *Client) Accept(ctx context.Context, offerIDs []string, operations []mesos.Offer_Operation, refuse time.Duration) error {
	return nil
}

// Decline gives offers back for at least refuse.
func (c *Client) Decline(ctx context.Context, offerIDs []string, refuse time.Duration) error {
	return nil
}

// Revive asks for offers again for the roles (all when none is given), lifting
// filters and suppression.
func (c *Client) Revive(ctx context.Context, roles ...string) error { return nil }

// Suppress stops offers for the roles (all when none is given).
func (c *Client) Suppress(ctx context.Context, roles ...string) error { return nil }

// Kill asks for the end of a task. Mesos never confirms: repeat it until a
// terminal status arrives. agentID may be "" when unknown; policy may be nil.
func (c *Client) Kill(ctx context.Context, taskID, agentID string, policy *mesos.KillPolicy) error {
	return nil
}

// Shutdown asks for the end of an executor and all its tasks.
func (c *Client) Shutdown(ctx context.Context, executorID, agentID string) error { return nil }

// Acknowledge tells Mesos that status has been processed. A status without
// UUID needs none, and nothing is sent.
func (c *Client) Acknowledge(ctx context.Context, status mesos.TaskStatus) error { return nil }

// Task names a task for reconciliation. Give the agent: without it an
// unreachable task is answered as unknown.
type Task struct {
	ID, AgentID string
}

// Reconcile asks for the state of the tasks; with none, for the state of every
// task that the master knows. Answers come as updates without UUID; questions
// about agents that have not yet come back to a new master get none.
func (c *Client) Reconcile(ctx context.Context, tasks ...Task) error { return nil }

// Message sends data to an executor; delivery is not guaranteed.
func (c *Client) Message(ctx context.Context, executorID, agentID string, data []byte) error {
	return nil
}

// Teardown removes the framework and kills all its tasks, for good.
func (c *Client) Teardown(ctx context.Context) error { return nil }
