package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/api"
)

// event is one as a reader sees it.
type event struct {
	kind, id, data string
}

// reader reads a stream of events.
type reader struct {
	t      *testing.T
	lines  *bufio.Reader
	longer int // than 4096 bytes
	close  func() error
}

// served serves s on a loopback port until the test ends.
func (s *server) served() string {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, listener, nil, s.handler, zerolog.Nop()) }()
	s.t.Cleanup(func() {
		s.backend.Events().Close()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	return "http://" + listener.Addr().String()
}

// follow opens a stream; the first event says whether it goes on where it was.
func follow(t *testing.T, url, lastID string) (*reader, event) {
	t.Helper()
	request := newRequest(t, "GET", url)
	request.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", response.StatusCode, response.Header)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	r := &reader{t: t, lines: bufio.NewReaderSize(response.Body, 64<<10), close: response.Body.Close}
	return r, r.next()
}

// next waits for an event; kind is empty at the end of the stream.
func (r *reader) next() (e event) {
	r.t.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				r.t.Errorf("read events: %v", err)
			}
			return event{}
		}
		if len(line) > 4096 {
			r.longer++
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.kind = value
		case "id":
			e.id = value
		case "data":
			e.data = value
			if !json.Valid([]byte(value)) {
				r.t.Errorf("no JSON: %s", value)
			}
		case "":
			if e.kind != "" {
				return e
			}
		default:
			r.t.Errorf("line %q", line)
		}
	}
}

func task(n int) *api.Task {
	return &api.Task{ID: fmt.Sprintf("shop_cart.%d", n), AppID: "/shop/cart", State: "TASK_RUNNING", Host: "node1", AgentID: "S1", Ports: []int{31000}, IP: "10.0.0.1", Health: &api.Health{Alive: true}}
}

func TestEvents_Shapes(t *testing.T) {
	s := newServer(t)
	url := s.served()
	r, attached := follow(t, url+"/v2/events", "")
	if attached.kind != "event_stream_attached" || !strings.Contains(attached.data, `"resumed":false`) || !strings.Contains(attached.data, `"remoteAddress":"127.0.0.1"`) {
		t.Errorf("first: %+v", attached)
	}
	events := s.backend.Events()
	events.StatusUpdate(task(1), "started")
	events.HealthChanged(task(1))
	events.Deployment(api.EventDeploymentInfo, &api.Deployment{ID: "d1", Version: 1, Actions: []api.Action{{AppID: "/shop/cart", Kind: api.RestartApplication}}})
	events.AppTerminated("/shop/cart")
	for _, want := range []struct {
		kind string
		has  []string
	}{
		{"status_update_event", []string{`"slaveId":"S1"`, `"taskId":"shop_cart.1"`, `"taskStatus":"TASK_RUNNING"`, `"message":"started"`, `"appId":"/shop/cart"`, `"host":"node1"`, `"ports":[31000]`, `"ipAddresses":[{"ipAddress":"10.0.0.1","protocol":"IPv4"}]`, `"eventType":"status_update_event"`, `"timestamp":"`}},
		{"health_status_changed_event", []string{`"appId":"/shop/cart"`, `"taskId":"shop_cart.1"`, `"instanceId":"shop_cart.instance-1"`, `"alive":true`}},
		{"deployment_info", []string{`"id":"d1"`, `"plan":{"id":"d1"`, `"steps":[{"actions":[{"action":"RestartApplication","app":"/shop/cart"}]}]`}},
		{"app_terminated_event", []string{`"appId":"/shop/cart"`}},
	} {
		e := r.next()
		if e.kind != want.kind || e.id == "" {
			t.Errorf("%+v, want %s", e, want.kind)
		}
		for _, part := range want.has {
			if !strings.Contains(e.data, part) {
				t.Errorf("%s is not in %s", part, e.data)
			}
		}
	}
	// What somebody posts is an event, too.
	request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v2/apps", strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if e := r.next(); e.kind != "api_post_event" || !strings.Contains(e.data, `"clientIp":"127.0.0.1"`) || !strings.Contains(e.data, `"appDefinition":{"id":"/hello"`) {
		t.Errorf("%+v", e)
	}
	events.Close()
	if e := r.next(); e.kind != "event_stream_detached" {
		t.Errorf("last: %+v", e)
	}
	if e := r.next(); e.kind != "" {
		t.Errorf("after the last: %+v", e)
	}
}

