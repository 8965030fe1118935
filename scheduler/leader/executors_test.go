package leader_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"pacer/scheduler/leader"
)

func TestExecutors(t *testing.T) {
	self := leader.Member{ID: "me", Executor: "aa"}
	members := []leader.Member{self, {ID: "b", Executor: "bb", Public: "http://b:8081/"}, {ID: "c", Executor: "cc"}}
	for name, test := range map[string]struct {
		path   string
		err    error
		status int
		to     string
	}{
		"own":               {"/executor/aa/pacer-executor", nil, 200, ""},
		"another's":         {"/executor/bb/pacer-executor", nil, 307, "http://b:8081/executor/bb/pacer-executor"},
		"without address":   {"/executor/cc/pacer-executor", nil, 200, ""},
		"nobody's":          {"/executor/dd/pacer-executor", nil, 200, ""},
		"no executor":       {"/executor/", nil, 200, ""},
		"keys":              {"/.well-known/jwks.json", errors.New("down"), 200, ""},
		"store unreachable": {"/executor/bb/pacer-executor", errors.New("down"), 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			handler := leader.Executors(self, func(context.Context) ([]leader.Member, error) { return members, test.err },
				http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest("GET", test.path, nil))
			if w.Code != test.status || w.Header().Get("Location") != test.to {
				t.Errorf("%d %q", w.Code, w.Header().Get("Location"))
			}
		})
	}
}
