package agent

import (
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

func refuse(code int) func(*executor.Call) int {
	return func(*executor.Call) int { return code }
}

func TestEvents(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.agent.send(
			launchEvent("t1"),
			&executor.Event{Type: 4711},                // of a later Mesos
			&executor.Event{Type: executor.Event_KILL}, // without its message
			&executor.Event{Type: executor.Event_HEARTBEAT},
			&executor.Event{Type: executor.Event_LAUNCH_GROUP, LaunchGroup: &executor.Event_LaunchGroup{TaskGroup: mesos.TaskGroupInfo{Tasks: make([]mesos.TaskInfo, 2)}}},
			&executor.Event{Type: executor.Event_KILL, Kill: &executor.Event_Kill{TaskID: mesos.TaskID{Value: "t1"}, KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: 7}}}},
			&executor.Event{Type: executor.Event_KILL, Kill: &executor.Event_Kill{TaskID: mesos.TaskID{Value: "unknown"}}},
			&executor.Event{Type: executor.Event_MESSAGE, Message: &executor.Event_Message{Data: []byte("hello")}},
			ackEvent("nobody's", []byte("no uuid")),
			&executor.Event{Type: executor.Event_ERROR, Error: &executor.Event_Error{Message: "?"}},
			&executor.Event{Type: executor.Event_SHUTDOWN},
			&executor.Event{Type: executor.Event_SHUTDOWN},
		)
		r.expectHeard(t, "subscribed", "launch t1", "group of 2", "kill t1 7", "kill unknown 0", "message hello", "shutdown")
		if n := len(r.agent.received(executor.Call_SUBSCRIBE)); n != 1 {
			t.Errorf("%d SUBSCRIBEs", n)
		}
	})
}

// How the agent can be away, and what must hold for each way.
func TestSubscribe_RetriesWhileTheAgentIsAway(t *testing.T) {
	tests := []struct {
		name     string
		leave    func(a *fakeAgent)
		comeBack func(a *fakeAgent)
		// most is the longest time from the agent's return to the subscription.
		most time.Duration
	}{
		{"refused", (*fakeAgent).kill, (*fakeAgent).run, time.Second},
		{"503", func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = refuse(503) }); a.end() },
			func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = nil }) }, time.Second},
		{"404", func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = refuse(404) }); a.end() },
			func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = nil }) }, time.Second},
		{"nobody accepts", func(a *fakeAgent) { a.kill(); a.network.Listen(agentAddress) },
			(*fakeAgent).run, 2 * time.Second},
		{"garbage in the stream", func(a *fakeAgent) {
			a.set(func(a *fakeAgent) { a.stream <- []byte("<html>"); a.answer = refuse(503) })
		}, func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = nil }) }, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, testConfig(), nil, func(t *testing.T, r *rig) {
				time.Sleep(61 * time.Second) // no probe is due
				dials, left := r.agent.network.Dials(), time.Now()
				tt.leave(r.agent)
				synctest.Wait()
				if n := r.agent.network.Dials() - dials; n != 1 {
					t.Errorf("%d attempts at once, want 1", n)
				}
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				attempts := r.agent.network.Dials() - dials
				if attempts < 290 || attempts > 2500 {
					t.Errorf("%d attempts in 10 minutes", attempts)
				}
				if n := r.log.count("\n"); n > 35 {
					t.Errorf("%d log lines in 10 minutes", n)
				}
				if r.heard.since != left {
					t.Errorf("disconnected since %v, want %v", r.heard.since, left)
				}
				tt.comeBack(r.agent)
				time.Sleep(tt.most)
				r.expectHeard(t, "subscribed", "disconnected", "subscribed again")
			})
		})
	}
}

func TestSubscribe_HalfOpenAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Accepts connections and never answers, as a stopped process's backlog.
		agent := &fakeAgent{t: t, start: time.Now()}
		listener := agent.network.Listen(agentAddress)
		var conns []net.Conn
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				conns = append(conns, conn)
			}
		}()
		r := newRig(t, testConfig(), agent)
		time.Sleep(time.Minute)
		if n := agent.network.Dials(); n < 5 || n > 7 {
			t.Errorf("%d attempts in a minute, want one each 10 s", n)
		}
		listener.Close()
		<-done
		for _, conn := range conns {
			conn.Close()
		}
		agent.run()
		defer agent.kill()
		time.Sleep(time.Second)
		r.expectHeard(t, "subscribed")
		r.stop()
	})
}

