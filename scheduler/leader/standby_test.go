package leader_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pacer/scheduler/leader"
)

func standby(t *testing.T, find func() (leader.Member, bool)) *httptest.Server {
	t.Helper()
	handler := leader.NewStandby(leader.StandbyConfig{
		Leader: find, Self: "me", Log: zerolog.Nop(),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "own metrics") }),
	})
	s := httptest.NewServer(handler)
	t.Cleanup(func() {
		s.Close()
		handler.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func known(url string) func() (leader.Member, bool) {
	return func() (leader.Member, bool) { return leader.Member{ID: "other", API: url}, true }
}

func ask(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

func TestStandby_PassesEverythingOn(t *testing.T) {
	lead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Got", strings.Join([]string{r.Method, r.RequestURI, r.Header.Get("Authorization"), string(body)}, " "))
		w.Header().Set("Host-Was", r.Host)
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(lead.Close)
	s := standby(t, known(lead.URL))
	resp, _ := ask(t, "PUT", s.URL+"/v2/apps//a%2Fb?force=true", "{}", "Authorization", "Basic x")
	if got := resp.Header.Get("Got"); resp.StatusCode != http.StatusTeapot || got != "PUT /v2/apps//a%2Fb?force=true Basic x {}" {
		t.Errorf("%d %q", resp.StatusCode, got)
	}
	if host := resp.Header.Get("Host-Was"); host != strings.TrimPrefix(s.URL, "http://") {
		t.Errorf("the leader sees host %q", host)
	}
	for path, want := range map[string]string{"/ping": "pong", "/metrics": "own metrics", "/health": "standby", "/ready": "standby"} {
		if resp, body := ask(t, "GET", s.URL+path, ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestStandby_Refusals(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	cuts := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(cuts.Close)
	other := httptest.NewUnstartedServer(nil)
	other.Config.Handler = leader.NewStandby(leader.StandbyConfig{Leader: known("http://" + other.Listener.Addr().String()), Self: "third", Log: zerolog.Nop(), Metrics: http.NotFoundHandler()})
	other.Start()
	t.Cleanup(other.Close)
	for name, test := range map[string]struct {
		find   func() (leader.Member, bool)
		status int
		want   string
	}{
		"no leader":      {func() (leader.Member, bool) { return leader.Member{}, false }, 503, "No scheduler leads"},
		"self":           {func() (leader.Member, bool) { return leader.Member{ID: "me", API: "http://x"}, true }, 503, "about to lead"},
		"no address":     {known(""), 503, "no address"},
		"dead leader":    {known(gone.URL), 503, "cannot be reached"},
		"leader cuts":    {known(cuts.URL), 502, "not known"},
		"another loop":   {known(other.URL), 503, "took it for the leader"},
		"ready too soon": {func() (leader.Member, bool) { return leader.Member{}, false }, 503, "No scheduler leads"},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/v2/apps"
			if strings.HasPrefix(name, "ready") {
				path = "/ready"
			}
			resp, body := ask(t, "GET", standby(t, test.find).URL+path, "")
			if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if test.status == 503 && resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}

func TestStandby_StreamsAreNotHeldUp(t *testing.T) {
	next := make(chan struct{})
	lead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 2 {
			_, _ = io.WriteString(w, "event\n")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(lead.Close)
	resp, err := http.Get(standby(t, known(lead.URL)).URL + "/v2/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for range 2 {
		if !lines.Scan() || lines.Text() != "event" {
			t.Fatalf("%q, %v", lines.Text(), lines.Err())
		}
		next <- struct{}{}
	}
	if lines.Scan() {
		t.Error("more than was sent")
	}
}
