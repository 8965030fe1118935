package master

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/rs/zerolog"

	"pacer/executor/mesosapi"
)

func refuse(code int) func(*scheduler.Call) int { return func(*scheduler.Call) int { return code } }

const on1, on2, on3 = "subscribed F http://m1:5050", "subscribed F http://m2:5050", "subscribed F http://m3:5050"

func TestNew_ReportsEveryProblem(t *testing.T) {
	for masters, want := range map[string]string{
		"":                                 "no scheme",
		"m1:5050":                          "no scheme",
		"http://":                          "no scheme",
		"ftp://m1:5050":                    `"ftp"`,
		"http://m1":                        `"m1"`,
		"http://m1:5050,m2:99999":          `"m2:99999"`,
		"http://m1:5050/path":              `"m1:5050/path"`,
		"http://u:hunter2@m1:5050":         "credentials",
		"zk://z1:2181":                     "path",
		"zk://z1:2181/":                    "path",
		"zk://z1/mesos":                    `"z1"`,
		"zk://hunter2@z1:2181/mesos":       "user:password@",
		"zk://u:hunter2@z1:x,z2:y/mesos":   `"z2:y"`,
		"zk://u:hunter2@z1:2181//mesos//x": "path",
	} {
		_, err := New(Config{Masters: masters, Secret: "hunter2"}, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "principal") {
			t.Errorf("%s: %v", masters, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the password: %v", err)
		}
	}
	for _, masters := range []string{"http://m1:5050", "https://m1:5050,m2:5050/", "http://m1:5050,http://m2:5050", "zk://z1:2181,z2:2181/mesos", "zk://u:p@z1:2181/a/b", "http://[::1]:5050"} {
		if _, err := New(Config{Masters: masters, Principal: "p", Secret: "s"}, zerolog.Nop()); err != nil {
			t.Errorf("%s: %v", masters, err)
		}
	}
}

func TestEvents(t *testing.T) {
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		nine := int32(9)
		r.masters[0].send(
			&scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{Offers: []mesos.Offer{{}, {}}}},
			&scheduler.Event{Type: scheduler.Event_RESCIND, Rescind: &scheduler.Event_Rescind{OfferID: mesos.OfferID{Value: "O1"}}},
			&scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: mesos.TaskStatus{TaskID: mesos.TaskID{Value: "t1"}, State: mesos.TASK_RUNNING.Enum()}}},
			&scheduler.Event{Type: scheduler.Event_UPDATE}, // without its message
			&scheduler.Event{Type: 4711},                   // of a later Mesos
			&scheduler.Event{Type: scheduler.Event_INVERSE_OFFERS},
			&scheduler.Event{Type: scheduler.Event_MESSAGE, Message: &scheduler.Event_Message{AgentID: mesos.AgentID{Value: "A"}, ExecutorID: mesos.ExecutorID{Value: "E"}, Data: []byte("hi")}},
			&scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{AgentID: &mesos.AgentID{Value: "A"}}},
			&scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{AgentID: &mesos.AgentID{Value: "A"}, ExecutorID: &mesos.ExecutorID{Value: "E"}, Status: &nine}},
		)
		r.expectHeard(t, on1, "offers 2", "rescind O1", "update t1", "message A E hi", "failure A  -1", "failure A E 9")
	})
}

func TestRun_SubscribesAgainWithTheID(t *testing.T) {
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		r.masters[0].end()
		time.Sleep(time.Second)
		r.expectHeard(t, on1, "disconnected", on1)
		subscribes := r.masters[0].received(scheduler.Call_SUBSCRIBE)
		if len(subscribes) != 2 || subscribes[0].FrameworkID != nil || subscribes[0].Subscribe.FrameworkInfo.ID != nil {
			t.Fatalf("%v", subscribes)
		}
		again := subscribes[1]
		if again.FrameworkID.GetValue() != "F" || again.Subscribe.FrameworkInfo.ID.GetValue() != "F" || again.Subscribe.SuppressedRoles[0] != "s" {
			t.Errorf("%v", again)
		}
	})
}

func TestRun_EndsWhenNothingHelps(t *testing.T) {
	tests := []struct {
		name   string
		before func(m *fakeMaster)
		after  func(m *fakeMaster)
		want   error
	}{
		{"failed over", nil, func(m *fakeMaster) { m.send(errorEvent("Framework failed over")) }, ErrFailedOver},
		{"removed", func(m *fakeMaster) { m.first = []*scheduler.Event{errorEvent("Framework has been removed")} }, nil, ErrRemoved},
		{"role", func(m *fakeMaster) { m.first = []*scheduler.Event{errorEvent("Role 'x' is not present")} }, nil, ErrRefused},
		{"no credentials", func(m *fakeMaster) { m.answer = refuse(401) }, nil, ErrRefused},
		{"no permission", func(m *fakeMaster) { m.answer = refuse(403) }, nil, ErrRefused},
		{"principal", func(m *fakeMaster) { m.answer = refuse(400) }, nil, ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, oneMaster, func(all []*fakeMaster) {
				if tt.before != nil {
					all[0].set(tt.before)
				}
			}, func(t *testing.T, r *rig) {
				if tt.after != nil {
					tt.after(r.masters[0])
				}
				synctest.Wait()
				select {
				case <-r.done:
					if !errors.Is(r.result, tt.want) {
						t.Errorf("%v, want %v", r.result, tt.want)
					}
				default:
					t.Error("Run goes on")
				}
			})
		})
	}
}

