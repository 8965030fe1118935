package secrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pacer/integration/hashicorp"
	"pacer/secrets"
	"pacer/secrets/vault"
)

// read returns one field of what a path answers.
func (s *site) read(path, field string) string {
	s.t.Helper()
	answer, err := s.vault.Root.Logical().ReadWithContext(s.t.Context(), path)
	if err != nil || answer == nil {
		s.t.Fatalf("read %s: %v, %v", path, answer, err)
	}
	value, _ := answer.Data[field].(string)
	return value
}

// wrapped is the wrapping token of an answer to a write.
func (s *site) wrapped(path string) string {
	s.t.Helper()
	client, err := s.vault.Root.CloneWithHeaders()
	if err != nil {
		s.t.Fatal(err)
	}
	client.SetToken(s.vault.Root.Token())
	client.SetWrappingLookupFunc(func(string, string) string { return "10m" })
	answer, err := client.Logical().WriteWithContext(s.t.Context(), path, nil)
	if err != nil || answer == nil || answer.WrapInfo == nil {
		s.t.Fatalf("wrap %s: %v", path, err)
	}
	return answer.WrapInfo.Token
}

// appRole is a client that logs in by AppRole with a file's content.
func (s *site) appRole(address, content string, wrapped bool) (*vault.Client, string) {
	s.t.Helper()
	file := s.file(content)
	return s.client(func(c *vault.Config) {
		c.Address = address
		c.Auth, c.Template = vault.AuthAppRole, "secret/data/{app}/*"
		c.RoleIDFile, c.SecretIDFile, c.Wrapped = s.file(s.read("auth/approle/role/pacer/role-id", "role_id")), file, wrapped
	}), file
}

