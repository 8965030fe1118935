package mesosapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"pacer/executor/mesosapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a message whose encoding is itself.
type text string

func (t text) Marshal() ([]byte, error)     { return []byte(t), nil }
func (t *text) Unmarshal(data []byte) error { *t = text(data); return nil }

func newClient(t *testing.T, config Config) *Client {
	t.Helper()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func TestNew_RejectsUnusableURLs(t *testing.T) {
	for _, target := range []string{"", "host:5050", "ftp://host/", "http://", "http://user:hunter2@host:5050", "http://user:hunter2@ho st\x7f"} {
		if _, err := New(Config{URL: target}); err == nil {
			t.Errorf("%q is accepted", target)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the password: %v", err)
		}
	}
}

func TestCall_Answers(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.Header().Set("Location", "//leader:5050/master/api/v1/scheduler")
		w.WriteHeader(code)
		if code >= 300 {
			io.WriteString(w, "because\x1b[31m \xff"+strings.Repeat("x", 1<<20))
		}
	})
	for _, code := range []int{200, 202} {
		c := newClient(t, Config{URL: fmt.Sprintf("%s/%d", server.URL, code)})
		if err := c.Call(t.Context(), text("call"), nil); err != nil {
			t.Errorf("%d: %v", code, err)
		}
	}
	for _, code := range []int{307, 400, 401, 403, 404, 415, 500, 501, 503} {
		c := newClient(t, Config{URL: fmt.Sprintf("%s/%d", server.URL, code)})
		err := c.Call(t.Context(), text("call"), nil)
		var status *StatusError
		if !errors.As(err, &status) || status.Code != code || StatusCode(err) != code {
			t.Errorf("%d: %v", code, err)
			continue
		}
		if status.Location != "//leader:5050/master/api/v1/scheduler" {
			t.Errorf("%d: location %q", code, status.Location)
		}
		if !strings.HasPrefix(status.Body, "because") || len(status.Body) > 2*maxBody || strings.Contains(status.Body, "\x1b") || !utf8.ValidString(status.Body) {
			t.Errorf("%d: body of %d bytes: %.20q", code, len(status.Body), status.Body)
		}
		if errors.Is(err, ErrNotSent) {
			t.Errorf("%d counts as not sent", code)
		}
	}
}