func TestEvents_AreSmall(t *testing.T) {
	s := newServer(t)
	r, _ := follow(t, s.served()+"/v2/events", "")
	large := task(1)
	large.AppID = "/" + strings.Repeat("a", 199)
	large.ID = large.AppID[1:] + ".0123456789abcdef0123456789abcdef0123"
	large.Host, large.AgentID = strings.Repeat("h", 253), strings.Repeat("s", 100)
	for n := range 1000 {
		large.Ports = append(large.Ports, 31000+n)
	}
	events := s.backend.Events()
	events.StatusUpdate(large, strings.Repeat("\x01\"ä", 100_000))
	d := &api.Deployment{ID: "d1"}
	for n := range 1000 {
		d.Actions = append(d.Actions, api.Action{AppID: fmt.Sprintf("/%s/%d", strings.Repeat("g", 150), n), Kind: api.RestartApplication, Stalled: strings.Repeat("\x01", 5000)})
	}
	events.Deployment(api.EventDeploymentInfo, d)
	for range 2 {
		if e := r.next(); len(e.data) < 1000 {
			t.Errorf("%d bytes of %s", len(e.data), e.kind)
		}
	}
	if r.longer > 0 {
		t.Errorf("%d lines of more than 4096 bytes", r.longer)
	}
}

func TestEvents_Filters(t *testing.T) {
	other := task(9)
	other.ID, other.AppID = "shopping.9", "/shopping"
	for query, want := range map[string]string{
		"": "status_update_event/shop_cart.1 health_status_changed_event/shop_cart.1 status_update_event/shopping.9 ",
		"?event_type=health_status_changed_event":                         "health_status_changed_event/shop_cart.1 ",
		"?event_type=status_update_event&event_type=app_terminated_event": "status_update_event/shop_cart.1 status_update_event/shopping.9 ",
		"?app=/shop":                                    "status_update_event/shop_cart.1 health_status_changed_event/shop_cart.1 ",
		"?app=/shopping&app=/none":                      "status_update_event/shopping.9 ",
		"?plan-format=light&event_type=none":            "",
		"?app=/&event_type=health_status_changed_event": "health_status_changed_event/shop_cart.1 ",
	} {
		t.Run(query, func(t *testing.T) {
			s := newServer(t)
			r, _ := follow(t, s.served()+"/v2/events"+query, "")
			events := s.backend.Events()
			events.StatusUpdate(task(1), "")
			events.HealthChanged(task(1))
			events.StatusUpdate(other, "")
			events.Close()
			got := ""
			for e := r.next(); e.kind != "" && e.kind != "event_stream_detached"; e = r.next() {
				var data struct{ TaskID string }
				if err := json.Unmarshal([]byte(e.data), &data); err != nil {
					t.Fatal(err)
				}
				got += e.kind + "/" + data.TaskID + " "
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestEvents_Resume(t *testing.T) {
	s := newServer(t)
	url := s.served() + "/v2/events"
	events := s.backend.Events()
	r, _ := follow(t, url, "")
	for n := range 5 {
		events.StatusUpdate(task(n), "")
	}
	var last string
	for range 3 {
		last = r.next().id
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
	r, attached := follow(t, url, last)
	if !strings.Contains(attached.data, `"resumed":true`) {
		t.Errorf("%s", attached.data)
	}
	for n := 3; n < 5; n++ {
		if e := r.next(); !strings.Contains(e.data, fmt.Sprintf(`"shop_cart.%d"`, n)) {
			t.Errorf("%d: %s", n, e.data)
		}
	}
	life, _, _ := strings.Cut(last, "-")
	for name, id := range map[string]string{"of another life": "other-3", "of the future": life + "-99", "nonsense": "x", "no number": life + "-x"} {
		if _, attached := follow(t, url, id); !strings.Contains(attached.data, `"resumed":false`) {
			t.Errorf("%s: %s", name, attached.data)
		}
	}
	for n := range 11_000 {
		events.StatusUpdate(task(n), "")
	}
	if _, attached := follow(t, url, last); !strings.Contains(attached.data, `"resumed":false`) {
		t.Errorf("what was forgotten: %s", attached.data)
	}
}

// A reader that does not read is cut off and told so; nothing is kept for it,
// and nobody waits for it.
func TestEvents_SlowReaderIsDropped(t *testing.T) {
	s := newServer(t)
	slow, _ := follow(t, s.served()+"/v2/events", "")
	events := s.backend.Events()
	message := strings.Repeat("x", 900)
	began := time.Now()
	for n := range 60_000 { // 80 MB, more than all buffers on the way hold
		events.StatusUpdate(task(n), message)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("publishing took %s beside a reader that does not read", took)
	}
	n := 0
	var last event
	for e := slow.next(); e.kind != ""; e = slow.next() {
		last = e
		n++
	}
	if n >= 60_000 {
		t.Errorf("all %d events have come", n)
	}
	if last.kind != "event_stream_detached" || !strings.Contains(last.data, "too slow") {
		t.Errorf("the last of %d: %+v", n, last)
	}
}