func TestSubscribe_OpenStreamWithoutFirstEvent(t *testing.T) {
	run(t, testConfig(), func(a *fakeAgent) { a.first = []*executor.Event{} }, func(t *testing.T, r *rig) {
		time.Sleep(firstEvent)
		r.agent.set(func(a *fakeAgent) { a.first = nil })
		time.Sleep(time.Second)
		r.expectHeard(t, "subscribed")
	})
}

func TestP4_SubscribeListsWhatIsUnacknowledged(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.agent.send(launchEvent("t1"), launchEvent("t2"), launchEvent("t3"))
		synctest.Wait()
		r.report(t, "t2", mesos.TASK_STARTING) // acknowledged
		synctest.Wait()
		r.agent.set(func(a *fakeAgent) { a.mute = true })
		r.report(t, "t3", mesos.TASK_STARTING)
		r.report(t, "t2", mesos.TASK_RUNNING)
		synctest.Wait()
		r.agent.kill()
		synctest.Wait()
		r.report(t, "t3", mesos.TASK_FAILED) // made while the agent is away
		synctest.Wait()
		time.Sleep(time.Minute)
		r.agent.run()
		time.Sleep(time.Second)
		synctest.Wait()

		subscribes := r.agent.received(executor.Call_SUBSCRIBE)
		body := subscribes[len(subscribes)-1].Subscribe
		var tasks, updates []string
		for _, task := range body.UnacknowledgedTasks {
			tasks = append(tasks, task.TaskID.Value)
		}
		for _, u := range body.UnacknowledgedUpdates {
			updates = append(updates, describe(u.Status))
		}
		if want := []string{"t1", "t3"}; !slices.Equal(tasks, want) {
			t.Errorf("unacknowledged tasks %q, want %q", tasks, want)
		}
		if want := []string{"t3 TASK_STARTING", "t2 TASK_RUNNING", "t3 TASK_FAILED"}; !slices.Equal(updates, want) {
			t.Errorf("unacknowledged updates %q, want %q", updates, want)
		}
		again := body.UnacknowledgedUpdates[0].Status
		if !slices.ContainsFunc(r.agent.received(executor.Call_UPDATE), func(c call) bool { return c.Update.Status.Equal(&again) }) {
			t.Errorf("the replayed update was not sent like this: %v", again)
		}
	})
}

func TestP9_GivesUpAfterTheRecoveryTimeout(t *testing.T) {
	config := testConfig()
	config.RecoveryTimeout = 3 * time.Minute
	run(t, config, nil, func(t *testing.T, r *rig) {
		r.agent.kill()
		synctest.Wait()
		left := time.Now()
		time.Sleep(3*time.Minute - time.Millisecond)
		r.expectHeard(t, "subscribed", "disconnected")
		time.Sleep(2 * time.Millisecond)
		r.expectHeard(t, "subscribed", "disconnected", "lost")
		if !errors.Is(r.heard.lost, ErrRecoveryTimeout) || time.Since(left) > 3*time.Minute+2*time.Millisecond {
			t.Errorf("%v after %v", r.heard.lost, time.Since(left))
		}
		if err := r.stop(); !errors.Is(err, ErrRecoveryTimeout) {
			t.Errorf("Run returns %v", err)
		}
	})
}

func TestRecoveryTimeout_EndsAnAttemptThatHangs(t *testing.T) {
	config := testConfig()
	config.RecoveryTimeout = 12 * time.Second
	run(t, config, func(a *fakeAgent) { a.first = []*executor.Event{} }, func(t *testing.T, r *rig) {
		time.Sleep(12*time.Second + time.Millisecond)
		r.expectHeard(t, "lost")
	})
}

