package master

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
)

// startDrain begins to drain a registered agent.
func (c *core) startDrain(a *agent, config mesos.DrainConfig) {
	c.registry.setDrain(a.id, mesos.DrainInfo{State: mesos.DrainState_DRAINING, Config: config})
	a.drainStarted = time.Now()
	c.deactivateAgent(a)
	c.toAgent(a, link.Drain{Config: config})
	c.checkDrained(a)
}

// deactivateAgent stops offers of the agent.
func (c *core) deactivateAgent(a *agent) {
	c.registry.deactivate(a.id)
	a.active = false
	for _, o := range a.offers {
		c.rescind(o)
	}
}

// checkDrained ends the draining of an agent without tasks.
func (c *core) checkDrained(a *agent) {
	drain, draining := c.registry.drain(a.id)
	if !draining || drain.State != mesos.DrainState_DRAINING || len(a.tasks) > 0 || c.agents[a.id] != a {
		return
	}
	if drain.Config.GetMarkGone() {
		// Not from inside the loop that removed the last task.
		c.m.after(0, func() { c.markGone(a.id) })
		return
	}
	drain.State = mesos.DrainState_DRAINED
	c.registry.setDrain(a.id, drain)
	c.log.Info().Str(keyAgent, a.id).Msg("agent drained")
}
