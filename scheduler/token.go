package scheduler

import (
	"context"

	"pacer/executor/payload"
	"pacer/scheduler/identity"
	"pacer/scheduler/state"
)

// maxTokens is how many tokens one message may ask for.
const maxTokens = 1000

// token signs the identity of a task.
func (c *core) token(record *state.Task) (string, error) {
	return c.signer.Sign(identity.Subject{
		Framework: c.config.Framework.Name, FrameworkID: c.frameworkID,
		App: record.App, Task: record.ID, Agent: record.AgentID,
	}, c.now)
}

// heard takes a message of an executor: it asks for fresh tokens of tasks that
// it runs. Others' it does not get, and a question that cannot be answered now
// is asked again.
func (c *core) heard(agentID, executorID string, data []byte) {
	log := c.log.With().Str(keyAgent, agentID).Str(keyExecutor, executorID).Logger()
	question, err := payload.DecodeMessage(data)
	if err != nil || len(question.GetTokensWanted()) == 0 {
		log.Debug().Int(keyCount, len(data)).AnErr(keyError, err).Msg("message of executor ignored")
		return
	}
	if c.suspended || !c.connection.subscribed {
		return
	}
	answer := new(payload.Message)
	for _, id := range question.GetTokensWanted()[:min(len(question.GetTokensWanted()), maxTokens)] {
		i := c.instances[id]
		if i == nil || i.ended || i.record.AgentID != agentID || i.record.ExecutorID != executorID {
			log.Warn().Str(keyTask, id).Msg("token refused: no such task at this executor")
			continue
		}
		token, err := c.token(i.record)
		if err != nil {
			log.Error().Str(keyTask, id).AnErr(keyError, err).Msg("token not signed")
			continue
		}
		answer.Tokens = append(answer.Tokens, &payload.Token{TaskId: id, IdentityToken: token})
	}
	if len(answer.Tokens) == 0 {
		return
	}
	reply, err := payload.EncodeMessage(answer)
	if err != nil {
		log.Error().AnErr(keyError, err).Msg("tokens not sent")
		return
	}
	c.call(func(ctx context.Context) error { return c.s.mesos.Message(ctx, executorID, agentID, reply) }, func(err error) {
		if err != nil {
			log.Debug().AnErr(keyError, err).Msg("tokens not sent; the executor asks again")
			return
		}
		log.Info().Int(keyCount, len(answer.Tokens)).Msg("fresh tokens sent")
	})
}