func TestRun_FailedOverOnAnOldStreamIsIgnored(t *testing.T) {
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		// The client gives up its stream without the master noticing: the master
		// tells the old stream when the client subscribes again.
		r.current.Load().end(errors.New("test"))
		time.Sleep(time.Second)
		r.expectHeard(t, on1, "disconnected", on1)
		time.Sleep(time.Hour)
		r.expectHeard(t, on1, "disconnected", on1)
	})
}

func TestRun_Heartbeats(t *testing.T) {
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		time.Sleep(time.Hour)
		r.expectHeard(t, on1)
		r.masters[0].set(func(m *fakeMaster) { m.silent = true })
		time.Sleep(59 * time.Second)
		r.expectHeard(t, on1)
		time.Sleep(18 * time.Second)
		r.expectHeard(t, on1, "disconnected", on1)
		if !errors.Is(r.heard.reason, mesosapi.ErrIdle) {
			t.Errorf("disconnected for %v", r.heard.reason)
		}
	})
}

func TestRun_OpenStreamWithoutFirstEvent(t *testing.T) {
	run(t, oneMaster, func(all []*fakeMaster) {
		all[0].set(func(m *fakeMaster) { m.first, m.silent = []*scheduler.Event{}, true })
	}, func(t *testing.T, r *rig) {
		time.Sleep(firstEvent)
		r.masters[0].set(func(m *fakeMaster) { m.first, m.stream = nil, nil })
		time.Sleep(time.Second)
		r.expectHeard(t, on1)
	})
}

func TestRun_FindsTheLeader(t *testing.T) {
	tests := []struct {
		name   string
		before func(all []*fakeMaster)
		want   string
	}{
		{"first", nil, on1},
		{"first is dead", func(all []*fakeMaster) { all[0].kill() }, on2},
		{"first two know no leader", func(all []*fakeMaster) {
			all[0].set(func(m *fakeMaster) { m.answer = refuse(503) })
			all[1].set(func(m *fakeMaster) { m.answer = refuse(404) })
		}, on3},
		{"redirected", func(all []*fakeMaster) { all[0].set(func(m *fakeMaster) { m.leader = "m3:5050" }) }, on3},
		{"redirected twice", func(all []*fakeMaster) {
			all[0].set(func(m *fakeMaster) { m.leader = "m2:5050" })
			all[1].set(func(m *fakeMaster) { m.leader = "m3:5050" })
		}, on3},
		{"redirected to a dead one", func(all []*fakeMaster) {
			all[0].set(func(m *fakeMaster) { m.leader = "gone:5050" })
		}, on2},
		{"redirected in a circle", func(all []*fakeMaster) {
			all[0].set(func(m *fakeMaster) { m.leader = "m2:5050" })
			all[1].set(func(m *fakeMaster) { m.leader = "m1:5050" })
		}, on3},
		{"redirected to nonsense", func(all []*fakeMaster) { all[0].set(func(m *fakeMaster) { m.leader = "\x7f no host" }) }, on2},
		{"nothing that a master says", func(all []*fakeMaster) {
			all[0].set(func(m *fakeMaster) { m.first = []*scheduler.Event{heartbeat, {Type: scheduler.Event_OFFERS}} })
		}, on2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, threeMasters, tt.before, func(t *testing.T, r *rig) {
				time.Sleep(2 * time.Second)
				r.expectHeard(t, tt.want)
			})
		})
	}
}

func TestRun_FollowsALeaderChange(t *testing.T) {
	run(t, threeMasters, nil, func(t *testing.T, r *rig) {
		// As long as the dead leader's session lasts, the others point at it.
		for _, m := range r.masters[1:] {
			m.set(func(m *fakeMaster) { m.leader = "m1:5050" })
		}
		r.masters[0].kill()
		time.Sleep(10 * time.Second)
		r.masters[1].set(func(m *fakeMaster) { m.leader = "" })
		r.masters[2].set(func(m *fakeMaster) { m.leader = "m2:5050" })
		time.Sleep(pauseMax + newLeaderPause)
		r.expectHeard(t, on1, "disconnected", on2)
	})
}

func TestRun_BoundedAttempts(t *testing.T) {
	run(t, threeMasters, func(all []*fakeMaster) {
		for _, m := range all {
			m.kill()
		}
	}, func(t *testing.T, r *rig) {
		time.Sleep(10 * time.Minute)
		if n := r.network.Dials(); n < 200 || n > 450 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
	})
}

func TestRun_EndsWithItsContext(t *testing.T) {
	run(t, oneMaster, nil, func(t *testing.T, r *rig) {
		r.stop()
		<-r.done
		if r.result != nil {
			t.Error(r.result)
		}
		if err := r.Kill(t.Context(), "t", "A", nil); !errors.Is(err, ErrNotSubscribed) {
			t.Errorf("call afterwards: %v", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	now := time.Unix(1000, 0)
	var b backoff
	lines := 0
	for n, limit := range []time.Duration{100, 200, 400, 800, 1600, 3000, 3000} {
		limit *= time.Millisecond
		pause, report := b.failed(now, false, float64(n%2))
		if pause < limit/2 || pause > limit {
			t.Errorf("pause %d is %v, limit %v", n, pause, limit)
		}
		if report {
			lines++
		}
		now = now.Add(10 * time.Second)
	}
	if lines != 3 {
		t.Errorf("%d log lines in a minute, want 3", lines)
	}
	if pause, report := b.failed(now, true, 0.99); pause > 100*time.Millisecond || !report {
		t.Errorf("after a steady subscription: %v %v", pause, report)
	}
}
