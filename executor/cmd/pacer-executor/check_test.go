package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// verdicts maps the subject of each line to its verdict and the rest.
func verdicts(t *testing.T, out string) map[string][2]string {
	t.Helper()
	found := map[string][2]string{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			t.Fatalf("line %q", line)
		}
		found[fields[0]] = [2]string{fields[1], strings.Join(fields[2:], " ")}
	}
	return found
}

func TestCheck_SaysYesOrNoAndWhatToDo(t *testing.T) {
	answers := func(path, body string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s
	}
	agent := answers("/health", "")
	vault := answers("/v1/sys/health", `{"initialized":true,"sealed":false,"version":"1.21"}`)
	sealed := answers("/v1/sys/health", `{"initialized":true,"sealed":true}`)
	consul := answers("/v1/agent/self", `{"Config":{"NodeName":"node-1"}}`)
	// Nobody accepts what comes here, and nobody answers.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

	for _, tc := range []struct {
		name string
		env  []string
		code int
		want map[string][2]string // subject: verdict, and a text in the reason
	}{
		{"nothing is configured", nil, 0, map[string][2]string{
			"agent": {"-", "set it to the agent's host:port"}, "vault": {"-", "VAULT_ADDR is not set"},
			"zookeeper": {"-", "PACER_ZK is not set"}, "consul": {"-", "PACER_CONSUL is not set"}, "users": {"-", "PACER_ALLOWED_USERS is not set"},
		}},
		{"all is well", []string{"MESOS_AGENT_ENDPOINT=" + host(agent), "VAULT_ADDR=" + vault.URL, "PACER_CONSUL=" + consul.URL}, 0, map[string][2]string{
			"agent": {"yes", "answers"}, "vault": {"yes", "1.21 is unsealed"}, "consul": {"yes", "node node-1"},
		}},
		{"nothing is well", []string{"MESOS_AGENT_ENDPOINT=" + host(consul), "VAULT_ADDR=" + sealed.URL, "PACER_CONSUL=" + vault.URL,
			"PACER_ZK=zk://" + silent.Addr().String() + "/x", "PACER_ALLOWED_USERS=nobody-knows", "PACER_CGROUP_PARENT=/no-such-cgroup"}, exitFailure, map[string][2]string{
			"agent": {"no", "is it a Mesos agent?"}, "vault": {"no", "unseal it"}, "consul": {"no", "does the agent run there"},
			"zookeeper": {"no", "no session within 5"}, "users": {"no", "add the user to this host"}, "cgroups": {"no", "PACER_CGROUP_PARENT"},
		}},
		{"settings that mean nothing", []string{"MESOS_AGENT_ENDPOINT=here", "VAULT_ADDR=vault", "PACER_CONSUL=c", "PACER_ZK=z", "PACER_ONE_TASK=?"}, exitFailure, map[string][2]string{
			"agent": {"no", "MESOS_AGENT_ENDPOINT"}, "vault": {"no", "VAULT_ADDR"}, "consul": {"no", "PACER_CONSUL"}, "zookeeper": {"no", "PACER_ZK"}, "users": {"no", "PACER_ONE_TASK"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := program(t, "check", tc.env...)
			got := verdicts(t, out)
			if code != tc.code || len(got) < 5 {
				t.Errorf("code %d\n%s%s", code, out, errs)
			}
			for subject, want := range tc.want {
				if g := got[subject]; g[0] != want[0] || !strings.Contains(g[1], want[1]) {
					t.Errorf("%s: %q, want %q", subject, g, want)
				}
			}
		})
	}
}

func TestStatus_SaysThatNobodyIsThere(t *testing.T) {
	code, out, errs := program(t, "status "+t.TempDir())
	if code != exitFailure || out != "" || !strings.Contains(errs, "give the sandbox of a running executor") {
		t.Errorf("code %d, %q, %q", code, out, errs)
	}
}
