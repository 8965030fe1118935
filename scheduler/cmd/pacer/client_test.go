package main

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun_ProvesWhoItIs(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		name, password, _ := r.BasicAuth()
		if r.Header.Get("Authorization") != "Bearer t0ken" && (name != "alice" || password != "se:cret") {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"message":"Invalid username or password."}`))
			return
		}
		_, _ = w.Write([]byte(`{"apps":[]}`))
	}))
	defer server.Close()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	for name, test := range map[string]struct {
		credentials, ca string
		code            int
		says            string
	}{
		"token":          {write("token", "t0ken\n"), ca, 0, ""},
		"basic":          {write("basic", "alice:se:cret\n"), ca, 0, ""},
		"wrong":          {write("wrong", "other"), ca, 1, "Invalid username or password."},
		"none":           {"", ca, 1, "Invalid username or password."},
		"not trusted":    {write("token", "t0ken"), "", 1, "certificate"},
		"empty":          {write("empty", "\n"), ca, 2, "--credentials-file"},
		"two lines":      {write("two", "a\nb\n"), ca, 2, "one line"},
		"not there":      {filepath.Join(dir, "none"), ca, 2, "--credentials-file"},
		"no certificate": {write("token", "t0ken"), write("bad", "x"), 2, "--ca-file"},
	} {
		t.Run(name, func(t *testing.T) {
			environment := map[string]string{"PACER_URL": server.URL, "PACER_CREDENTIALS_FILE": test.credentials, "PACER_CA_FILE": test.ca}
			var out, errors bytes.Buffer
			code := Run(t.Context(), []string{"list"}, func(name string) string { return environment[name] }, strings.NewReader(""), &out, &errors)
			if code != test.code || !strings.Contains(errors.String(), test.says) {
				t.Errorf("%d %s", code, errors.String())
			}
			if strings.Contains(errors.String(), "t0ken") || strings.Contains(errors.String(), "se:cret") {
				t.Errorf("shows a credential: %s", errors.String())
			}
		})
	}
}
