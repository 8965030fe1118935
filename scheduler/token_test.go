package scheduler

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"pacer/executor/payload"
	"pacer/scheduler/state/statetest"
)

func TestTokens_GoOnlyToTheExecutorOfTheTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newCluster(t, 2)
		l := start(t, testConfig(), new(statetest.Memory), world)
		l.put(web("/web", 1))
		l.settle()
		time.Sleep(24 * time.Hour) // the token that it was launched with has ended
		var id, executorID, agentID string
		for _, task := range world.tasks {
			id, executorID, agentID = task.info.TaskID.Value, task.info.Executor.ExecutorID.Value, task.agent.id
		}
		question, err := payload.EncodeMessage(&payload.Message{TokensWanted: []string{id, "web.unknown"}})
		if err != nil {
			t.Fatal(err)
		}
		for name, from := range map[string][2]string{"another executor": {"other", agentID}, "another agent": {executorID, "S9"}} {
			world.ask(from[0], from[1], question)
			synctest.Wait()
			if len(world.messages) != 0 {
				t.Errorf("%s got an answer", name)
			}
		}
		for _, nonsense := range []string{"", "hello", strings.Repeat("x", 2<<20)} {
			world.ask(executorID, agentID, []byte(nonsense))
		}
		world.ask(executorID, agentID, question)
		synctest.Wait()
		if len(world.messages) != 1 || world.messages[0].executorID != executorID || world.messages[0].agentID != agentID {
			t.Fatalf("%d answers", len(world.messages))
		}
		answer, err := payload.DecodeMessage(world.messages[0].data)
		if err != nil || len(answer.GetTokens()) != 1 || answer.GetTokens()[0].GetTaskId() != id {
			t.Fatalf("%d tokens, %v", len(answer.GetTokens()), err)
		}
		token, err := jwt.ParseSigned(answer.GetTokens()[0].GetIdentityToken(), []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			t.Fatal(err)
		}
		var said struct {
			jwt.Claims
			App  string `json:"app"`
			Task string `json:"task"`
		}
		if err := token.Claims(l.keys[token.Headers[0].KeyID], &said); err != nil || said.App != "web" || said.Task != id {
			t.Errorf("claims %+v, %v", said, err)
		}
		if left := time.Until(said.Expiry.Time()); left < 20*time.Minute {
			t.Errorf("the fresh token ends in %s", left)
		}
	})
}