func TestCall_SendsWhatMesosWants(t *testing.T) {
	tests := []struct {
		name          string
		config        Config
		authorization string
	}{
		{"nothing", Config{}, ""},
		{"token", Config{Token: "t0ken"}, "Bearer t0ken"},
		{"basic", Config{User: "pacer", Password: "s3cret"}, "Basic cGFjZXI6czNjcmV0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The environment's proxy would otherwise get the agent's traffic.
			t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got := fmt.Sprintln(r.Method, r.URL.Path, r.Header["Content-Type"], r.Header.Get("Authorization"), r.Header.Get("Mesos-Stream-Id"), string(body))
				want := fmt.Sprintln("POST", "/slave(1)/api/v1/executor", "[application/x-protobuf]", tt.authorization, "s1", "call")
				if got != want {
					t.Errorf("got %s want %s", got, want)
				}
				w.WriteHeader(http.StatusAccepted)
			})
			tt.config.URL = server.URL + "/slave(1)/api/v1/executor"
			c := newClient(t, tt.config)
			if err := c.Call(t.Context(), text("call"), http.Header{"Mesos-Stream-Id": {"s1"}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCall_NobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	for name, config := range map[string]Config{
		"tcp":    {URL: "http://" + address},
		"socket": {URL: "http://agent", Socket: filepath.Join(t.TempDir(), "missing.sock")},
	} {
		c := newClient(t, config)
		if err := c.Call(t.Context(), text("x"), nil); !Refused(err) || !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Subscribe(t.Context(), text("x"), nil); !Refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCall_NobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network apitest.Network
		listener := network.Listen("agent:5051")
		c := newClient(t, Config{URL: "http://agent:5051", Dial: network.Dial, DialTimeout: time.Second, ResponseTimeout: 10 * time.Second})

		start := time.Now()
		err := c.Call(t.Context(), text("x"), nil)
		if took := time.Since(start); took != time.Second || !errors.Is(err, ErrNotSent) || Refused(err) {
			t.Errorf("nobody accepts: %v after %v", err, took)
		}

		done := make(chan struct{})
		go func() { // accepts, and never reads or answers
			defer close(done)
			var conns []net.Conn
			for {
				conn, err := listener.Accept()
				if err != nil {
					break
				}
				conns = append(conns, conn)
			}
			for _, conn := range conns {
				conn.Close()
			}
		}()
		start = time.Now()
		err = c.Call(t.Context(), text("x"), nil)
		if took := time.Since(start); took != 10*time.Second || err == nil || errors.Is(err, ErrNotSent) || Refused(err) {
			t.Errorf("call: %v after %v", err, took)
		}
		start = time.Now()
		_, err = c.Subscribe(t.Context(), text("x"), nil)
		if took := time.Since(start); took != 10*time.Second || !errors.Is(err, ErrResponseTimeout) {
			t.Errorf("subscribe: %v after %v", err, took)
		}
		listener.Close()
		<-done
	})
}

func TestTransports(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) })

	t.Run("domain socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "agent.sock")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
		server.Start()
		defer server.Close()
		c := newClient(t, Config{URL: "http://agent/slave(1)/api/v1/executor", Socket: path})
		if err := c.Call(t.Context(), text("x"), nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("tls", func(t *testing.T) {
		server := httptest.NewTLSServer(handler)
		defer server.Close()
		trusted := server.Client().Transport.(*http.Transport).TLSClientConfig
		address := server.Listener.Addr().String()
		// The certificate is for example.com, the connection goes to an address.
		c := newClient(t, Config{URL: "https://example.com:1", Address: address, TLS: trusted})
		if err := c.Call(t.Context(), text("x"), nil); err != nil {
			t.Error(err)
		}
		server.Config.ErrorLog = nil
		c = newClient(t, Config{URL: "https://wrong.test:1", Address: address, TLS: &tls.Config{RootCAs: trusted.RootCAs}})
		if err := c.Call(t.Context(), text("x"), nil); err == nil || !errors.Is(err, ErrNotSent) {
			t.Errorf("certificate of another name: %v", err)
		}
	})
}

func TestSubscribe_HasAConnectionOfItsOwn(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) != "SUBSCRIBE" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Mesos-Stream-Id", "stream-1")
		w.Write(nil)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := newClient(t, Config{URL: server.URL})
	stream, err := c.Subscribe(t.Context(), text("SUBSCRIBE"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if stream.ID != "stream-1" {
		t.Errorf("stream id %q", stream.ID)
	}
	for range 20 {
		if err := c.Call(t.Context(), text("call"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections for a stream and 20 calls, want 2", n)
	}
}

func TestSubscribe_Refusals(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"status":       func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not yet", http.StatusServiceUnavailable) },
		"content type": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") },
		"accepted":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Config{URL: serve(t, answer).URL})
			stream, err := c.Subscribe(t.Context(), text("x"), nil)
			if err == nil {
				stream.Close()
				t.Fatal("no error")
			}
			if name == "status" && StatusCode(err) != 503 || name != "status" && !errors.Is(err, ErrContentType) {
				t.Error(err)
			}
		})
	}
}