func TestSubscribe_GivesUp(t *testing.T) {
	withoutCheckpoint := testConfig()
	withoutCheckpoint.Checkpoint = false
	tests := []struct {
		name   string
		config Config
		leave  func(a *fakeAgent)
		within time.Duration
		want   error
	}{
		{"agent has another ID now", testConfig(), func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = refuse(400) }); a.end() }, 2 * time.Second, ErrUnknownToAgent},
		{"token refused", testConfig(), func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = refuse(401) }); a.end() }, 0, ErrUnauthorized},
		{"claims refused", testConfig(), func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = refuse(403) }); a.end() }, 0, ErrUnauthorized},
		{"no checkpoint, agent dead", withoutCheckpoint, (*fakeAgent).kill, 0, ErrNotCheckpointing},
		{"no checkpoint, agent starting", withoutCheckpoint, func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.answer = refuse(503) }); a.end() }, 0, ErrNotCheckpointing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, tt.config, nil, func(t *testing.T, r *rig) {
				r.agent.set(func(a *fakeAgent) { a.mute = true })
				r.report(t, "t1", mesos.TASK_STARTING)
				synctest.Wait()
				tt.leave(r.agent)
				time.Sleep(tt.within)
				r.expectHeard(t, "subscribed", "disconnected", "lost")
				if !errors.Is(r.heard.lost, tt.want) {
					t.Errorf("%v, want %v", r.heard.lost, tt.want)
				}
				// An agent that will never take updates must not hold up the end.
				if tt.want != ErrNotCheckpointing {
					if err := r.Drain(t.Context()); !errors.Is(err, tt.want) {
						t.Errorf("Drain: %v", err)
					}
				}
			})
		})
	}
}

func TestSubscribe_NotCheckpointingSurvivesAClosedStream(t *testing.T) {
	config := testConfig()
	config.Checkpoint = false
	run(t, config, nil, func(t *testing.T, r *rig) {
		r.agent.end()
		r.expectHeard(t, "subscribed", "disconnected", "subscribed again")
	})
}

func TestShutdown_AsTheAnswerToSubscribe(t *testing.T) {
	before := func(a *fakeAgent) {
		a.first = []*executor.Event{{Type: executor.Event_SHUTDOWN}}
		a.endStream = true
		a.mute = true
	}
	run(t, testConfig(), before, func(t *testing.T, r *rig) {
		r.expectHeard(t, "shutdown")
		r.report(t, "t1", mesos.TASK_KILLING, mesos.TASK_KILLED)
		if err := r.Drain(t.Context()); err != nil { // 202 has to do
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if n := len(r.agent.received(executor.Call_SUBSCRIBE)); n != 1 {
			t.Errorf("%d SUBSCRIBEs, want no more after the agent's no", n)
		}
		r.expectHeard(t, "shutdown")
	})
}

func TestShutdown_UpdatesAreStillAcknowledged(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.agent.send(&executor.Event{Type: executor.Event_SHUTDOWN})
		r.expectHeard(t, "subscribed", "shutdown")
		r.report(t, "t1", mesos.TASK_KILLED)
		if err := r.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		// The agent restarts meanwhile: the executor must not be lost for that.
		r.agent.kill()
		synctest.Wait()
		r.report(t, "t2", mesos.TASK_KILLED)
		r.agent.run()
		if err := r.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		r.expectHeard(t, "subscribed", "shutdown", "subscribed again")
	})
}

