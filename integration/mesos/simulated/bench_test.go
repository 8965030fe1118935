package simulated_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/master"
	"pacer/integration/mesos/probe"
	"pacer/integration/mesos/simulated"
	"pacer/integration/mesos/wire"
)

// lean is a scheduler that costs as little as possible beside what it measures: one
// connection for its calls, and events that it only looks into as far as it must.
type lean struct {
	b        *testing.B
	id       string
	streamID string
	records  *wire.RecordReader
	body     io.Closer
	calls    net.Conn
	out      []byte
	sent     int           // calls
	answered atomic.Int64  // calls, with 202
	done     chan struct{} // closed when no more answers come
}

func newLean(b *testing.B, url string) *lean {
	b.Helper()
	info := probe.FrameworkInfo()
	body, err := wire.Protobuf.Marshal(&scheduler.Call{
		Type: scheduler.Call_SUBSCRIBE, Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: &info},
	})
	if err != nil {
		b.Fatal(err)
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/api/v1/scheduler", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	request.Header = http.Header{"Content-Type": {string(wire.Protobuf)}, "Accept": {string(wire.Protobuf)}}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		b.Fatal(err)
	}
	calls, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	l := &lean{
		b: b, streamID: response.Header.Get("Mesos-Stream-Id"), body: response.Body,
		records: wire.NewRecordReader(bufio.NewReaderSize(response.Body, 1<<20), 0),
		calls:   calls, done: make(chan struct{}),
	}
	go l.answers()
	l.id = l.next(scheduler.Event_SUBSCRIBED).Subscribed.FrameworkID.Value
	return l
}

func (l *lean) close() {
	l.body.Close()
	l.calls.Close()
	<-l.done
}

// answers counts them until something else than 202 comes.
func (l *lean) answers() {
	defer close(l.done)
	lines := bufio.NewReaderSize(l.calls, 1<<16)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.1 202 ")) {
			return
		}
		for len(line) > len("\r\n") {
			if line, err = lines.ReadSlice('\n'); err != nil {
				return
			}
		}
		l.answered.Add(1)
	}
}

// record returns the next event's type and bytes.
func (l *lean) record() (scheduler.Event_Type, []byte) {
	record, err := l.records.Next()
	if err != nil {
		l.b.Fatal(err)
	}
	if record[0] != 0x08 { // type, the first field
		l.b.Fatalf("event begins with %x", record[:1])
	}
	return scheduler.Event_Type(record[1]), record
}

func (l *lean) next(kind scheduler.Event_Type) *scheduler.Event {
	for {
		if got, record := l.record(); got == kind {
			event := new(scheduler.Event)
			if err := event.Unmarshal(record); err != nil {
				l.b.Fatal(err)
			}
			return event
		}
	}
}

// call queues a call; flush sends what is queued.
func (l *lean) call(body []byte) {
	l.out = fmt.Appendf(l.out, "POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nContent-Type: %s\r\nMesos-Stream-Id: %s\r\nContent-Length: %d\r\n\r\n",
		wire.Protobuf, l.streamID, len(body))
	l.out = append(l.out, body...)
	l.sent++
}

func (l *lean) flush() {
	if _, err := l.calls.Write(l.out); err != nil {
		l.b.Fatal(err)
	}
	l.out = l.out[:0]
}

// accepted waits for the answers to all calls.
func (l *lean) accepted() {
	for l.answered.Load() < int64(l.sent) {
		select {
		case <-l.done:
			l.b.Fatalf("%d of %d calls accepted", l.answered.Load(), l.sent)
		case <-time.After(time.Millisecond):
		}
	}
}

// accept makes an ACCEPT of an offer with n tasks, numbered from first.
func (l *lean) accept(offer *mesos.Offer, first, n int) []byte {
	refuse := 3600.0
	var tasks []mesos.TaskInfo
	for i := range n {
		tasks = append(tasks, probe.Task(offer.AgentID.Value, fmt.Sprintf("app.%07d", first+i), "e1", func(info *mesos.TaskInfo) {
			info.Resources = probe.Scalars(0.1, 128, 0)
		}))
	}
	body, err := (&scheduler.Call{
		Type: scheduler.Call_ACCEPT, FrameworkID: &mesos.FrameworkID{Value: l.id},
		Accept: &scheduler.Call_Accept{
			OfferIDs: []mesos.OfferID{offer.ID}, Operations: []mesos.Offer_Operation{probe.Launch(tasks...)},
			Filters: &mesos.Filters{RefuseSeconds: &refuse},
		},
	}).Marshal()
	if err != nil {
		l.b.Fatal(err)
	}
	return body
}

