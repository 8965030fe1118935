package scheduler

import (
	"context"
	"slices"

	"pacer/scheduler/state"
)

// kills are the tasks to be killed, in order. No more than the budget are
// dying at once. A kill is repeated until its task is known to have ended,
// because Mesos never confirms one.
type kills struct {
	queue    []*instance // to be sent
	sent     map[*instance]struct{}
	inFlight int
}

// add queues an instance whose intent is stored.
func (k *kills) add(i *instance) { k.queue = append(k.queue, i) }

// resend queues an instance again.
func (k *kills) resend(i *instance) {
	if _, sent := k.sent[i]; sent {
		k.release(i)
		k.queue = append([]*instance{i}, k.queue...)
	}
}

// resendAll queues everything again, for a new subscription.
func (k *kills) resendAll() {
	for i := range k.sent {
		k.resend(i)
	}
}

// release forgets an instance that has ended.
func (k *kills) release(i *instance) {
	k.unbudget(i)
	delete(k.sent, i)
}

// unbudget gives the budget of an instance back: it cannot be reached.
func (k *kills) unbudget(i *instance) {
	if i.budgeted {
		i.budgeted = false
		k.inFlight--
	}
}

// kill decides that an instance is to end.
func (c *core) kill(i *instance, reason string) {
	if i == nil || i.killing || i.ended {
		return
	}
	i.killing = true
	i.shown = nil
	c.touch(i.service)
	c.log.Info().Str(keyApp, i.record.App).Str(keyTask, i.record.ID).Str(keyHost, i.record.Hostname).Str(keyReason, reason).Msg("task is to be killed")
	if i.service.deleted {
		// The app's tombstone says so already.
		i.killStored = true
		c.kills.add(i)
		return
	}
	if i.stage == storing {
		return // the launch is given up when its record has been stored
	}
	c.storeKill(i, reason)
}

// writeKill makes an intent to kill part of a change.
func (i *instance) writeKill(change *state.Change, reason string) {
	if i.killing || i.ended {
		return
	}
	record := *i.record
	record.Intent, record.Reason = state.IntentKill, reason
	change.PutTask(&record)
}

// killWritten kills an instance of which writeKill's change is stored.
func (c *core) killWritten(i *instance, reason string) {
	if i.killing || i.ended {
		return
	}
	record := *i.record
	record.Intent, record.Reason = state.IntentKill, reason
	i.record, i.killing, i.killStored, i.shown = &record, true, true, nil
	c.kills.add(i)
	c.touch(i.service)
	c.log.Info().Str(keyApp, record.App).Str(keyTask, record.ID).Str(keyHost, record.Hostname).Str(keyReason, reason).Msg("task is to be killed")
}

// maxKillsStored is how many intents one transaction carries: each may be in a
// chunk of its own.
const maxKillsStored = state.MaxBatch / state.MaxChunk / 2

// killTasks kills tasks that an API call names; their apps replace them.
func (c *core) killTasks(ids []string, wipe bool, to chan<- result) {
	const reason = "killed through the API"
	var chosen []*instance
	for _, id := range ids {
		if i := c.instances[id]; i != nil && !i.killing && !i.ended {
			chosen = append(chosen, i)
		}
	}
	waiting := 0
	var failed error
	for group := range slices.Chunk(chosen, maxKillsStored) {
		waiting++
		var change state.Change
		for _, i := range group {
			i.writeKill(&change, reason)
		}
		c.submit(&change, func(err error) {
			if err != nil {
				failed = unavailable(err)
			}
			for _, i := range group {
				if err != nil {
					break
				}
				c.killWritten(i, reason)
				if wipe && !i.unreachable.IsZero() {
					i.inactive = true
				}
			}
			if waiting--; waiting == 0 {
				c.reply(to, result{err: failed})
			}
		})
	}
	if len(chosen) == 0 {
		c.reply(to, result{})
	}
}

func (c *core) storeKill(i *instance, reason string) {
	record := *i.record
	record.Intent, record.Reason = state.IntentKill, reason
	i.record = &record
	var change state.Change
	change.PutTask(&record)
	c.submit(&change, func(err error) {
		switch {
		case i.ended:
		case err != nil:
			c.log.Warn().Str(keyTask, record.ID).AnErr(keyError, err).Msg("kill not stored; trying again")
			c.after(c.config.Times.StoreRetry, func() { c.storeKill(i, reason) })
		default:
			i.killStored = true
			c.kills.add(i)
		}
	})
}

// sendKills sends what the budget allows.
func (c *core) sendKills() {
	k := &c.kills
	if !c.connection.subscribed || c.suspended || len(k.queue) == 0 {
		return
	}
	if k.sent == nil {
		k.sent = make(map[*instance]struct{})
	}
	var rest []*instance
	for n, i := range k.queue {
		if k.inFlight >= c.config.KillBudget {
			rest = append(rest, k.queue[n:]...)
			break
		}
		switch {
		case i.ended:
		case !i.settled():
			rest = append(rest, i)
		default:
			c.sendKill(i)
		}
	}
	k.queue = rest
}

func (c *core) sendKill(i *instance) {
	if i.unreachable.IsZero() && !i.budgeted {
		i.budgeted = true
		c.kills.inFlight++
	}
	c.s.metrics.kills.Inc()
	i.killSent = true
	c.kills.sent[i] = struct{}{}
	id, agent := i.record.ID, i.record.AgentID
	c.call(func(ctx context.Context) error { return c.s.mesos.Kill(ctx, id, agent, nil) }, c.logged("kill", id))
	c.after(c.config.Times.KillRepeat, func() { c.kills.resend(i) })
}
