package standin

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

// Vault holds secrets below "secret/", one per path, for apps that log in with
// their tasks' tokens.
type Vault struct {
	server *http.Server
	url    string
	served sync.WaitGroup
	keys   string // URL of the scheduler's JWKS
	client *http.Client

	mu      sync.Mutex
	secrets map[string]map[string]string // by path below the mount
	tokens  map[string]string            // app by token
	logins  int
	reads   int
}

// StartVault serves on a free port of 127.0.0.1 until Close. keysURL is where
// the scheduler publishes its keys, asked at each login.
func StartVault(keysURL string) (*Vault, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for Vault clients: %w", err)
	}
	v := &Vault{
		url: "http://" + listener.Addr().String(), keys: keysURL,
		client:  &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}},
		secrets: map[string]map[string]string{}, tokens: map[string]string{},
	}
	v.server = &http.Server{Handler: v, ReadTimeout: 10 * time.Second}
	v.served.Go(func() {
		// Serve always returns an error; ErrServerClosed is Close's doing, and
		// any other shows at the first request.
		_ = v.server.Serve(listener)
	})
	return v, nil
}

// URL is the value for VAULT_ADDR.
func (v *Vault) URL() string { return v.url }

// Put stores a secret; path is below the mount, e.g. "web/db".
func (v *Vault) Put(path string, secret map[string]string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets[path] = secret
}

// Counts returns the logins and the secrets read so far, and the tokens that
// have not been revoked.
func (v *Vault) Counts() (logins, reads, tokens int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.logins, v.reads, len(v.tokens)
}

// Close stops serving and waits.
func (v *Vault) Close() {
	v.server.Close()
	v.served.Wait()
	v.client.CloseIdleConnections()
}

// ServeHTTP answers the requests that reading a secret takes.
func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok {
		answer(w, http.StatusNotFound, nil)
		return
	}
	if path == "auth/jwt/login" {
		v.login(w, r)
		return
	}
	token := r.Header.Get("X-Vault-Token")
	v.mu.Lock()
	defer v.mu.Unlock()
	app, known := v.tokens[token]
	secret, isSecret := strings.CutPrefix(path, "secret/data/")
	switch {
	case !known:
		answer(w, http.StatusForbidden, nil)
	case path == "auth/token/revoke-self":
		delete(v.tokens, token)
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/secret/"):
		answer(w, http.StatusOK, map[string]any{"path": "secret/", "type": "kv", "options": map[string]string{"version": "2"}})
	case !isSecret || !strings.HasPrefix(secret, app+"/"):
		answer(w, http.StatusForbidden, nil)
	case v.secrets[secret] == nil:
		answer(w, http.StatusNotFound, nil)
	default:
		v.reads++
		answer(w, http.StatusOK, map[string]any{"data": v.secrets[secret], "metadata": map[string]any{"version": 1}})
	}
}

func answer(w http.ResponseWriter, status int, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that is gone needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

func (v *Vault) login(w http.ResponseWriter, r *http.Request) {
	var request struct {
		JWT string `json:"jwt"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&request); err != nil {
		answer(w, http.StatusBadRequest, nil)
		return
	}
	app, err := v.verify(r.Context(), request.JWT)
	if err != nil {
		answer(w, http.StatusBadRequest, nil)
		return
	}
	token := "demo." + uuid.NewString()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens[token] = app
	v.logins++
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": token, "accessor": uuid.NewString()}})
}

// verify checks a token as Vault's JWT method does and returns its app.
func (v *Vault) verify(ctx context.Context, compact string) (app string, err error) {
	token, err := jwt.ParseSigned(compact, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.keys, nil)
	if err != nil {
		return "", err
	}
	response, err := v.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&keys); err != nil {
		return "", err
	}
	var claims struct {
		jwt.Claims
		App string `json:"app"`
	}
	if err := token.Claims(&keys, &claims); err != nil {
		return "", err
	}
	if claims.App == "" || claims.Expiry == nil {
		return "", fmt.Errorf("token without app or expiry")
	}
	return claims.App, claims.ValidateWithLeeway(jwt.Expected{Time: time.Now()}, time.Minute)
}
