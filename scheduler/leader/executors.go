package leader

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// findTimeout bounds the look-up of other schedulers.
const findTimeout = 5 * time.Second

// Executors redirects agents that ask for an executor's binary which this
// scheduler does not have, "/executor/<sha256>/...", to one that has. It is
// how agents get the binary of either version while schedulers are upgraded
// one by one. Everything else is next's.
func Executors(self Member, members func(context.Context) ([]Member, error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, ok := strings.CutPrefix(r.URL.Path, "/executor/")
		sum, _, _ := strings.Cut(rest, "/")
		if !ok || sum == "" || sum == self.Executor {
			next.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), findTimeout)
		defer cancel()
		all, err := members(ctx)
		if err != nil {
			unavailable(w, "The other schedulers cannot be found now, and this one does not have that version of the executor")
			return
		}
		for _, m := range all {
			if m.Executor == sum && m.ID != self.ID && m.Public != "" {
				http.Redirect(w, r, strings.TrimSuffix(m.Public, "/")+r.URL.EscapedPath(), http.StatusTemporaryRedirect)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
