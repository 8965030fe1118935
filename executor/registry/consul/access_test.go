package consul

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"pacer/executor/registry"
	"pacer/integration/hashicorp"
)

func TestServices_UseTheTokenOfAFileAndReadItAgain(t *testing.T) {
	const management = "5f8a4b52-5b3c-4f0c-9f4e-0a1d1b6b8c11"
	server := hashicorp.StartConsul(t, hashicorp.ConsulOptions{Settings: map[string]any{
		"acl": map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]string{
			"initial_management": management, "agent": management,
		}},
	}})
	asManager := new(api.WriteOptions)
	asManager.Token = management
	policy := &api.ACLPolicy{Name: "executors", Rules: `service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`}
	var token *api.ACLToken
	eventually(t, 10*time.Second, "ACLs can be written", func() bool {
		if policy.ID == "" {
			made, _, err := server.Client.ACL().PolicyCreate(policy, asManager)
			if err != nil {
				return false
			}
			policy = made
		}
		var err error
		token, _, err = server.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, asManager)
		return err == nil
	})
	file := filepath.Join(t.TempDir(), "token")
	write := func(content string, modified time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	// A token without any right: the anonymous one.
	wrong := "00000000-0000-0000-0000-000000000002"
	write(wrong+"\n", time.Now().Add(-time.Hour))
	h := newHarness(t, server, Config{TokenFile: file})
	defer h.close(t)
	inst := instance(t, 1)
	err := h.Register(within(t, time.Second), []registry.Instance{inst})
	if err == nil || !strings.Contains(err.Error(), EnvTokenFile) {
		t.Errorf("Register without rights: %v", err)
	}
	write(token.SecretID+"\n", time.Now())
	h.register(t, inst)
	options := &api.QueryOptions{Token: management}
	list, _, err := server.Client.Health().Service(inst.Name, "", true, options)
	if err != nil || len(list) != 1 {
		t.Errorf("found %d, %v", len(list), err)
	}
	for _, secret := range []string{wrong, token.SecretID} {
		if strings.Contains(h.log.String(), secret) {
			t.Error("a token is in the log")
		}
	}
}

// overTLS puts a server before Consul that demands our certificate.
func overTLS(t *testing.T, server *hashicorp.Consul) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	pool.AddCert(selfSigned(t, certificate, key))
	behind, err := url.Parse(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(behind))
	front.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	front.StartTLS()
	defer front.Close()
	authority := filepath.Join(dir, "ca.pem")
	writePEM(t, authority, "CERTIFICATE", front.Certificate().Raw)

	c := Config{Address: front.URL, CACert: authority, ClientCert: certificate, ClientKey: key, ServerName: "example.com"}
	h := newHarness(t, server, c)
	inst := instance(t, 1)
	h.register(t, inst)
	h.close(t)

	c.CACert = ""
	h = newHarness(t, server, c)
	if err := h.Register(within(t, 500*time.Millisecond), []registry.Instance{inst}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Register with a server that nobody vouches for: %v", err)
	}
	// What it never could register it can hardly deregister.
	if err := h.Close(within(t, 300*time.Millisecond)); err == nil {
		t.Error("Close without a trusted server succeeded")
	}
}

func selfSigned(t *testing.T, certificate, key string) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "executor"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certificate, "CERTIFICATE", raw)
	writePEM(t, key, "PRIVATE KEY", encoded)
	return parsed
}

func writePEM(t *testing.T, name, kind string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
		t.Fatal(err)
	}
}
