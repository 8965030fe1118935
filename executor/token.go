package executor

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pacer/executor/payload"
	"pacer/secrets"
)

// Pauses between questions for a token. Messages get lost, and the scheduler
// may be away for long.
const (
	firstTokenPause = 2 * time.Second
	maxTokenPause   = 30 * time.Second
)

// tokens asks the scheduler for fresh identity tokens, and hands its answers
// to who waits for them.
type tokens struct {
	scheduler Scheduler
	log       zerolog.Logger

	mu      sync.Mutex
	waiting map[string][]chan secrets.Secret // by task
}

func newTokens(scheduler Scheduler, log zerolog.Logger) *tokens {
	return &tokens{scheduler: scheduler, log: log, waiting: map[string][]chan secrets.Secret{}}
}

// fresh asks until a token comes or ctx ends.
func (t *tokens) fresh(ctx context.Context, task string) (secrets.Secret, error) {
	answer := make(chan secrets.Secret, 1)
	t.mu.Lock()
	t.waiting[task] = append(t.waiting[task], answer)
	t.mu.Unlock()
	defer t.leave(task, answer)
	question, err := payload.EncodeMessage(&payload.Message{TokensWanted: []string{task}})
	if err != nil {
		return secrets.Secret{}, err
	}
	for pause := firstTokenPause; ; pause = min(2*pause, maxTokenPause) {
		// What is not sent now is sent later.
		if err := t.scheduler.Message(question); err != nil {
			t.log.Debug().Err(err).Str(keyTask, task).Msg("token not asked for")
		}
		again := time.NewTimer(pause)
		select {
		case token := <-answer:
			again.Stop()
			return token, nil
		case <-ctx.Done():
			again.Stop()
			return secrets.Secret{}, ctx.Err()
		case <-again.C:
		}
	}
}

func (t *tokens) leave(task string, answer chan secrets.Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := t.waiting[task][:0]
	for _, other := range t.waiting[task] {
		if other != answer {
			rest = append(rest, other)
		}
	}
	if t.waiting[task] = rest; len(rest) == 0 {
		delete(t.waiting, task)
	}
}

// take hands over what a message of the scheduler brought.
func (t *tokens) take(m *payload.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, token := range m.GetTokens() {
		for _, answer := range t.waiting[token.GetTaskId()] {
			select {
			case answer <- secrets.NewSecret([]byte(token.GetIdentityToken())):
			default: // It has one already.
			}
		}
	}
}
