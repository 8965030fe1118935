package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pacer/scheduler/api"
)

func TestListen_OnlyLoopbackWithoutAuthentication(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "10.0.0.1:8080": false, "example.com:80": false, "8080": false,
	} {
		listener, err := api.Listen(t.Context(), address, false)
		if err == nil {
			_ = listener.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	listener, err := api.Listen(t.Context(), "0.0.0.0:0", true)
	if err != nil {
		t.Fatalf("with authentication: %v", err)
	}
	_ = listener.Close()
}

func TestServe_EndsWithItsContext(t *testing.T) {
	listener, err := api.Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, listener, nil, newServer(t).handler, zerolog.Nop()) }()

	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || reply.StatusCode != 200 {
		t.Fatalf("%v, %v", reply, err)
	}
	_ = reply.Body.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestServe_SaysWhyItCannot(t *testing.T) {
	listener, err := api.Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if err := api.ServePublic(t.Context(), listener, http.NotFoundHandler(), zerolog.Nop()); err == nil {
		t.Error("served on a closed listener")
	}
}

func executor(t *testing.T, content []byte) (*api.Executor, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := api.OpenExecutor(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, path
}

func TestPublic_ExecutorByItsHash(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	e, path := executor(t, content)
	sum := sha256.Sum256(content)
	if e.SHA256() != hex.EncodeToString(sum[:]) {
		t.Fatalf("hash %s", e.SHA256())
	}
	handler := api.NewPublic(api.PublicConfig{Executor: e})
	get := func(method, target string, header ...string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), method, target, nil)
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		r := httptest.NewRecorder()
		handler.ServeHTTP(r, request)
		return r
	}
	if want := "/executor/" + e.SHA256() + "/pacer-executor"; e.Path() != want {
		t.Errorf("path %s, want %s", e.Path(), want)
	}

	// A new build is put in place of the file: what is served stays what its
	// hash says.
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}

	r := get("GET", e.Path())
	if r.Code != 200 || !bytes.Equal(r.Body.Bytes(), content) || r.Header().Get("Content-Length") != "10000" || r.Header().Get("ETag") != `"`+e.SHA256()+`"` {
		t.Errorf("GET: %d, %d bytes, %v", r.Code, r.Body.Len(), r.Header())
	}
	if r := get("HEAD", e.Path()); r.Code != 200 || r.Body.Len() != 0 || r.Header().Get("Content-Length") != "10000" {
		t.Errorf("HEAD: %d, %d bytes, %v", r.Code, r.Body.Len(), r.Header())
	}
	if r := get("GET", e.Path(), "Range", "bytes=9995-"); r.Code != 206 || r.Body.String() != "56789" {
		t.Errorf("range: %d %s", r.Code, r.Body)
	}
	if r := get("GET", e.Path(), "If-None-Match", `"`+e.SHA256()+`"`); r.Code != 304 {
		t.Errorf("unchanged: %d", r.Code)
	}
	for _, target := range []string{"/executor/" + strings.Repeat("0", 64) + "/pacer-executor", "/executor/" + e.SHA256() + "/other", "/executor", "/v2/apps", "/.well-known/jwks.json"} {
		if r := get("GET", target); r.Code != 404 || r.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", target, r.Code, r.Body)
		}
	}
}

func TestOpenExecutor_SaysWhatIsWrong(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := api.OpenExecutor(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestPublic_Keys(t *testing.T) {
	var failure error
	handler := api.NewPublic(api.PublicConfig{Log: zerolog.Nop(), Keys: func(context.Context) ([]byte, error) {
		return []byte(`{"keys":[]}`), failure
	}})
	get := func() *httptest.ResponseRecorder {
		r := httptest.NewRecorder()
		handler.ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), "GET", "/.well-known/jwks.json", nil))
		return r
	}
	want(t, get(), 200, `{"keys":[]}`)
	failure = errors.New("no store")
	want(t, get(), 503, `{"message":"The keys cannot be read now"}`)
}

func TestP12_HeaderLimit(t *testing.T) {
	listener, err := api.Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, listener, nil, newServer(t).handler, zerolog.Nop()) }()
	defer func() { stop(); <-served }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go fmt.Fprintf(conn, "GET /ping HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 200<<10))
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || reply.StatusCode != 431 {
		t.Errorf("%v, %v", reply, err)
	}
}