// Mesos' agent writes into the last stream it knows and never notices that
// nobody reads it.
func TestDeadStream_IsFound(t *testing.T) {
	// lose makes the agent's events go nowhere while the stream looks open.
	lose := func(a *fakeAgent) { a.set(func(a *fakeAgent) { a.stream = make(chan []byte, 1000) }) }

	t.Run("by acknowledgements that never come", func(t *testing.T) {
		run(t, testConfig(), nil, func(t *testing.T, r *rig) {
			time.Sleep(time.Second)
			lose(r.agent)
			r.report(t, "t1", mesos.TASK_RUNNING)
			time.Sleep(9 * time.Second)
			r.expectHeard(t, "subscribed")
			time.Sleep(2 * time.Second)
			r.expectHeard(t, "subscribed", "disconnected", "subscribed again")
			if n := r.Unacknowledged(); n != 0 {
				t.Errorf("%d updates unacknowledged", n)
			}
		})
	})
	t.Run("not when others are acknowledged", func(t *testing.T) {
		run(t, testConfig(), nil, func(t *testing.T, r *rig) {
			r.agent.set(func(a *fakeAgent) { a.mute = true })
			r.report(t, "forgotten", mesos.TASK_RUNNING)
			for range 100 {
				time.Sleep(5 * time.Second)
				r.agent.send(ackEvent("other", []byte("another")))
			}
			r.expectHeard(t, "subscribed")
		})
	})
	t.Run("by missing heartbeats", func(t *testing.T) {
		run(t, testConfig(), nil, func(t *testing.T, r *rig) {
			for range 10 {
				time.Sleep(30 * time.Minute)
				r.agent.send(&executor.Event{Type: executor.Event_HEARTBEAT})
			}
			r.expectHeard(t, "subscribed")
			lose(r.agent)
			time.Sleep(66 * time.Minute)
			r.expectHeard(t, "subscribed", "disconnected", "subscribed again")
		})
	})
	t.Run("by a probe that is answered 503", func(t *testing.T) {
		run(t, testConfig(), nil, func(t *testing.T, r *rig) {
			r.agent.set(func(a *fakeAgent) {
				a.answer = func(c *executor.Call) int {
					if c.Type == executor.Call_HEARTBEAT {
						return 503
					}
					return 0
				}
			})
			time.Sleep(probePause + time.Millisecond)
			r.expectHeard(t, "subscribed", "disconnected", "subscribed again")
		})
	})
	t.Run("by an update that is answered 403", func(t *testing.T) {
		run(t, testConfig(), nil, func(t *testing.T, r *rig) {
			r.agent.set(func(a *fakeAgent) {
				a.answer = func(c *executor.Call) int {
					if c.Type == executor.Call_UPDATE {
						return 403
					}
					return 0
				}
			})
			r.report(t, "t1", mesos.TASK_RUNNING)
			r.expectHeard(t, "subscribed", "disconnected", "subscribed again")
			if n := r.Unacknowledged(); n != 0 {
				t.Errorf("%d unacknowledged: the SUBSCRIBE has replayed it", n)
			}
		})
	})
	t.Run("a task that the agent has forgotten does not make a loop", func(t *testing.T) {
		run(t, testConfig(), nil, func(t *testing.T, r *rig) {
			r.agent.set(func(a *fakeAgent) { a.mute = true })
			r.report(t, "forgotten", mesos.TASK_RUNNING)
			time.Sleep(24 * time.Hour)
			if n := len(r.agent.received(executor.Call_SUBSCRIBE)); n > 70 {
				t.Errorf("%d SUBSCRIBEs in a day", n)
			}
		})
	})
}

func TestProbe_OldAgentsDoNotKnowIt(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		r.agent.set(func(a *fakeAgent) { a.answer = refuse(400) })
		time.Sleep(10*time.Minute + time.Second)
		if n := len(r.agent.received(executor.Call_HEARTBEAT)); n != 20 {
			t.Errorf("%d probes in 10 minutes, want 20", n)
		}
		r.expectHeard(t, "subscribed")
	})
}

// A LAUNCH that arrives while the executor subscribes again would be declared
// dropped by the agent: it must be either listed or never start.
func TestResubscribe_ForgetsWhatItHasNotRead(t *testing.T) {
	run(t, testConfig(), nil, func(t *testing.T, r *rig) {
		for n := range 20 {
			before := len(r.agent.received(executor.Call_SUBSCRIBE))
			for range 50 {
				r.agent.send(launchEvent("t"))
			}
			r.agent.kill()
			r.agent.run()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			subscribes := r.agent.received(executor.Call_SUBSCRIBE)
			if len(subscribes) == before {
				t.Fatalf("round %d: not subscribed again", n)
			}
			started := slices.Contains(r.heard.all(), "launch t")
			listed := len(subscribes[len(subscribes)-1].Subscribe.UnacknowledgedTasks) == 1
			if started != listed {
				t.Fatalf("round %d: started %v, listed %v", n, started, listed)
			}
		}
	})
}
