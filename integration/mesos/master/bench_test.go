package master_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/link"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/wire"
)

// eager registers an agent that reports every task as RUNNING at once.
func eager(b *testing.B, l *leader, i int, group *sync.WaitGroup) {
	b.Helper()
	line := link.NewLine(l)
	end, err := line.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	end.Send(link.RegisterAgent{
		Agent:    mesos.AgentInfo{Hostname: fmt.Sprintf("host-%d", i), Resources: probe.Scalars(1000, 1e6, 1e6)},
		Endpoint: link.Endpoint{PID: fmt.Sprintf("slave(1)@127.0.0.1:%d", i)},
	})
	group.Go(func() {
		defer end.Close()
		id := ""
		for {
			message, err := end.Next(context.Background())
			if err != nil {
				return
			}
			switch message := message.(type) {
			case link.Registered:
				id = message.AgentID
			case link.RunTask:
				unique, state, source, at := uuid.New(), mesos.TASK_RUNNING, mesos.SOURCE_EXECUTOR, 1.5
				end.Send(link.StatusUpdate{FrameworkID: message.Framework.ID.Value, LatestState: &state, Status: mesos.TaskStatus{
					TaskID: message.Task.TaskID, State: &state, Source: &source, UUID: unique[:], Timestamp: &at,
					AgentID: &mesos.AgentID{Value: id}, ExecutorID: &message.Task.Executor.ExecutorID,
				}})
			}
		}
	})
}

// BenchmarkLaunch is how many tasks per second a master takes from ACCEPT to the
// RUNNING that the scheduler reads, ten in an ACCEPT on each of 100 agents.
func BenchmarkLaunch(b *testing.B) {
	const agents, each = 100, 10
	m, err := master.Start(master.Config{AllocationInterval: 10 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	l := newLeader()
	l.set(m)
	var group sync.WaitGroup
	defer group.Wait()
	defer m.Close()
	for i := range agents {
		eager(b, l, i, &group)
	}
	s := probe.Connect(b, m.URL(), wire.Protobuf, probe.FrameworkInfo())
	b.ResetTimer()
	for launched := 0; launched < b.N; {
		waiting := 0
		for _, offer := range s.Offers() {
			if launched >= b.N {
				break
			}
			var tasks []mesos.TaskInfo
			for range min(each, b.N-launched) {
				tasks = append(tasks, probe.Task(offer.AgentID.Value, fmt.Sprintf("t%d", launched), "e1"))
				launched++
			}
			s.Accept(0, []mesos.Offer{offer}, probe.Launch(tasks...))
			waiting += len(tasks)
		}
		for range waiting {
			s.Status()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "launches/s")
}