// field returns the content of the first field with this number in a message of
// protobuf's wire format, nil when there is none.
func field(message []byte, number uint64) []byte {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		message = message[n:]
		length := uint64(0)
		switch tag & 7 {
		case 0:
			_, n := binary.Uvarint(message)
			message = message[n:]
			continue
		case 1:
			message = message[8:]
			continue
		case 5:
			message = message[4:]
			continue
		}
		length, n = binary.Uvarint(message)
		message = message[n:]
		if tag>>3 == number {
			return message[:length]
		}
		message = message[length:]
	}
	return nil
}

// acknowledge makes an ACKNOWLEDGE from the bytes of an UPDATE event.
func (l *lean) acknowledge(record []byte) []byte {
	status := field(field(record, 5), 1)
	put := func(out []byte, number byte, content []byte) []byte {
		out = append(out, number<<3|2)
		return append(binary.AppendUvarint(out, uint64(len(content))), content...)
	}
	value := func(content []byte) []byte { return put(nil, 1, content) }
	// agent_id, task_id, uuid; both ids have the same form in TaskStatus.
	ack := put(nil, 1, field(status, 5))
	ack = put(ack, 2, field(status, 1))
	ack = put(ack, 3, field(status, 11))
	body := put(nil, 1, value([]byte(l.id)))
	body = append(body, 2<<3, byte(scheduler.Call_ACKNOWLEDGE))
	return put(body, 8, ack)
}

// BenchmarkLaunch shows that emulator and simulated agents feed and absorb more than
// any scheduler launches: 100,000 tasks on 1,000 agents, from the first ACCEPT to the
// last RUNNING, 100 tasks in an ACCEPT. With acknowledgements each task costs one more
// request, which schedulers can send while others are on their way.
func BenchmarkLaunch(b *testing.B) {
	for _, acknowledge := range []bool{false, true} {
		b.Run(fmt.Sprintf("acknowledged=%v", acknowledge), func(b *testing.B) {
			for b.Loop() {
				launch(b, 1000, 100, acknowledge)
			}
		})
	}
}

func launch(b *testing.B, agents, each int, acknowledge bool) {
	b.StopTimer()
	c, err := emulator.Start(emulator.Config{
		Agents: -1, Master: master.Config{MaxCompletedTasks: 1},
		Simulated: &simulated.Config{Agents: agents},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { b.StopTimer(); err := c.Close(); b.StartTimer(); fail(b, err) }()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitAgents(ctx, agents); err != nil {
		b.Fatal(err)
	}
	l := newLean(b, c.MasterURL())
	defer l.close()
	var accepts [][]byte
	for len(accepts) < agents {
		offers := l.next(scheduler.Event_OFFERS).Offers.Offers
		for i := range offers {
			accepts = append(accepts, l.accept(&offers[i], len(accepts)*each, each))
		}
	}
	before, cpu := heap(), processorTime(b)
	began := time.Now()
	b.StartTimer()
	running, sent := 0, 0
	// What is under way is bounded, as by any scheduler.
	const window = 32
	for running < agents*each {
		for sent < agents && sent*each < running+window*each {
			l.call(accepts[sent])
			accepts[sent] = nil
			sent++
		}
		if len(l.out) > 0 {
			l.flush()
		}
		for pause := running + each; running < pause; {
			kind, record := l.record()
			if kind != scheduler.Event_UPDATE {
				continue
			}
			running++
			if acknowledge {
				l.call(l.acknowledge(record))
			}
		}
		if acknowledge {
			l.flush()
		}
	}
	l.accepted()
	for acknowledge && c.Fleet().Stats().Acknowledgements < int64(agents*each) {
		time.Sleep(time.Millisecond) // on their way from the master to the agents
	}
	took, spent := time.Since(began), processorTime(b)-cpu
	b.StopTimer()
	if got := c.Fleet().Stats(); got.Launches != int64(agents*each) || got.Tasks != int64(agents*each) {
		fail(b, fmt.Errorf("%+v", got))
	}
	b.ReportMetric(float64(agents*each)/took.Seconds(), "launches/s")
	b.ReportMetric(float64(spent.Microseconds())/float64(agents*each), "cpu-us/launch")
	b.ReportMetric(float64(heap()-before)/float64(agents*each), "B/task")
	b.StartTimer()
}

func fail(b *testing.B, err error) {
	b.Helper()
	if err != nil && !errors.Is(err, context.Canceled) {
		b.Fatal(err)
	}
}

// processorTime is what this process has used, on all processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// heap is what is in use, after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
