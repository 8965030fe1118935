package secrets

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pacer/executor/process"
	"pacer/integration/hashicorp"
	"pacer/scheduler/identity"
	"pacer/secrets"
	"pacer/secrets/vault"
)

func TestMain(m *testing.M) {
	process.RunShim()
	goleak.VerifyTestMain(m)
}

// site is a Vault set up as documented, and a scheduler as far as Vault sees
// it: keys that sign tokens, and their public halves over HTTP.
type site struct {
	t     testing.TB
	vault *hashicorp.Vault
	keys  *httptest.Server
	log   *journal // of all clients

	mu     sync.Mutex
	public map[string]ed25519.PublicKey
	key    *identity.Key
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, vault: hashicorp.StartVault(t), log: new(journal), public: map[string]ed25519.PublicKey{}}
	s.rotate()
	s.keys = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		data, err := identity.KeySet(s.public)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(data) // a client that is gone needs no answer
	}))
	t.Cleanup(s.keys.Close)
	s.vault.CarryOut(t, hashicorp.Documented(t, "Vault's set-up"), "http://SCHEDULER:PORT", s.keys.URL)
	return s
}

// rotate signs with a new key from now on; old ones stay public.
func (s *site) rotate() {
	s.t.Helper()
	key, err := identity.Generate()
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
	s.public[key.ID()] = key.Public()
}

// token signs an identity that is valid from now for a time.
func (s *site) token(subject identity.Subject, valid time.Duration) secrets.Secret {
	s.t.Helper()
	s.mu.Lock()
	signer, err := identity.NewSigner(s.key, valid)
	s.mu.Unlock()
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := signer.Sign(subject, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return secrets.NewSecret([]byte(token))
}

// task is the identity of a new task of an app.
func (s *site) task(app string) secrets.Identity {
	s.t.Helper()
	id := fmt.Sprintf("%s.%d", strings.ReplaceAll(app, "/", "_"), time.Now().UnixNano())
	return secrets.Identity{App: app, Task: id, Token: s.token(identity.Subject{Framework: "pacer", App: app, Task: id, Agent: "S1"}, time.Hour)}
}

// client is a new executor's.
func (s *site) client(change func(*vault.Config)) *vault.Client {
	s.t.Helper()
	config := vault.DefaultConfig()
	config.Address = s.vault.Address
	if change != nil {
		change(&config)
	}
	c, err := vault.New(config, zerolog.New(s.log))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *site) clientAt(address string) *vault.Client {
	s.t.Helper()
	return s.client(func(c *vault.Config) { c.Address = address })
}

// put writes through the API's path, e.g. secret/data/web/db.
func (s *site) put(path string, values map[string]any) {
	s.t.Helper()
	if strings.Contains(path, "/data/") {
		values = map[string]any{"data": values}
	}
	if _, err := s.vault.Root.Logical().WriteWithContext(s.t.Context(), path, values); err != nil {
		s.t.Fatal(err)
	}
}

// count is how many there are of what a list of Vault's names.
func (s *site) count(path string) int {
	s.t.Helper()
	answer, err := s.vault.Root.Logical().ListWithContext(s.t.Context(), path)
	if err != nil {
		s.t.Fatal(err)
	}
	if answer == nil {
		return 0
	}
	keys, _ := answer.Data["keys"].([]any)
	return len(keys)
}

// tokens is how many tokens are alive.
func (s *site) tokens() int { return s.count("auth/token/accessors") }

// awaitTokens waits until as many tokens are alive as there were.
func (s *site) awaitTokens(before int) {
	s.t.Helper()
	s.eventually(fmt.Sprint(before, " live tokens"), func() bool { return s.tokens() == before })
}

// file writes a private file.
func (s *site) file(content string) string {
	s.t.Helper()
	file, err := os.CreateTemp(s.t.TempDir(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(content); err != nil {
		s.t.Fatal(err)
	}
	return file.Name()
}

func declared(t testing.TB, labels map[string]string) secrets.Declarations {
	t.Helper()
	d, err := secrets.ParseLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// revealed is a bundle as NAME=value.
func revealed(b *secrets.Bundle) string {
	var all []string
	for _, v := range append(b.Variables, b.Files...) {
		all = append(all, v.Name+"="+string(v.Secret.Reveal()))
	}
	return strings.Join(all, " ")
}
