package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/bcrypt"
)

// site writes users and rules and returns the paths.
func site(t *testing.T, users, rules string) (string, string) {
	t.Helper()
	dir := t.TempDir()
	u, r := filepath.Join(dir, "users"), filepath.Join(dir, "rules")
	write(t, u, users)
	write(t, r, rules)
	return u, r
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// sum is the SHA-256 of a token, in hex.
func sum(token string) string {
	s := sha256.Sum256([]byte(token))
	return hex.EncodeToString(s[:])
}

func request(header string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	return r
}

func basic(name, password string) *http.Request {
	r := request("")
	r.SetBasicAuth(name, password)
	return r
}

func TestGuard_Subject(t *testing.T) {
	users, rules := site(t, "# people\nalice:"+hash(t, "se:cret")+"\n\nci:sha256:"+sum("t0ken")+"\n", "/ view *\n")
	g, err := Open(users, rules, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		request *http.Request
		want    string // empty is denied
	}{
		"basic":             {basic("alice", "se:cret"), "alice"},
		"basic, remembered": {basic("alice", "se:cret"), "alice"},
		"wrong password":    {basic("alice", "secret"), ""},
		"unknown name":      {basic("bob", "se:cret"), ""},
		"no password":       {basic("alice", ""), ""},
		"token as password": {basic("ci", "t0ken"), ""},
		"bearer":            {request("Bearer t0ken"), "ci"},
		"bearer, small":     {request("bearer t0ken"), "ci"},
		"token":             {request("token=t0ken"), "ci"},
		"wrong token":       {request("Bearer t0keN"), ""},
		"hash as token":     {request("Bearer " + sum("t0ken")), ""},
		"nothing":           {request(""), ""},
		"other scheme":      {request("Negotiate abc"), ""},
		"empty bearer":      {request("Bearer "), ""},
		"broken basic":      {request("Basic %%%"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time from memory
				got, err := g.Subject(test.request)
				if got != test.want || (test.want == "") != errors.Is(err, ErrDenied) {
					t.Errorf("%q, %v; want %q", got, err, test.want)
				}
			}
		})
	}
}

func TestGuard_Allowed(t *testing.T) {
	users, rules := site(t, "alice:"+hash(t, "a")+"\nci:sha256:"+sum("t0ken")+"\n", strings.Join([]string{
		"/shop view,update alice", "/shop/cart * ci", "/public view *",
	}, "\n"))
	g, err := Open(users, rules, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		subject string
		verb    Verb
		path    string
		want    bool
	}{
		{"alice", View, "/shop", true},
		{"alice", Update, "/shop/cart/eu", true},
		{"alice", Delete, "/shop/cart", false},
		{"alice", View, "/shopping", false},
		{"alice", View, "/", false},
		{"alice", View, "/public/x", true},
		{"ci", Delete, "/shop/cart", true},
		{"ci", View, "/shop", false},
		{"ci", Create, "/public/x", false},
		{"nobody", View, "/public", true},
		{"nobody", View, "/shop", false},
	} {
		if got := g.Allowed(test.subject, test.verb)(test.path); got != test.want {
			t.Errorf("%s %s %s: %v", test.subject, test.verb, test.path, got)
		}
	}
	var open *Guard
	if subject, err := open.Subject(request("")); subject != "" || err != nil || !open.Allowed("", Delete)("/x") {
		t.Errorf("without access control: %q, %v", subject, err)
	}
}

// What is changed in the files counts soon; a mistake in them changes nothing.
func TestGuard_ReadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users, rules := site(t, "alice:"+hash(t, "old")+"\n", "/ view alice\n")
		var log bytes.Buffer
		g, err := Open(users, rules, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Subject(basic("alice", "old")); err != nil {
			t.Fatal(err)
		}
		before := g.Generation()
		write(t, users, "alice:"+hash(t, "other")+"\nbob:"+hash(t, "b")+"\n")
		time.Sleep(2 * time.Second)
		if _, err := g.Subject(basic("alice", "old")); !errors.Is(err, ErrDenied) {
			t.Errorf("the old password still counts: %v", err)
		}
		if _, err := g.Subject(basic("bob", "b")); err != nil || g.Generation() == before {
			t.Errorf("bob: %v, generation %d as before", err, g.Generation())
		}
		write(t, rules, "/ everything bob\n")
		time.Sleep(2 * time.Second)
		if !g.Allowed("alice", View)("/x") || g.Err() == nil || !strings.Contains(g.Err().Error(), "line 1") {
			t.Errorf("after a mistake: %v", g.Err())
		}
		for range 3 { // said once, not with every request
			g.Allowed("alice", View)
			time.Sleep(2 * time.Second)
		}
		if n := strings.Count(log.String(), "stay in force"); n != 1 {
			t.Errorf("the mistake is logged %d times: %s", n, log.String())
		}
		write(t, rules, "/ view bob\n")
		time.Sleep(2 * time.Second)
		if g.Allowed("alice", View)("/x") || g.Err() != nil {
			t.Errorf("after it was mended: %v", g.Err())
		}
	})
}

func TestOpen_SaysEveryMistake(t *testing.T) {
	users, rules := site(t, strings.Join([]string{
		"alice", "bob:plain-password", "ci:sha256:abc", "a b:x", "*:sha256:" + sum("x"), "x:sha256:" + sum("y"), "z:sha256:" + sum("y"),
	}, "\n"), strings.Join([]string{
		"/ view", "shop view x", "/Shop view x", "/ look x", "/ view x,,y", "/ view nobody",
	}, "\n"))
	_, err := Open(users, rules, zerolog.Nop())
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		"users line 1", "users line 2: password of bob is no bcrypt hash", "users line 3: token of ci", "users line 4", "users line 5", "users line 7: token of z is that of x",
		"rules line 1: has 2 fields", "rules line 2: path", "rules line 3: path", `rules line 4: verb "look"`, "rules line 5",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "plain-password") {
		t.Errorf("shows a password:\n%v", err)
	}
	users, rules = site(t, "x:sha256:"+sum("y")+"\n", "/ view nobody\n")
	if _, err = Open(users, rules, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), `names "nobody"`) {
		t.Errorf("a rule for nobody: %v", err)
	}
	if _, err = Open(users, rules+"x", zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "rulesx") {
		t.Errorf("no rules: %v", err)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("alice:$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n", "/ view *\n")
	f.Add("ci:sha256:"+sum("x"), "/shop/cart view,update ci,alice")
	f.Add("a\x00:b", "\t/ * \xff")
	f.Fuzz(func(t *testing.T, users, rules string) {
		u, r := site(t, users, rules)
		p, err := readPolicy(u, r)
		if err == nil {
			p.prefixes("alice", View)
		}
	})
}
