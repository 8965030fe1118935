package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

func TestReadCall_RefusesInMesosOrder(t *testing.T) {
	const good = `{"type":"HEARTBEAT","framework_id":{"value":"f"},"executor_id":{"value":"e"}}`
	for _, c := range []struct {
		name, method, contentType, body string
		status                          int
		text                            string
	}{
		{"method", "PUT", "text/plain", good, 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'PUT'."},
		{"no content type", "POST", "", "junk", 400, "Expecting 'Content-Type' to be present"},
		{"charset", "POST", "application/json; charset=utf-8", "junk", 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"capitals", "POST", "Application/JSON", good, 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"JSON cut short", "POST", "application/json", `{"type":`, 400, "Failed to parse body into JSON: syntax error at line 1 near: "},
		{"JSON list", "POST", "application/json", `[]`, 400, "Failed to convert JSON into Call protobuf: Expecting a JSON object"},
		{"JSON ids missing", "POST", "application/json", `{}`, 400, "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"},
		{"protobuf junk", "POST", "application/x-protobuf", good, 400, "Failed to parse body into Call protobuf"},
		{"protobuf empty", "POST", "application/x-protobuf", "", 400, "Failed to parse body into Call protobuf"},
		{"good", "POST", "application/json", good, 202, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := httptest.NewRequest(c.method, "/api/v1/executor", strings.NewReader(c.body))
			if c.contentType != "" {
				request.Header.Set("Content-Type", c.contentType)
			}
			answer := httptest.NewRecorder()
			if _, refusal := ReadCall(answer, request, new(executor.Call)); refusal != nil {
				refusal.Write(answer)
			} else {
				Accepted(answer)
			}
			if answer.Code != c.status || answer.Body.String() != c.text {
				t.Errorf("%d %q, want %d %q", answer.Code, answer.Body, c.status, c.text)
			}
			if allow := answer.Header().Get("Allow"); (allow == "POST") != (c.status == 405) {
				t.Errorf("Allow: %q", allow)
			}
		})
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		name   string
		accept []string
		want   ContentType
	}{
		{"absent", nil, JSON},
		{"anything", []string{"*/*"}, JSON},
		{"json", []string{"application/json"}, JSON},
		{"protobuf", []string{"application/x-protobuf"}, Protobuf},
		{"both, protobuf first", []string{"application/x-protobuf, application/json"}, JSON},
		{"both, in two headers", []string{"application/x-protobuf", "application/json"}, JSON},
		{"weights are no order", []string{"application/x-protobuf;q=1, application/json;q=0.1"}, JSON},
		{"json refused", []string{"application/json;q=0, application/x-protobuf"}, Protobuf},
		{"main type", []string{"application/*"}, JSON},
		{"html", []string{"text/html"}, ""},
		{"empty", []string{""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, refusal := Negotiate(c.accept)
			if got != c.want || (refusal == nil) != (c.want != "") {
				t.Errorf("%q, %v; want %q", got, refusal, c.want)
			}
		})
	}
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		name  string
		drive func(*Stream)
		want  []string
		end   error
	}{
		{"close delivers what is queued", func(s *Stream) { send(s, "a", "b"); s.Close(); send(s, "late") }, []string{"a", "b"}, io.EOF},
		{"abort leaves no terminating chunk", func(s *Stream) { s.Abort(); send(s, "late") }, nil, io.ErrUnexpectedEOF},
		{"frozen events are lost", func(s *Stream) { s.Freeze(); send(s, "lost"); s.Close() }, nil, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := NewStream(JSON)
			served := make(chan error, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				err := stream.Serve(w, r)
				served <- err
				if errors.Is(err, ErrAborted) {
					panic(http.ErrAbortHandler)
				}
			}))
			defer server.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			response := get(t, ctx, server.URL)
			defer response.Body.Close()
			c.drive(stream)
			records := NewRecordReader(response.Body, 0)
			for _, want := range c.want {
				got, err := records.Next()
				if err != nil || string(got) != want {
					t.Fatalf("record %q, %v; want %q", got, err, want)
				}
			}
			if got, err := records.Next(); err != c.end {
				t.Errorf("end: %q, %v; want %v", got, err, c.end)
			}
			<-served
		})
	}
}

func TestStream_NoticesALostPeer(t *testing.T) {
	stream := NewStream(Protobuf)
	served := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served <- stream.Serve(w, r)
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	response := get(t, ctx, server.URL)
	cancel()
	response.Body.Close()
	if err := <-served; err == nil {
		t.Error("Serve returned no error although the peer went away")
	}
	send(stream, "lost") // must neither block nor grow
	if len(stream.queue) != 0 {
		t.Error("events for a lost peer are kept")
	}
}

func get(t *testing.T, ctx context.Context, url string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A transport of its own: goleak would see idle connections of the default one.
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func send(s *Stream, payloads ...string) {
	for _, payload := range payloads {
		s.SendRecord([]byte(payload))
	}
}
