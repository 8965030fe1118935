package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// ExecutorName is what agents save the executor's binary as.
const ExecutorName = "pacer-executor"

// Executor is the executor's binary, open and known by its hash.
type Executor struct {
	file     *os.File
	size     int64
	modified time.Time
	sum      string
}

// OpenExecutor opens and hashes the binary. It stays open, so that a file put
// in its place is not served under the hash of the old one.
func OpenExecutor(path string) (*Executor, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open executor: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	hash := sha256.New()
	if err == nil {
		_, err = io.Copy(hash, file)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("read executor: %w", err)
	}
	return &Executor{file, info.Size(), info.ModTime(), hex.EncodeToString(hash.Sum(nil))}, nil
}

// SHA256 of the binary in lower-case hex.
func (e *Executor) SHA256() string { return e.sum }

// Path at which [NewPublic] serves the binary.
func (e *Executor) Path() string { return "/executor/" + e.sum + "/" + ExecutorName }

// Close ends serving: requests under way fail.
func (e *Executor) Close() error { return e.file.Close() }

// PublicConfig is what [NewPublic] needs.
type PublicConfig struct {
	// Executor is nil where agents fetch the binary from elsewhere.
	Executor *Executor
	// Keys are the public keys of all schedulers as a JSON Web Key Set, nil
	// where there are none. An error is a 503: Vault asks again.
	Keys func(context.Context) ([]byte, error)
	Log  zerolog.Logger
}

// NewPublic is the handler for agents, which fetch the executor's binary by
// its SHA-256, and for Vault, which fetches the keys that tokens are checked
// with. Nothing here is secret, and nothing can be changed.
func NewPublic(config PublicConfig) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pong") })
	mux.HandleFunc("GET /executor/{sum}/"+ExecutorName, func(w http.ResponseWriter, r *http.Request) {
		e := config.Executor
		if e == nil || r.PathValue("sum") != e.sum {
			_ = reply(w, http.StatusNotFound, errorBody{Message: "This scheduler does not have that version of the executor"})
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", `"`+e.sum+`"`)
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, ExecutorName, e.modified, io.NewSectionReader(e.file, 0, e.size))
	})
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, r *http.Request) {
		if config.Keys == nil {
			_ = reply(w, http.StatusNotFound, errorBody{Message: "This scheduler signs no tokens"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		keys, err := config.Keys(ctx)
		if err != nil {
			config.Log.Warn().Str(logPath, r.URL.Path).AnErr(logError, err).Msg("keys not served")
			w.Header().Set("Retry-After", "1")
			_ = reply(w, http.StatusServiceUnavailable, errorBody{Message: "The keys cannot be read now"})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(keys)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_ = reply(w, http.StatusNotFound, errorBody{Message: "There is nothing at " + r.URL.Path})
	})
	return mux
}