// streamOf serves one stream with the given bytes, and then what end does.
func streamOf(t *testing.T, data []byte, end func(w http.ResponseWriter, r *http.Request)) *Stream {
	t.Helper()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else the server does not notice a closed connection
		w.Header().Set("Content-Type", mediaType)
		w.Write(data)
		w.(http.Flusher).Flush()
		end(w, r)
	})
	stream, err := newClient(t, Config{URL: server.URL}).Subscribe(t.Context(), text("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Close)
	return stream
}

func TestStream_Ends(t *testing.T) {
	done := func(http.ResponseWriter, *http.Request) {}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	tests := []struct {
		name string
		data string
		end  func(http.ResponseWriter, *http.Request)
		err  error
	}{
		{"orderly", "5\nhello", done, io.EOF},
		{"cut between records", "5\nhello", cut, io.ErrUnexpectedEOF},
		{"orderly within a record", "5\nhello99\nxx", done, io.ErrUnexpectedEOF},
		{"cut within a record", "5\nhello99\nxx", cut, io.ErrUnexpectedEOF},
		{"garbage", "5\nhello<html>", done, ErrFraming},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stream := streamOf(t, []byte(tt.data), tt.end)
			var event text
			if err := stream.Next(&event); err != nil || event != "hello" {
				t.Fatalf("%q, %v", event, err)
			}
			if err := stream.Next(&event); !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
		})
	}
}

func TestStream_EndGivesItsReason(t *testing.T) {
	stream := streamOf(t, nil, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	reason := errors.New("enough")
	go stream.End(reason)
	if err := stream.Next(new(text)); err != reason {
		t.Errorf("%v", err)
	}
}

func TestStream_IdleLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network apitest.Network
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", mediaType)
			for range 5 { // a slow record: 10 s altogether
				io.WriteString(w, "1")
				w.(http.Flusher).Flush()
				time.Sleep(2 * time.Second)
			}
			io.WriteString(w, "\n"+strings.Repeat("x", 11111))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})}
		go server.Serve(network.Listen("m:1"))
		defer server.Close()
		c := newClient(t, Config{URL: "http://m:1", Dial: network.Dial})
		stream, err := c.Subscribe(t.Context(), text("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		stream.SetIdleLimit(3 * time.Second)
		start := time.Now()
		if err := stream.Next(new(text)); err != nil {
			t.Fatalf("a slow record counts as silence: %v", err)
		}
		if err := stream.Next(new(text)); !errors.Is(err, ErrIdle) || time.Since(start) != 13*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestStream_LargeAndStrangeEvents(t *testing.T) {
	large := executor.Event{Type: executor.Event_MESSAGE, Message: &executor.Event_Message{Data: bytes.Repeat([]byte("m"), 5<<20)}}
	data := apitest.Record(&large)
	// Field 1 (type) with the number 4711, and field 99, unknown to everybody.
	strange := []byte{0x08, 0xe7, 0x24, 0x9a, 0x06, 0x01, 'x'}
	data = append(data, fmt.Sprintf("%d\n%s", len(strange), strange)...)
	data = append(data, "3\n\x12\x7fx"...)
	stream := streamOf(t, data, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })

	var event executor.Event
	if err := stream.Next(&event); err != nil || !event.Equal(&large) {
		t.Fatalf("5 MiB record: %v", err)
	}
	event = executor.Event{}
	if err := stream.Next(&event); err != nil || event.Type != 4711 {
		t.Fatalf("unknown type: %v %v", event.Type, err)
	}
	if err := stream.Next(&event); !errors.Is(err, ErrEvent) {
		t.Fatalf("cut message: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x08, 0x01})
	f.Add([]byte{0x08, 0xe7, 0x24, 0x9a, 0x06, 0x01, 'x'})
	f.Add([]byte{0x12, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		// Any outcome but a panic.
		if err := decode(data, new(executor.Event)); err != nil && !errors.Is(err, ErrEvent) {
			t.Error(err)
		}
	})
}

func TestDecode_PanicIsAnError(t *testing.T) {
	if err := decode(nil, panicking{}); !errors.Is(err, ErrEvent) {
		t.Error(err)
	}
}

type panicking struct{}

func (panicking) Unmarshal([]byte) error { panic("index out of range") }

func TestSubscribe_EndsWithItsContext(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", mediaType)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := newClient(t, Config{URL: server.URL}).Subscribe(ctx, text("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	cancel()
	if err := stream.Next(new(text)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