func (s *site) secretID() string {
	s.t.Helper()
	answer, err := s.vault.Root.Logical().WriteWithContext(s.t.Context(), "auth/approle/role/pacer/secret-id", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.Data["secret_id"].(string)
}

func TestAppRole_TasksShareALoginAndObeyTheTemplate(t *testing.T) {
	s := newSite(t)
	s.vault.CarryOut(t, hashicorp.Documented(t, "AppRole's set-up"))
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	s.put("secret/data/other/db", map[string]any{"password": canary})
	front := newProxy(t, s.vault.Address)
	c, _ := s.appRole(front.URL, s.secretID(), false)
	before := s.tokens()
	keeper := s.keeper(c)
	const tasks = 20
	grants := make([]*secrets.Grant, tasks)
	var group sync.WaitGroup
	for i := range tasks {
		group.Go(func() {
			var err error
			grants[i], err = keeper.Acquire(t.Context(), secrets.Identity{App: "web", Task: "web.1"},
				declared(t, map[string]string{"secret.env.X": "secret/web/db#password", "secret.refresh": "1h"}), nil)
			if err != nil || revealed(grants[i].Bundle) != "X=own" {
				t.Errorf("got %v", err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	if n := front.count("auth/approle/login"); n != 1 {
		t.Errorf("%d logins for %d tasks that run, want 1", n, tasks)
	}
	asked := front.count("")
	c, _ = s.appRole(front.URL, s.secretID(), false) // has not logged in yet
	if _, err := s.get(c, secrets.Identity{App: "web"}, "secret/other/db#password"); err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), vault.EnvTemplate) {
		t.Errorf("outside of the template: %v", err)
	}
	if n := front.count(""); n != asked {
		t.Errorf("%d requests for a path outside of the template", n-asked)
	}
	for _, g := range grants {
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	s.awaitTokens(before)
}

func TestAppRole_WrappedSecretIDIsVerified(t *testing.T) {
	s := newSite(t)
	s.vault.CarryOut(t, hashicorp.Documented(t, "AppRole's set-up"))
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	id := secrets.Identity{App: "web", Task: "web.1"}
	read := func(c *vault.Client) error {
		got, err := s.get(c, id, "secret/web/db#password")
		if err == nil && got != "X=own" {
			t.Errorf("got %s", got)
		}
		return err
	}
	const path = "auth/approle/role/pacer/secret-id"
	c, file := s.appRole(s.vault.Address, s.wrapped(path), true)
	for range 2 { // the second login uses the secret id in memory
		if err := read(c); err != nil {
			t.Fatal(err)
		}
	}
	security := func(name string, err error) {
		t.Helper()
		var refused *vault.Error
		if !errors.As(err, &refused) || !refused.Security || !strings.Contains(err.Error(), vault.EnvSecretIDFile) {
			t.Errorf("%s: %v, want a security error that names %s", name, err, vault.EnvSecretIDFile)
		}
		if !strings.Contains(s.log.String(), `"security":true`) {
			t.Errorf("%s is not in the log as security", name)
		}
	}
	spent, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	another, _ := s.appRole(s.vault.Address, string(spent), true)
	security("spent", read(another))
	s.put("auth/approle/role/strange", map[string]any{"token_policies": "pacer-host"})
	planted := s.wrapped("auth/approle/role/strange/secret-id")
	another, _ = s.appRole(s.vault.Address, planted, true)
	security("made elsewhere", read(another))
	if _, err := s.vault.Root.Logical().UnwrapWithContext(t.Context(), planted); err != nil {
		t.Errorf("a token from elsewhere was spent: %v", err)
	}
	// A new one is taken up without a restart.
	if err := os.WriteFile(file, []byte(s.wrapped(path)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(c); err != nil {
		t.Error(err)
	}
}

// certificate makes a client's certificate that signs itself.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "agent-1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: privateDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestCert_LogsInByTheHostsCertificate(t *testing.T) {
	s := newSite(t)
	trusted, key := certificate(t)
	s.vault.CarryOut(t, hashicorp.Documented(t, "Certificate's set-up"), "CA.PEM", trusted)
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	ca := s.file(s.vault.CA)
	client := func(cert, key, ca string) *vault.Client {
		return s.client(func(c *vault.Config) {
			c.Address, c.CACert, c.Auth, c.Template = s.vault.TLSAddress, ca, vault.AuthCert, "secret/data/{app}/*"
			c.ClientCert, c.ClientKey = cert, key
		})
	}
	id := secrets.Identity{App: "web", Task: "web.1"}
	if got, err := s.get(client(trusted, key, ca), id, "secret/web/db#password"); err != nil || got != "X=own" {
		t.Errorf("got %s, %v", got, err)
	}
	stranger, strangersKey := certificate(t)
	if _, err := s.get(client(stranger, strangersKey, ca), id, "secret/web/db#password"); err == nil || !strings.Contains(err.Error(), vault.EnvClientCert) {
		t.Errorf("a stranger's certificate: %v", err)
	}
	if _, err := s.get(client(trusted, key, trusted), id, "secret/web/db#password"); err == nil || !strings.Contains(err.Error(), vault.EnvCACert) {
		t.Errorf("a server of an unknown CA: %v", err)
	}
}

func TestToken_FileIsReadAtEachLaunch(t *testing.T) {
	s := newSite(t)
	s.put("secret/data/web/db", map[string]any{"password": "own"})
	file := s.file("s.not-a-token")
	c := s.client(func(c *vault.Config) {
		c.Auth, c.TokenFile, c.Template = vault.AuthToken, file, "secret/data/{app}/*"
	})
	id := secrets.Identity{App: "web", Task: "web.1"}
	if _, err := s.get(c, id, "secret/web/db#password"); err == nil || strings.Contains(err.Error(), "s.not-a-token") {
		t.Errorf("a token that is none: %v", err)
	}
	if err := os.WriteFile(file, []byte(s.vault.Root.Token()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.get(c, id, "secret/web/db#password"); err != nil || got != "X=own" {
		t.Errorf("got %s, %v", got, err)
	}
}
